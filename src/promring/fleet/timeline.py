"""What became of one fleet's plan lately: each reshard with its reason, who came and went, and who took how much from whom.

Kept in memory, for people: ``RESHARDS_KEPT`` reshards, the moves of ``TARGETS_KEPT`` targets, the times of ``MADE_KEPT``
generations. It goes on over a reload and begins anew with the process. Written by ``reconcile``; read by the web.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from promring.model import Generation, Move, Moved, Placement, Plan

RESHARDS_KEPT = 200
MOVES_KEPT = 100
"""Of one reshard: pairs of scrapers, those with the most targets."""
TARGETS_KEPT = 100_000
MADE_KEPT = 2_000
NAMED_KEPT = 100


@dataclass(frozen=True, slots=True)
class Reshard:
    """``at``: wall-clock seconds. ``joined``, ``left``: who may have targets since, or may not any more; ``more``: how many
    besides. ``held``: targets that old owners kept at the beginning; ``ended_at``: when they kept none any more, or another
    reshard came.
    """

    at: float
    reason: str
    generation: Generation
    joined: tuple[str, ...]
    left: tuple[str, ...]
    more: int
    scrapers: int
    targets: int
    moved: int
    held: int
    slices_changed: int
    moves: tuple[Move, ...]
    ended_at: float | None


class MovedOnce(NamedTuple):
    """One target, once."""

    at: float
    reason: str
    source: str
    destination: str


class Timeline:
    def __init__(self) -> None:
        self.reshards: deque[Reshard] = deque(maxlen=RESHARDS_KEPT)
        """The newest last."""
        self.held_at: float | None = None
        """When the number of targets that old owners keep last changed, wall-clock seconds; None: not since the start."""
        self._held = 0
        self._moved: deque[tuple[Reshard, Moved]] = deque()
        self._rows = 0
        self._made: OrderedDict[Generation, float] = OrderedDict()

    def made(self, generation: Generation, at: float) -> None:
        """Slices got this generation."""
        self._made[generation] = at
        while len(self._made) > MADE_KEPT:
            self._made.popitem(last=False)

    def made_at(self, generation: Generation) -> float | None:
        """When slices got it, wall-clock seconds; None: longer ago than is remembered."""
        return self._made.get(generation)

    def add(self, one: Reshard, plan: Plan) -> None:
        """One that moved nothing, and after which the same scrapers have targets, is left out."""
        if not (one.moved or one.joined or one.left):
            return
        self._end(one.at)
        self.reshards.append(one)
        if plan.targets is None:
            return
        self._moved.append((one, _first(plan.targets, TARGETS_KEPT)))
        self._rows += len(self._moved[-1][1])
        while self._rows > TARGETS_KEPT:
            self._rows -= len(self._moved.popleft()[1])

    def holding(self, held: int, at: float) -> None:
        """So many targets are with old owners now."""
        if held != self._held:
            self._held, self.held_at = held, at
        if not held:
            self._end(at)

    def _end(self, at: float) -> None:
        """Of the newest reshard."""
        if self.reshards and self.reshards[-1].ended_at is None:
            self.reshards[-1] = replace(self.reshards[-1], ended_at=at)

    def left_at(self, scraper: str) -> float | None:
        """When the scraper left the plan, wall-clock seconds; None: longer ago than is remembered, or not at all."""
        return next((one.at for one in reversed(self.reshards) if scraper in one.left), None)

    def moves_of(self, target: int) -> list[MovedOnce]:
        """Of the target with this id of the fleet, the newest first."""
        found = []
        for reshard, moved in reversed(self._moved):
            for row in np.flatnonzero(moved.ids == np.uint64(target)).tolist():
                source, destination = moved.sources[row], moved.destinations[row]
                found.append(MovedOnce(reshard.at, reshard.reason, moved.scrapers[source], moved.scrapers[destination]))
        return found


def reshard_of(
    at: float,
    reason: str,
    generation: Generation,
    before: Placement | None,
    owned: Placement,
    plan: Plan,
    *,
    slices: Collection[str] = (),
    held: int,
    slices_changed: int,
) -> Reshard:
    """From the placement ``before`` to ``owned``. After a start or a reload there is no placement before: then the scrapers
    that had ``slices``, and are not drained, were there.
    """
    has = {s.id for s in owned.scrapers if s.able}
    if before is not None:
        had = {s.id for s in before.scrapers if s.able}
    else:
        had = {*slices} - {s.id for s in owned.scrapers if not s.able}
    joined, left = sorted(has - had), sorted(had - has)
    moves = sorted((m for m in plan.moves if m.source is not None), key=lambda m: -m.count)
    return Reshard(
        at=at,
        reason=reason,
        generation=generation,
        joined=tuple(joined[:NAMED_KEPT]),
        left=tuple(left[:NAMED_KEPT]),
        more=max(0, len(joined) - NAMED_KEPT) + max(0, len(left) - NAMED_KEPT),
        scrapers=len(has),
        targets=len(owned.pool),
        moved=plan.moved,
        held=held,
        slices_changed=slices_changed,
        moves=tuple(moves[:MOVES_KEPT]),
        ended_at=None if held else at,
    )


def _first(moved: Moved, most: int) -> Moved:
    if len(moved) <= most:
        return moved
    return replace(moved, ids=moved.ids[:most], sources=moved.sources[:most], destinations=moved.destinations[:most])
