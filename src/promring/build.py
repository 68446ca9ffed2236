"""From settings to one fleet.

In two steps, so that a reload can be refused: ``build_parts`` makes all that can fail and touches nothing that runs;
``build_fleet`` puts the parts together with what the fleets before it knew, when those have ended.
A kind is built by its own settings, from a small context.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from promring.audit.births import Births
from promring.audit.look import Look
from promring.audit.watch import Audit
from promring.config.kinds import Sections, Shared
from promring.config.settings import (
    FleetKeys,
    FleetOfServices,
    Settings,
    ShardService,
)
from promring.consul.client import Client
from promring.core.evidence import Handover
from promring.core.joined import salt_of
from promring.core.loads import ENTRY_BYTES
from promring.delivery import Delivery, Resuming
from promring.delivery.settings import DeliveryContext
from promring.discovery import OwnEngine, Source, SourceContext
from promring.election.leadership import Leadership
from promring.fleet.asks import Asks
from promring.fleet.deliveries import ServiceDeliveries
from promring.fleet.departures import WAITS_S, Departures
from promring.fleet.dispatcher import Dispatcher
from promring.fleet.facts import FactBoard, Pace
from promring.fleet.fleet import Fleet, Service
from promring.fleet.planner import Planner
from promring.fleet.reconcile import Reconciler
from promring.fleet.retirement import Retirement, Retiring
from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.fleet.ways import OldWay, places, replaced, taken_by
from promring.fleet.weighing import Weighing
from promring.loads import LoadContext
from promring.loads.learner import Learner
from promring.membership import MembershipContext, Registering
from promring.membership.direct import DirectProbes
from promring.model import Members, Slice
from promring.rules import guard_of, places_by, placing_of, policy_of, rules_of, sources_of
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics

WEIGHTS_SAID_MOST = 1000
TOLD_BYTES, TOLD_SERVICE_BYTES, TOLD_ALONE = 64 * 1024, 40, 1_000_000
"""Of the books of loads of all fleets in the note beside a lock; and targets in the book of a controller without a lock."""


@dataclass(frozen=True, slots=True)
class Context:
    """What all fleets of a configuration are built from."""

    settings: Settings
    config_file: Path
    state_dir: Path
    consul: Client | None
    leadership: Leadership
    metrics: Metrics
    log: Logger
    engine: OwnEngine | None = None
    shared: Shared = field(default_factory=Shared)
    """Of all sources."""


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What a shard service is made of, as far as it can be built beside the one that runs."""

    settings: ShardService
    sources: Mapping[str, Source]
    deliveries: Sequence[Delivery]
    old: Sequence[tuple[OldWay, Delivery]] = ()
    """Deliveries that these replace, made anew."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a fleet is made of, likewise."""

    fleet: FleetOfServices
    services: Sequence[ServiceParts]


def build_parts(fleet: FleetOfServices, context: Context, previous: Mapping[str, Service | None]) -> Parts:
    """Reads and writes nothing. ``previous``: by service, the one that it goes on with. Raises ``ConfigError`` for what is
    not installed.
    """
    shared, log = Shared(), context.log.bind(fleet=fleet.name)
    of_sources = source_context(context.settings, context.config_file, context.shared, context.engine)
    services = []
    for settings in fleet.services:
        before = previous.get(settings.name)
        ways = old_ways(before, settings, context.settings) if before else []
        here = DeliveryContext(settings.names, shared, log.bind(service=settings.name), log)
        deliveries = [one.delivery(here) for one in settings.delivery]
        old = [(way, way.delivery.delivery(replace(here, names=way.service.names))) for way in ways]
        services.append(ServiceParts(settings, build_sources(settings, of_sources, before), deliveries, old))
    return Parts(fleet, services)


def old_ways(previous: Service, settings: ShardService, all_settings: Settings) -> list[OldWay]:
    """What ``previous`` delivers by, and still did, that ``settings`` has no more, and nobody else writes to from now on."""
    before = [
        *(w.way for w in previous.retirement.ways),
        *(OldWay(d, previous.settings) for d in previous.settings.delivery),
    ]
    nodes = places((*previous.fleet.reconciler.memory.members, *previous.settings.listed))
    return [way for way in replaced(before, settings, nodes) if not taken_by(way, all_settings, nodes)]


def store_of(fleet: str, context: Context, *, replaces: Mapping[str, set[str]] | None = None) -> Store:
    return Store(context.state_dir, fleet, context.log.bind(fleet=fleet), replaces=replaces)


@dataclass(frozen=True, slots=True)
class Previous:
    """What a fleet goes on with. ``memory`` as ``succession.inherited`` gives it; ``replaces`` as of ``store.Store``;
    ``services``: by service the running one that it goes on with; ``as_saved``: the memory is on disk just so;
    ``store``: of the fleet of the same name that was before.
    """

    memory: Memory
    replaces: Mapping[str, set[str]]
    services: Mapping[str, Service | None]
    as_saved: bool
    store: Store | None = None


