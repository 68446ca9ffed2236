"""The whole configuration as frozen pydantic models: what a valid file means.

Owns the keys of fleets and shard services, with their defaults and limits. The keys of a kind are in that kind's own file,
single values in ``values``. Relations between values are in ``relations``, the way from YAML is in ``load``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from promring.audit.settings import AuditKeys
from promring.config.kinds import Sections
from promring.config.node import Node, parse_node_text
from promring.config.scraper_api import PLAIN, ScraperApi
from promring.config.values import (
    ENTRIES_MAX,
    NODES_MAX,
    SERVICES_MAX,
    Duration,
    Interval,
    LabelName,
    Model,
    Name,
)
from promring.consul.access import ConsulSection
from promring.delivery import Names
from promring.delivery.kinds import AnyDelivery
from promring.discovery.engine_section import EngineSection
from promring.discovery.kinds import EveryTargets
from promring.election.kinds import AnyLock
from promring.etcd.access import EtcdSection
from promring.kubernetes.access import KubernetesSection
from promring.loads.kinds import COUNT, AnyLoads
from promring.membership.kinds import Scrapers
from promring.model import Scraper, join_host_port

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
TEMPLATE_FIELDS = {"fleet", "service", "scraper", "host", "port"}


def _refuse(_: object) -> None:
    raise ValueError("not built yet in this version of promring")


NotBuilt = Annotated[None, BeforeValidator(_refuse)]


class Global(Model):
    reconcile_interval: Interval = 60.0
    debounce: Duration = 0.2


class Controllers(Model):
    lock: AnyLock | None = None


class FleetPlacement(Model):
    virtual_nodes: Annotated[int, Field(ge=1, le=65536)] = 512
    load_factor: Annotated[float, Field(ge=1.0, le=1000.0, allow_inf_nan=False)] | None = 1.10
    loads: AnyLoads = COUNT
    capacity: Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)] | None = None


class Placement(FleetPlacement):
    replication_factor: Annotated[int, Field(ge=1, le=100)] = 1
    hash_labels: Annotated[list[LabelName], Field(min_length=1, max_length=ENTRIES_MAX)] | None = None


class Zones(Model):
    label: LabelName


class Handover(Model):
    overlap: Duration = 30.0
    confirm: bool = True


class FleetGuard(Model):
    panic_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    panic_hold: Duration = 60.0


class Guard(FleetGuard):
    shrink_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    shrink_hold: Duration = 300.0
    empty_hold: Duration = 3600.0
    growth_threshold: Annotated[float, Field(gt=1, le=1e9, allow_inf_nan=False)] | None = 10.0
    confirmations: Annotated[int, Field(ge=1, le=1000)] = 3


class WaitFor(Model):
    """At a cold start: for so many scrapers, so long at most."""

    scrapers: Annotated[int, Field(ge=1, le=NODES_MAX)]
    at_most: Duration = 60.0


class FleetKeys(Model):
    """The keys of a fleet: of ``fleets``, or of a service that has a fleet of its own."""

    name: Name
    scrapers: Scrapers
    scraper_api: ScraperApi = PLAIN
    identity: Literal["host_port", "host"] = "host_port"
    wait_for: WaitFor | None = None
    join_delay: Duration = 5.0
    leave_delay: Duration = 0.0
    zones: Zones | None = None
    placement: FleetPlacement = FleetPlacement()
    handover: Handover = Handover()
    guard: FleetGuard = FleetGuard()
    delivery: Annotated[list[AnyDelivery], Field(min_length=1, max_length=ENTRIES_MAX)]
    audit: AuditKeys | None = AuditKeys()

    @property
    def zone_label(self) -> str | None:
        """The label of targets, and the metadata of scrapers in Consul, that name a zone."""
        return self.zones.label if self.zones else None

    @property
    def listed(self) -> Sequence[Node]:
        """The scrapers that the configuration names."""
        return self.scrapers.listed

    def scraper(self, node: Node | tuple[str, int]) -> Scraper:
        """The scraper at ``node``, with its identity."""
        host, port, zone, weight = Node(*node)
        return Scraper(join_host_port(host, port) if self.identity == "host_port" else host, host, port, zone, weight)

    def id_of(self, scraper: Scraper) -> str:
        """The identity of one that is known already, perhaps by another. A name that is no address stays."""
        if not self.scrapers.names_scrapers:
            return self.scraper((scraper.host, scraper.port)).id
        name = scraper.id.removesuffix(f":{scraper.port}")
        return name if self.identity == "host" else f"{name}:{scraper.port}"

    def joining(self, text: str) -> Scraper:
        """A scraper that somebody names: as it is listed, where it is. Raises ValueError."""
        node = parse_node_text(text)
        return self.scraper(next((n for n in self.listed if "," not in text and n[:2] == node[:2]), node))


class Fleet(FleetKeys):
    """Scrapers that share the work of the services that name it."""

    description: str = ""


_FLEET = "\0fleet"
NO_FLEET = "no_fleet"
"""The type of the error of a service whose fleet is not there, or is not valid."""


class ShardService(FleetKeys):
    """A pool of targets. One that names a ``fleet`` has the keys of that; else it has a fleet of its own, with its name."""

    fleet: Name
    job: Annotated[str, Field(min_length=1)]
    """Its ``job_name`` in the scrapers' configuration."""
    description: str = ""
    targets: EveryTargets
    label_names: Literal["utf8", "legacy"] = "utf8"
    placement: Placement = Placement()
    guard: Guard = Guard()

    @property
    def names(self) -> Names:
        return Names(self.fleet, self.name)

    @model_validator(mode="wrap")
    @classmethod
    def _with_fleet(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict):
            return handler(value)
        name, named, fleet = value.get("name"), value.get("fleet"), value.get(_FLEET)
        if not isinstance(fleet, Fleet):
            if named is not None and not isinstance(named, str):  # its name is a text, however alike they look
                quotes = "" if isinstance(named, list | dict) else "; in quotes where YAML reads something else"
                raise PydanticCustomError(NO_FLEET, "must be a text{quotes}", {"quotes": quotes})
            if named is not None:
                raise PydanticCustomError(NO_FLEET, "there is no fleet {name}", {"name": repr(named[:80])})
            return handler({"job": name, **value, "fleet": name})
        given = {"job": name, **{key: one for key, one in value.items() if key != _FLEET}}
        _check_said_once(value, fleet)
        own = handler({**given, "scrapers": fleet.scrapers, "delivery": fleet.delivery})
        shared = {key: getattr(fleet, key) for key in FleetKeys.model_fields.keys() - {"name"}}
        for key in ("placement", "guard"):
            known = shared[key]
            shared[key] = getattr(own, key).model_copy(update={one: getattr(known, one) for one in type(known).model_fields})
        return own.model_copy(update=shared)


