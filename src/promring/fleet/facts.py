"""Where adapters put what they learn and the loop reads it: one cell a fact, never a queue.

Owns: the newest answer and the last good one of each fact, with their times.
Promises: a writer is never blocked, and a reader always sees the newest answer. A spurious wake-up of Consul or an unchanged
source costs no cycle: the loop is woken only when an answer differs from the one before, confirms it for the last time that
is needed, or is fresh where the one before was not. Lists are compared by identity: an unchanged list comes as the same
object again (``discovery.polling``).
Flow: written by membership and discovery through ``Cell.put``, read by ``reconcile`` through ``FactBoard.newest``.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from promring.core.coverage import Seen
from promring.core.sight import Sight
from promring.core.verdicts import Facts
from promring.model import LONG_AGO, Answer, Empty, Fact, Known, Members, Reply, ServiceScraper, TargetPool, Unknown
from promring.runtime.clocks import monotonic

T = TypeVar("T")

CONFIRM_APART_S = 1.0
URGENT_S = 0.02
"""How long a death waits for other deaths of the same machine, or in the same answer."""
SETTLE_MOST = 5
"""A cycle waits at most so many times the debounce while facts go on changing."""
REPEATS_MOST = 1_000_000


class Cell(Generic[T]):
    """The newest answer about one thing, and the last good one."""

    def __init__(
        self,
        wake: Callable[[], None],
        clock: Callable[[], float],
        same: Callable[[T, T], bool],
        confirmations: int = 1,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        """``same`` compares two good values: comparing long lists element by element would hold the event loop. The loop
        also wakes when a value was confirmed ``confirmations`` times in a row. ``monotonic``: the clock of ``Fact.since``.
        """
        self._wake = wake
        self._confirmations = confirmations
        self._counted_at = self._heard_at = 0.0
        """When a fresh answer was last counted, and when the last fresh answer came."""
        self.asked_at = LONG_AGO
        """When the last question began of which all parts were answered, monotonic seconds."""
        self.wanted = asyncio.Event()
        """Set when the loop waits for a newer answer than the one it has."""
        self._wanted_since = LONG_AGO
        self._paused = False
        """Whether the newest answer confirms nothing."""
        self._same = same
        self._clock, self._monotonic = clock, monotonic
        self.fact: Fact[T] = Fact(Unknown("not asked yet"))
        self.answered = False
        """Whether an answer came since the start; a value that was put back is none."""

    def put(self, answer: Answer[T], trouble: str = "", remembered: bool = False, began: float | None = None) -> None:
        """Take an answer. ``trouble``: why a part of it is from an earlier answer. ``remembered``: that part is from before
        the start. ``began``: when the question was asked, monotonic seconds; None: now.
        """
        before, now = self.fact, self._clock()
        if not (isinstance(answer, Unknown) or trouble or remembered):
            self.asked_at = self._monotonic() if began is None else began
        self.answered |= not isinstance(answer, Unknown) and not remembered
        run = self._run(answer, confirms=not (isinstance(answer, Unknown) or trouble or remembered))
        if isinstance(answer, Known):
            known = before.good is not None and self._same(before.good.value, answer.value)
            good = before.good if known else answer  # an equal value keeps its identity
            self.fact = Fact(answer, now, good, before.good_at if trouble else now, trouble, *run)
        else:
            self.fact = Fact(answer, now, before.good, before.good_at, trouble, *run)
        never = self.fact.good is None and answer != before.newest  # why there is nothing is news while there is nothing
        confirmed = self.fact.repeats == self._confirmations > before.repeats
        other = type(answer) is not type(before.newest) or self.fact.is_fresh is not before.is_fresh
        if self.fact.good is not before.good or other or never or confirmed:
            self._wake()

    def _run(self, answer: Answer[T], *, confirms: bool) -> tuple[Answer[T] | None, int, float]:
        """``Fact.fresh``, ``repeats`` and ``since`` after ``answer``. An answer that confirms nothing counts neither as a
        repeat nor as time.
        """
        before, now = self.fact, self._monotonic()
        paused, self._paused = self._paused, not confirms
        if not confirms:
            return before.fresh, before.repeats, before.since
        if before.fresh is None or not self._equal(before.fresh, answer):
            self._counted_at = self._heard_at = now
            return answer, 1, now
        since = before.since + (now - self._heard_at if paused else 0.0)
        repeats, self._heard_at = before.repeats, now
        if now - self._counted_at >= CONFIRM_APART_S:  # a file that is read three times in a moment has said it once
            repeats, self._counted_at = min(repeats + 1, REPEATS_MOST), now
        return answer, repeats, since

    def _equal(self, one: Answer[T], other: Answer[T]) -> bool:
        if isinstance(one, Known) and isinstance(other, Known):
            return self._same(one.value, other.value) or one == other
        return isinstance(one, Empty) and isinstance(other, Empty)

    def go_on_from(self, before: Cell[T]) -> None:
        """Take over the confirmations of the fleet before a reload. The time until the next answer is not counted."""
        fresh, repeats, since = before.fact.fresh, before.fact.repeats, before.fact.since
        self.fact = replace(self.fact, fresh=fresh, repeats=repeats, since=since)
        self._heard_at, self._counted_at, self._paused = before._heard_at, before._counted_at, True

    def stood_still(self, seconds: float) -> None:
        """The process stood still for so long: that time confirms nothing."""
        self._heard_at += seconds
        self._counted_at += seconds
        if self.fact.fresh is not None:
            self.fact = replace(self.fact, since=self.fact.since + seconds)

    def want(self, since: float) -> None:
        """Have the source asked at once, once for each ``since`` (monotonic seconds): what is known is older than that."""
        if since != self._wanted_since:
            self._wanted_since = since
            self.wanted.set()

    def confirm(self, since: float) -> None:
        """Another controller had this value at ``since`` (monotonic seconds): the question counts as asked then."""
        self.asked_at = max(self.asked_at, since)

    def restore(self, value: T, good_at: float, reason: str) -> None:
        """Put back a value that was good before a restart or a reload. It is stale until an answer comes."""
        self.fact = Fact(Unknown(reason), 0.0, Known(value), good_at)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: a full cycle at the latest after ``interval_s``; changes within ``debounce_s`` are one cycle."""

    interval_s: float = 60.0
    debounce_s: float = 0.2


