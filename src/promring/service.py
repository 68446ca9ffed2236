"""One shard service as a whole: its facts, what writes them, and the loop that reads them.

Owns: starting and stopping them together. Promises: when one of them fails, the whole service fails, and with it the
process: half a shard service is worse than none. What it knew is in ``reconciler.memory``, for the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from promring.asks import Asks
from promring.audit.watch import Audit
from promring.core.guard import Hold
from promring.delivery import Closing, Delivery
from promring.delivery.http_sd import HttpSdDelivery
from promring.discovery import RememberingSource, Source
from promring.discovery.polling import poll
from promring.facts import FactBoard
from promring.log import Logger
from promring.membership import Membership
from promring.membership.direct import DirectProbes
from promring.metrics import Metrics
from promring.model import Known, Unknown
from promring.reconcile import Reconciler
from promring.settings import ShardService
from promring.state import Memory
from promring.succession import id_of


class Service:
    """A running shard service. ``make_reconciler`` and ``make_audit`` get the facts that this object makes."""

    def __init__(
        self,
        settings: ShardService,
        *,
        membership: Membership,
        direct_probes: DirectProbes,
        sources: Mapping[str, Source],
        deliveries: Sequence[Delivery],
        make_reconciler: Callable[[FactBoard], Reconciler],
        make_audit: Callable[[FactBoard, Reconciler], Audit],
        memory: Memory,
        asks: Asks,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self.settings = settings
        self.membership = membership
        self._direct_probes = direct_probes
        self.sources = sources
        self.deliveries = deliveries
        self.asks = asks
        self.facts = FactBoard(list(sources), confirmations=settings.guard.confirmations)
        self._remember(memory)
        self.reconciler = make_reconciler(self.facts)
        self.audit = make_audit(self.facts, self.reconciler)
        self._metrics = metrics
        self._log = log

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def http_sd(self) -> HttpSdDelivery | None:
        """What ``/sd/`` serves, when the service has this delivery, or had it before a reload."""
        every = (*self.deliveries, *(way.delivery for way in self.reconciler.retirement.ways))
        return next((d for d in every if isinstance(d, HttpSdDelivery)), None)

    def scraper_id(self, asked: str) -> str:
        """The id of the scraper that somebody means, by whichever of its names."""
        return id_of(asked, lambda: [s.scraper for s in self.reconciler.memory.slices.values()])

    def memory(self) -> Memory:
        """What the next one shall start from: what is in force, with the facts' newest times."""
        facts = self.facts.newest()
        times = {name: fact.good_at for name, fact in facts.sources.items()}
        return replace(
            self.reconciler.memory,
            history=self.reconciler.history,
            departing=self.reconciler.departures.remembered,
            members_at=facts.members.good_at,
            sources_at=times,
        )

    async def run(self) -> None:
        """Until cancelled."""
        facts = self.facts
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for delivery in self.deliveries:
                if isinstance(delivery, Closing):
                    stack.push_async_callback(delivery.close)
            group.create_task(self.membership.run(self.facts.members.put), name=f"{self.name}/membership")
            stack.push_async_callback(self.reconciler.retirement.close)
            departures = self.reconciler.departures
            watched = self._direct_probes.run(lambda: departures.scrapers, departures.changed, departures.put_probed)
            group.create_task(watched, name=f"{self.name}/departures")
            asked = self._direct_probes.run(lambda: facts.suspects, facts.suspects_changed, facts.put_probed)
            group.create_task(asked, name=f"{self.name}/direct probes")
            for name, source in self.sources.items():
                work = poll(name, source, self.facts.sources[name].put, self._counter(name), self._log)
                group.create_task(work, name=f"{self.name}/{name}")
            group.create_task(self.audit.run(), name=f"{self.name}/audit")
            group.create_task(self.reconciler.run(), name=f"{self.name}/reconcile")

    @property
    def informed(self) -> bool:
        """Whether scrapers and every source have answered since the start, so that we know as much as another controller."""
        return self.facts.answered

    def unready(self) -> str:
        """Why there never was a plan from scrapers that were known, or an empty text."""
        if self.reconciler.decided:
            return ""
        verdict, members = self.reconciler.verdict, self.facts.members.fact
        if isinstance(verdict, Hold):
            return f"{self.name}: {verdict.detail}"
        if isinstance(members.newest, Unknown):
            return f"{self.name}: the scrapers are not known: {members.newest.reason}; the last good state is served"
        return f"{self.name}: the first plan is being made"

    def silent(self) -> str:
        """Why what is known of the scrapers is too old to go by, or an empty text."""
        silent = self.membership.silent()
        return f"{self.name}: {silent}" if silent else ""

    def _remember(self, memory: Memory) -> None:
        why = "not asked yet since the start"
        if memory.members:
            self.facts.members.restore(memory.members, memory.members_at, why)
        for name, pool in memory.sources.items():
            if name in self.facts.sources:
                self.facts.sources[name].restore(pool, memory.sources_at.get(name, 0.0), why)
                if isinstance(source := self.sources[name], RememberingSource):
                    source.remember(pool)

    def _counter(self, source: str) -> Callable[[bool], None]:
        failures = self._metrics.discovery_failures.labels(self.name, source)

        def count(good: bool) -> None:
            if not good:
                failures.inc()

        return count

    def __repr__(self) -> str:
        known = isinstance(self.facts.members.fact.newest, Known)
        return f"Service({self.name}, membership={'known' if known else 'unknown'}, sources={list(self.sources)})"