def _check_said_once(service: dict[str, Any], fleet: Fleet) -> None:
    """Raises ValueError for a key of a fleet in a service that has one."""
    for key in sorted(FLEET_ONLY):
        if key in service:
            raise ValueError(f"{key} is said by its fleet {fleet.name!r}, not here")
    for key in ("placement", "guard"):
        own, shared = service.get(key), type(getattr(fleet, key)).model_fields
        both = sorted(str(one) for one in own if one in shared) if isinstance(own, dict) else []
        if both:
            raise ValueError(f"{key}.{both[0]} is said by its fleet {fleet.name!r}, not here")


FLEET_ONLY = FleetKeys.model_fields.keys() - {"name", "placement", "guard"}
"""Keys that a fleet says for all of its services."""


class FleetOfServices(NamedTuple):
    """A fleet, its own or a service's, and the services that it works for."""

    name: str
    keys: FleetKeys
    services: list[ShardService]


class Settings(Model):
    """A whole valid configuration."""

    global_: Annotated[Global, Field(alias="global")] = Global()
    consul: ConsulSection | None = None
    etcd: EtcdSection | None = None
    kubernetes: KubernetesSection | None = None
    engine: EngineSection | None = None
    controllers: Controllers = Controllers()
    fleets: Annotated[list[Fleet], Field(max_length=SERVICES_MAX, default_factory=list)]
    shard_services: Annotated[list[ShardService], Field(min_length=1, max_length=SERVICES_MAX)]

    @field_validator("shard_services", mode="before")
    @classmethod
    def _in_fleets(cls, value: Any, info: ValidationInfo) -> Any:
        """Give each service the fleet that it names."""
        if not isinstance(value, list) or "fleets" not in info.data:
            return value
        fleets = {fleet.name: fleet for fleet in info.data["fleets"]}
        return [
            {**one, _FLEET: fleets[one["fleet"]]}
            if isinstance(one, dict) and isinstance(one.get("fleet"), str) and one["fleet"] in fleets
            else one
            for one in value
        ]

    @property
    def sections(self) -> Sections:
        """What kinds share."""
        return Sections([self.consul, self.etcd, self.kubernetes, self.engine])

    def keys_at(self, service: int) -> tuple[str, int]:
        """Where the keys of the fleet of the service with this number stand: in ``fleets``, or at the service itself."""
        name = self.shard_services[service].fleet
        number = next((i for i, fleet in enumerate(self.fleets) if fleet.name == name), None)
        return ("shard_services", service) if number is None else ("fleets", number)

    @property
    def every_fleet(self) -> list[FleetOfServices]:
        """In the order of the configuration, those of ``fleets`` first; without those that no service names."""
        found = {fleet.name: FleetOfServices(fleet.name, fleet, []) for fleet in self.fleets}
        for service in self.shard_services:
            found.setdefault(service.fleet, FleetOfServices(service.fleet, service, [])).services.append(service)
        return [fleet for fleet in found.values() if fleet.services]
