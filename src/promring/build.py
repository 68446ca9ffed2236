"""From settings to objects. The only module that names concrete adapters, beside ``trial.py``.

In two steps, so that a reload can be refused: ``build_parts`` makes all that can fail and touches nothing that runs;
``build_fleet`` puts the parts together with what the fleets before it knew, when those have ended.
A new kind of membership, discovery or delivery is one new file and one line in a dict at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from promring.audit.watch import Audit, AuditSettings, Look
from promring.config.node import Node, parse_weight
from promring.config.settings import AnsibleDelivery as AnsibleDeliverySettings
from promring.config.settings import (
    ConsulScrapers,
    FleetKeys,
    FleetOfServices,
    ProbeScrapers,
    RegisterCheck,
    Settings,
    ShardService,
)
from promring.config.settings import Delivery as DeliverySettings
from promring.config.settings import FileDelivery as FileDeliverySettings
from promring.config.settings import SshDelivery as SshDeliverySettings
from promring.consul.client import Client
from promring.consul.instances import WEIGHT
from promring.consul.registration import Registration
from promring.consul.watch import HealthWatch, MakeScraper
from promring.core.admission import Rules
from promring.core.handover import Handover
from promring.core.joined import salt_of
from promring.core.placement import Policy
from promring.core.ring import WEIGHT_MOST
from promring.core.verdicts import Guard
from promring.delivery import Delivery
from promring.delivery.ansible import AnsibleDelivery, AnsiblePushes, AnsibleSettings
from promring.delivery.file import FileDelivery
from promring.delivery.http_sd import HttpSdDelivery
from promring.delivery.ssh import SshDelivery, SshHosts, SshSettings
from promring.delivery.ssh_connect import parse_jump
from promring.discovery import Shared, Source, SourceContext
from promring.election.leadership import Leadership
from promring.fleet.asks import Asks
from promring.fleet.couriers import Couriers
from promring.fleet.departures import Departures
from promring.fleet.dispatcher import Dispatcher
from promring.fleet.facts import FactBoard
from promring.fleet.fleet import Fleet, Service
from promring.fleet.planner import Placing, Planner
from promring.fleet.reconcile import Pace, Reconciler
from promring.fleet.retirement import Retirement, Retiring
from promring.fleet.state import Memory, ServiceMemory, Store
from promring.fleet.succession import OldWay, places, replaced, taken_by
from promring.membership import Membership
from promring.membership.consul import ConsulMembership
from promring.membership.direct import DirectProbes
from promring.membership.probe import ProbeMembership, ProbeSettings
from promring.model import Scraper, join_host_port
from promring.runtime.paths import of_fleet, of_service, own_folders
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics

WEIGHTS_SAID_MOST = 1000


@dataclass(frozen=True, slots=True)
class Carriers:
    """What the deliveries of one fleet share: by settings, but for the files of each."""

    ssh: dict[SshSettings, SshHosts] = field(default_factory=dict)
    ansible: dict[AnsibleSettings, AnsiblePushes] = field(default_factory=dict)
    log: Logger | None = None
    """What concerns a host, and not one service."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What all services share."""

    settings: Settings
    config_file: Path
    state_dir: Path
    consul: Client | None
    leadership: Leadership
    metrics: Metrics
    log: Logger
    carriers: Carriers = field(default_factory=Carriers)
    """Of the fleet that is built."""
    shared: Shared = field(default_factory=Shared)
    """Of all sources."""


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What a shard service is made of, as far as it can be built beside the one that runs."""

    settings: ShardService
    sources: Mapping[str, Source]
    deliveries: Sequence[Delivery | None]
    """None: http_sd, which goes on with what is served."""
    old: Sequence[tuple[OldWay, Delivery | None]] = ()
    """Deliveries that these replace, made anew."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a fleet is made of, likewise."""

    fleet: FleetOfServices
    services: Sequence[ServiceParts]


