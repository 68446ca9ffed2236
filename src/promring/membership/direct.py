"""A second opinion about scrapers that the membership says are gone: they are asked directly.

Promises: only those that the guard suspects are asked, all at once, once a second while they are suspected. Any HTTP answer
below 500 is life: a scraper behind a password, or one that speaks TLS, is no dead one. ``TRIES`` failures in a row are
death. What the machine of the controller lacks (descriptors, ports, threads), and a name that has no address, is no verdict.
Does not promise a verdict about what cannot be reached from here: to the controller that is the same as dead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import aiohttp

from promring import log
from promring.httpclient import HttpError, NotAskedError, new_session, request
from promring.model import Members, Scraper
from promring.unforeseen import Quiet, Unforeseen

TRIES = 3
PAUSE_S = 1.0
CONNECTIONS_MAX = 100
BODY_BYTES_MAX = 64 * 1024


class DirectProbes:
    """``path`` as of the membership's own checks; ``timeout_s`` a probe."""

    def __init__(self, path: str, timeout_s: float, logger: log.Logger | None = None) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._log = logger or log.get()
        self._faults, self._quiet = Unforeseen("direct probe", self._log), Quiet()

    async def run(
        self, suspected: Callable[[], Members], changed: asyncio.Event, publish: Callable[[str, bool], None]
    ) -> None:
        """For ever: probe whoever is ``suspected`` and ``publish`` who answers. ``changed`` is set when others are."""
        failures: dict[str, int] = {}
        async with new_session(connections_max=CONNECTIONS_MAX, keep_alive=False) as session:
            while True:
                suspects = suspected()
                changed.clear()
                failures = {s.id: failures.get(s.id, 0) for s in suspects}
                await self._ask(session, suspects, failures, publish)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_S if suspects else None):
                        await changed.wait()

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        suspects: Members,
        failures: dict[str, int],
        publish: Callable[[str, bool], None],
    ) -> None:
        lives = await asyncio.gather(*(self._lives(session, scraper) for scraper in suspects))
        for scraper, alive in zip(suspects, lives, strict=True):
            if alive is None:
                continue
            failures[scraper.id] = 0 if alive else failures[scraper.id] + 1
            if alive or failures[scraper.id] >= TRIES:
                publish(scraper.id, alive)

    async def _lives(self, session: aiohttp.ClientSession, scraper: Scraper) -> bool | None:
        """None: it was not asked, so nobody knows."""
        url = f"http://{scraper.address}{self._path}"
        try:
            answer = await request(session, "GET", url, timeout_s=self._timeout_s, body_bytes_max=BODY_BYTES_MAX)
        except NotAskedError as error:
            if self._quiet.is_news():
                self._log.warning("direct_probe_not_made", scraper=scraper.id, error=str(error), note="no verdict")
            return None
        except HttpError:
            return False
        except Exception as error:  # whatever a scraper answers, the loop goes on
            self._faults.note(error)
            return None
        return answer.status < 500
