"""What a scraper is asked in an audit, and what it should have then."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from promring.audit.answers import AuditError
from promring.audit.clocks import Clocks
from promring.audit.look import Look
from promring.config.scraper_api import ScraperApi
from promring.core.coverage import NO_IDS, Seen
from promring.core.joined import FleetPool, FleetShares
from promring.core.sight import together
from promring.model import Keys, Placement, Scraper


def nothing_seen(at: float) -> Seen:
    """Of a scraper that does nothing, asked ``at``."""
    return Seen(at, NO_IDS, np.empty(0), np.empty(0, dtype=bool))


def ids_of(found: Seen | AuditError) -> Keys:
    return found.ids if isinstance(found, Seen) else NO_IDS


@dataclass(frozen=True, slots=True)
class Expected:
    """What each scraper shall have. ``looks``: of the services that are in the placement."""

    placement: Placement
    shares: FleetShares
    looks: Mapping[str, Look]
    numbers: Mapping[str, int]
    known: dict[tuple[str, str], Keys] = field(default_factory=dict)
    """What ``ids`` found before."""
    joined: dict[str, tuple[Mapping[str, Seen], Seen]] = field(default_factory=dict)
    """By scraper: what was seen of it by service, and what that is for the fleet."""

    @classmethod
    def of(cls, placement: Placement, looks: Mapping[str, Look]) -> Expected:
        assert isinstance(placement.pool, FleetPool)  # the planner makes no others
        parts = placement.pool.parts
        there = {service: look for service, look in looks.items() if service in parts}
        for service, look in there.items():
            look.know(parts[service].pool)
        numbers = {s.id: i for i, s in enumerate(placement.scrapers)}
        found = FleetShares(placement)
        for service in there:  # here, which is beside the event loop
            found.by_scraper(service)
        return cls(placement, found, there, numbers)

    def ids(self, scraper: str, service: str) -> Keys:
        """As the service has them."""
        found = self.known.get((scraper, service))
        if found is None:
            number = self.numbers.get(scraper)
            found = NO_IDS
            if number is not None:
                found = self.shares.pool.parts[service].pool.ids[self.shares.of(number, service)]
            self.known[scraper, service] = found
        return found

    def together(self, scraper: str, seen: Mapping[str, Seen], salts: Mapping[str, int]) -> Seen:
        """What a scraper does of all services. ``seen`` by service; nothing is made again of what was seen before."""
        before = self.joined.get(scraper)
        if before is None or before[0] != seen:
            before = self.joined[scraper] = seen, together(seen, salts)
        return before[1]


@dataclass(frozen=True, slots=True)
class Question:
    """To one scraper; ``decoding`` bounds how many answers are decoded at a time."""

    session: aiohttp.ClientSession
    scraper: Scraper
    timeout_s: float
    bytes_max: int
    decoding: asyncio.Semaphore
    api: ScraperApi
    clocks: Clocks = field(default_factory=Clocks)
