"""A running fleet: its membership, its audit and its loop, and the shard services that it works for.

A ``Service`` is what the rest of the program knows of one shard service: its sources, its part of what is in force, what is
seen of it. What belongs to scrapers is with its ``fleet``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import chain

import numpy as np

from promring.audit.look import Look
from promring.audit.watch import Audit
from promring.config.settings import FleetKeys, ShardService
from promring.core.claims import Claims
from promring.core.joined import FleetPool, part_of
from promring.core.plan import rows_of
from promring.core.verdicts import Hold, Withheld
from promring.delivery import Closing, Delivery
from promring.delivery.http_sd import HttpSdDelivery
from promring.discovery import RememberingSource, Source
from promring.discovery.polling import poll
from promring.fleet.asks import Asks
from promring.fleet.facts import FactBoard, SourceBoard
from promring.fleet.judge import ServiceState
from promring.fleet.reconcile import Reconciler
from promring.fleet.retirement import Retirement
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.store import Store
from promring.fleet.succession import id_of
from promring.loads.learner import Learner
from promring.membership import GoingOn, Membership, Roster, Rostered
from promring.membership.direct import DirectProbes
from promring.membership.watching import watch
from promring.model import Answer, Known, Members, Placement, Slice, TargetPool, Unknown
from promring.runtime.near import meant_host
from promring.runtime.unforeseen import kept_alive
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics

NEAR_KEPT = 1000
"""So many names that nobody knows are remembered, with what looks like them."""


class Service:
    """A shard service of a running fleet."""

    def __init__(
        self,
        settings: ShardService,
        sources: Mapping[str, Source],
        deliveries: Sequence[Delivery],
        retirement: Retirement,
        look: Look,
        facts: SourceBoard,
    ) -> None:
        self.settings, self.sources, self.deliveries = settings, sources, deliveries
        self.retirement, self.look, self.facts = retirement, look, facts
        self.fleet: Fleet
        """Set by the fleet that it is given to."""

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def state(self) -> ServiceState:
        """What the loop remembers of it."""
        return self.fleet.reconciler.services[self.name]

    @property
    def memory(self) -> ServiceMemory:
        """What of it is in force: lists and slices."""
        return self.fleet.reconciler.memory.of(self.name)

    @property
    def slices(self) -> Mapping[str, Slice]:
        """By scraper."""
        return self.memory.slices

    @property
    def placement(self) -> Placement | None:
        """Who owns which of its targets, as people are told (``Fleet.placement``); None while there is no plan of it.
        ``limits`` are over the whole fleet.
        """
        placement = self.fleet.placement
        return None if placement is None else part_of(placement, self.name)

    @property
    def held(self) -> int:
        """How many of its targets an old owner still holds."""
        return self.fleet.held.get(self.name, 0)

    @property
    def withheld(self) -> tuple[Withheld, ...]:
        """What of its own facts is not acted on."""
        return self.state.verdict.withheld

    @property
    def http_sd(self) -> HttpSdDelivery | None:
        """What ``/sd/`` serves, when the service has this delivery, or had it before a reload."""
        for every in (self.deliveries, (way.delivery for way in self.retirement.ways)):
            for one in every:
                if isinstance(one, HttpSdDelivery):
                    return one
        return None

    def unready(self) -> str:
        """Why there never was a plan from scrapers that were known, or an empty text."""
        if self.state.decided:
            return ""
        verdict, members = self.fleet.reconciler.verdict, self.fleet.facts.members.fact
        own = self.state.verdict
        for held in (verdict, own):
            if isinstance(held, Hold):
                return f"{self.name}: {held.detail}"
        if isinstance(members.newest, Unknown):
            return f"{self.name}: the scrapers are not known: {members.newest.reason}; the last good state is served"
        return f"{self.name}: the first plan is being made"

    def why_not(self, scraper: str) -> str:
        """Why there is no slice for this scraper."""
        held_back = self.fleet.reconciler.moves.takeover.held_back.why(scraper, self.name)
        if why := self.unready() or held_back:
            return why
        return f"scraper {scraper!r} is not in the plan{self.fleet.near(scraper)}"

    def __repr__(self) -> str:
        return f"Service({self.name}, sources={list(self.sources)})"


class Fleet:
    """A running fleet: an attribute for each of its parts, and for what is found out once. ``reconciler`` and ``audit`` work
    on the same ``facts``; ``build`` made them all.
    """

    def __init__(
        self,
        settings: FleetKeys,
        *,
        membership: Membership,
        direct_probes: DirectProbes,
        facts: FactBoard,
        services: Sequence[Service],
        reconciler: Reconciler,
        audit: Audit,
        learner: Learner | None,
        memory: Memory,
        asks: Asks,
        store: Store,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self.settings, self.name = settings, reconciler.fleet
        self.membership, self._direct_probes = membership, direct_probes
        self.facts, self.reconciler, self.audit, self.asks = facts, reconciler, audit, asks
        self.learner = learner
        """None where each target counts 1."""
        self.services = {service.name: service for service in services}
        for service in services:
            service.fleet = self
        self.store = store
        self._metrics, self._log = metrics, log
        self._roster: Roster | None = None
        self._near: tuple[Members, dict[str, str]] = (), {}
        self._held: tuple[Claims | None, TargetPool | None, Mapping[str, int]] = None, None, {}
        self._remember(memory)

    def scraper_id(self, asked: str) -> str:
        """The id of the scraper that somebody means, by whichever of its names."""
        services = self.reconciler.memory.services.values()
        if any(asked in one.slices for one in services):
            return asked
        known = {s.scraper.id: s.scraper for one in services for s in one.slices.values()}
        return id_of(asked, known.values)

    def near(self, scraper: str) -> str:
        """Names of scrapers that look like this one, which is not in the plan. Kept, as an agent asks again and again, and
        asks for all services at once.
        """
        listed = self.facts.listed
        if self._near[0] is not listed or len(self._near[1]) >= NEAR_KEPT:
            self._near = listed, {}
        if scraper not in self._near[1]:
            planned = self.reconciler.memory.members
            self._near[1][scraper] = meant_host(scraper, (one.id for one in chain(listed, planned)))
        return self._near[1][scraper]

    def memory(self) -> Memory:
        """What the next one shall start from: what is in force, with the facts' newest times."""
        facts, memory = self.facts.newest(), self.reconciler.memory
        times = {name: {n: fact.good_at for n, fact in some.items()} for name, some in facts.services.items()}
        return replace(
            memory,
            history=self.reconciler.history,
            departing=self.reconciler.departures.remembered,
            members_at=facts.members.good_at,
            catalogue=self.facts.listed,
            unlooked=self.reconciler.moves.unlooked,
            services={
                name: replace(one, sources_at=times.get(name, one.sources_at)) for name, one in memory.services.items()
            },
        )

    def go_on_from(self, before: Fleet, was: Mapping[str, str]) -> None:
        """A reload made this fleet in the place of ``before``, which has ended, and calls the scrapers by the same names.
        ``was``: the names of services then.
        """
        loop, known = self.reconciler, before.reconciler
        self.facts.go_on_from(before.facts, was)
        loop.dispatcher.go_on_from(known.dispatcher, was)
        loop.health.go_on_from(known.health)
        loop.departures.go_on_from(known.departures)
        loop.moves.takeover.go_on_from(known.moves.takeover)
        self.audit.go_on_from(before.audit)
        if isinstance(self.membership, GoingOn):
            self.membership.go_on_from(before.membership)

    async def run(self) -> None:
        """Until cancelled."""
        facts = self.facts
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for service in self.services.values():
                for delivery in service.deliveries:
                    if isinstance(delivery, Closing):
                        stack.push_async_callback(delivery.close)
                stack.push_async_callback(service.retirement.close)
            called = self.settings.scrapers.lines_name(self.name)
            watching = watch(called, self.membership, self._hear, self._log)
            group.create_task(watching, name=f"{self.name}/membership")
            departures = self.reconciler.departures
            watched = self._direct_probes.run(lambda: departures.scrapers, departures.changed, departures.put_probed)
            group.create_task(watched, name=f"{self.name}/departures")
            asked = self._direct_probes.run(lambda: facts.suspects, facts.suspects_changed, facts.put_probed)
            group.create_task(asked, name=f"{self.name}/direct probes")
            for service in self.services.values():
                for name, source in service.sources.items():
                    log = self._log.bind(service=service.name)
                    cell, count = service.facts.cells[name], self._counter(service.name, name)
                    work = poll(name, source, cell.put, count, log, cell.wanted)
                    group.create_task(work, name=f"{service.name}/{name}")
            group.create_task(self.store.run(), name=f"{self.name}/state")
            keeper = self.reconciler.keeper
            group.create_task(keeper.keep(facts.wake), name=f"{self.name}/state file")
            group.create_task(self.audit.run(), name=f"{self.name}/audit")
            if self.learner is not None:
                group.create_task(self.learner.run(), name=f"{self.name}/loads")
            group.create_task(self.reconciler.run(), name=f"{self.name}/reconcile")
            measured = kept_alive("room", self._measure, self._log)
            group.create_task(measured, name=f"{self.name}/room")
            group.create_task(self.reconciler.pulse.run(), name=f"{self.name}/pulse")

    async def _measure(self) -> None:
        """For ever: how many scrapers what is placed needs. Nothing waits for it."""
        await self.reconciler.weighing.keep_measuring(lambda: self.reconciler.placement, self.reconciler.planner.policy)

    def _hear(self, answer: Answer[Members]) -> None:
        self.facts.put_listed(self.membership.listed())
        if isinstance(self.membership, Rostered) and (roster := self.membership.roster()) is not self._roster:
            self._roster = roster
            planned = {s.id for s in self.reconciler.history.members}
            self.reconciler.departures.heard(*roster, planned)
        self.facts.put_members(answer)

    @property
    def placement(self) -> Placement | None:
        """Who owns what, as people are told: between a reload and the first decision after it what was in force before."""
        moves = self.reconciler.moves
        return moves.placement if moves.placement is not None else moves.before

    @property
    def held(self) -> Mapping[str, int]:
        """By service: how many of its targets an old owner still holds. Counted once for each step."""
        claims, placement = self.reconciler.memory.claims, self.placement
        pool = None if placement is None else placement.pool
        if self._held[0] is not claims or self._held[1] is not pool:
            self._held = claims, pool, _held(claims, pool) if isinstance(pool, FleetPool) else {}
        return self._held[2]

    @property
    def informed(self) -> bool:
        """Whether scrapers and every source have answered since the start, so that we know as much as another controller."""
        return self.facts.answered

    def save_again(self) -> None:
        """What was saved may be gone."""
        self.reconciler.keeper.forget()
        self.facts.wake()

    def silent(self) -> str:
        """Why what is known of the scrapers is too old to go by, or an empty text."""
        silent = self.membership.silent()
        return f"{self.name}: {silent}" if silent else ""

    def _remember(self, memory: Memory) -> None:
        why = "not asked yet since the start"
        self.facts.listed = memory.catalogue
        if memory.members:
            self.facts.members.restore(memory.members, memory.members_at, why)
        for service in self.services.values():
            had = memory.of(service.name)
            for name, pool in had.sources.items():
                if name in service.facts.cells:
                    service.facts.cells[name].restore(pool, had.sources_at.get(name, 0.0), why)
                    if isinstance(source := service.sources[name], RememberingSource):
                        source.remember(pool)

    def _counter(self, service: str, source: str) -> Callable[[bool], None]:
        failures = self._metrics.discovery_failures.labels(service, source)

        def count(good: bool) -> None:
            if not good:
                failures.inc()

        return count

    def __repr__(self) -> str:
        known = isinstance(self.facts.members.fact.newest, Known)
        return f"Fleet({self.name}, membership={'known' if known else 'unknown'}, services={list(self.services)})"


def _held(claims: Claims, pool: FleetPool) -> Mapping[str, int]:
    waiting = claims.ids[np.isfinite(claims.until)]
    if not len(waiting):
        return {}
    return {name: some.stop - some.start for name, some in pool.by_service(np.sort(rows_of(pool, waiting)))}
