"""What promring shows and is told over HTTP. Reads the live objects; decides nothing."""
