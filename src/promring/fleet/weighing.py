"""Which loads a fleet places by, and when it places by newer ones.

The book in force (``core/loads``) is a fact like the others: it is in the state of each controller and in the note beside
the lock, so every controller places by the same one. Only the leader learns. Its newer book is put in force when placing by
it moves nothing, or when the moves are worth it (``core/gain``) and the last ones because of loads were ``APART_S`` ago.

Promises: what is in force stays while nobody has figures. Flow: ``loads/learner`` brings what is learnt; ``reconcile`` has
it place in each cycle, and says whether loads may move something: not while scrapers are held or unknown, nor before a new
leader has looked what they have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

from promring.core.gain import APART_S, fullest, gain
from promring.core.joined import FleetPool
from promring.core.loads import LoadBook
from promring.core.needed import Needed, scrapers_needed
from promring.core.placement import Policy
from promring.election.leadership import Leadership
from promring.fleet.state import Memory
from promring.loads.learner import Known
from promring.model import NEVER_ENDS, Loads, Placement
from promring.runtime.clocks import monotonic
from promring.runtime.threads import computed
from promring.telemetry.log import Logger

TRIED_APART_S = 30.0


class Place(Protocol):
    """Places a pool by these loads; a ``trial`` is not kept for the next time."""

    def __call__(self, loads: Loads | None, *, trial: bool = False) -> Awaitable[Placement]: ...


class Measured(NamedTuple):
    """``spread``: what the fullest scraper has of its fair share; None where each target counts 1."""

    spread: float | None
    needed: Needed | None


class Weighing:
    """Of one fleet: an attribute for each thing that is known of its loads, and when. ``learns``: whether loads are learnt
    at all. ``wake`` wakes the loop. ``clock``: wall-clock seconds.
    """

    def __init__(
        self,
        *,
        leadership: Leadership,
        wake: Callable[[], None],
        log: Logger,
        learns: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self.learns = learns
        self.known: Known | None = None
        """What was learnt here last."""
        self._leadership, self._wake, self._log = leadership, wake, log
        self._clock, self._monotonic = clock, monotonic
        self._newest: LoadBook | None = None
        self._newest_of = -1
        """The epoch in which that was learnt: in a later one the leader before us may have learnt more."""
        self._refused: LoadBook | None = None
        """The last book that was tried and was not worth its moves; it is tried again after ``APART_S``."""
        self._refused_at = 0.0
        self._measured: tuple[Placement, Measured] | None = None
        self._placed, self._measuring = asyncio.Event(), False
        self._in_force: LoadBook | None = None
        self._loads: tuple[FleetPool, LoadBook, Loads] | None = None
        self._apart_until = 0.0
        """Until then loads alone move nothing, monotonic seconds."""
        self._try_at = 0.0
        """A newer book is tried then at the earliest: a placement costs something."""

    def receive(self, known: Known) -> None:
        """Something more was learnt."""
        self.known = known
        if known.book is not None and not known.book.same_loads(self._newest):
            self._newest = known.book
            self._wake()
        self._newest_of = self._leadership.epoch

    def measured(self, placement: Placement, policy: Policy) -> Measured:
        """By the newest figures where there are some, else by the loads of the plan. While this ``placement`` is measured:
        what the one before needed. Where nobody measures it blocks, for long where it is long.
        """
        known = self.known
        fresh = known is not None and known.spread is not None and known.pool is placement.pool
        if known is not None and fresh and self._leadership.leads():
            return Measured(known.spread, known.needed)
        if self._measured is None or (self._measured[0] is not placement and not self._measuring):
            self._measured = placement, self._measure(placement, policy)
        return self._measured[1]

    def _measure(self, placement: Placement, policy: Policy) -> Measured:
        return Measured(fullest(placement) if self.learns else None, scrapers_needed(placement, policy))

    def placement_is_new(self) -> None:
        """There may be another placement to measure."""
        self._placed.set()

    async def keep_measuring(self, newest: Callable[[], Placement | None], policy: Policy) -> None:
        """For ever: what ``measured`` tells, beside the event loop and beside the loop of the fleet. Without a capacity and
        without loads there is nothing to count.
        """
        while self.learns or policy.capacity is not None:
            await self._placed.wait()
            self._placed.clear()
            placement = newest()
            if placement is None or (self._measured is not None and self._measured[0] is placement):
                continue
            self._measuring = True
            try:
                found = await computed(lambda: self._measure(placement, policy))  # noqa: B023 - awaited here
            finally:
                self._measuring = False
            self._measured = placement, found

    async def loads(self, pool: FleetPool, book: LoadBook | None) -> Loads | None:
        """The load of each row; the same array for the same pool and book. None: each counts 1."""
        if book is None or not self.learns:
            return None
        if self._loads is None or self._loads[0] is not pool or self._loads[1] is not book:
            self._loads = pool, book, await computed(lambda: book.of(pool))
        return self._loads[2]

    async def placed(
        self, pool: FleetPool, place: Place, memory: Memory, policy: Policy, *, calm: bool
    ) -> tuple[Placement, LoadBook | None]:
        """The placement of ``pool``, and the book that it is made with: the one in force, or a newer one that shall be now.
        ``calm``: loads may move something now.
        """
        in_force = memory.loads
        now = await place(await self.loads(pool, in_force))
        newer = await self.newer(now, in_force, partial(place, trial=True), policy) if calm and memory.planned else None
        return (now, in_force) if newer is None else (await place(await self.loads(pool, newer)), newer)

    async def newer(self, placed: Placement, in_force: LoadBook | None, place: Place, policy: Policy) -> LoadBook | None:
        """The book that shall be in force from now on instead, as a placement by it tells; None: the same as before.
        ``placed``: the placement without it.
        """
        self._note_moves(in_force)
        newest, pool = self._newest, placed.pool
        if newest is None or not self._is_due or not isinstance(pool, FleetPool):
            return None
        self._try_at = self._monotonic() + TRIED_APART_S
        then = await place(await computed(lambda: newest.of(pool)))
        found = await computed(lambda: gain(placed, then, policy))
        if found.moves and not found.worth:
            self._refused, self._refused_at = newest, self._monotonic()
            return None
        if found.moves:
            self._log.info("loads_in_force", fullest_before=round(found.before, 3), fullest=round(found.after, 3))
        else:  # the state and the note are written for it, which nobody needs often
            self._try_at = self._monotonic() + APART_S
        moved_at = in_force.moved_at if in_force is not None else 0.0
        return replace(newest, moved_at=self._clock() if found.moves else moved_at)

    @property
    def _is_due(self) -> bool:
        """Whether there is a newer book that was not tried, and its time has come."""
        now = self._monotonic()
        return self._is_news and self._leadership.leads() and now >= max(self._apart_until, self._try_at)

    @property
    def _is_news(self) -> bool:
        if self._newest is None or self._newest_of != self._leadership.epoch or self._newest.same_loads(self._in_force):
            return False
        return not self._newest.same_loads(self._refused) or self._monotonic() - self._refused_at >= APART_S

    def _note_moves(self, in_force: LoadBook | None) -> None:
        """When loads moved targets last, at whichever controller. A clock that was set counts for ``APART_S`` at most."""
        if in_force is self._in_force:
            return
        self._in_force, self._refused = in_force, None
        if in_force is not None and in_force.moved_at:
            ago = max(0.0, self._clock() - in_force.moved_at)
            self._apart_until = self._monotonic() + max(0.0, APART_S - ago)

    @property
    def wakes_at(self) -> float:
        """When a newer book that waits for its time may be tried, monotonic seconds."""
        at = max(self._apart_until, self._try_at)
        return at if at > self._monotonic() and self._leadership.leads() and self._is_news else NEVER_ENDS
