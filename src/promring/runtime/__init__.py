"""What everything stands on: threads, files, HTTP, names, spans of time. Knows nothing of scrapers or targets."""
