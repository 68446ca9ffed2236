"""Asks the live scrapers that are not in the plan what they do: those that came back, or left too often, and wait for their
share. What they say is for coverage (``outside``), and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import aiohttp

from promring.audit.asking import Asker
from promring.audit.look import Look
from promring.audit.question import Expected
from promring.config.scraper_api import ScraperApi
from promring.core.coverage import Seen
from promring.model import Scraper
from promring.runtime.unforeseen import Unforeseen
from promring.telemetry.log import Logger


class Outsiders:
    """``waiting``: live scrapers that wait for their share. ``timeout_s``: how long each has to answer at most."""

    def __init__(
        self, api: ScraperApi, timeout_s: float, waiting: Callable[[], Iterable[Scraper]], faults: Unforeseen, log: Logger
    ) -> None:
        self._waiting, self._log = waiting, log
        self._asker = Asker(api, timeout_s, faults, log)

    async def look(self, session: aiohttp.ClientSession, expected: Expected) -> Mapping[str, Mapping[str, Seen]]:
        """By service and scraper: what those do that are not in ``expected``."""
        asked = [one for one in self._waiting() if one.id not in expected.numbers]
        names = {one.id for one in asked}
        self._asker.forget_all_but(names)
        if not asked:
            return {}
        looks = {service: self._beside(look) for service, look in expected.looks.items()}
        await self._asker.ask_all(session, asked, replace(expected, looks=looks, known={}, joined={}), names)
        return {service: look.seen for service, look in looks.items()}

    def _beside(self, look: Look) -> Look:
        found = Look(look.service, look.job, look.salt, self._log)
        found.index = look.index
        return found
