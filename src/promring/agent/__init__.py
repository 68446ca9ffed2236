"""``promring agent``: runs beside a scraper, fetches its slice and writes it. Needs no configuration file."""
