"""Relations between the values of a configuration: what is impossible although each value is good by itself.

Refused here: a service named twice, two scrapers with one identity, two deliveries that write one file, here or on a
scraper's host, a check's time-out longer than its interval, a kind whose section is not described. What is impossible within
a kind, the kind says itself; here it is said where it stands.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from promring.config.document import KeyPath, show
from promring.config.kinds import Kind, Problem, Section, Sections
from promring.config.node import Node
from promring.config.settings import Delivery, Fleet, FleetKeys, Settings, ShardService
from promring.config.values import SERVICES_MAX
from promring.election import LockSettings
from promring.runtime.paths import of_fleet, of_service, render

SSH_PORT = 22
CONSUL_WATCHES_MAX = 180  # Consul refuses more than 200 connections from one address, and each watch holds one

Services = list[tuple[int, ShardService]]


@dataclass(frozen=True, slots=True)
class _Sound:
    """The parts that are valid by themselves, so that their relations are checked beside other errors."""

    services: Services
    fleets: Sequence[tuple[int, Fleet]] = ()
    sections: Sections = field(default_factory=Sections)
    described: frozenset[str] = frozenset()
    """Keys of the sections that are there, even if they are wrong."""
    lock: LockSettings | None = None

    def kinds(self) -> Iterator[tuple[KeyPath, Kind]]:
        """Every kind that is chosen, and where it stands."""
        if self.lock is not None:
            yield ("controllers", "lock", self.lock.kind), self.lock
        for path, keys in self.each():
            if keys.scrapers.consul is not None:
                yield (*path, "scrapers", "consul"), keys.scrapers.consul
        for i, service in self.services:
            for j, targets in enumerate(service.targets):
                yield ("shard_services", i, "targets", j, targets.kind), targets

    def each(self) -> Iterator[tuple[KeyPath, FleetKeys]]:
        """What belongs to scrapers, and where it stands: once for each fleet."""
        yield from ((("fleets", i), fleet) for i, fleet in self.fleets)
        shared = {fleet.name for _, fleet in self.fleets}
        yield from ((("shard_services", i), service) for i, service in self.services if service.fleet not in shared)

    def path(self, service: ShardService) -> KeyPath:
        """Where what belongs to its scrapers stands."""
        fleet = next((i for i, fleet in self.fleets if fleet.name == service.fleet), None)
        number = next(i for i, known in self.services if known is service)
        return ("shard_services", number) if fleet is None else ("fleets", fleet)


def sound_part(value: Any, base: Path) -> _Sound:
    value = value if isinstance(value, dict) else {}
    services = []
    listed = value.get("shard_services")
    for i, raw in enumerate(listed[:SERVICES_MAX] if isinstance(listed, list) else []):
        try:
            services.append((i, ShardService.model_validate(raw, context={"base": base})))
        except ValidationError:
            continue
    fleets = []
    listed = value.get("fleets")
    for i, raw in enumerate(listed[:SERVICES_MAX] if isinstance(listed, list) else []):
        with contextlib.suppress(ValidationError):
            fleets.append((i, Fleet.model_validate(raw, context={"base": base})))
    return _Sound(services, fleets, described=frozenset(value))


def relations(settings: Settings | _Sound) -> Iterator[Problem]:
    """Every impossible relation between values."""
    if isinstance(settings, Settings):
        if settings.global_.debounce >= settings.global_.reconcile_interval:
            yield ("global", "debounce"), "must be shorter than reconcile_interval"
        settings = _Sound(
            list(enumerate(settings.shard_services)),
            list(enumerate(settings.fleets)),
            settings.sections,
            frozenset(section.key for section in settings.sections),
            settings.controllers.lock,
        )
    services = settings.services
    yield from _twice(((i, s.name) for i, s in services), lambda i: ("shard_services", i, "name"), "service")
    yield from _fleets(settings)
    for path, keys in settings.each():
        yield from _one_fleet(path, keys)
    yield from _paths(settings)
    yield from _sections(settings)
    yield from _watches(settings)


def _fleets(settings: _Sound) -> Iterator[Problem]:
    """Names and jobs that would be two things."""
    yield from _twice(((i, f.name) for i, f in settings.fleets), lambda i: ("fleets", i, "name"), "fleet")
    shared = {fleet.name: (i, fleet) for i, fleet in settings.fleets}
    jobs: dict[tuple[str, str], int] = {}
    for i, service in settings.services:
        if service.name in shared:
            number, fleet = shared[service.name]
            if service.fleet != service.name or _own_keys(service, fleet):  # else it is of that fleet
                yield ("shard_services", i, "name"), f"is the name of {show(('fleets', number))}, too"
        first = jobs.setdefault((service.fleet, service.job), i)
        if first != i and settings.services[first][1].name != service.name:
            what = "job" if service.job != service.name else "name"
            there = show(("shard_services", first))
            yield ("shard_services", i, what), f"job {service.job!r} is that of {there}, which has the same scrapers"


def _own_keys(service: ShardService, fleet: Fleet) -> bool:
    """Whether it has other keys of a fleet than this one."""
    return any(
        getattr(service, key) != getattr(fleet, key)
        for key in FleetKeys.model_fields.keys() - {"name", "placement", "guard"}
    )


def _twice(
    named: Iterable[tuple[int, str]], path: Callable[[int], KeyPath], what: str, among: str = ""
) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for i, name in named:
        if first.setdefault(name, i) != i:
            yield path(i), f"{what} {name!r} is the same as in {show(path(first[name]))}{among}"


def _one_fleet(at: KeyPath, service: FleetKeys) -> Iterator[Problem]:
    probe, consul = service.scrapers.probe, service.scrapers.consul
    if probe is not None:
        where: KeyPath = (*at, "scrapers", "probe")
        yield from _identities(service, probe.nodes, (*where, "nodes"))
        if probe.timeout > probe.interval:
            yield (*where, "timeout"), "must not be longer than interval"
    if consul is not None and consul.register_ is not None:
        where = (*at, "scrapers", "consul", "register")
        yield from _identities(service, consul.register_.nodes, (*where, "nodes"))
        if consul.register_.check.timeout > consul.register_.check.interval:
            yield (*where, "check", "timeout"), "must not be longer than interval"
    if service.audit is not None and service.audit.timeout > service.audit.interval:
        yield (*at, "audit", "timeout"), "must not be longer than interval"
    kinds = enumerate(d.kind for d in service.delivery)
    for j, kind in kinds:
        if kind == "http_sd" and [d.kind for d in service.delivery].index("http_sd") != j:
            yield (*at, "delivery", j, "http_sd"), "http_sd is there already"


def _identities(service: FleetKeys, nodes: list[Node], path: KeyPath) -> Iterator[Problem]:
    ids = ((i, service.scraper(node).id) for i, node in enumerate(nodes))
    yield from _twice(ids, lambda i: (*path, i), "the scraper's identity", f" (identity: {service.identity})")


def _paths(settings: _Sound) -> Iterator[Problem]:
    """Two services, or two deliveries of one, that give one file for some scraper: here, or on the scraper's host."""
    listed: dict[_Place, KeyPath] = {}
    anybodys: dict[_Place, KeyPath] = {}
    open_ones: dict[_Place, KeyPath] = {}
    for _, service in settings.services:
        for j, delivery in enumerate(service.delivery):
            written = _written(service, delivery)
            if written is None:
                continue
            here: KeyPath = (*settings.path(service), "delivery", j, delivery.kind, *PATH_KEYS[delivery.kind])
            first = (anybodys if written.open else open_ones).get(written.anybodys)
            first = first or next((listed[place] for place in written.listed if place in listed), None)
            if first == here:
                yield here, "writes one file for several services of the fleet: put {service} into it"
            elif first is not None:
                yield here, f"writes the same files as {show(first)}"
            anybodys.setdefault(written.anybodys, here)
            if written.open:
                open_ones.setdefault(written.anybodys, here)
            for place in written.listed:
                listed.setdefault(place, here)


