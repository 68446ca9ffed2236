"""How many scrapers a fleet needs, as an answer. Pure."""

from __future__ import annotations

from promring.core.needed import scrapers_needed
from promring.core.placement import Policy
from promring.model import Placement
from promring.web.answers.fleets import Room


def room_of(placement: Placement | None, policy: Policy) -> Room | None:
    """None without a plan, and without ``capacity``."""
    found = None if placement is None else scrapers_needed(placement, policy)
    if found is None:
        return None
    return Room(found.load, found.each, found.weight, found.scrapers, found.needed, found.after_scraper, found.after_zone)
