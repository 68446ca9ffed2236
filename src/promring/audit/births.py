"""Asks scrapers who they are: for names of one server that is listed twice.

Prometheus, 2 and 3, as a server or an agent, tells the nanosecond of its start (``/api/v1/status/runtimeinfo``). Together
with its working directory and host name that is one process. vmagent tells nothing of the kind: it is never said to be
another one. A birth can be repeated by a scraper that lies, so it is never the only proof (``core/aliases``).

Promises: one request a scraper, when it begins to answer and once in ``AGAIN_S`` after that; what is new is asked twice
before it is believed, so that a balancer with several servers behind one name is seldom taken for one of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

import aiohttp
import msgspec

from promring.config.scraper_api import ScraperApi
from promring.core.aliases import Shows
from promring.model import LONG_AGO, Scraper
from promring.runtime.clocks import monotonic
from promring.runtime.http_client import HttpError

AGAIN_S = 300.0
AT_ONCE = 20
BODY_BYTES_MAX = 64 * 1024
DIGITS_LEAST = 4
"""Of a fraction of a second: a start that is told in seconds or milliseconds may be that of two servers."""
PATH = "/api/v1/status/runtimeinfo"


class _Info(msgspec.Struct):
    start: str = msgspec.field(name="startTime", default="")
    folder: str = msgspec.field(name="CWD", default="")
    host: str = msgspec.field(name="hostname", default="")


class _Answer(msgspec.Struct):
    data: _Info


_decode = msgspec.json.Decoder(_Answer).decode


class Heard(Protocol):
    def __call__(self, births: Mapping[str, str], scraped: Mapping[str, int], shows: Shows) -> bool:
        """What the names told, how many targets of its slices each is seen scraping, and what each shows of the work of
        another one. Whether that decided all.
        """


async def birth_of(session: aiohttp.ClientSession, scraper: Scraper, api: ScraperApi, timeout_s: float) -> str:
    """What only this process can say; empty: it says nothing of the kind, or nothing at all."""
    try:
        answer = await api.get(session, scraper.address, PATH, timeout_s=timeout_s, body_bytes_max=BODY_BYTES_MAX)
        info = _decode(answer.body).data if answer.status == 200 else _Info()
    except (HttpError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    fraction = info.start.partition(".")[2].rstrip("Z").partition("+")[0]
    if not fraction.isdigit() or len(fraction) < DIGITS_LEAST:
        return ""
    return f"{info.start} {info.folder} {info.host}"


async def births_of(
    session: aiohttp.ClientSession, scrapers: Iterable[Scraper], api: ScraperApi, timeout_s: float
) -> dict[str, str]:
    """Of those that tell, by id."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(scraper: Scraper) -> tuple[str, str]:
        async with gate:
            return scraper.id, await birth_of(session, scraper, api, timeout_s)

    told = await asyncio.gather(*(one(scraper) for scraper in scrapers))
    return {name: birth for name, birth in told if birth}


async def believed(
    session: aiohttp.ClientSession,
    scrapers: Collection[Scraper],
    api: ScraperApi,
    timeout_s: float,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """``births_of``, where those that tell the same were asked twice: a name that then tells something else told nothing.
    ``known``: what some of them told before, empty: nothing; these are asked only if another one tells the same.
    """
    known = known or {}
    births = {name: birth for name, birth in known.items() if birth}
    births |= await births_of(session, (s for s in scrapers if s.id not in known), api, timeout_s)
    told = Counter(births.values())
    doubled = [s for s in scrapers if s.id in births and told[births[s.id]] > 1]
    again = await births_of(session, doubled, api, timeout_s)
    changed = {s.id for s in doubled if again.get(s.id) != births[s.id]}
    return {name: birth for name, birth in births.items() if name not in changed}


class Births:
    """When the scrapers of a fleet are asked. ``heard`` is told what they said."""

    def __init__(
        self,
        api: ScraperApi,
        timeout_s: float,
        heard: Heard,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._api, self._timeout_s, self._heard, self._clock = api, timeout_s, heard, clock
        self._asked_at = LONG_AGO
        """When all were asked."""
        self._known: dict[str, float] = {}
        """Since when each answered, as of the last round."""
        self._told: dict[str, str] = {}
        """What they told in it."""
        self._decided = False

    async def look(
        self,
        session: aiohttp.ClientSession,
        scrapers: Collection[Scraper],
        answering: Mapping[str, float],
        scraped: Mapping[str, int],
        shows: Shows,
    ) -> None:
        """All scrapers were looked at. ``answering``: since when each does, of those that do."""
        now, asked = self._clock(), [scraper for scraper in scrapers if scraper.id in answering]
        same = {s.id for s in asked if self._known.get(s.id) == answering[s.id] and now - self._asked_at < AGAIN_S}
        if len(answering) < 2 or (self._decided and len(same) == len(asked)):
            return
        known = {name: self._told.get(name, "") for name in same}
        births = await believed(session, asked, self._api, self._timeout_s, known)
        self._decided = self._heard(births, scraped, shows)
        self._asked_at = self._asked_at if same else now
        self._known, self._told = {s.id: answering[s.id] for s in asked}, births
