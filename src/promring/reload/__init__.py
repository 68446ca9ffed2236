"""What another configuration means for what runs."""
