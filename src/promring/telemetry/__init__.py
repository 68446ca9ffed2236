"""What promring says of itself: log lines, events, counters."""
