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
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import aiohttp

from promring.audit.active import BODY_BYTES_MAX, SHORT_BYTES_MAX, seen_by_pool, targets_of, with_dropped
from promring.audit.answers import HIDDEN_ALL, AuditError, NoPoolError, OwnTroubleError, State, Told, TooLongError
from promring.audit.look import Look
from promring.audit.question import Expected, Question, ids_of
from promring.audit.settings import AuditKeys
from promring.config.scraper_api import ScraperApi
from promring.core.coverage import Seen, Sight
from promring.core.joined import part_of
from promring.model import Placement, Scraper
from promring.runtime.http_client import new_session
from promring.runtime.threads import in_thread
from promring.runtime.unforeseen import Lasting, Quiet, Unforeseen
from promring.telemetry.log import Logger

T = TypeVar("T")
AT_ONCE = 20
DECODED_AT_ONCE = 2
SOON_S, SETTLING_S = 1.0, 5.0
AWAITED_S = 2.0
"""So long somebody has to answer whom a hand-over waits for: one that hangs shall not hold the others up."""
LATER_S, LATER_AFTER_S = 5.0, 60.0
"""Who is awaited for longer than that is asked less often."""
DROPPED_AGAIN_S = 5.0
"""What a scraper drops is asked for at most so often while it is awaited."""
JITTER = 0.1
LASTS_S = 20.0


