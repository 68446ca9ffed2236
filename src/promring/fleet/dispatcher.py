"""All deliveries of a fleet: each service's (``couriers``), and what they say together of its scrapers.

A scraper that no delivery of any service has reached ``UNDELIVERABLE_AFTER`` times in a row counts as dead until one does:
its targets stay where they were meanwhile. One that takes the slices of some services and not of others lives, and is given
nothing new of those services. The loop asks for both: ``failing``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from promring.core.claims import Taken
from promring.core.sight import Sight
from promring.delivery import Outcome, Together
from promring.election.leadership import Leadership
from promring.fleet.deliveries import ServiceDeliveries
from promring.fleet.refusing import Refusing
from promring.fleet.retirement import Retirement
from promring.fleet.term import FOUND_AGAIN_S
from promring.model import NONE_FAILING, Failing, ServiceScraper, Slice
from promring.runtime.unforeseen import Unforeseen
from promring.telemetry.log import Logger

UNDELIVERABLE_AFTER = 3


class Dispatcher:
    """``couriers``, ``retirements``: by service. ``wake`` wakes the loop."""

    def __init__(
        self,
        couriers: Mapping[str, ServiceDeliveries],
        retirements: Mapping[str, Retirement],
        leadership: Leadership,
        wake: Callable[[], None],
        log: Logger,
        before: Failing = NONE_FAILING,
    ) -> None:
        """``before``: who could not be given what, as the run before this one left it. That stays until a delivery says
        that it can, at most ``FOUND_AGAIN_S`` without any word.
        """
        self.couriers, self.retirements = couriers, retirements
        self._leadership, self._wake, self._log = leadership, wake, log
        self._faults, self._refusals = Unforeseen("deliveries", log), Refusing(before.refusing)
        self.failing = before._replace(aliases=())
        """``scrapers``: they are ``cut_off``."""
        self.tried: frozenset[ServiceScraper] = frozenset()
        """Services and scrapers of which a delivery has said whether it was taken."""
        unheard = {*before.refusing, *((service, name) for service in couriers for name in before.scrapers)}
        self._unheard = dict.fromkeys(unheard, time.monotonic() + FOUND_AGAIN_S)
        """Until when each counts as failing without a word of it, monotonic seconds."""
        self._refused_before = frozenset(before.refusing)
        self._of_host: dict[ServiceScraper, int] = {}
        """How often in a row each was not reached when its scraper was last reached by no service."""
        self._heard: list[tuple[set[str], dict[str, int]]] = []
        """By service: who was reached the last time, and who was not."""

    async def withdraw(self, services: Collection[str]) -> None:
        """Serve no slice of these services: scrapers may have a newer one from another controller."""
        for name in services:
            await self.couriers[name].withdraw()
            if name in self.retirements:
                await self.retirements[name].withdraw()

    async def deliver(
        self, slices: Mapping[str, Sequence[Slice]], decided: Collection[str], *, pushes: bool, whole: bool
    ) -> dict[str, bool]:
        """Give every sink its slice, by service; whether each service's sinks have theirs. Those not ``decided`` are only
        remembered. ``pushes``, ``whole``: as for ``ServiceDeliveries.deliver``.
        """
        term = self._leadership
        async with asyncio.TaskGroup() as group:
            tasks = {}
            with contextlib.ExitStack() as stack:
                for one in (d for couriers in self.couriers.values() for d in couriers.deliveries):
                    if isinstance(one, Together):
                        stack.enter_context(one.together())
                for name, couriers in self.couriers.items():
                    remembered, mine = name not in decided, slices.get(name, ())
                    work = couriers.deliver(mine, remembered=remembered, pushes=pushes, whole=whole)
                    tasks[name] = group.create_task(self._alone(work))
                    await asyncio.sleep(0)  # of many services with many scrapers each takes the event loop for a while
                await asyncio.sleep(0)  # the last one's deliveries have begun, too
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
        """Who is cut off now: said once, and once when it is not any more. Where all is well, and each delivery says what it
        said before, there is nothing to count: of 50 services and 1,000 scrapers that are 50,000 pairs.
        """
        heard = [(couriers.reached, couriers.undelivered) for couriers in self.couriers.values()]
        before, self._heard = self._heard, heard
        if heard == before and self.failing == NONE_FAILING and not self._unheard and self._refusals.nobody:
            return
        undelivered = {(name, one): times for name, c in self.couriers.items() for one, times in c.undelivered.items()}
        taken = {(name, scraper) for name, couriers in self.couriers.items() for scraper in couriers.reached}
        now, elsewhere = time.monotonic(), {(name, one) for name, c in self.couriers.items() for one in c.elsewhere}
        waits = undelivered.keys() - elsewhere
        self._unheard = {
            pair: until for pair, until in self._unheard.items() if pair not in taken and (now < until or pair in waits)
        }
        failing = {pair for pair, times in undelivered.items() if times >= UNDELIVERABLE_AFTER} | self._unheard.keys()
        reached, known = {scraper for _, scraper in taken}, self.failing
        unsure = {scraper for (_, scraper), times in undelivered.items() if not times}  # it may come for other services
        told = self._refused_before & self._unheard.keys() - undelivered.keys()
        cut_off = {scraper for _, scraper in failing - told if scraper not in reached and scraper not in unsure}
        self.tried = frozenset(taken | waits)
        self._of_host = {
            (service, one): times if one not in reached else min(times, self._of_host.get((service, one), 0))
            for (service, one), times in undelivered.items()
            if times
        }
        refusing = frozenset[ServiceScraper]()
        if self._leadership.leads():  # else nobody is given anything here, and nobody refuses anything
            lives = {(service, one) for service, one in failing if one not in cut_off}
            of_each = {pair for pair in lives if not self._was_host(pair, undelivered)}
            unsure_yet = {pair for pair, times in undelivered.items() if times} - failing
            refusing = self._refusals.now(of_each, taken | undelivered.keys() | self._unheard.keys(), unsure_yet)
        self.failing = Failing.of(cut_off, refusing)
        self._say_refusing(known.refusing)
        known_cut_off = set(known.scrapers)
        for name in sorted(cut_off - known_cut_off):
            self._log.error(
                "scraper_undeliverable", scraper=name, tries=UNDELIVERABLE_AFTER, note="treated as dead until it can be"
            )
        for name in sorted((known_cut_off - cut_off) & reached):  # not who left, nor all when we lead no more
            self._log.info("scraper_deliverable_again", scraper=name)
        if self.failing != known:
            self._wake()

    def _was_host(self, pair: ServiceScraper, undelivered: Mapping[ServiceScraper, int]) -> bool:
        """Whether it failed as the scraper could not be reached at all, and not often enough since that can be reached."""
        before = self._of_host.get(pair, 0)
        return pair not in self._unheard and before > 0 and undelivered[pair] - before < UNDELIVERABLE_AFTER

    def _say_refusing(self, before: Collection[ServiceScraper]) -> None:
        """Scrapers that take the slices of some services, and have not taken those of others for as many tries."""
        refusing = self.failing.refusing
        for name in sorted({scraper for _, scraper in {*refusing}.difference(before)}):
            services = ",".join(service for service, scraper in refusing if scraper == name)
            self._log.error(
                "services_undeliverable",
                scraper=name,
                services=services,
                note="it keeps what it has of them, and gets no more",
            )

    def go_on_from(self, before: Dispatcher, was: Mapping[str, str]) -> None:
        """Of the fleet before a reload. ``was``: the names of services then."""
        self._unheard |= {pair: until for pair, until in before._unheard.items() if pair in self._unheard}
        self._refusals.go_on_from(before._refusals)
        for name, couriers in self.couriers.items():
            if (known := before.couriers.get(was.get(name, name))) is not None:
                couriers.answered = known.answered

    def stood_still(self, seconds: float) -> None:
        """So long nobody could come for a slice."""
        self._unheard = {pair: until + seconds for pair, until in self._unheard.items()}
        for couriers in self.couriers.values():
            couriers.visitors.stood_still(seconds)

    @property
    def cut_off(self) -> frozenset[str]:
        """Scrapers that count as dead, since they cannot be given anything."""
        return frozenset(self.failing.scrapers)

    def has_reached(self, pair: ServiceScraper) -> bool:
        """Whether the scraper has the list of the service, the last time that it was given one."""
        service, scraper = pair
        return service in self.couriers and scraper in self.couriers[service].reached

    @property
    def reached_by_some(self) -> set[str]:
        return {name for couriers in self.couriers.values() for name in couriers.reached}

    @property
    def reached_by_all(self) -> set[str]:
        """Who has taken what each service last gave it."""
        missed = {name for couriers in self.couriers.values() for name in couriers.undelivered}
        return self.reached_by_some - missed

    @property
    def taken(self) -> dict[ServiceScraper, Taken]:
        """By service and scraper. Who follows gives nothing to most: there everyone who is not seen counts as having taken,
        in time, what the leader gives.
        """
        if self._leadership.hears():
            return self._offered(follows=True)
        return {(name, scraper): one for name, c in self.couriers.items() for scraper, one in c.receipts.taken.items()}

    @property
    def served(self) -> dict[str, Taken]:
        """By service, of those whose scrapers come for their slices: what these could come for, and when."""
        return {name: couriers.served for name, couriers in self.couriers.items() if couriers.served is not None}

    @property
    def given(self) -> dict[ServiceScraper, Taken]:
        """By service and scraper: what each may have had, whoever reads what was written."""
        return {(name, scraper): one for name, c in self.couriers.items() for scraper, one in c.receipts.given.items()}

    @property
    def offered(self) -> dict[ServiceScraper, Taken]:
        """By service and scraper: what each was given, or should have come for."""
        return self._offered(follows=False)

    def _offered(self, *, follows: bool) -> dict[ServiceScraper, Taken]:
        offered = ((name, c.receipts.offered(follows=follows)) for name, c in self.couriers.items())
        return {(name, scraper): one for name, some in offered for scraper, one in some.items()}

    @property
    def pushes(self) -> bool:
        """Whether older slices may still be on their way to somebody."""
        return any(couriers.pushes for couriers in self.couriers.values())

    def saw(self, sight: Sight, upto: float) -> None:
        """Who was seen to run what was put in force until ``upto``."""
        for couriers in self.couriers.values():
            couriers.saw(sight, upto)

    def again_in(self, interval_s: float) -> float:
        """When to try again, in seconds."""
        return min((couriers.again_in(interval_s) for couriers in self.couriers.values()), default=interval_s)

    def outcomes(self, service: str) -> Mapping[str, Sequence[Outcome]]:
        """Of the last time, by delivery."""
        return self.couriers[service].outcomes
