"""One fleet: its loop, and what the loop is made of. Read ``reconcile`` first."""