class Audit:
    """Of one fleet; an attribute for each thing that is remembered of a scraper, and for each of those who are told.

    Without ``settings`` scrapers are asked only when a hand-over waits for them. ``api``: how they are asked. ``lasts_s``:
    targets that nobody was seen scraping for so long, in seconds, are worth a warning.

    ``looks``: by service. ``in_force`` gives what the slices hold, ``waiting`` whom a hand-over waits for; ``wanted``
    is set when one begins. ``receive`` gets what was seen; ``look_at`` is told what all scrapers were seen doing.
    """

    def __init__(
        self,
        settings: AuditKeys | None,
        api: ScraperApi,
        looks: Mapping[str, Look],
        in_force: Callable[[], Placement | None],
        waiting: Callable[[], Iterable[str]],
        receive: Callable[[Sight], None],
        wanted: asyncio.Event,
        look_at: Callable[[Mapping[str, Seen]], Awaitable[None]] | None,
        log: Logger,
        *,
        lasts_s: float = LASTS_S,
    ) -> None:
        self._api, self._timeout_s, self._lasts_s = api, (settings or AuditKeys()).timeout, lasts_s
        self._interval_s, self.looks = settings.interval if settings else None, looks
        self._in_force, self._waiting, self._receive = in_force, waiting, receive
        self._log = log
        self._soon = wanted
        self._look_at = look_at
        self._faults, self._quiet, self._lasting = Unforeseen("audit", log), Quiet(), Lasting()
        self._long: set[str] = set()
        """Scrapers whose answer was longer than ``SHORT_BYTES_MAX``."""
        self._failed: dict[str, str] = {}
        """Who gave no answer at all that could be used, and why."""
        self.silent: set[str] = set()
        """Those that did not answer at all, or with a 5xx."""
        self._answering: dict[str, float] = {}
        """Since when each answers, monotonic seconds."""
        self._expected: Expected | None = None
        self._dropped_at: dict[tuple[str, str], float] = {}
        self._awaited_since: float | None = None

    async def run(self) -> None:
        """For ever."""
        interval = self._interval_s
        full_at, judged_at = time.monotonic(), -math.inf
        async with new_session(connections_max=AT_ONCE) as session:
            while True:
                self._soon.clear()
                placement = self._in_force()
                if placement is not None:
                    full = interval is not None and time.monotonic() >= full_at
                    if full and interval is not None:
                        full_at = time.monotonic() + interval * random.uniform(1 - JITTER, 1 + JITTER)
                    judges = full and time.monotonic() - judged_at >= (interval or 0.0) * (1 - 2 * JITTER)
                    judged_at = time.monotonic() if judges else judged_at
                    try:
                        await self._look(session, placement, full=full, judges=judges)
                    except Exception as error:  # the supervisor of this loop: a look that fails proves nothing
                        self._faults.note(error)
                        await asyncio.sleep(self._faults.pause_s())
                    if full and any(look.is_settling(self._lasts_s) for look in self.looks.values()):
                        full_at = min(full_at, time.monotonic() + SETTLING_S)  # what is new takes its scrapers some seconds
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

    async def _look(self, session: aiohttp.ClientSession, placement: Placement, *, full: bool, judges: bool) -> None:
        """``full``: at all scrapers; ``judges``: so long after the one before that it may say who reaches little."""
        waiting, began = set(self._waiting()), time.monotonic()
        asked = [s for s in placement.scrapers if full or s.id in waiting]
        if self._expected is None or self._expected.placement is not placement:
            self._expected = await in_thread(lambda: Expected.of(placement, self.looks))
        expected = self._expected
        await self._ask_all(session, asked, expected, waiting)
        live = {s.id for s in placement.scrapers}
        self._forget_all_but(live)
        await in_thread(lambda: self._compare_each(expected, asked))
        self._receive(await in_thread(lambda: self._sight(expected, {s.id for s in asked}, began)))
        if full:
            await self._compare()
            if judges and self._look_at is not None:
                await self._look_at(self._seen_together(expected))

    def _sight(self, expected: Expected, asked: set[str], began: float) -> Sight:
        for name in asked - self.silent:
            self._answering.setdefault(name, began)
        for name in self._answering.keys() & self.silent:
            del self._answering[name]
        looks = expected.looks.items()
        return Sight(
            expected.placement,
            self._seen_together(expected),
            set(self.silent),
            dict(self._answering),
            asked,
            {s: {name: look.running[name][1] for name in asked & look.running.keys()} for s, look in looks},
            {(s, name): one.interval_s for s, look in looks for name, one in look.seen.items()},
            began if len(asked) == len(expected.placement.scrapers) else None,
        )

    def _seen_together(self, expected: Expected) -> dict[str, Seen]:
        """What each scraper does of all services; none for one that gave no answer."""
        salts = {service: look.salt for service, look in expected.looks.items()}
        found: dict[str, dict[str, Seen]] = {}
        for service, look in expected.looks.items():
            for name, one in look.seen.items():
                found.setdefault(name, {})[service] = one
        return {name: expected.together(name, seen, salts) for name, seen in found.items()}

    def _forget_all_but(self, live: Collection[str]) -> None:
        for look in self.looks.values():
            look.forget_all_but(live)
        for name in [*(self._failed.keys() - live)]:
            del self._failed[name]
        for name in [*(self._answering.keys() - live)]:
            del self._answering[name]
        self._dropped_at = {key: at for key, at in self._dropped_at.items() if key[1] in live}
        self.silent &= self._failed.keys()
        self._long &= set(live)
        self._lasting.keep(set(live))

    def _compare_each(self, expected: Expected, asked: Iterable[Scraper]) -> None:
        """Who of those that were asked has just what its slices say."""
        for service, look in expected.looks.items():
            for scraper in asked:
                look.compare_one(scraper.id, expected.ids(scraper.id, service))

    async def _ask_all(
        self, session: aiohttp.ClientSession, asked: Iterable[Scraper], expected: Expected, waiting: Collection[str]
    ) -> None:
        """Short answers beside each other, then the long ones one by one."""
        gate, decoding = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(DECODED_AT_ONCE)

        async def one(scraper: Scraper, bytes_max: int) -> None:
            async with gate:
                timeout_s = self._timeout_s
                if scraper.id in waiting:
                    timeout_s = min(timeout_s, AWAITED_S)
                await self._ask(Question(session, scraper, timeout_s, bytes_max, decoding, self._api), expected)

        asked = list(asked)
        await asyncio.gather(*(one(scraper, SHORT_BYTES_MAX) for scraper in asked if scraper.id not in self._long))
        for scraper in asked:
            if scraper.id in self._long:
                await one(scraper, BODY_BYTES_MAX)

    async def _ask(self, question: Question, expected: Expected) -> None:
        scraper = question.scraper
        try:
            found = await self._seen(question, expected)
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
            self._say_failed(self._lasting, scraper.id, why, begins=scraper.id not in self._failed)
        except Exception as error:  # whatever a scraper answers, the others are asked
            why = self._faults.note(error)
        else:
            self._failed.pop(scraper.id, None)
            self.silent.discard(scraper.id)
            for service, one in found.items():
                self._note(expected.looks[service], scraper.id, one, has_some=len(expected.ids(scraper.id, service)) > 0)
            return
        self._failed[scraper.id] = why
        for look in expected.looks.values():
            look.failed[scraper.id] = why
            look.seen.pop(scraper.id, None)

    def _note(self, look: Look, scraper: str, found: Seen | AuditError, *, has_some: bool) -> None:
        """``has_some``: its slice is not empty; else it may have no such job."""
        if isinstance(found, AuditError):
            if has_some:
                self._say_failed(look.lasting, scraper, str(found), begins=scraper not in look.failed)
            look.failed[scraper] = str(found)
            look.seen.pop(scraper, None)
        else:
            look.failed.pop(scraper, None)
            look.seen[scraper] = found

    def _say_failed(self, lasting: Lasting, scraper: str, why: str, *, begins: bool) -> None:
        if lasting.is_news(scraper, why, begins=begins):
            self._log.warning("audit_failed", scraper=scraper, error=why)

    async def _seen(self, question: Question, expected: Expected) -> dict[str, Seen | AuditError]:
        """By service: what the scraper says in one answer, for all of them. A scraper that drops all it has of a job shows
        no active target of that job, as one does that has no such job: what it dropped tells which it is.
        """
        at, looks = time.monotonic(), expected.looks
        services = {look.job: service for service, look in looks.items()}
        indexes = {look.job: look.index for look in looks.values() if look.index is not None}

        def read(told: Told) -> dict[str, Seen | AuditError]:
            return seen_by_pool(told, indexes, at)

        only = next(iter(indexes)) if len(indexes) == 1 else None
        found, size = await _answered(question, "active", only, read)
        if only is not None and not len(ids_of(found[only])):  # none, or none of this name: then it is said which there are
            found, size = await _answered(question, "active", None, read)
        if size <= SHORT_BYTES_MAX:
            self._long.discard(question.scraper.id)
        by_service = {services[job]: one for job, one in found.items()}
        absent = {service: one.nothing for service, one in by_service.items() if isinstance(one, NoPoolError)}
        seen = {service: one for service, one in by_service.items() if isinstance(one, Seen)}
        more = await self._with_dropped(question, seen | absent, expected)
        told = {n: one for n, one in more.items() if n not in absent or len(one.dropped) or one.hidden}
        answer = {**by_service, **told}
        service = services[only] if only is not None else None
        if service and isinstance(error := answer[service], AuditError) and len(expected.ids(question.scraper.id, service)):
            raise error  # one that shall have none of it may have no such job
        return answer

    async def _with_dropped(self, question: Question, seen: Mapping[str, Seen], expected: Expected) -> Mapping[str, Seen]:
        """What it drops of what it lacks. That is asked for only now and then, once for all services; between it drops what
        it dropped.
        """
        scraper, found, due = question.scraper.id, dict(seen), dict[str, Seen]()
        for service, one in seen.items():
            if one.lists(expected.ids(scraper, service)):
                self._dropped_at.pop((service, scraper), None)
            elif time.monotonic() - self._dropped_at.get((service, scraper), 0.0) >= DROPPED_AGAIN_S:
                due[service] = one
            elif (before := expected.looks[service].seen.get(scraper)) is not None:
                found[service] = replace(one, dropped=before.dropped, hidden=before.hidden)
        if not due:
            return found
        self._dropped_at |= {(service, scraper): one.at for service, one in due.items()}
        looks = [(service, expected.looks[service]) for service in due]

        def read(told: Told) -> dict[str, Seen]:
            return {
                service: with_dropped(due[service], told, look.job, look.index)
                for service, look in looks
                if look.index is not None
            }

        try:
            more, _ = await _answered(question, "dropped", looks[0][1].job if len(looks) == 1 else None, read)
        except TooLongError:
            more = {service: replace(one, hidden=HIDDEN_ALL) for service, one in due.items()}
        return {**found, **more}

    async def _compare(self) -> None:
        """With what is in force now."""
        placement = self._in_force()
        for service, look in self.looks.items():
            part = part_of(placement, service) if placement is not None else None
            if part is not None:
                await look.compare(part, self._lasts_s)


async def _answered(question: Question, state: State, pool: str | None, read: Callable[[Told], T]) -> tuple[T, int]:
    """What ``read`` makes of the answer, and its length. Raises ``AuditError``."""
    q = question
    told = await targets_of(q.session, q.scraper, state, pool, q.timeout_s, bytes_max=q.bytes_max, api=q.api)

    def work() -> T | AuditError:
        try:
            return read(told)
        except AuditError as error:  # made anew outside: one that crosses from a thread keeps the body until it is collected
            return type(error)(str(error))

    async with q.decoding:
        found = await in_thread(work)
    if isinstance(found, AuditError):
        raise found
    return found, len(told.body)
