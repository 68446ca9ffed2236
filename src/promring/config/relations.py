"""Relations between the values of a configuration: what is impossible although each value is good by itself.

Refused here: a service named twice, two scrapers with one identity, two deliveries that write one file, here or on a
scraper's host, a check's time-out longer than its interval, a kind whose section is not described. What is impossible within
a kind, the kind says itself; here it is said where it stands.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from promring.config.document import KeyPath, show
from promring.config.kinds import Kind, Problem, Section, Sections
from promring.config.node import Node
from promring.config.settings import FLEET_ONLY, Fleet, FleetKeys, Settings, ShardService
from promring.config.values import SERVICES_MAX
from promring.delivery import Place
from promring.delivery.settings import DeliverySettings
from promring.election import LockSettings

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
            yield (*path, "scrapers", keys.scrapers.kind), keys.scrapers
            yield (*path, "placement", "loads", keys.placement.loads.kind), keys.placement.loads
            for j, delivery in enumerate(keys.delivery):
                yield (*path, "delivery", j, delivery.kind), delivery
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
    yield from _own_slices(settings)
    yield from _kinds(settings)
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
    return any(getattr(service, key) != getattr(fleet, key) for key in FLEET_ONLY)


def _twice(
    named: Iterable[tuple[int, str]], path: Callable[[int], KeyPath], what: str, among: str = ""
) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for i, name in named:
        if first.setdefault(name, i) != i:
            yield path(i), f"{what} {name!r} is the same as in {show(path(first[name]))}{among}"


def _one_fleet(at: KeyPath, service: FleetKeys) -> Iterator[Problem]:
    yield from _identities(service, (*at, "scrapers", service.scrapers.kind, *service.scrapers.listed_at))
    yield from (((*at, *path), what) for path, what in service.scrapers.unable(service.scraper_api))
    if service.audit is not None and service.audit.timeout > service.audit.interval:
        yield (*at, "audit", "timeout"), "must not be longer than interval"
    pulled = [j for j, delivery in enumerate(service.delivery) if delivery.pulled]
    for j in pulled[1:]:
        kind = service.delivery[j].kind
        yield (*at, "delivery", j, kind), f"{service.delivery[pulled[0]].kind} is there already"


def _identities(service: FleetKeys, path: KeyPath) -> Iterator[Problem]:
    ids = ((i, service.scraper(node).id) for i, node in enumerate(service.listed))
    yield from _twice(ids, lambda i: (*path, i), "the scraper's identity", f" (identity: {service.identity})")


def _paths(settings: _Sound) -> Iterator[Problem]:
    """Two services, or two deliveries of one, that give one file for some scraper: here, or on the scraper's host."""
    listed: dict[Place, KeyPath] = {}
    anybodys: dict[Place, KeyPath] = {}
    open_ones: dict[Place, KeyPath] = {}
    for _, service in settings.services:
        for j, delivery in enumerate(service.delivery):
            written = _written(service, delivery)
            if written is None:
                continue
            here: KeyPath = (*settings.path(service), "delivery", j, delivery.kind, *delivery.path_at)
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


def _own_slices(settings: _Sound) -> Iterator[Problem]:
    """Sources that read what promring writes: a target that its source lets go would stay for ever."""
    written: dict[str, KeyPath] = {}
    for _, service in settings.services:
        scrapers = [service.scraper(node) for node in (*service.listed, Node("any", 1))]
        for j, delivery in enumerate(service.delivery):
            here = (*settings.path(service), "delivery", j, delivery.kind, *delivery.path_at)
            places = (delivery.place(service.names, scraper) for scraper in scrapers)
            written |= {place.path: here for place in places if place is not None and not place.host}
    for i, service in settings.services:
        for j, targets in enumerate(service.targets):
            for path, writer in written.items():
                if (at := targets.reads(path)) is not None:
                    what = f"would read the slices that {show(writer)} writes ({path}): put them in another folder"
                    yield ("shard_services", i, "targets", j, targets.kind, *at), what
                    break


@dataclass(frozen=True, slots=True)
class _Written:
    """The files for the scrapers that are listed, and for one that every service may have; ``open``: others than the listed
    ones may have some.
    """

    listed: frozenset[Place]
    anybodys: Place
    open: bool


def _written(service: ShardService, delivery: DeliverySettings) -> _Written | None:
    """None: no files, or whose they are is somebody else's business (a playbook of one's own)."""
    anybody = service.scraper(Node("any", 1))
    claim = delivery.claim(service.names, anybody)
    if claim is None:
        return None
    places = (delivery.place(service.names, service.scraper(node)) for node in service.listed)
    untold = delivery.place(service.names, anybody) is None
    is_open = untold or delivery.local or not service.scrapers.lists_all
    return _Written(frozenset(place for place in places if place is not None), claim, is_open)


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
        if one.key not in settings.described and one.is_described_elsewhere():
            given[one] = one()
    for section, values in given.items():
        for inner, what in values.relations(used=section in used):
            yield (section.key, *inner), what


def _watches(settings: _Sound) -> Iterator[Problem]:
    seen: Counter[str] = Counter()
    for path, keys in settings.each():
        scrapers, most = keys.scrapers, keys.scrapers.watches_max
        seen[scrapers.kind] += 1
        if most is not None and seen[scrapers.kind] > most:
            what = f"{keys.name} is one watch too many: there may be {most} fleets with scrapers from {scrapers.kind}"
            yield (*path, "scrapers"), what


def _kinds(settings: _Sound) -> Iterator[Problem]:
    """What each kind says of itself."""
    for path, kind in settings.kinds():
        for inner, what in kind.relations():
            yield (*path, *inner), what