def build_parts(fleet: FleetOfServices, kit: Kit, left: Mapping[str, Service | None]) -> Parts:
    """Reads and writes nothing. ``left``: by service, the one that it goes on with. Raises ``ConfigError`` for what is not
    installed.
    """
    kit = replace(kit, carriers=Carriers(log=kit.log.bind(fleet=fleet.name)))
    return Parts(fleet, [_service_parts(service, kit, left.get(service.name)) for service in fleet.services])


def _service_parts(settings: ShardService, kit: Kit, left: Service | None) -> ServiceParts:
    kit = replace(kit, log=kit.log.bind(service=settings.name))
    ways = old_ways(left, settings, kit.settings) if left else ()
    old = [(way, _delivery(way.delivery, way.service, kit)) for way in ways]
    return ServiceParts(
        settings, build_sources(settings, kit), [_delivery(d, settings, kit) for d in settings.delivery], old
    )


def _delivery(wanted: DeliverySettings, service: ShardService, kit: Kit) -> Delivery | None:
    return None if wanted.kind == "http_sd" else DELIVERIES[wanted.kind](wanted.chosen, service, kit)


def old_ways(left: Service, settings: ShardService, all_settings: Settings) -> list[OldWay]:
    """What ``left`` delivers by, and still did, that ``settings`` has no more, and nobody else writes to from now on."""
    before = [*(w.way for w in left.retirement.ways), *(OldWay(d, left.settings) for d in left.settings.delivery)]
    nodes = places((*left.fleet.reconciler.memory.members, *left.settings.listed))
    return [way for way in replaced(before, settings, nodes) if not taken_by(way, all_settings, nodes)]


def store_of(fleet: str, kit: Kit, *, replaces: Mapping[str, set[str]] | None = None) -> Store:
    return Store(kit.state_dir, fleet, kit.log.bind(fleet=fleet), replaces=replaces)


@dataclass(frozen=True, slots=True)
class Left:
    """What a fleet goes on with. ``memory`` as ``succession.inherited`` gives it; ``replaces`` as of ``state.Store``;
    ``services``: by service the running one that it goes on with; ``as_saved``: the memory is on disk just so.
    """

    memory: Memory
    replaces: Mapping[str, set[str]]
    services: Mapping[str, Service | None]
    as_saved: bool


def build_fleet(parts: Parts, kit: Kit, left: Left) -> Fleet:
    """A fleet that starts from what is ``left``."""
    name, keys, memory = parts.fleet.name, parts.fleet.keys, left.memory
    kit = replace(kit, log=kit.log.bind(fleet=name))
    store = store_of(name, kit, replaces=left.replaces)
    asks = Asks(services=[one.settings.name for one in parts.services] if len(parts.services) > 1 else ())
    if not any(left.services.values()) and kit.leadership.alone:  # above what a state that was lost has given to receivers
        kit.leadership.epoch = max(kit.leadership.epoch, memory.generation.epoch + 1, int(time.time()))
    facts = FactBoard()
    asks.changed = facts.ring
    services = [_service(one, name, kit, left, asks, facts) for one in parts.services]
    couriers = {
        s.name: Couriers(name, s.name, s.deliveries, kit.leadership, facts.ring, kit.metrics, _log_of(s, kit))
        for s in services
    }
    dispatcher = Dispatcher(
        couriers,
        {s.name: s.retirement for s in services},
        kit.leadership,
        facts.ring,
        kit.log.bind(srv_name=name),
    )
    deliveries = [delivery for s in services for delivery in s.deliveries]
    before = [one.settings for one in left.services.values() if one is not None]
    reconciler = Reconciler(
        name,
        rules=rules_of(keys),
        guards={s.name: guard_of(s.settings) for s in services},
        handover=Handover(keys.handover.overlap, keys.handover.confirm),
        pace=Pace(kit.settings.global_.reconcile_interval, kit.settings.global_.debounce),
        facts=facts,
        planner=Planner(
            policy_of(parts.fleet),
            {s.name: placing_of(s.settings) for s in services},
            keys.zone_label,
            memory.members,
            kit.log.bind(srv_name=name),
        ),
        dispatcher=dispatcher,
        leadership=kit.leadership,
        store=store,
        memory=memory,
        metrics=kit.metrics,
        log=kit.log,
        saved=not memory.planned or left.as_saved,
        policy_changed=bool(before) and _places_otherwise(before, [s.settings for s in services]),
        departures=Departures(
            memory.departing,
            registered=keys.scrapers.consul is not None and keys.scrapers.consul.register_ is not None,
            pulls=all(d.pulled for d in deliveries),
            audited=keys.audit is not None,
            asks=asks,
            ring=facts.ring,
            log=kit.log,
        ),
    )
    fleet = Fleet(
        keys,
        membership=build_membership(keys, kit, memory),
        direct_probes=_direct_probes(keys, kit.log),
        facts=facts,
        services=services,
        reconciler=reconciler,
        audit=_audit(keys, {s.name: s.look for s in services}, reconciler, facts, kit),
        memory=memory,
        asks=asks,
        metrics=kit.metrics,
        log=kit.log,
    )
    if isinstance(fleet.membership, ConsulMembership):
        departures = reconciler.departures
        fleet.membership.deregister(lambda: departures.scrapers, lambda: departures.gone, departures.of_others)
    return fleet


