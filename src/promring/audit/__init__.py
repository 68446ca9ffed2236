"""What the scrapers really run: asks them for their active targets, for coverage and for the hand-over."""
