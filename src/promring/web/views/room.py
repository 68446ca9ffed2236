"""How many scrapers a fleet needs, and what is known of its loads, as answers. Pure."""

from __future__ import annotations

from dataclasses import replace

from promring.core.gain import fullest
from promring.core.needed import scrapers_needed
from promring.core.placement import Policy
from promring.fleet.fleet import Fleet
from promring.model import Loads as Column
from promring.model import Placement
from promring.web.answers.fleets import Loads, Room

TROUBLES_MOST = 20


def room_of(placement: Placement | None, policy: Policy, loads: Column | None = None) -> Room | None:
    """``loads``: newer ones than the plan's. None without a plan, and without ``capacity``."""
    found = None if placement is None else scrapers_needed(placement, policy, loads)
    if found is None:
        return None
    return Room(found.load, found.each, found.weight, found.scrapers, found.needed, found.after_scraper, found.after_zone)


def room_now(fleet: Fleet) -> Room | None:
    """By the newest figures."""
    reconciler = fleet.reconciler
    placement = reconciler.placement
    loads = None if placement is None else reconciler.weighing.newest_loads(placement)
    return room_of(placement, reconciler.planner.policy, loads)


def loads_of(fleet: Fleet) -> Loads | None:
    """None where each target counts 1."""
    learner, reconciler = fleet.learner, fleet.reconciler
    if learner is None:
        return None
    known, book, placement = reconciler.weighing.known, reconciler.memory.loads, reconciler.placement
    asked = learner.asked_at or None
    troubles = [f"{name}: {text}" for name, text in sorted(learner.troubles.items())]
    spread = None
    if placement is not None:
        newest = replace(placement, loads=reconciler.weighing.newest_loads(placement))
        spread = round(fullest(newest), 3)
    return Loads(
        kind=fleet.settings.placement.loads.kind,
        learnt=known.learning.learnt if asked and known is not None else None,
        spread=spread,
        moved_at=book.moved_at or None if book is not None else None,
        asked_at=asked,
        troubles=troubles[:TROUBLES_MOST],
    )