_Place = tuple[str, int, str]
"""A file: host (empty: here), port, path."""


@dataclass(frozen=True, slots=True)
class _Written:
    """The files for the scrapers that are listed, and for one that every service may have. Who finds its scrapers in Consul
    may have any (``open``).
    """

    listed: frozenset[_Place]
    anybodys: _Place
    open: bool


PATH_KEYS: Mapping[str, KeyPath] = {"file": ("path",), "ssh": ("path",), "ansible": ("dest_sd_file_name",)}
_ANY = Node("any", 1)


def _written(service: ShardService, delivery: Delivery) -> _Written | None:
    """None: no files, or whose they are is somebody else's business (a playbook of one's own)."""
    place = place_of(delivery)
    if place is None and delivery.ansible is not None and delivery.ansible.playbook is None:
        # the extra variables may say another folder, for all services of the fleet: their names must differ
        name = of_service(delivery.ansible.dest_sd_file_name, service.fleet, service.name)
        return _Written(frozenset(), (f"fleet {service.fleet}", 0, f"{delivery.ansible.extra_vars_file}/{name}"), True)
    if place is None:
        return None
    listed = frozenset(place(service, node) for node in service.listed)
    is_open = service.scrapers.consul is not None or delivery.file is not None
    return _Written(listed, place(service, _ANY), is_open)


def place_of(delivery: Delivery) -> Callable[[ShardService, Node], _Place] | None:
    """The file that a delivery writes for a scraper; None: no file, or nobody tells which."""
    if (file := delivery.file) is not None:
        return lambda service, node: ("", 0, _rendered(file.path, service, node))
    if (ssh := delivery.ssh) is not None:
        return lambda service, node: (
            ssh.host.replace("{host}", node.host).lower(),
            ssh.port,
            _rendered(ssh.path, service, node),
        )
    ansible = delivery.ansible
    if ansible is None or ansible.playbook is not None or ansible.extra_vars_file is not None:
        return None
    return lambda service, node: (
        node.host.lower(),
        SSH_PORT,
        os.path.normpath(f"{ansible.dest_dir}/{of_service(ansible.dest_sd_file_name, service.fleet, service.name)}"),
    )


def _rendered(template: str, service: ShardService, node: Node) -> str:
    return os.path.normpath(render(of_fleet(template, service.fleet), service.name, service.scraper(node)))


def _sections(settings: _Sound) -> Iterator[Problem]:
    """Sections that kinds need and that are not described, or are impossible."""
    missing: set[type[Section]] = set()
    used: set[type[Section]] = set()
    for path, kind in settings.kinds():
        section = kind.needs
        if section is None:
            continue
        used.add(section)
        if section.key not in settings.described and not section.is_described_elsewhere() and section not in missing:
            missing.add(section)
            yield path, section.missing
    given = {type(section): section for section in settings.sections}
    for one in used - given.keys():
        if one.key not in settings.described:
            given[one] = one()
    for section, values in given.items():
        for inner, what in values.relations(used=section in used):
            yield (section.key, *inner), what


def _watches(settings: _Sound) -> Iterator[Problem]:
    watched = [(path, keys) for path, keys in settings.each() if keys.scrapers.consul is not None]
    for path, keys in watched[CONSUL_WATCHES_MAX:]:
        yield (
            (*path, "scrapers"),
            (f"{keys.name} is one Consul watch too many: Consul serves about {CONSUL_WATCHES_MAX} from one address"),
        )
