"""The same bytes through promring and through real scrapers: a list means what Prometheus says it means."""
