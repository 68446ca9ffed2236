"""``promring agent``: runs beside a scraper, fetches its slices and writes them. Needs no configuration file."""
