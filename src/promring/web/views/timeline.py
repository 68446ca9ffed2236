"""What became of a fleet's plan, as answers."""

from __future__ import annotations

from promring.fleet import timeline
from promring.fleet.fleet import Fleet
from promring.model import Move
from promring.web.answers.fleets import Reshard, Taken


def reshards_of(fleet: Fleet) -> list[Reshard]:
    """The newest first."""
    return [_reshard(one) for one in reversed(fleet.reconciler.memory.timeline.reshards)]


def _reshard(one: timeline.Reshard) -> Reshard:
    return Reshard(
        at=round(one.at, 3),
        reason=one.reason,
        generation=str(one.generation),
        joined=list(one.joined),
        left=list(one.left),
        more=one.more,
        scrapers=one.scrapers,
        targets=one.targets,
        moved=one.moved,
        held=one.held,
        slices_changed=one.slices_changed,
        ended_at=None if one.ended_at is None else round(one.ended_at, 3),
        moves=[_taken(move) for move in one.moves],
    )


def _taken(move: Move) -> Taken:
    assert move.source is not None  # the timeline keeps no others
    return Taken(move.source, move.destination, move.count)
