"""From settings to objects. The only module that names concrete adapters, beside ``trial.py``.

In two steps, so that a reload can be refused: ``build_parts`` makes all that can fail and touches nothing that runs;
``build_service`` puts the parts together with what the service before them knew, when that has ended.
A new kind of membership, discovery or delivery is one new file and one line in a dict at the end.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from promring.asks import Asks
from promring.audit.watch import Audit, AuditSettings
from promring.consul.client import Access, Client
from promring.consul.instances import WEIGHT
from promring.consul.registration import Registration
from promring.consul.watch import HealthWatch, MakeScraper
from promring.consul_environment import read_environment
from promring.core.admission import Rules
from promring.core.guard import Guard
from promring.core.handover import Handover
from promring.core.placement import Policy
from promring.core.ring import WEIGHT_MOST
from promring.delivery import Delivery
from promring.delivery.ansible import AnsibleDelivery, AnsibleSettings
from promring.delivery.file import FileDelivery
from promring.delivery.http_sd import HttpSdDelivery
from promring.delivery.ssh import SshDelivery, SshSettings
from promring.delivery.ssh_connect import parse_jump
from promring.departures import Departures
from promring.discovery import Source
from promring.discovery.file import FileSource
from promring.discovery.groups import ListRules, Reader
from promring.discovery.http import HttpSource
from promring.discovery.python import PythonSource
from promring.facts import FactBoard
from promring.httpclient import TlsFiles
from promring.leadership import Leadership
from promring.log import Logger
from promring.membership import Membership
from promring.membership.consul import ConsulMembership
from promring.membership.direct import DirectProbes
from promring.membership.probe import ProbeMembership, ProbeSettings
from promring.metrics import Metrics
from promring.model import Scraper, join_host_port
from promring.reconcile import Pace, Reconciler
from promring.retirement import Retirement, Retiring
from promring.service import Service
from promring.settings import AnsibleDelivery as AnsibleDeliverySettings
from promring.settings import (
    Consul,
    ConsulScrapers,
    FileTargets,
    HttpTargets,
    Node,
    ProbeScrapers,
    PythonTargets,
    RegisterCheck,
    Settings,
    ShardService,
    Tls,
    parse_weight,
)
from promring.settings import Delivery as DeliverySettings
from promring.settings import FileDelivery as FileDeliverySettings
from promring.settings import SshDelivery as SshDeliverySettings
from promring.state import Memory, Store
from promring.succession import OldWay, places, replaced, succeed, taken_by

WEIGHTS_SAID_MOST = 1000


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


@dataclass(frozen=True, slots=True)
class Parts:
    """What a shard service is made of, as far as it can be built beside the one that runs."""

    settings: ShardService
    sources: Mapping[str, Source]
    deliveries: Sequence[Delivery | None]
    """None: http_sd, which goes on with what is served."""
    old: Sequence[tuple[OldWay, Delivery | None]] = ()
    """Deliveries that these replace, made anew."""


def build_parts(settings: ShardService, kit: Kit, left: Service | None = None) -> Parts:
    """Reads and writes nothing. ``left``: the service that this one goes on with. Raises ``ConfigError`` for what is not
    installed.
    """
    kit = replace(kit, log=kit.log.bind(service=settings.name))
    old = [(way, _delivery(way.delivery, kit)) for way in (old_ways(left, settings, kit.settings) if left else ())]
    return Parts(settings, build_sources(settings, kit), [_delivery(d, kit) for d in settings.delivery], old)


def _delivery(wanted: DeliverySettings, kit: Kit) -> Delivery | None:
    return None if wanted.kind == "http_sd" else DELIVERIES[wanted.kind](wanted.chosen, kit)


def old_ways(left: Service, settings: ShardService, all_settings: Settings) -> list[OldWay]:
    """What ``left`` delivers by, and still did, that ``settings`` has no more, and nobody else writes to from now on."""
    before = [*(w.way for w in left.reconciler.retirement.ways), *(OldWay(d, left.settings) for d in left.settings.delivery)]
    nodes = places((*left.reconciler.memory.members, *left.settings.listed))
    return [way for way in replaced(before, settings, nodes) if not taken_by(way, all_settings, nodes)]


def store_of(service: str, kit: Kit, *, replaces: str | None = None) -> Store:
    return Store(kit.state_dir, service, kit.log.bind(service=service), replaces=replaces)


def build_service(parts: Parts, kit: Kit, left: Service | None, saved: Memory) -> Service:
    """A service that starts from what the one before it ``left``, else from what was ``saved`` on disk."""
    settings = parts.settings
    store = store_of(settings.name, kit, replaces=left.name if left else None)
    kit = replace(kit, log=kit.log.bind(service=settings.name))
    before = left.memory() if left else saved
    memory = succeed(before, settings)
    asks = Asks()
    if left is None and kit.leadership.alone:  # above what a state that was lost, or fell behind, has given to receivers
        kit.leadership.epoch = max(kit.leadership.epoch, memory.generation.epoch + 1, int(time.time()))
    deliveries = [built or _http_sd_delivery(memory, kit, left) for built in parts.deliveries]
    retiring = [Retiring(way, built or _http_sd_delivery(memory, kit, left)) for way, built in parts.old]
    pulls, audited = all(d.pulled for d in deliveries), settings.audit is not None
    asked_for = any(d.pulled for d in deliveries)
    retirement = Retirement(retiring, service=settings.name, asked_for=asked_for, asks=asks, log=kit.log)
    registers = settings.scrapers.consul is not None and settings.scrapers.consul.register_ is not None
    pace = kit.settings.global_

    def make_reconciler(facts: FactBoard) -> Reconciler:
        asks.changed = facts.ring
        departures = Departures(
            memory.departing,
            registered=registers,
            pulls=pulls,
            audited=audited,
            asks=asks,
            ring=facts.ring,
            log=kit.log,
        )
        return Reconciler(
            settings.name,
            guard=guard_of(settings),
            policy=policy_of(settings),
            handover=Handover(settings.handover.overlap, settings.handover.confirm),
            hash_labels=settings.placement.hash_labels,
            zone_label=settings.zone_label,
            pace=Pace(pace.reconcile_interval, pace.debounce),
            facts=facts,
            deliveries=deliveries,
            leadership=kit.leadership,
            store=store,
            memory=memory,
            metrics=kit.metrics,
            log=kit.log,
            saved=not memory.slices or (memory == before and (left is None or left.name == settings.name)),
            policy_changed=left is not None and places_by(left.settings) != places_by(settings),
            departures=departures,
            retirement=retirement,
        )

    def make_audit(facts: FactBoard, reconciler: Reconciler) -> Audit:
        wanted, confirm = settings.audit, settings.handover.confirm
        asked = (
            AuditSettings(settings.name, None)
            if wanted is None
            else AuditSettings(wanted.scrape_pool or settings.name, wanted.interval, wanted.timeout)
        )
        return Audit(
            asked,
            in_force=lambda: reconciler.in_force,
            waiting=lambda: reconciler.waiting if confirm else (),
            receive=reconciler.receive,
            wanted=facts.look_wanted,
            look_at=reconciler.look_at if wanted is not None and wanted.second_opinion else None,
            log=kit.log.bind(srv_name=settings.name),
        )

    service = Service(
        settings,
        membership=build_membership(settings, kit, memory),
        direct_probes=_direct_probes(settings, kit.log),
        sources=parts.sources,
        deliveries=deliveries,
        make_reconciler=make_reconciler,
        make_audit=make_audit,
        memory=memory,
        asks=asks,
        metrics=kit.metrics,
        log=kit.log,
    )
    if isinstance(service.membership, ConsulMembership):
        departures = service.reconciler.departures
        service.membership.deregister(lambda: departures.scrapers, lambda: departures.gone, departures.of_others)
    return service


def places_by(settings: ShardService) -> tuple[object, ...]:
    """All of the configuration that says where a target is placed, but for who the scrapers are."""
    weights = {(n.host, n.port): (n.zone, n.weight) for n in settings.listed}
    uneven = {place: said for place, said in weights.items() if said != ("", 1.0)}
    return policy_of(settings), settings.placement.hash_labels, settings.zone_label, uneven


def policy_of(settings: ShardService) -> Policy:
    chosen = settings.placement
    return Policy(chosen.virtual_nodes, chosen.load_factor, chosen.capacity, chosen.replication_factor)


def guard_of(settings: ShardService) -> Guard:
    chosen = settings.guard
    expected = frozenset(settings.scraper(node).id for node in settings.listed)
    rules = Rules(settings.join_delay, settings.leave_delay, chosen.panic_threshold, chosen.panic_hold, expected)
    return Guard(
        rules,
        chosen.shrink_threshold,
        chosen.shrink_hold,
        chosen.empty_hold,
        chosen.confirmations,
        chosen.growth_threshold,
    )


def build_membership(settings: ShardService, kit: Kit, memory: Memory | None = None, *, register: bool = True) -> Membership:
    """``register`` False: nothing is registered, whatever the settings say."""
    chosen = settings.scrapers.chosen
    if isinstance(chosen, ConsulScrapers) and not register:
        chosen = chosen.model_copy(update={"register_": None})
    return MEMBERSHIPS[settings.scrapers.kind](chosen, settings, memory or Memory(), kit)


def build_sources(settings: ShardService, kit: Kit) -> dict[str, Source]:
    """In order of precedence, by a name that stays the same across a reload."""
    sources: dict[str, Source] = {}
    for targets in settings.targets:
        rules = ListRules(targets.chosen.trusted, settings.label_names == "legacy")
        name, source = SOURCES[targets.kind](targets.chosen, kit, rules)
        count = sum(known.partition("#")[0] == name for known in sources)
        sources[f"{name}#{count + 1}" if count else name] = source
    return sources


def consul_access(settings: Settings, environ: Mapping[str, str] = os.environ) -> Access:
    """What the configuration says, and the ``CONSUL_*`` variables where it says nothing. Credentials in the configuration
    are the only ones then; a section ``tls`` alone decides about verification.
    """
    consul, given = settings.consul or Consul(), read_environment(environ)
    address = consul.address or given.address
    own = consul.token_file is not None or consul.username is not None
    wants_tls = consul.tls is not None or given.ssl or (address or "").startswith("https://")
    return Access(
        address=address,
        token_file=consul.token_file if own else given.token_file,
        username=consul.username if own else given.username,
        password_file=consul.password_file,
        tls=_tls(consul.tls, given.tls) if wants_tls else None,
        datacenter=consul.datacenter,
        token=None if own else given.token,
        password=None if own else given.password,
    )


def _tls(section: Tls | None, given: TlsFiles) -> TlsFiles:
    if section is None:
        return given
    ours = section.files()
    return TlsFiles(
        ca_file=ours.ca_file or given.ca_file,
        cert_file=ours.cert_file or given.cert_file,
        key_file=ours.key_file if ours.cert_file else given.key_file,
        server_name=ours.server_name or given.server_name,
        insecure_skip_verify=ours.insecure_skip_verify,
        ca_folder=None if ours.ca_file else given.ca_folder,
    )


# --- membership ------------------------------------------------------------------------------------------------------


def _consul_membership(wanted: ConsulScrapers, settings: ShardService, memory: Memory, kit: Kit) -> Membership:
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
    return ConsulMembership(kit.consul, watch, registration, kit.log, memory.members, leads, probes=probes)


def _scraper_maker(settings: ShardService, log: Logger) -> MakeScraper:
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


def _direct_probes(settings: ShardService, log: Logger) -> DirectProbes:
    chosen = settings.scrapers.chosen
    if isinstance(chosen, ProbeScrapers):
        return DirectProbes(chosen.path, chosen.timeout, log)
    check = chosen.register_.check if chosen.register_ else RegisterCheck()
    return DirectProbes(check.path, check.timeout, log)


def _probe_membership(wanted: ProbeScrapers, settings: ShardService, _: Memory, kit: Kit) -> Membership:
    scrapers = tuple(settings.scraper(node) for node in wanted.nodes)
    probing = ProbeSettings(wanted.path, wanted.interval, wanted.timeout, wanted.healthy_after, wanted.unhealthy_after)
    return ProbeMembership(settings.name, scrapers, probing, kit.log)


# --- discovery -------------------------------------------------------------------------------------------------------


def _file_source(wanted: FileTargets, _: Kit, rules: ListRules) -> tuple[str, Source]:
    return f"file:{','.join(wanted.files)}", FileSource(wanted.files, wanted.refresh_interval, rules=rules)


def _http_source(wanted: HttpTargets, _: Kit, rules: ListRules) -> tuple[str, Source]:
    tls = wanted.tls.files() if wanted.tls else None
    source = HttpSource(
        wanted.url.reveal(),
        wanted.refresh_interval,
        wanted.timeout_s,
        wanted.headers_file,
        wanted.bearer_token_file,
        tls,
        reader=Reader(rules=rules),
    )
    address, __, query = wanted.url.reveal().partition("?")
    digest = f"?{hashlib.sha256(query.encode()).hexdigest()[:8]}" if query else ""  # a query may hold a secret
    return f"http:{address}{digest}", source


def _python_source(wanted: PythonTargets, kit: Kit, rules: ListRules) -> tuple[str, Source]:
    folder = str(kit.config_file.absolute().parent)
    source = PythonSource(wanted.callable, wanted.interval, wanted.timeout_s, folder, reader=Reader(rules=rules))
    return f"python:{wanted.callable}", source


# --- delivery --------------------------------------------------------------------------------------------------------


def _file_delivery(wanted: FileDeliverySettings, kit: Kit) -> Delivery:
    return FileDelivery(wanted.path, kit.log)


def _http_sd_delivery(memory: Memory, kit: Kit, left: Service | None) -> Delivery:
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


def _ssh_delivery(wanted: SshDeliverySettings, kit: Kit) -> Delivery:
    return SshDelivery(ssh_settings(wanted), kit.log)


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


def _ansible_delivery(wanted: AnsibleDeliverySettings, kit: Kit) -> Delivery:
    return AnsibleDelivery(ansible_settings(wanted), kit.log)


# The first argument is the settings of the kind.
MEMBERSHIPS: Mapping[str, Callable[[Any, ShardService, Memory, Kit], Membership]] = {
    "consul": _consul_membership,
    "probe": _probe_membership,
}
SOURCES: Mapping[str, Callable[[Any, Kit, ListRules], tuple[str, Source]]] = {
    "file": _file_source,
    "http": _http_source,
    "python": _python_source,
}
DELIVERIES: Mapping[str, Callable[[Any, Kit], Delivery]] = {  # and http_sd, which is made of the memory
    "file": _file_delivery,
    "ssh": _ssh_delivery,
    "ansible": _ansible_delivery,
}
