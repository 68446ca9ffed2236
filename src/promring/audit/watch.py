"""Asks the scrapers again and again: those that a hand-over waits for every second, all of them every ``interval_s``.

Promises: at most ``AT_ONCE`` are asked at a time, each answer bounded in time and size (``active.SHORT_BYTES_MAX``;
whoever has more to say is asked again, one at a time), so that all answers at one moment take less than 0.7 GiB whatever
they hold; decoding and comparing is beside the event loop; a scraper that does not answer, or answers what nobody foresaw,
is named and proves nothing. Does not promise that each moment is seen.
What relabelling drops is asked for only when a scraper lacks something of its slice.
Flow: what was seen goes to the loop (``Sight``), and becomes ``coverage`` for page, API and metrics.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import aiohttp
import numpy as np

from promring.audit.active import (
    BODY_BYTES_MAX,
    HIDDEN_ALL,
    SHORT_BYTES_MAX,
    AuditError,
    OwnTroubleError,
    State,
    Told,
    TooLongError,
    seen_in,
    targets_of,
    with_dropped,
)
from promring.core.coverage import NO_IDS, Coverage, Index, Seen, Sight, coverage
from promring.core.plan import Shares, shares
from promring.httpclient import new_session
from promring.log import Logger
from promring.model import Keys, Placement, Scraper
from promring.threads import beside
from promring.unforeseen import Lasting, Quiet, Unforeseen

AT_ONCE = 20
DECODED_AT_ONCE = 2
SOON_S = 1.0
AWAITED_S = 2.0
"""So long somebody has to answer whom a hand-over waits for: one that hangs shall not hold the others up."""
LATER_S, LATER_AFTER_S = 5.0, 60.0
"""Who is awaited for longer than that is asked less often."""
DROPPED_AGAIN_S = 5.0
"""What a scraper drops is asked for at most so often while it is awaited."""
JITTER = 0.1


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Seconds. ``interval_s`` None: only what a hand-over waits for. ``lasts_s``: targets that nobody was seen scraping for
    so long are worth a warning.
    """

    scrape_pool: str
    interval_s: float | None = 30.0
    timeout_s: float = 5.0
    lasts_s: float = 20.0


