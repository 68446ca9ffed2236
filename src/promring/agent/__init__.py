"""``promring agent``: runs beside a scraper, fetches its slices and writes them. Needs no configuration file."""

WAIT_S = 30.0
"""So long a controller may wait for a change before it answers."""
