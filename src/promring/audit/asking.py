"""How the scrapers of a fleet are asked for their targets, and what is remembered of the answers of each.

Promises: at most ``AT_ONCE`` are asked at a time, each answer bounded in time and size (``active.SHORT_BYTES_MAX``; a
scraper with a longer answer is asked again, one scraper at a time), so that all answers at one moment take less than 0.7 GiB
whatever they hold. All but short answers are decoded beside the event loop. A scraper that does not answer, or
answers what nobody foresaw, is named and proves nothing. What relabelling drops is asked for only when a scraper lacks
something of its slice.
Flow: ``watch`` says when, and whom; what was seen goes to the ``Look`` of each service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import aiohttp

from promring.audit.absent import judged as if_absent
from promring.audit.absent import looked_for
from promring.audit.active import BODY_BYTES_MAX, SHORT_BYTES_MAX, is_quick, seen_by_pool, targets_of, with_dropped
from promring.audit.answers import (
    HIDDEN_ALL,
    AheadError,
    AuditError,
    NoPoolError,
    OwnTroubleError,
    State,
    Told,
    TooLongError,
)
from promring.audit.clocks import Clocks
from promring.audit.look import Look
from promring.audit.question import Expected, Question, ids_of, nothing_seen
from promring.config.scraper_api import ScraperApi
from promring.core.coverage import Seen
from promring.model import Scraper, ServiceScraper
from promring.runtime.threads import computed
from promring.runtime.unforeseen import Lasting, Quiet, Unforeseen
from promring.telemetry.log import Logger

T = TypeVar("T")
AT_ONCE = 20
DECODED_AT_ONCE = 2
AWAITED_S = 2.0
"""So long a scraper has to answer that a hand-over waits for: one that hangs shall not hold the others up."""
DROPPED_AGAIN_S = 5.0
"""What a scraper drops is asked for at most so often while it is awaited."""


class Asker:
    """Asks the scrapers of one fleet. ``api``: how; ``timeout_s``: how long each may take."""

    def __init__(self, api: ScraperApi, timeout_s: float, faults: Unforeseen, log: Logger) -> None:
        self._api, self._timeout_s, self._faults, self._log = api, timeout_s, faults, log
        self._quiet, self._lasting = Quiet(), Lasting()
        self._long: set[str] = set()
        """Scrapers whose answer was longer than ``SHORT_BYTES_MAX``."""
        self._failed: dict[str, str] = {}
        """Scrapers that gave no answer at all that could be used, and why."""
        self.silent: set[str] = set()
        """Those that did not answer at all, or with a 5xx."""
        self.answering: dict[str, float] = {}
        """Since when each answers, monotonic seconds."""
        self._nameless: frozenset[str] = frozenset()
        """Other names of servers."""
        self.hidden: dict[str, Mapping[str, Seen | AuditError]] = {}
        """What those showed, by name and service, though it counts for another name."""
        self._dropped_at: dict[ServiceScraper, float] = {}
        self.clocks = Clocks(log)

    async def ask_all(
        self,
        session: aiohttp.ClientSession,
        asked: Iterable[Scraper],
        expected: Expected,
        waiting: Collection[str],
        nameless: Collection[str] = (),
    ) -> None:
        """Short answers beside each other, then the long ones one by one. Who is ``nameless`` counts as having nothing: what
        it shows is seen under the other name of that server, too.
        """
        gate, decoding = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(DECODED_AT_ONCE)

        async def one(scraper: Scraper, bytes_max: int) -> None:
            async with gate:
                timeout_s = self._timeout_s
                if scraper.id in waiting:
                    timeout_s = min(timeout_s, AWAITED_S)
                question = Question(session, scraper, timeout_s, bytes_max, decoding, self._api, self.clocks)
                await self._ask(question, expected)

        asked = list(asked)
        self._nameless = frozenset(nameless)
        self.hidden = {name: found for name, found in self.hidden.items() if name in self._nameless}
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
            why = self._faults.note(error, scraper=scraper.id)
        else:
            self._failed.pop(scraper.id, None)
            self.silent.discard(scraper.id)
            self.hidden.pop(scraper.id, None)
            if scraper.id in self._nameless:
                self.hidden[scraper.id] = found
                found = {service: nothing_seen(one.at) if isinstance(one, Seen) else one for service, one in found.items()}
            for service, one in found.items():
                self._note(expected.looks[service], scraper.id, one, has_some=len(expected.ids(scraper.id, service)) > 0)
            return
        self._failed[scraper.id] = why
        self.hidden.pop(scraper.id, None)
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
            self._note_jobless(look, scraper, found)

    def _note_jobless(self, look: Look, scraper: str, found: Seen) -> None:
        """Only of who has no such job (``absent``) it is said why nothing is asked, and nothing is listed."""
        if not found.never_asked or len(found.ids):
            look.jobless.discard(scraper)
        else:
            if look.lasting.is_news(scraper, found.never_asked, begins=scraper not in look.jobless):
                self._log.warning("job_missing", scraper=scraper, service=look.service, error=found.never_asked)
            look.jobless.add(scraper)

    def _say_failed(self, lasting: Lasting, scraper: str, why: str, *, begins: bool) -> None:
        if lasting.is_news(scraper, why, begins=begins):
            self._log.warning("audit_failed", scraper=scraper, error=why)

    async def _seen(self, question: Question, expected: Expected) -> dict[str, Seen | AuditError]:
        """By service: what the scraper does of it, or why that is not known. Raises ``AuditError`` when nothing is known.

        A scraper that drops all it has of a job shows no active target of that job, as one does that has no such job: what
        it dropped tells which of the two it is. One that has no such job scrapes nothing of it (``absent``).
        """
        found = await self._active(question, expected)
        absent = {service: one.nothing for service, one in found.items() if isinstance(one, NoPoolError)}
        active = {service: one for service, one in found.items() if isinstance(one, Seen)}
        for service, one in (await self._with_dropped(question, active | absent, expected)).items():
            if service not in absent or len(one.dropped) or one.hidden:
                found[service] = one
        for service, told in list(found.items()):
            ids = expected.ids(question.scraper.id, service)
            if not len(ids):
                continue  # it may have no such job
            judged = found[service] = if_absent(told, ids) if isinstance(told, NoPoolError) else told
            if len(found) == 1 and isinstance(judged, AuditError):
                raise judged
        return found

    async def _active(self, question: Question, expected: Expected) -> dict[str, Seen | AuditError]:
        """What it lists as active, by service."""
        at, looks = time.monotonic(), expected.looks
        services = {look.job: service for service, look in looks.items()}
        indexes = {look.job: look.index for look in looks.values() if look.index is not None}
        shall = {look.job for service, look in looks.items() if len(expected.ids(question.scraper.id, service))}

        def read(told: Told) -> dict[str, Seen | AuditError]:
            found = seen_by_pool(told, indexes, at)
            looked_for(told, {job: one for job, one in found.items() if job in shall}, indexes)
            return found

        only = next(iter(indexes)) if len(indexes) == 1 else None
        found, size = await _answered(question, "active", only, len(indexes), read)
        if only is not None and not len(ids_of(found[only])):  # none, or none of this name: then it is said which there are
            found, size = await _answered(question, "active", None, len(indexes), read)
        if size <= SHORT_BYTES_MAX:
            self._long.discard(question.scraper.id)
        return {services[job]: one for job, one in found.items()}

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
                found[service] = replace(one, dropped=before.dropped, hidden=before.hidden, dropped_bare=before.dropped_bare)
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
            more, _ = await _answered(question, "dropped", looks[0][1].job if len(looks) == 1 else None, len(looks), read)
        except TooLongError:
            more = {service: replace(one, hidden=HIDDEN_ALL) for service, one in due.items()}
        return {**found, **more}

    def forget_all_but(self, live: Collection[str]) -> None:
        """Scrapers that are no more in the plan."""
        for known in (self._failed, self.answering):
            for name in known.keys() - live:
                del known[name]
        self._dropped_at = {(s, name): at for (s, name), at in self._dropped_at.items() if name in live}
        self.silent &= self._failed.keys()
        self._long &= set(live)
        self._lasting.keep(set(live))
        self.clocks.keep(frozenset(live))

    def note_answering(self, asked: Collection[str], began: float) -> None:
        """``asked``: scrapers, at ``began`` (monotonic seconds)."""
        for name in set(asked) - self.silent:
            self.answering.setdefault(name, began)
        for name in self.answering.keys() & self.silent:
            del self.answering[name]


async def _answered(
    question: Question, state: State, pool: str | None, pools: int, read: Callable[[Told], T]
) -> tuple[T, int]:
    """What ``read`` makes of the answer, which is asked for one ``pool`` or all and read for so many ``pools``; and its
    length. Raises ``AuditError``.
    """
    q = question
    told = await targets_of(q.session, q.scraper, state, pool, q.timeout_s, bytes_max=q.bytes_max, api=q.api)
    told = replace(told, behind=q.clocks.is_behind(q.scraper.id, told.clock))

    def work() -> T | AuditError:
        try:
            return read(told)
        except AuditError as error:  # made anew outside: one that crosses from a thread keeps the body until it is collected
            return error.anew()

    async with q.decoding:
        found = await computed(work, beside=not is_quick(told, pools))
        if isinstance(found, AheadError) and q.clocks.stands(q.scraper.id, found, time.monotonic()):
            told = replace(told, behind=True)
            found = await computed(work, beside=not is_quick(told, pools))
        await asyncio.sleep(0)  # between two short ones others have their turn
    if isinstance(found, AuditError):
        raise found
    return found, len(told.body)
