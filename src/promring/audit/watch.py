"""Asks the scrapers again and again: those that a hand-over waits for every second, all of them every ``interval_s``.

Promises: at most ``AT_ONCE`` are asked at a time, each answer bounded in time and size (``active.SHORT_BYTES_MAX``;
whoever has more to say is asked again, one at a time), so that all answers at one moment take less than 0.7 GiB whatever
they hold; decoding and comparing is beside the event loop; a scraper that does not answer, or answers what nobody foresaw,
is named and proves nothing. Does not promise that each moment is seen.
Flow: what was seen goes to the loop as receipts, and becomes ``coverage`` for page, API and metrics.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import aiohttp

from promring.audit.active import (
    BODY_BYTES_MAX,
    SHORT_BYTES_MAX,
    AuditError,
    OwnTroubleError,
    TooLongError,
    active_targets,
    seen_in,
)
from promring.core.coverage import Coverage, Index, Seen, coverage
from promring.core.handover import Receipt
from promring.httpclient import new_session
from promring.log import Logger
from promring.model import Placement, Scraper
from promring.threads import beside
from promring.unforeseen import Lasting, Quiet, Unforeseen

AT_ONCE = 20
DECODED_AT_ONCE = 2
SOON_S = 1.0
AWAITED_S = 2.0
"""So long somebody has to answer whom a hand-over waits for: one that hangs shall not hold the others up."""
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
    """Of one shard service. ``in_force`` gives what the slices hold, ``waiting`` whose receipts a hand-over waits for;
    ``wanted`` is set when one begins. ``receive`` gets what was seen, and when the look began if it was at all of them;
    ``look_at`` is told what all scrapers were seen doing.
    """

    def __init__(
        self,
        settings: AuditSettings,
        in_force: Callable[[], Placement | None],
        waiting: Callable[[], Iterable[str]],
        receive: Callable[[Mapping[str, Receipt], float | None], None],
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
        self._told: tuple[int, int, bool] | None = None
        """What the log says of it."""
        self._uncovered_since: float | None = None
        self.at = 0.0
        """When ``coverage`` was made, wall-clock seconds."""
        self.seen: dict[str, Seen] = {}
        self.failed: dict[str, str] = {}
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
            await asyncio.sleep(SOON_S)
            return
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
        await self._ask_all(session, asked, self._index, waiting)
        live = {s.id for s in placement.scrapers}
        self.seen = {name: seen for name, seen in self.seen.items() if name in live}
        self.failed = {name: why for name, why in self.failed.items() if name in live}
        self._long &= live
        self._lasting.keep(live)
        self._receive(
            {name: Receipt(seen.at, seen.scraped_ids) for name, seen in self.seen.items()},
            began if len(asked) == len(placement.scrapers) else None,
        )
        if full:
            await self._compare()
            if self._look_at is not None:
                await self._look_at(dict(self.seen))

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
                await self._ask(_Question(session, scraper, timeout_s, bytes_max, decoding), index)

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
            if self._quiet.is_news():  # for all scrapers in one
                self._log.warning("audit_not_made", scraper=scraper.id, error=why, note="proves nothing")
        except AuditError as error:
            why = str(error)
            if self._lasting.is_news(scraper.id, why, begins=scraper.id not in self.failed):
                self._log.warning("audit_failed", scraper=scraper.id, error=why)
        except Exception as error:  # whatever a scraper answers, the others are asked
            why = self._faults.note(error)
        else:
            self.failed.pop(scraper.id, None)
            return
        self.failed[scraper.id] = why
        self.seen.pop(scraper.id, None)

    async def _seen(self, question: _Question, index: Index) -> Seen:
        at, pool = time.monotonic(), self._settings.scrape_pool
        seen, size = await _answered(question, pool, pool, index, at)
        if not len(seen.ids):  # none, or none of this name: then it is said which there are
            seen, size = await _answered(question, None, pool, index, at)
        if size <= SHORT_BYTES_MAX:
            self._long.discard(question.scraper.id)
        return seen

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
        told, self._told = self._told, (found.uncovered, len(found.doubled), lasting)
        if told != self._told:  # what is new takes its scrapers a moment: only what lasts is a warning
            say = self._log.warning if lasting else self._log.info
            say(
                "coverage",
                ratio=round(found.ratio, 6),
                missing=len(found.missing),
                unproved=len(found.unproved),
                doubled=len(found.doubled),
                down=len(found.down),
            )


@dataclass(frozen=True, slots=True)
class _Question:
    """To one scraper; ``decoding`` bounds how many answers are decoded at a time."""

    session: aiohttp.ClientSession
    scraper: Scraper
    timeout_s: float
    bytes_max: int
    decoding: asyncio.Semaphore


async def _answered(question: _Question, asked_for: str | None, pool: str, index: Index, at: float) -> tuple[Seen, int]:
    """What it was seen doing, and the length of the answer. Raises ``AuditError``."""
    q = question
    body = await active_targets(q.session, q.scraper, asked_for, q.timeout_s, bytes_max=q.bytes_max)

    def work() -> Seen | AuditError:
        try:
            return seen_in(body, pool, index, at)
        except AuditError as error:  # made anew outside: one that crosses from a thread keeps the body until it is collected
            return AuditError(str(error))

    async with q.decoding:
        found = await beside(work)
    if isinstance(found, AuditError):
        raise found
    return found, len(body)