def _service(parts: ServiceParts, fleet: str, kit: Kit, left: Left, asks: Asks, facts: FactBoard) -> Service:
    settings = parts.settings
    kit = replace(kit, log=kit.log.bind(service=settings.name))
    before, memory = left.services.get(settings.name), left.memory.of(settings.name)
    deliveries = [built or _http_sd_delivery(memory, kit, before) for built in parts.deliveries]
    retiring = [Retiring(way, built or _http_sd_delivery(memory, kit, before)) for way, built in parts.old]
    asked_for = any(d.pulled for d in deliveries)
    retirement = Retirement(retiring, service=settings.name, asked_for=asked_for, asks=asks, log=kit.log)
    look = Look(settings.name, settings.job, salt_of(fleet, settings.name), kit.log.bind(srv_name=settings.name))
    board = facts.add(settings.name, list(parts.sources), settings.guard.confirmations)
    return Service(settings, parts.sources, deliveries, retirement, look, board)


def _log_of(service: Service, kit: Kit) -> Logger:
    return kit.log.bind(service=service.name, srv_name=service.name)


def _audit(keys: FleetKeys, looks: Mapping[str, Look], reconciler: Reconciler, facts: FactBoard, kit: Kit) -> Audit:
    wanted, confirm = keys.audit, keys.handover.confirm
    return Audit(
        AuditSettings(None) if wanted is None else AuditSettings(wanted.interval, wanted.timeout),
        looks,
        in_force=lambda: reconciler.in_force,
        waiting=lambda: reconciler.moves.waiting if confirm else (),
        receive=reconciler.receive,
        wanted=facts.look_wanted,
        look_at=reconciler.look_at if wanted is not None and wanted.second_opinion else None,
        log=kit.log.bind(srv_name=reconciler.fleet),
    )


def _places_otherwise(before: Sequence[ShardService], now: Sequence[ShardService]) -> bool:
    """Whether one of the services is placed in another way than before, but for who the scrapers are."""
    return {places_by(service) for service in before} != {places_by(service) for service in now}


def places_by(settings: ShardService) -> tuple[Hashable, ...]:
    """All of the configuration that says where a target is placed, but for who the scrapers are."""
    weights = {(n.host, n.port): (n.zone, n.weight) for n in settings.listed}
    uneven = frozenset((place, said) for place, said in weights.items() if said != ("", 1.0))
    chosen = settings.placement
    policy = (chosen.virtual_nodes, chosen.load_factor, chosen.capacity, chosen.replication_factor)
    return policy, tuple(chosen.hash_labels or ()), settings.zone_label, uneven


def placing_of(settings: ShardService) -> Placing:
    """How its targets are placed among those of its fleet."""
    chosen = settings.placement
    return Placing(chosen.hash_labels, chosen.replication_factor, salt_of(settings.fleet, settings.name))


def policy_of(fleet: FleetOfServices) -> Policy:
    chosen = fleet.keys.placement
    replicas = max(service.placement.replication_factor for service in fleet.services)
    return Policy(chosen.virtual_nodes, chosen.load_factor, chosen.capacity, replicas)


