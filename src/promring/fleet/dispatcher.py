"""All deliveries of a fleet: each service's (``couriers``), and what they say together of its scrapers.

A scraper that no delivery of any service has reached ``UNDELIVERABLE_AFTER`` times in a row counts as dead until one does:
its targets stay where they were meanwhile, and the loop asks ``cut_off``. One that takes the slices of some services and not
of others lives: the loop asks ``refusing``, and gives it nothing new of those services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from promring.core.claims import Taken
from promring.core.coverage import Sight
from promring.delivery import Outcome
from promring.election.leadership import Leadership
from promring.fleet.deliveries import ServiceDeliveries
from promring.fleet.refusing import Refusing
from promring.fleet.retirement import Retirement
from promring.model import Slice
from promring.runtime.unforeseen import Unforeseen
from promring.telemetry.log import Logger

UNDELIVERABLE_AFTER = 3


class Dispatcher:
    """``couriers``, ``retirements``: by service. ``changed`` wakes the loop."""

    def __init__(
        self,
        couriers: Mapping[str, ServiceDeliveries],
        retirements: Mapping[str, Retirement],
        leadership: Leadership,
        changed: Callable[[], None],
        log: Logger,
    ) -> None:
        self.couriers, self.retirements = couriers, retirements
        self._leadership, self._changed, self._log = leadership, changed, log
        self._faults, self._refusals = Unforeseen("deliveries", log), Refusing()
        self.cut_off: frozenset[str] = frozenset()
        """Scrapers that count as dead, since they cannot be given anything."""
        self.refusing: frozenset[tuple[str, str]] = frozenset()
        """Services, and the scrapers that take the slices of others and not of these."""

    async def deliver(
        self, slices: Mapping[str, Sequence[Slice]], decided: Collection[str], *, pushes: bool, whole: bool
    ) -> dict[str, bool]:
        """Give every sink its slice, by service; whether each service's sinks have theirs. Those not ``decided`` are only
        remembered. ``pushes``, ``whole``: as for ``ServiceDeliveries.deliver``.
        """
        term = self._leadership
        async with asyncio.TaskGroup() as group:
            tasks = {}
            for name, couriers in self.couriers.items():
                remembered, mine = name not in decided, slices.get(name, ())
                work = couriers.deliver(mine, remembered=remembered, pushes=pushes, whole=whole)
                tasks[name] = group.create_task(self._alone(work))
                await asyncio.sleep(0)  # of many services with many scrapers each takes the event loop for a while
            for name, retirement in self.retirements.items():
                if name in decided or term.alone:
                    group.create_task(retirement.deliver(slices.get(name, ()), term.leads, pushes=pushes))
        self._settle()
        return {name: task.result() for name, task in tasks.items()}

    async def _alone(self, work: Awaitable[bool]) -> bool:
        """Whatever one service's deliveries bring about, those of the others go on."""
        try:
            return await work
        except Exception as error:
            self._faults.note(error)
            return False

    def _settle(self) -> None:
        """Who is cut off now: said once, and once when it is not any more."""
        failing = {
            (service, scraper)
            for service, couriers in self.couriers.items()
            for scraper, times in couriers.undelivered.items()
            if times >= UNDELIVERABLE_AFTER
        }
        reached, before, refusing = self.reached_by_some, self.cut_off, self.refusing
        self.cut_off = frozenset(scraper for _, scraper in failing if scraper not in reached)
        asked = {(name, scraper) for name, c in self.couriers.items() for scraper in (*c.reached, *c.undelivered)}
        self.refusing = self._refusals.now({pair for pair in failing if pair[1] not in self.cut_off}, asked)
        self._say_refusing(refusing)
        for name in sorted(self.cut_off - before):
            self._log.error(
                "scraper_undeliverable", scraper=name, tries=UNDELIVERABLE_AFTER, note="treated as dead until it can be"
            )
        for name in sorted((before - self.cut_off) & reached):  # not who left, nor all when we lead no more
            self._log.info("scraper_deliverable_again", scraper=name)
        if self.cut_off != before or self.refusing != refusing:
            self._changed()

    def _say_refusing(self, before: Collection[tuple[str, str]]) -> None:
        """Scrapers that take the slices of some services, and have not taken those of others for as many tries."""
        for name in sorted({scraper for _, scraper in self.refusing.difference(before)}):
            services = ",".join(sorted(service for service, scraper in self.refusing if scraper == name))
            self._log.error(
                "services_undeliverable",
                scraper=name,
                services=services,
                note="it keeps what it has of them, and gets no more",
            )

    @property
    def reached_by_some(self) -> set[str]:
        return {name for couriers in self.couriers.values() for name in couriers.reached}

    @property
    def reached_by_all(self) -> set[str]:
        """Who has taken what each service last gave it."""
        missed = {name for couriers in self.couriers.values() for name in couriers.undelivered}
        return self.reached_by_some - missed

    @property
    def taken(self) -> dict[tuple[str, str], Taken]:
        """By service and scraper."""
        return {(name, scraper): one for name, c in self.couriers.items() for scraper, one in c.taken.items()}

    @property
    def pulled(self) -> bool:
        """Whether scrapers come for slices of some service."""
        return any(delivery.pulled for couriers in self.couriers.values() for delivery in couriers.deliveries)

    @property
    def pushes(self) -> bool:
        """Whether older slices may still be on their way to somebody."""
        return any(couriers.pushes for couriers in self.couriers.values())

    def saw(self, sight: Sight, upto: float) -> None:
        """Who was seen to run what was put in force until ``upto``."""
        for name, couriers in self.couriers.items():
            couriers.saw(sight.asked, sight.running.get(name, {}), upto)

    def again_in(self, interval_s: float) -> float:
        """When to try again, in seconds."""
        return min((couriers.again_in(interval_s) for couriers in self.couriers.values()), default=interval_s)

    def outcomes(self, service: str) -> Mapping[str, Sequence[Outcome]]:
        """Of the last time, by delivery."""
        return self.couriers[service].outcomes
