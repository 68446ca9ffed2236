"""A second opinion about scrapers that the membership says are gone: they are asked directly.

Four things are told apart. **Answers**: any HTTP answer below 500 is life; a scraper that refuses our password, or whose
TLS and ours do not trust each other, is no dead one. **Refuses**: the scraper's own address refuses the connection, twice
within ``REFUSED_AGAIN_S``: nobody listens there, it is dead. **Hangs**: no whole answer came, ``TRIES`` times in a row, and
its address accepts connections. **Silent**: anything else so many times (a time-out, an unreachable network, a 503 of one
that is not ready): it may be dead, or be cut off from here.

Promises: only those that the guard suspects are asked, each for itself so that none waits for another's time-out, once a
second while it is suspected. What the machine of the controller lacks (descriptors, ports, threads), and a name that has no
address, is no verdict.
Does not promise to tell a refusal by the scraper's machine from one by a firewall on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from promring.config.scraper_api import PLAIN, ScraperApi
from promring.model import Members, Reply, Scraper
from promring.runtime.http_client import DistrustError, HttpError, NotAskedError, RefusedError, new_session
from promring.runtime.tcp import accepts
from promring.runtime.unforeseen import Quiet, Unforeseen
from promring.telemetry import log

if TYPE_CHECKING:
    import aiohttp  # which takes long to load, and a configuration needs none of it

TRIES = 3
PAUSE_S = 1.0
REFUSED_AGAIN_S = 0.3
CONNECTIONS_MAX = 100
BODY_BYTES_MAX = 64 * 1024


class DirectProbes:
    """``path`` as of the membership's own checks; ``timeout_s`` a probe; ``api``: how scrapers are asked."""

    def __init__(self, path: str, timeout_s: float, logger: log.Logger | None = None, *, api: ScraperApi = PLAIN) -> None:
        self._path, self._timeout_s, self._api = path, timeout_s, api
        self._log = logger or log.get()
        self._faults, self._quiet = Unforeseen("direct probe", self._log), Quiet()
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)

    async def run(
        self, suspected: Callable[[], Members], changed: asyncio.Event, publish: Callable[[str, Reply], None]
    ) -> None:
        """For ever: probe whoever is ``suspected`` and ``publish`` what it does. ``changed`` is set when others are."""
        asked: dict[Scraper, asyncio.Task[None]] = {}
        async with new_session(connections_max=CONNECTIONS_MAX, keep_alive=False) as session, asyncio.TaskGroup() as group:
            while True:
                changed.clear()
                suspects = suspected()
                for scraper in asked.keys() - set(suspects):
                    asked.pop(scraper).cancel()
                for scraper in suspects:
                    if scraper not in asked:
                        asked[scraper] = group.create_task(self._ask_for_ever(session, scraper, publish))
                await changed.wait()

    async def _ask_for_ever(
        self, session: aiohttp.ClientSession, scraper: Scraper, publish: Callable[[str, Reply], None]
    ) -> None:
        failures = 0
        while True:
            reply = await self._reply(session, scraper)
            if reply is Reply.REFUSES:  # once may be a restart
                await asyncio.sleep(REFUSED_AGAIN_S)
                reply = await self._reply(session, scraper)
            if reply is not None:
                failures = failures + 1 if reply in (Reply.SILENT, Reply.HANGS) else 0
                if not failures or failures >= TRIES:
                    publish(scraper.id, reply)
            await asyncio.sleep(PAUSE_S)

    async def _reply(self, session: aiohttp.ClientSession, scraper: Scraper) -> Reply | None:
        """What one probe says; None: it was not asked, so nobody knows."""
        try:
            async with self._room:
                answer = await self._api.get(
                    session, scraper.address, self._path, timeout_s=self._timeout_s, body_bytes_max=BODY_BYTES_MAX
                )
        except NotAskedError as error:
            if self._quiet.is_news():
                self._log.warning("direct_probe_not_made", scraper=scraper.id, error=str(error), note="no verdict")
            return None
        except RefusedError:
            return Reply.REFUSES
        except DistrustError:
            return Reply.ANSWERS
        except HttpError:
            return (
                Reply.HANGS if await accepts(self._api.url(scraper.address, self._path), self._timeout_s) else Reply.SILENT
            )
        except Exception as error:  # whatever a scraper answers, the loop goes on
            self._faults.note(error, scraper=scraper.id)
            return None
        return Reply.ANSWERS if answer.status < 500 else Reply.SILENT