def rules_of(keys: FleetKeys) -> Rules:
    expected = frozenset(keys.scraper(node).id for node in keys.listed)
    wait = keys.wait_for
    return Rules(
        keys.join_delay,
        keys.leave_delay,
        keys.guard.panic_threshold,
        keys.guard.panic_hold,
        expected,
        wait.scrapers if wait else 0,
        wait.at_most if wait else 0.0,
    )


def guard_of(settings: ShardService) -> Guard:
    chosen = settings.guard
    return Guard(
        chosen.shrink_threshold,
        chosen.shrink_hold,
        chosen.empty_hold,
        chosen.confirmations,
        chosen.growth_threshold,
    )


def build_membership(settings: FleetKeys, kit: Kit, memory: Memory | None = None, *, register: bool = True) -> Membership:
    """``register`` False: nothing is registered, whatever the settings say."""
    chosen = settings.scrapers.chosen
    if isinstance(chosen, ConsulScrapers) and not register:
        chosen = chosen.model_copy(update={"register_": None})
    return MEMBERSHIPS[settings.scrapers.kind](chosen, settings, memory or Memory(), kit)


def build_sources(settings: ShardService, kit: Kit) -> dict[str, Source]:
    """In order of precedence, by a name that stays the same across a reload."""
    folder, legacy = kit.config_file.absolute().parent, settings.label_names == "legacy"
    context = SourceContext(folder, legacy, kit.settings.sections, kit.shared)
    sources: dict[str, Source] = {}
    for targets in (part for entry in settings.targets for part in entry.parts):
        name = targets.source_name
        count = sum(known.partition("#")[0] == name for known in sources)
        sources[f"{name}#{count + 1}" if count else name] = targets.source(context)
    return sources


# --- membership ------------------------------------------------------------------------------------------------------


def _consul_membership(wanted: ConsulScrapers, settings: FleetKeys, memory: Memory, kit: Kit) -> Membership:
    assert kit.consul is not None  # the supervisor makes a client when a service needs one
    registration = None
    if wanted.register_ is not None:
        check = wanted.register_.check
        nodes = {(node.host, node.port): _metadata(node, settings.zone_label) for node in wanted.register_.nodes}
        registration = Registration(
            wanted.service,
            nodes,
            check.path,
            check.interval,
            check.timeout,
            frozenset({WEIGHT, *([settings.zone_label] if settings.zone_label else [])}),
        )
    watch = HealthWatch(
        kit.consul,
        wanted.service,
        _scraper_maker(settings, kit.log),
        kit.log,
        warning_is_dead=wanted.warning == "dead",
        weight_most=WEIGHT_MOST,
    )
    probes = _direct_probes(settings, kit.log)
    leads = kit.leadership.leads
    return ConsulMembership(
        kit.consul, watch, registration, kit.log, memory.members, leads, probes=probes, catalogue=memory.catalogue
    )


def _scraper_maker(settings: FleetKeys, log: Logger) -> MakeScraper:
    """Zone and weight are metadata of the instance, or of its node."""
    said: dict[tuple[str, int], str] = {}

    def make(node: tuple[str, int], metadata: Mapping[str, str]) -> Scraper:
        zone = metadata.get(settings.zone_label, "") if settings.zone_label else ""
        try:
            weight = parse_weight(metadata.get(WEIGHT, "1"))
        except ValueError as error:
            if said.get(node) != str(error) and len(said) < WEIGHTS_SAID_MOST:  # once, not at each answer
                said[node] = str(error)
                log.error("consul_weight_ignored", node=join_host_port(*node), error=str(error), goes_on="weight 1")
            weight = 1.0
        return settings.scraper(Node(*node, zone, weight))

    return make


def _metadata(node: Node, zone_label: str | None) -> dict[str, str]:
    zone = {zone_label: node.zone} if zone_label and node.zone else {}
    return zone | ({WEIGHT: f"{node.weight:g}"} if node.weight != 1 else {})