class Audit:
    """Of one shard service. ``in_force`` gives what the slices hold, ``waiting`` whom a hand-over waits for; ``wanted`` is
    set when one begins. ``receive`` gets what was seen; ``look_at`` is told what all scrapers were seen doing.
    """

    def __init__(
        self,
        settings: AuditSettings,
        in_force: Callable[[], Placement | None],
        waiting: Callable[[], Iterable[str]],
        receive: Callable[[Sight], None],
        wanted: asyncio.Event,
        look_at: Callable[[Mapping[str, Seen]], Awaitable[None]] | None,
        log: Logger,
    ) -> None:
        self._settings = settings
        self._in_force, self._waiting, self._receive = in_force, waiting, receive
        self._log = log
        self._index: Index | None = None
        self._soon = wanted
        self._look_at = look_at
        self._faults, self._quiet, self._lasting = Unforeseen("audit", log), Quiet(), Lasting()
        self._long: set[str] = set()
        """Scrapers whose answer was longer than ``SHORT_BYTES_MAX``."""
        self.coverage: Coverage | None = None
        self._told: tuple[int, int, int, bool] | None = None
        """What the log says of it."""
        self._uncovered_since: float | None = None
        self.at = 0.0
        """When ``coverage`` was made, wall-clock seconds."""
        self.seen: dict[str, Seen] = {}
        self.failed: dict[str, str] = {}
        self.silent: set[str] = set()
        """Those of ``failed`` that did not answer at all, or with a 5xx."""
        self._answering: dict[str, float] = {}
        """Since when each answers, monotonic seconds."""
        self._expected: _Expected | None = None
        self._running: dict[str, tuple[Keys, float]] = {}
        """Who was seen to have exactly these targets, since then (monotonic seconds)."""
        self._dropped_at: dict[str, float] = {}
        self._awaited_since: float | None = None
        self.behind_since: dict[str, float] = {}
        """Scrapers that do not run what their slice says, and since when that was seen (monotonic seconds)."""

    async def run(self) -> None:
        """For ever."""
        interval = self._settings.interval_s
        full_at = time.monotonic()
        async with new_session(connections_max=AT_ONCE) as session:
            while True:
                self._soon.clear()
                placement = self._in_force()
                if placement is not None:
                    full = interval is not None and time.monotonic() >= full_at
                    if full and interval is not None:
                        full_at = time.monotonic() + interval * random.uniform(1 - JITTER, 1 + JITTER)
                    try:
                        await self._look(session, placement, full=full)
                    except Exception as error:  # the supervisor of this loop: a look that fails proves nothing
                        self._faults.note(error)
                        await asyncio.sleep(self._faults.pause_s())
                await self._pause(full_at if interval is not None else None)

    async def _pause(self, full_at: float | None) -> None:
        if any(True for _ in self._waiting()):
            now = time.monotonic()
            self._awaited_since = self._awaited_since or now
            await asyncio.sleep(SOON_S if now - self._awaited_since < LATER_AFTER_S else LATER_S)
            return
        self._awaited_since = None
        try:
            async with asyncio.timeout(None if full_at is None else max(0.05, full_at - time.monotonic())):
                await self._soon.wait()
        except TimeoutError:
            return

    async def _look(self, session: aiohttp.ClientSession, placement: Placement, *, full: bool) -> None:
        waiting, began = set(self._waiting()), time.monotonic()
        asked = [s for s in placement.scrapers if full or s.id in waiting]
        if self._index is None or self._index.pool is not placement.pool:
            self._index = await beside(lambda: Index(placement.pool))
        if self._expected is None or self._expected.placement is not placement:
            self._expected = await beside(lambda: _Expected.of(placement))
        expected = self._expected
        await self._ask_all(session, asked, self._index, waiting)
        live = {s.id for s in placement.scrapers}
        self._forget_all_but(live)
        await beside(lambda: self._compare_each(expected, asked))
        names = {s.id for s in asked}
        running = {name: self._running[name][1] for name in names & self._running.keys()}
        whole = len(asked) == len(placement.scrapers)
        for name in names - self.silent:
            self._answering.setdefault(name, began)
        for name in self._answering.keys() & self.silent:
            del self._answering[name]
        answering = dict(self._answering)
        seen, silent = dict(self.seen), set(self.silent)
        self._receive(Sight(placement, seen, silent, answering, names, running, began if whole else None))
        if full:
            await self._compare()
            if self._look_at is not None:
                await self._look_at(dict(self.seen))

    def _forget_all_but(self, live: Collection[str]) -> None:
        for known in (self.seen, self.failed, self._running, self._dropped_at, self._answering):
            for name in known.keys() - live:
                del known[name]
        self.silent &= self.failed.keys()
        self._long &= set(live)
        self._lasting.keep(set(live))

    def _compare_each(self, expected: _Expected, asked: Iterable[Scraper]) -> None:
        """Who of those that were asked has just what its slice says: since when."""
        for scraper in asked:
            one, wanted = self.seen.get(scraper.id), np.sort(expected.ids(scraper.id))
            if one is None or not np.array_equal(np.union1d(one.ids, np.intersect1d(one.dropped, wanted)), wanted):
                self._running.pop(scraper.id, None)
                continue
            before = self._running.get(scraper.id)
            if before is None or not np.array_equal(before[0], wanted):
                self._running[scraper.id] = wanted, one.at

    async def _ask_all(
        self, session: aiohttp.ClientSession, asked: Iterable[Scraper], index: Index, waiting: Collection[str]
    ) -> None:
        """Short answers beside each other, then the long ones one by one."""
        gate, decoding = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(DECODED_AT_ONCE)

        async def one(scraper: Scraper, bytes_max: int) -> None:
            async with gate:
                timeout_s = self._settings.timeout_s
                if scraper.id in waiting:
                    timeout_s = min(timeout_s, AWAITED_S)
                due = time.monotonic() - self._dropped_at.get(scraper.id, 0.0) >= DROPPED_AGAIN_S
                wanted = self._expected.ids(scraper.id) if self._expected else NO_IDS
                await self._ask(_Question(session, scraper, timeout_s, bytes_max, decoding, due, wanted), index)

        asked = list(asked)
        await asyncio.gather(*(one(scraper, SHORT_BYTES_MAX) for scraper in asked if scraper.id not in self._long))
        for scraper in asked:
            if scraper.id in self._long:
                await one(scraper, BODY_BYTES_MAX)

    async def _ask(self, question: _Question, index: Index) -> None:
        scraper = question.scraper
        try:
            self.seen[scraper.id] = await self._seen(question, index)
        except TooLongError as error:
            if question.bytes_max < BODY_BYTES_MAX:
                self._long.add(scraper.id)
                return
            why = str(error)
        except OwnTroubleError as error:
            why = str(error)
            self.silent.add(scraper.id)
            if self._quiet.is_news():  # for all scrapers in one
                self._log.warning("audit_not_made", scraper=scraper.id, error=why, note="proves nothing")
        except AuditError as error:
            why = str(error)
            (self.silent.discard if error.answered else self.silent.add)(scraper.id)
            if self._lasting.is_news(scraper.id, why, begins=scraper.id not in self.failed):
                self._log.warning("audit_failed", scraper=scraper.id, error=why)
        except Exception as error:  # whatever a scraper answers, the others are asked
            why = self._faults.note(error)
        else:
            self.failed.pop(scraper.id, None)
            self.silent.discard(scraper.id)
            return
        self.failed[scraper.id] = why
        self.seen.pop(scraper.id, None)

    async def _seen(self, question: _Question, index: Index) -> Seen:
        at, pool, name = time.monotonic(), self._settings.scrape_pool, question.scraper.id

        def read(told: Told) -> Seen:
            return seen_in(told, pool, index, at)

        seen, size = await _answered(question, "active", pool, read)
        if not len(seen.ids):  # none, or none of this name: then it is said which there are
            seen, size = await _answered(question, "active", None, read)
        if size <= SHORT_BYTES_MAX:
            self._long.discard(name)
        if not len(np.setdiff1d(question.expected, seen.ids)):
            self._dropped_at.pop(name, None)
            return seen
        if not question.wants_dropped:
            return self._with_dropped_before(seen, name)
        self._dropped_at[name] = at
        try:
            found, _ = await _answered(question, "dropped", pool, lambda told: with_dropped(seen, told, pool, index))
        except TooLongError:
            return replace(seen, hidden=HIDDEN_ALL)
        return found

    def _with_dropped_before(self, seen: Seen, name: str) -> Seen:
        """What it lacks was not asked for anew: it drops what it dropped a moment ago."""
        before = self.seen.get(name)
        return seen if before is None else replace(seen, dropped=before.dropped, hidden=before.hidden)

    async def _compare(self) -> None:
        """With what is in force now: what changed while the scrapers were asked counts as behind."""
        placement = self._in_force()
        if placement is None:
            return
        seen, failed = dict(self.seen), dict(self.failed)
        found = await beside(lambda: coverage(placement, seen, failed))
        now = time.monotonic()
        self.behind_since = {
            name: self.behind_since.get(name, now) for name, one in found.scrapers.items() if one.behind and not one.error
        }
        self.coverage, self.at = found, time.time()
        self._uncovered_since = (self._uncovered_since or now) if found.uncovered else None
        lasting = self._uncovered_since is not None and now - self._uncovered_since >= self._settings.lasts_s
        told, self._told = self._told, (found.uncovered, len(found.doubled), len(found.dropped), lasting)
        if told != self._told:  # what is new takes its scrapers a moment: only what lasts is a warning
            say = self._log.warning if lasting else self._log.info
            say(
                "coverage",
                ratio=round(found.ratio, 6),
                missing=len(found.missing),
                unproved=len(found.unproved),
                doubled=len(found.doubled),
                down=len(found.down),
                dropped=len(found.dropped),
            )


