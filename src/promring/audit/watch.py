"""Looks at the scrapers again and again: those that a hand-over waits for every second, all of them every ``interval_s``.

Owns when which scrapers are asked, and what becomes of it: coverage of each service, and what the loop is told. Does not
promise that each moment is seen.
Flow: ``asking`` asks; what was seen goes to the loop (``Sight``), and becomes ``coverage`` for page, API and metrics.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial

import aiohttp

from promring.audit.asking import AT_ONCE, Asker
from promring.audit.births import Births
from promring.audit.look import Look
from promring.audit.outsiders import Outsiders
from promring.audit.question import Expected
from promring.audit.settings import AuditKeys
from promring.config.scraper_api import ScraperApi
from promring.core.aliases import Word, word
from promring.core.coverage import Seen
from promring.core.joined import part_of
from promring.core.sight import Sight
from promring.model import LONG_AGO, Placement, Scraper
from promring.runtime.http_client import new_session
from promring.runtime.threads import computed
from promring.runtime.unforeseen import Unforeseen
from promring.telemetry.log import Logger

SOON_S, SETTLING_S = 1.0, 5.0
LATER_S, LATER_AFTER_S = 5.0, 60.0
"""A scraper that is awaited for longer than that is asked less often."""
JITTER = 0.1
LASTS_S = 20.0


class Audit:
    """Of one fleet; an attribute for each thing that it is given or keeps. Without ``settings`` scrapers are asked only when
    a hand-over waits for them. ``api``: how they are asked. ``lasts_s``: targets that nobody was seen scraping for so long,
    in seconds, are worth a warning.

    ``looks``: by service. ``in_force`` gives what the slices hold, ``waiting`` whom a hand-over waits for; ``wanted``
    is set when one begins. ``receive`` gets what was seen; ``look_at`` is told what all scrapers were seen doing.
    ``births`` asks who they are; who is ``nameless`` is another name of one of them, and what it shows is that one's.
    ``outside``: live scrapers that wait for their share, and are in no placement.
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
        births: Births | None = None,
        nameless: Callable[[], Collection[str]] = tuple,
        outside: Callable[[], Iterable[Scraper]] = tuple,
    ) -> None:
        self._interval_s, self._lasts_s, self.looks = settings.interval if settings else None, lasts_s, looks
        self._in_force, self._waiting, self._soon = in_force, waiting, wanted
        self._receive, self._look_at, self._births, self._nameless = receive, look_at, births, nameless
        self._faults = Unforeseen("audit", log)
        timeout_s = (settings or AuditKeys()).timeout
        self._asker = Asker(api, timeout_s, self._faults, log)
        self._outsiders = Outsiders(api, timeout_s, outside, self._faults, log)
        self._judged_at = LONG_AGO
        self._expected: Expected | None = None
        self._awaited_since: float | None = None

    def go_on_from(self, before: Audit) -> None:
        """Of the fleet before a reload, whose scrapers have the same names: looks that judge are apart, and a clock that was
        put back is known.
        """
        self._judged_at = before._judged_at
        self._asker.clocks = before._asker.clocks

    async def run(self) -> None:
        """For ever."""
        interval = self._interval_s
        full_at = time.monotonic()
        async with new_session(connections_max=AT_ONCE) as session:
            while True:
                self._soon.clear()
                placement = self._in_force()
                if placement is not None:
                    full = interval is not None and time.monotonic() >= full_at
                    if full and interval is not None:
                        full_at = time.monotonic() + interval * random.uniform(1 - JITTER, 1 + JITTER)
                    judges = full and time.monotonic() - self._judged_at >= (interval or 0.0) * (1 - 2 * JITTER)
                    self._judged_at = time.monotonic() if judges else self._judged_at
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
            self._expected = await computed(lambda: Expected.of(placement, self.looks))
        expected = self._expected
        await self._asker.ask_all(session, asked, expected, waiting, self._nameless())
        live, names = {s.id for s in placement.scrapers}, {s.id for s in asked}
        for look in self.looks.values():
            look.forget_all_but(live)
        self._asker.forget_all_but(live)
        self._asker.note_answering(names, began)
        await computed(lambda: _compare_each(expected, asked))
        self._receive(await computed(lambda: self._sight(expected, names, began)))
        if full:
            await self._compare(await self._outsiders.look(session, expected))
            if judges and self._look_at is not None:
                await self._look_at(self._seen_together(expected))
            if self._births is not None:
                shows = partial(self._shows, expected)
                await self._births.look(session, asked, self._asker.answering, self._scraped(), shows)

    def _sight(self, expected: Expected, asked: set[str], began: float) -> Sight:
        looks = expected.looks.items()
        return Sight(
            expected.placement,
            self._seen_together(expected),
            set(self._asker.silent),
            dict(self._asker.answering),
            asked,
            {service: look.runs(asked) for service, look in looks},
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

    def _scraped(self) -> dict[str, int]:
        """How many targets of its slices each scraper was seen scraping."""
        counts: Counter[str] = Counter()
        for look in self.looks.values():
            counts.update({name: one.scraped for name, one in (look.coverage.scrapers if look.coverage else {}).items()})
        return dict(counts)

    def _shows(self, expected: Expected, name: str, kept: str) -> Word:
        """What ``name`` itself shows of the work of ``kept``."""
        hidden, looks = self._asker.hidden.get(name), expected.looks.items()
        shown = {s: hidden.get(s) if hidden is not None else look.seen.get(name) for s, look in looks}
        return word(
            (one, expected.ids(name, service), expected.ids(kept, service))
            for service, one in shown.items()
            if isinstance(one, Seen)
        )

    async def _compare(self, outside: Mapping[str, Mapping[str, Seen]]) -> None:
        """With what is in force now. ``outside``: by service, what those do that are not in the plan."""
        placement = self._in_force()
        for service, look in self.looks.items():
            part = part_of(placement, service) if placement is not None else None
            if part is not None:
                await look.compare(part, self._lasts_s, outside.get(service, {}))


def _compare_each(expected: Expected, asked: Iterable[Scraper]) -> None:
    """Which of those that were asked have just what their slices say."""
    for service, look in expected.looks.items():
        for scraper in asked:
            look.compare_one(scraper.id, expected.ids(scraper.id, service))