def build_fleet(parts: Parts, context: Context, previous: Previous) -> Fleet:
    """A fleet that starts from what is ``previous``."""
    name, keys, memory = parts.fleet.name, parts.fleet.keys, previous.memory
    context = replace(context, log=context.log.bind(fleet=name))
    if context.leadership.alone and not any(previous.services.values()):
        _climb_above_lost_state(context.leadership, memory)
    asks = Asks(services=[one.settings.name for one in parts.services] if len(parts.services) > 1 else ())
    facts = FactBoard()
    asks.wake = facts.wake
    services = [_service(one, name, context, previous, asks, facts) for one in parts.services]
    store = _store(name, context, previous)
    reconciler = _reconciler(parts.fleet, services, facts, asks, context, previous, store)
    context_of_scrapers = membership_context(
        keys,
        context.consul,
        context.leadership.leads,
        context.log,
        sections=context.settings.sections,
        last=tuple(s for s in memory.members if s.id not in {one.id for one in memory.departing}),
        catalogue=memory.catalogue,
    )
    membership = keys.scrapers.membership(context_of_scrapers)
    if isinstance(membership, Registering):
        departures = reconciler.departures
        membership.deregister(lambda: departures.scrapers, lambda: departures.gone, departures.of_others)
    return Fleet(
        keys,
        membership=membership,
        direct_probes=DirectProbes(*keys.scrapers.direct_check, context.log, api=keys.scraper_api),
        facts=facts,
        services=services,
        reconciler=reconciler,
        learner=_learner(parts.fleet, services, reconciler, context),
        audit=_audit(keys, {s.name: s.look for s in services}, reconciler, facts, context),
        memory=memory,
        asks=asks,
        store=store,
        metrics=context.metrics,
        log=context.log,
    )


def _climb_above_lost_state(leadership: Leadership, memory: Memory) -> None:
    """A single controller's epoch: above what a state that was lost has given to receivers."""
    leadership.epoch = max(leadership.epoch, memory.generation.epoch + 1, int(time.time()))


def _store(fleet: str, context: Context, previous: Previous) -> Store:
    """Which goes on with the file of the one before."""
    store = store_of(fleet, context, replaces=previous.replaces)
    if previous.store is not None:
        store.follow(previous.store)
    return store


def _reconciler(
    fleet: FleetOfServices,
    services: Sequence[Service],
    facts: FactBoard,
    asks: Asks,
    context: Context,
    previous: Previous,
    store: Store,
) -> Reconciler:
    keys, memory, log = fleet.keys, previous.memory, context.log.bind(srv_name=fleet.name)
    before = [one.settings for one in previous.services.values() if one is not None]
    placing = {s.name: placing_of(s.settings) for s in services}
    departures = Departures(
        memory.departing,
        registered=keys.scrapers.registers,
        pulls=all(delivery.pulled for s in services for delivery in s.deliveries),
        audited=keys.audit is not None,
        asks=asks,
        wake=facts.wake,
        waits_s=keys.join_delay + WAITS_S,
        log=context.log,
    )
    return Reconciler(
        fleet.name,
        rules=rules_of(keys),
        guards={s.name: guard_of(s.settings) for s in services},
        handover=Handover(keys.handover.overlap, keys.handover.confirm),
        pace=Pace(context.settings.global_.reconcile_interval, context.settings.global_.debounce),
        facts=facts,
        planner=Planner(policy_of(fleet), placing, keys.zone_label, memory.members, log),
        dispatcher=_dispatcher(fleet, services, facts, context, memory),
        leadership=context.leadership,
        store=store,
        memory=memory,
        metrics=context.metrics,
        log=context.log,
        saved=not memory.planned or previous.as_saved,
        policy_changed=bool(before) and _places_otherwise(before, [s.settings for s in services]),
        departures=departures,
        weighing=Weighing(
            learns=keys.placement.loads.learns, leadership=context.leadership, wake=facts.wake, log=context.log
        ),
    )


def _learner(
    fleet: FleetOfServices, services: Sequence[Service], reconciler: Reconciler, context: Context
) -> Learner | None:
    """None where each target counts 1."""
    source = fleet.keys.placement.loads.source(LoadContext(fleet.keys.scraper_api))
    if source is None:
        return None
    learning = sum(one.keys.placement.loads.learns for one in context.settings.every_fleet)
    room = TOLD_BYTES - TOLD_SERVICE_BYTES * len(context.settings.shard_services)
    told_most = TOLD_ALONE if context.leadership.alone else max(0, room) // ENTRY_BYTES // max(1, learning)
    return Learner(
        source,
        {s.name: s.settings.job for s in services},
        told_most,
        policy_of(fleet),
        leads=context.leadership.leads,
        in_force=lambda: reconciler.in_force,
        book=lambda: reconciler.memory.loads,
        receive=reconciler.weighing.receive,
        failed=context.metrics.loads_failures.labels(fleet.name).inc,
        log=context.log.bind(srv_name=fleet.name),
    )