def _direct_probes(settings: FleetKeys, log: Logger) -> DirectProbes:
    chosen = settings.scrapers.chosen
    if isinstance(chosen, ProbeScrapers):
        return DirectProbes(chosen.path, chosen.timeout, log)
    check = chosen.register_.check if chosen.register_ else RegisterCheck()
    return DirectProbes(check.path, check.timeout, log)


def _probe_membership(wanted: ProbeScrapers, settings: FleetKeys, _: Memory, kit: Kit) -> Membership:
    scrapers = tuple(settings.scraper(node) for node in wanted.nodes)
    probing = ProbeSettings(wanted.path, wanted.interval, wanted.timeout, wanted.healthy_after, wanted.unhealthy_after)
    return ProbeMembership(settings.name, scrapers, probing, kit.log)


# --- delivery --------------------------------------------------------------------------------------------------------


def _file_delivery(wanted: FileDeliverySettings, service: ShardService, kit: Kit) -> Delivery:
    return FileDelivery(of_fleet(wanted.path, service.fleet), kit.log, own_folders(wanted.path))


def _http_sd_delivery(memory: ServiceMemory, kit: Kit, left: Service | None) -> Delivery:
    """The one before goes on, so that who waits at it over a reload gets the next slice. A single controller serves what it
    remembers; one of several may remember less than the others know.
    """
    return (left and left.http_sd) or HttpSdDelivery(memory.slices.values() if kit.leadership.alone else ())


def ssh_settings(wanted: SshDeliverySettings) -> SshSettings:
    return SshSettings(
        host=wanted.host,
        port=wanted.port,
        user=wanted.user,
        path=wanted.path,
        identity_file=wanted.identity_file,
        known_hosts=wanted.known_hosts,
        timeout_s=wanted.timeout,
        certificate_file=wanted.certificate_file,
        proxy_jump=tuple(parse_jump(jump, wanted.user) for jump in wanted.proxy_jump),
    )


def _ssh_delivery(wanted: SshDeliverySettings, service: ShardService, kit: Kit) -> Delivery:
    settings = ssh_settings(wanted)
    settings, way = replace(settings, path=of_fleet(settings.path, service.fleet)), replace(settings, path="")
    if (hosts := kit.carriers.ssh.get(way)) is None:
        hosts = kit.carriers.ssh[way] = SshHosts(way, kit.carriers.log or kit.log)
    return SshDelivery(settings, kit.log, hosts=hosts)


def ansible_settings(wanted: AnsibleDeliverySettings) -> AnsibleSettings:
    return AnsibleSettings(
        playbook=wanted.playbook,
        dest_sd_file_name=wanted.dest_sd_file_name,
        dest_dir=wanted.dest_dir,
        service_port=wanted.service_port,
        reload=wanted.reload,
        user=wanted.user,
        identity_file=wanted.identity_file,
        extra_vars_file=wanted.extra_vars_file,
        vault_password_file=wanted.vault_password_file,
        timeout_s=wanted.timeout,
    )


def _ansible_delivery(wanted: AnsibleDeliverySettings, service: ShardService, kit: Kit) -> Delivery:
    settings = ansible_settings(wanted)
    name = of_service(settings.dest_sd_file_name, service.fleet, service.name)
    settings, way = replace(settings, dest_sd_file_name=name), replace(settings, dest_sd_file_name="")
    if settings.playbook is not None:  # it gets one slice a host
        return AnsibleDelivery(settings, kit.log)
    if (pushes := kit.carriers.ansible.get(way)) is None:
        pushes = kit.carriers.ansible[way] = AnsiblePushes(way, kit.carriers.log or kit.log)
    return AnsibleDelivery(settings, kit.log, pushes=pushes)


# The first argument is the settings of the kind.
MEMBERSHIPS: Mapping[str, Callable[[Any, FleetKeys, Memory, Kit], Membership]] = {
    "consul": _consul_membership,
    "probe": _probe_membership,
}
DELIVERIES: Mapping[str, Callable[[Any, ShardService, Kit], Delivery]] = {  # and http_sd, which is made of the memory
    "file": _file_delivery,
    "ssh": _ssh_delivery,
    "ansible": _ansible_delivery,
}
