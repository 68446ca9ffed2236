"""promring keeps every target of a Prometheus fleet scraped."""

__version__ = "0.1.0"