class SourceBoard:
    """What the sources of one shard service say. ``wake`` wakes the loop of its fleet."""

    def __init__(
        self,
        sources: Sequence[str],
        wake: Callable[[], None],
        clock: Callable[[], float] = time.time,
        *,
        confirmations: int = 1,
    ) -> None:
        self.cells: dict[str, Cell[TargetPool]] = {name: Cell(wake, clock, operator.is_, confirmations) for name in sources}

    @property
    def answered(self) -> bool:
        """Whether every source has answered since the start."""
        return all(cell.answered for cell in self.cells.values())

    def newest(self) -> dict[str, Fact[TargetPool]]:
        return {name: cell.fact for name, cell in self.cells.items()}


class FactBoard:
    """All facts of one fleet, an attribute each, and ``wake``, which wakes the loop when one of them changed."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._changed = asyncio.Event()
        self._urgent = asyncio.Event()
        self._since = self._woken_at = 0.0
        self._clock = clock
        self.seen: Mapping[str, Seen] = {}
        """What each scraper was last seen doing, with the ids of the fleet."""
        self.intervals: Mapping[ServiceScraper, float] = {}
        """The longest scrape interval, by service and scraper, seconds."""
        self.silent: frozenset[str] = frozenset()
        """Who was asked what it does, and did not answer."""
        self.answering: Mapping[str, float] = {}
        """Since when who was asked answers, monotonic seconds."""
        self.looked_at = 0.0
        """When the last look at all scrapers began, monotonic seconds."""
        self.look_wanted = asyncio.Event()
        self.members: Cell[Members] = Cell(self.wake, clock, operator.eq)
        self.services: dict[str, SourceBoard] = {}
        self.listed: Members = ()
        """Who is listed, alive or not, as the membership says it."""
        self.probed: Mapping[str, Reply] = {}
        self.suspects: Members = ()
        self.suspects_changed = asyncio.Event()

    def add(self, service: str, sources: Sequence[str], confirmations: int = 1) -> SourceBoard:
        """The facts of another shard service."""
        board = self.services[service] = SourceBoard(sources, self.wake, self._clock, confirmations=confirmations)
        return board

    def put_listed(self, listed: Members) -> None:
        """Who is listed, alive or not: sorted by id, ids distinct."""
        if listed != self.listed:
            self.listed = listed
            self.wake()

    def put_sight(self, sight: Sight, *, awaited: bool) -> None:
        """What the scrapers were seen doing. ``awaited``: the loop waits for it."""
        awaited |= self.silent != sight.silent
        self.seen, self.silent = sight.seen, frozenset(sight.silent)
        self.answering, self.intervals = sight.answering, sight.intervals
        self.looked_at = self.looked_at if sight.began is None else sight.began
        if awaited:
            self.wake()

    def ask_for_look(self) -> None:
        """A hand-over began: somebody should look soon."""
        self.look_wanted.set()

    def suspect(self, scrapers: Members) -> None:
        """Somebody shall probe these directly, until others or none are suspected."""
        if scrapers != self.suspects:
            self.suspects = scrapers
            self.probed = {s.id: self.probed[s.id] for s in scrapers if s.id in self.probed}
            self.suspects_changed.set()

    def put_probed(self, scraper: str, reply: Reply) -> None:
        """What a suspected scraper does when it is asked directly."""
        if scraper in {s.id for s in self.suspects} and self.probed.get(scraper) is not reply:
            self.probed = {**self.probed, scraper: reply}
            self.wake()

    def go_on_from(self, before: FactBoard, was: Mapping[str, str]) -> None:
        """Of the fleet before a reload. ``was``: the names of services then."""
        self.suspects, self.probed = before.suspects, before.probed
        for service, board in self.services.items():
            known = before.services.get(was.get(service, service))
            for name, cell in board.cells.items():
                if known is not None and name in known.cells:
                    cell.go_on_from(known.cells[name])

    def stood_still(self, seconds: float) -> None:
        """So long nobody looked. What those did that were asked directly may be another thing now."""
        for board in self.services.values():
            for cell in board.cells.values():
                cell.stood_still(seconds)
        self.probed = {}

    def wake(self) -> None:
        self._woken_at = time.monotonic()
        if not self._changed.is_set():
            self._since = self._woken_at
            self._changed.set()

    def put_members(self, answer: Answer[Members]) -> None:
        """What the membership says. That somebody is gone is urgent: its targets are scraped by nobody."""
        good = self.members.fact.good
        if isinstance(answer, Known) and good and {s.id for s in good.value} - {s.id for s in answer.value}:
            self._urgent.set()
        self.members.put(answer)

    async def settle(self, debounce_s: float) -> None:
        """Wait until what changes together has changed: until nothing did for ``debounce_s``, at most ``SETTLE_MOST`` times
        as long; a short while when it is urgent.
        """
        latest = time.monotonic() + SETTLE_MOST * debounce_s
        while (left := min(latest, self._woken_at + debounce_s) - time.monotonic()) > 0 and not self._urgent.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._urgent.wait()
        if self._urgent.is_set():
            await asyncio.sleep(min(debounce_s, URGENT_S))

    async def wait(self, timeout_s: float) -> bool:
        """True when a fact has changed since the last ``take``; False after ``timeout_s`` without."""
        try:
            async with asyncio.timeout(timeout_s):  # not wait_for: in 3.11 it can swallow a cancellation
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> float | None:
        """What woke the loop is taken. Since when (monotonic seconds) the oldest change has waited; None when none did."""
        self._urgent.clear()
        if not self._changed.is_set():
            return None
        self._changed.clear()
        return self._since

    @property
    def answered(self) -> bool:
        """Whether scrapers and every source of every service have answered since the start."""
        return self.members.answered and all(board.answered for board in self.services.values())

    def newest(self) -> Facts:
        return Facts(self.members.fact, {name: board.newest() for name, board in self.services.items()}, self.probed)