def _dispatcher(
    fleet: FleetOfServices, services: Sequence[Service], facts: FactBoard, context: Context, memory: Memory
) -> Dispatcher:
    leadership, metrics, name = context.leadership, context.metrics, fleet.name
    heard = memory.answers.heard if fleet.keys.audit is not None or fleet.keys.handover.confirm else ()
    couriers = {
        s.name: ServiceDeliveries(name, s.name, s.deliveries, leadership, facts.wake, metrics, _log_of(s, context), heard)
        for s in services
    }
    retirements = {s.name: s.retirement for s in services}
    return Dispatcher(couriers, retirements, leadership, facts.wake, context.log.bind(srv_name=name), memory.undelivered)


def _service(parts: ServiceParts, fleet: str, context: Context, previous: Previous, asks: Asks, facts: FactBoard) -> Service:
    settings, log = parts.settings, context.log.bind(service=parts.settings.name)
    before, memory = previous.services.get(settings.name), previous.memory.of(settings.name)
    running = [*before.deliveries, *(way.delivery for way in before.retirement.ways)] if before else []
    # a single controller serves what it remembers, unless it had still to look what the scrapers have when it wrote that
    # down; one of several may remember less than the others know
    slices = list(memory.slices.values()) if context.leadership.alone and not previous.memory.unlooked else []
    deliveries = [_resumed(one, running, slices) for one in parts.deliveries]
    retiring = [Retiring(way, _resumed(one, running, slices)) for way, one in parts.old]
    asked_for = any(d.pulled for d in deliveries)
    retirement = Retirement(retiring, service=settings.name, asked_for=asked_for, asks=asks, log=log)
    look = Look(settings.name, settings.job, salt_of(fleet, settings.name), log.bind(srv_name=settings.name))
    board = facts.add(settings.name, list(parts.sources), settings.guard.confirmations)
    return Service(settings, parts.sources, deliveries, retirement, look, board)


def _resumed(built: Delivery, running: Sequence[Delivery], slices: Sequence[Slice]) -> Delivery:
    return built.resumed(running, slices) if isinstance(built, Resuming) else built


def _log_of(service: Service, context: Context) -> Logger:
    return context.log.bind(service=service.name, srv_name=service.name)


def _audit(keys: FleetKeys, looks: Mapping[str, Look], reconciler: Reconciler, facts: FactBoard, context: Context) -> Audit:
    wanted, confirm = keys.audit, keys.handover.confirm
    heard = partial(reconciler.health.hear, lambda: (*reconciler.memory.members, *facts.listed), facts.wake)
    return Audit(
        wanted,
        keys.scraper_api,
        looks,
        in_force=lambda: reconciler.in_force,
        waiting=lambda: reconciler.moves.waiting if confirm else (),
        receive=reconciler.moves.receive,
        wanted=facts.look_wanted,
        births=Births(keys.scraper_api, wanted.timeout, heard) if wanted is not None else None,
        nameless=lambda: reconciler.nameless,
        outside=lambda: reconciler.judge.joining,
        look_at=reconciler.look_at if wanted is not None and wanted.second_opinion else None,
        log=context.log.bind(srv_name=reconciler.fleet),
    )


def _places_otherwise(before: Sequence[ShardService], now: Sequence[ShardService]) -> bool:
    """Whether one of the services is placed in another way than before, but for who the scrapers are."""
    return {places_by(service) for service in before} != {places_by(service) for service in now}


def membership_context(
    keys: FleetKeys,
    consul: Client | None,
    leads: Callable[[], bool],
    log: Logger,
    *,
    sections: Sections,
    last: Members = (),
    catalogue: Members = (),
) -> MembershipContext:
    """For the scrapers of a fleet."""
    return MembershipContext(
        keys.name, keys.scraper, keys.zone_label, last, catalogue, consul, leads, log, sections, keys.scraper_api
    )


def source_context(settings: Settings, config_file: Path, shared: Shared, engine: OwnEngine | None = None) -> SourceContext:
    """For sources of whichever shard service. ``engine``: the Prometheus that this process runs to discover."""
    return SourceContext(config_file.absolute().parent, engine, sections=settings.sections, shared=shared)


def build_sources(settings: ShardService, context: SourceContext, before: Service | None = None) -> dict[str, Source]:
    """In order of precedence, by a name that stays the same across a reload. ``before``: the service that they replace."""
    context = replace(context, legacy_names=settings.label_names == "legacy", reloaded=before is not None)
    return {name: part.source(context) for name, part in sources_of(settings).items()}
