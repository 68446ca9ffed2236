"""How many scrapers a fleet needs, and what is known of its loads, as answers. Pure."""

from __future__ import annotations

from promring.core.needed import Needed, scrapers_needed
from promring.core.placement import Policy
from promring.fleet.fleet import Fleet
from promring.model import Placement
from promring.web.answers.fleets import Loads, Room

TROUBLES_MOST = 20


def room_of(placement: Placement, policy: Policy) -> Room | None:
    """By the loads of the plan. None without ``capacity``."""
    return _room(scrapers_needed(placement, policy), placement)


def room_now(fleet: Fleet) -> Room | None:
    """By the newest figures. None without a plan, and without ``capacity``."""
    reconciler = fleet.reconciler
    if (placement := reconciler.placement) is None:
        return None
    return _room(reconciler.weighing.measured(placement, reconciler.planner.policy).needed, placement)


def _room(found: Needed | None, placement: Placement) -> Room | None:
    if found is None:
        return None
    there = sum(scraper.able for scraper in placement.scrapers)
    return Room(found.load, found.each, found.weight, there, found.needed, found.after_scraper, found.after_zone)


def loads_of(fleet: Fleet) -> Loads | None:
    """None where each target counts 1."""
    learner, reconciler = fleet.learner, fleet.reconciler
    if learner is None:
        return None
    known, book, placement = reconciler.weighing.known, reconciler.memory.loads, reconciler.placement
    asked = learner.asked_at or None
    troubles = [f"{name}: {text}" for name, text in sorted(learner.troubles.items())]
    policy = reconciler.planner.policy
    spread = None if placement is None else reconciler.weighing.measured(placement, policy).spread
    return Loads(
        kind=fleet.settings.placement.loads.kind,
        learnt=known.learning.learnt if asked and known is not None else None,
        spread=None if spread is None else round(spread, 3),
        moved_at=book.moved_at or None if book is not None else None,
        asked_at=asked,
        troubles=troubles[:TROUBLES_MOST],
    )