@dataclass(frozen=True, slots=True)
class _Expected:
    """What each scraper shall have."""

    placement: Placement
    shares: Shares
    numbers: Mapping[str, int]

    @classmethod
    def of(cls, placement: Placement) -> _Expected:
        return cls(placement, shares(placement), {s.id: i for i, s in enumerate(placement.scrapers)})

    def ids(self, scraper: str) -> Keys:
        number = self.numbers.get(scraper)
        return NO_IDS if number is None else self.placement.pool.ids[self.shares.of(number)]


@dataclass(frozen=True, slots=True)
class _Question:
    """To one scraper; ``decoding`` bounds how many answers are decoded at a time. ``wants_dropped``: also what it drops of
    its slice.
    """

    session: aiohttp.ClientSession
    scraper: Scraper
    timeout_s: float
    bytes_max: int
    decoding: asyncio.Semaphore
    wants_dropped: bool
    expected: Keys


async def _answered(question: _Question, state: State, pool: str | None, read: Callable[[Told], Seen]) -> tuple[Seen, int]:
    """What ``read`` makes of the answer, and its length. Raises ``AuditError``."""
    q = question
    told = await targets_of(q.session, q.scraper, state, pool, q.timeout_s, bytes_max=q.bytes_max)

    def work() -> Seen | AuditError:
        try:
            return read(told)
        except AuditError as error:  # made anew outside: one that crosses from a thread keeps the body until it is collected
            return type(error)(str(error))

    async with q.decoding:
        found = await beside(work)
    if isinstance(found, AuditError):
        raise found
    return found, len(told.body)
