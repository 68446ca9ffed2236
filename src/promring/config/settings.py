"""The settings: what a valid configuration file means, as frozen pydantic models.

Owns: keys, defaults, types and the limits of each value by itself. Relations between values are in ``config.py``, as is
the way from YAML. Durations are seconds (float), paths are absolute. A key of the contract that this version does not do
yet is known here and refused by name.
"""

from __future__ import annotations

import glob
import math
import re
import string
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)
from yarl import URL

from promring.core.ring import WEIGHT_MOST
from promring.model import Scraper, join_host_port
from promring.runtime.address import parse_host_port
from promring.runtime.duration import parse_duration
from promring.runtime.http_client import TlsFiles, parse_base
from promring.runtime.redact import SecretUrl, shown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
TEMPLATE_FIELDS = {"fleet", "service", "scraper", "host", "port"}
LOCK_TTL_LEAST_S, LOCK_TTL_MOST_S = 2.0, 60.0
SERVICES_MAX, NODES_MAX, ENTRIES_MAX = 1_000, 10_000, 1_000
"""Of a configuration, of a service, and of every other list: more is a mistake, and would hold a reload up."""


class Node(NamedTuple):
    """A scraper as it is listed."""

    host: str
    port: int
    zone: str = ""
    weight: float = 1.0


def parse_node(value: object) -> Node:
    """``host:port``, or ``{address: host:port, zone: a, weight: 2}``. Raises ValueError."""
    if not isinstance(value, dict):
        return Node(*parse_host_port(value))
    if unknown := sorted(map(str, value.keys() - {"address", "zone", "weight"})):
        raise ValueError(f"unknown key {unknown[0]!r}; a scraper has address, zone, weight")
    host, port = parse_host_port(value.get("address"))
    return Node(host, port, _zone(value.get("zone", "")), parse_weight(value.get("weight", 1)))


def parse_node_text(text: str) -> Node:
    """``host:port``, or ``host:port,zone=a,weight=2``. Raises ValueError."""
    address, *more = text.split(",")
    pairs = [part.partition("=") for part in more]
    if any(name not in ("zone", "weight") or not value for name, _, value in pairs):
        raise ValueError(f"{text!r} is not host:port, or host:port,zone=a,weight=2")
    return parse_node({"address": address} | {name: value for name, _, value in pairs})


def parse_weight(value: object) -> float:
    """A number, or a text of one. Raises ValueError."""
    try:
        weight = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        weight = math.nan
    if not 0 <= weight <= WEIGHT_MOST:
        raise ValueError(f"weight: {value!r} is not a number from 0 to {WEIGHT_MOST:g}")
    return weight


def _zone(value: object) -> str:
    if not isinstance(value, str) or len(value) > 128:
        raise ValueError(f"zone: {str(value)[:40]!r} is not a short text")
    return value


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("must be longer than 0s")
    return value


def _lock_ttl(value: float) -> float:
    if not LOCK_TTL_LEAST_S <= value <= LOCK_TTL_MOST_S:
        raise ValueError(f"must be from {LOCK_TTL_LEAST_S:g}s to {LOCK_TTL_MOST_S:g}s")
    return value


def _absolute(path: object, info: ValidationInfo) -> Path:
    if not isinstance(path, str | Path) or not str(path):
        raise ValueError("is not a path")
    return Path(_base(info), path)


def _base(info: ValidationInfo) -> Path:
    """The folder that relative paths start from: that of the configuration file, as with Prometheus."""
    base: Path = (info.context or {}).get("base", Path())
    return base


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"{text!r} must match {NAME.pattern}")
    return text


def _http_url(text: object) -> SecretUrl:
    try:
        url = URL(text if isinstance(text, str) else "")
        port = url.explicit_port
    except ValueError:
        url, port = URL(), None
    if url.scheme not in ("http", "https") or not url.host or port == 0:
        raise ValueError(f"{shown(text)!r} is not an http:// or https:// URL")
    if url.user or url.password:
        raise ValueError("put credentials in a file (bearer_token_file, headers_file), not in the URL")
    return SecretUrl(str(text))


def _base_address(text: str) -> str:
    parse_base(text)
    return text


def _refuse(_: object) -> None:
    raise ValueError("not built yet in this version of promring")


def _only(*built: object) -> BeforeValidator:
    """Accept just the values that this version does."""

    def check(value: object) -> object:
        if value not in built:
            raise ValueError(f"{value!r} is not built yet in this version of promring (it does {built[0]!r})")
        return value

    return BeforeValidator(check)


Duration = Annotated[float, BeforeValidator(parse_duration)]
Interval = Annotated[float, BeforeValidator(parse_duration), AfterValidator(_positive)]
AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
Name = Annotated[str, AfterValidator(_name)]
HttpUrl = Annotated[SecretUrl, PlainValidator(_http_url)]
ListedNode = Annotated[Node, PlainValidator(parse_node)]
LabelName = Annotated[str, Field(min_length=1, max_length=512)]
"""Prometheus 3 takes any UTF-8 name."""
NotBuilt = Annotated[None, BeforeValidator(_refuse)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class OneKind(Model):
    """A mapping with exactly one key, which chooses the kind."""

    @model_validator(mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        kinds = ", ".join(cls.model_fields)
        if not isinstance(value, dict):
            raise ValueError(f"must be a mapping with one of: {kinds}")
        if len(value) != 1:
            raise ValueError(f"must have exactly one of: {kinds}; it has {', '.join(map(str, value)) or 'none'}")
        return {kind: {} if settings is None else settings for kind, settings in value.items()}

    @property
    def kind(self) -> str:
        return next(iter(self.model_fields_set))

    @property
    def chosen(self) -> Any:
        """The settings of the kind."""
        return getattr(self, self.kind)


class Tls(Model):
    ca_file: AbsolutePath | None = None
    cert_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False

    def files(self) -> TlsFiles:
        return TlsFiles(self.ca_file, self.cert_file, self.key_file, self.server_name, self.insecure_skip_verify)


class Global(Model):
    reconcile_interval: Interval = 60.0
    debounce: Duration = 0.2


class Consul(Model):
    address: Annotated[str, AfterValidator(_base_address)] | None = None
    token_file: AbsolutePath | None = None
    username: str | None = None
    password_file: AbsolutePath | None = None
    tls: Tls | None = None
    datacenter: str | None = None


class ConsulLock(Model):
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")] = "promring/leader"
    check_ttl: Annotated[Interval, AfterValidator(_lock_ttl)] = 5.0


class Lock(OneKind):
    consul: ConsulLock | None = None


class Controllers(Model):
    lock: Lock | None = None


class RegisterCheck(Model):
    path: Annotated[str, Field(pattern=r"^/[^\s]*$")] = "/-/ready"
    interval: Interval = 5.0
    timeout: Interval = 2.0


class Register(Model):
    nodes: Annotated[list[ListedNode], Field(min_length=1, max_length=NODES_MAX)]
    check: RegisterCheck = RegisterCheck()


class ConsulScrapers(Model):
    service: Name
    warning: Literal["alive", "dead"] = "alive"
    register_: Annotated[Register | None, Field(alias="register")] = None


class ProbeScrapers(Model):
    nodes: Annotated[list[ListedNode], Field(min_length=1, max_length=NODES_MAX)]
    path: Annotated[str, Field(pattern=r"^/[^\s]*$")] = "/-/ready"
    interval: Interval = 2.0
    timeout: Interval = 1.0
    healthy_after: Annotated[int, Field(ge=1, le=100)] = 2
    unhealthy_after: Annotated[int, Field(ge=1, le=100)] = 2


class Scrapers(OneKind):
    consul: ConsulScrapers | None = None
    probe: ProbeScrapers | None = None
    dns: NotBuilt = None
    file: NotBuilt = None


def _sd_file(pattern: str, info: ValidationInfo) -> str:
    if not pattern.lower().endswith((".json", ".yml", ".yaml")):
        raise ValueError(f"{pattern!r} must end in .json, .yml or .yaml")
    return str(Path(glob.escape(str(_base(info))), pattern))


class FileTargets(Model):
    files: Annotated[list[Annotated[str, AfterValidator(_sd_file)]], Field(min_length=1, max_length=ENTRIES_MAX)]
    refresh_interval: Interval = 300.0
    trusted: bool = True


class HttpTargets(Model):
    url: HttpUrl
    refresh_interval: Interval = 60.0
    timeout: Interval | None = None
    headers_file: AbsolutePath | None = None
    bearer_token_file: AbsolutePath | None = None
    tls: Tls | None = None
    trusted: bool = True

    @property
    def timeout_s(self) -> float:
        return self.timeout or min(self.refresh_interval, 30.0)


def _callable(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        raise ValueError(f"{text!r} is not module:function")
    return text


class PythonTargets(Model):
    callable: Annotated[str, AfterValidator(_callable)]
    interval: Interval = 60.0
    timeout: Interval | None = None
    trusted: bool = True

    @property
    def timeout_s(self) -> float:
        return self.timeout or min(self.interval, 10.0)


class Targets(OneKind):
    file: FileTargets | None = None
    http: HttpTargets | None = None
    python: PythonTargets | None = None
    consul: NotBuilt = None
    dns: NotBuilt = None
    prometheus: NotBuilt = None


class FleetPlacement(Model):
    virtual_nodes: Annotated[int, Field(ge=1, le=65536)] = 512
    load_factor: Annotated[float, Field(ge=1.0, le=1000.0, allow_inf_nan=False)] | None = 1.10
    loads: Annotated[Literal["count"], _only("count")] = "count"
    capacity: Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)] | None = None


class Placement(FleetPlacement):
    replication_factor: Annotated[int, Field(ge=1, le=100)] = 1
    hash_labels: Annotated[list[LabelName], Field(min_length=1, max_length=ENTRIES_MAX)] | None = None


class Zones(Model):
    label: LabelName


def _template(text: str, info: ValidationInfo) -> str:
    try:
        parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ValueError(f"{text!r}: only plain {{name}} fields")
    if not text.endswith((".json", ".yml", ".yaml")):
        raise ValueError(f"{text!r} must end in .json, .yml or .yaml, or Prometheus does not read it")
    fields = {str(name) for _, name, _, _ in parts}
    if fields - TEMPLATE_FIELDS:
        raise ValueError(f"{text!r}: unknown {sorted(fields - TEMPLATE_FIELDS)}, there is {sorted(TEMPLATE_FIELDS)}")
    if "scraper" not in fields and not {"host", "port"} <= fields:
        raise ValueError(f"{text!r} must contain {{scraper}}, or {{host}} and {{port}}: each scraper has its own file")
    if "{" in text.partition("/")[0] and not text.startswith("/"):
        raise ValueError(f"{text!r}: the first folder must be fixed")
    return str(Path(str(_base(info)).replace("{", "{{").replace("}", "}}"), text))


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


class Audit(Model):
    interval: Interval = 30.0
    second_opinion: bool = True
    timeout: Interval = 5.0


class FileDelivery(Model):
    path: Annotated[str, AfterValidator(_template)]


class HttpSdDelivery(Model):
    pass


JUMP = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(:([0-9]{1,5}))?")


def _jump(text: str) -> str:
    match = JUMP.fullmatch(text)
    if match is None or not 0 < int(match[4] or 22) < 65536:
        raise ValueError(f"{text!r} must be [user@]host[:port]")
    return text


def _host_template(text: str) -> str:
    if text.replace("{host}", "h", 1) != text and HOST.fullmatch(text.replace("{host}", "h")):
        return text
    raise ValueError(f"{text!r} must contain {{host}} and be a host name with it")


def _remote_path(text: str) -> str:
    try:
        parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ValueError(f"{text!r}: only plain {{name}} fields")
    fields = {str(name) for _, name, _, _ in parts}
    if fields - TEMPLATE_FIELDS:
        raise ValueError(f"{text!r}: unknown {sorted(fields - TEMPLATE_FIELDS)}, there is {sorted(TEMPLATE_FIELDS)}")
    if not text.startswith("/") or not text.endswith((".json", ".yml", ".yaml")) or "\0" in text or "\n" in text:
        raise ValueError(f"{text!r} must be an absolute path that ends in .json, .yml or .yaml")
    return text


def _jumps(value: object) -> object:
    """A list, or hops with commas between, as ssh's ``-J`` has them."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class SshDelivery(Model):
    host: Annotated[str, AfterValidator(_host_template)] = "{host}"
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]
    path: Annotated[str, AfterValidator(_remote_path)]
    identity_file: AbsolutePath
    known_hosts: AbsolutePath
    certificate_file: AbsolutePath | None = None
    proxy_jump: Annotated[list[Annotated[str, AfterValidator(_jump)]], BeforeValidator(_jumps), Field(max_length=8)] = []
    timeout: Interval = 5.0


SD_FILE_NAME = r"^([A-Za-z0-9]|\{fleet\}|\{service\})([A-Za-z0-9._-]|\{fleet\}|\{service\})*\.(json|yml|yaml)$"


class AnsibleDelivery(Model):
    playbook: AbsolutePath | None = None
    dest_sd_file_name: Annotated[str, Field(pattern=SD_FILE_NAME)] = "file_sd_by_promring.json"
    dest_dir: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]*$")] = "/opt/app/prometheus/sd"
    service_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    reload: bool = False
    user: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")] | None = None
    identity_file: AbsolutePath | None = None
    extra_vars_file: AbsolutePath | None = None
    vault_password_file: AbsolutePath | None = None
    timeout: Interval = 10.0


class Delivery(OneKind):
    http_sd: HttpSdDelivery | None = None
    file: FileDelivery | None = None
    ssh: SshDelivery | None = None
    ansible: AnsibleDelivery | None = None


class WaitFor(Model):
    """At a cold start: for so many scrapers, so long at most."""

    scrapers: Annotated[int, Field(ge=1, le=NODES_MAX)]
    at_most: Duration = 60.0


class FleetKeys(Model):
    """The keys of a fleet: of ``fleets``, or of a service that has a fleet of its own."""

    name: Name
    scrapers: Scrapers
    identity: Literal["host_port", "host"] = "host_port"
    wait_for: WaitFor | None = None
    join_delay: Duration = 5.0
    leave_delay: Duration = 0.0
    zones: Zones | None = None
    placement: FleetPlacement = FleetPlacement()
    handover: Handover = Handover()
    guard: FleetGuard = FleetGuard()
    delivery: Annotated[list[Delivery], Field(min_length=1, max_length=ENTRIES_MAX)]
    audit: Audit | None = Audit()

    @property
    def zone_label(self) -> str | None:
        """The label of targets, and the metadata of scrapers in Consul, that name a zone."""
        return self.zones.label if self.zones else None

    @property
    def listed(self) -> list[Node]:
        """The scrapers that the configuration names."""
        chosen = self.scrapers.chosen
        if isinstance(chosen, ProbeScrapers):
            return chosen.nodes
        return chosen.register_.nodes if chosen.register_ else []

    def scraper(self, node: Node | tuple[str, int]) -> Scraper:
        """The scraper at ``node``, with its identity."""
        host, port, zone, weight = Node(*node)
        return Scraper(join_host_port(host, port) if self.identity == "host_port" else host, host, port, zone, weight)

    def joining(self, text: str) -> Scraper:
        """A scraper that somebody names: as it is listed, where it is. Raises ValueError."""
        node = parse_node_text(text)
        return self.scraper(next((n for n in self.listed if "," not in text and n[:2] == node[:2]), node))


class Fleet(FleetKeys):
    """Scrapers that share the work of the services that name it."""

    description: str = ""


_FLEET = "\0fleet"


class ShardService(FleetKeys):
    """A pool of targets. One that names a ``fleet`` has the keys of that; else it has a fleet of its own, with its name."""

    fleet: Name
    job: Annotated[str, Field(min_length=1)]
    """Its ``job_name`` in the scrapers' configuration."""
    description: str = ""
    targets: Annotated[list[Targets], Field(min_length=1, max_length=ENTRIES_MAX)]
    label_names: Literal["utf8", "legacy"] = "utf8"
    placement: Placement = Placement()
    guard: Guard = Guard()

    @model_validator(mode="wrap")
    @classmethod
    def _with_fleet(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict):
            return handler(value)
        name, named, fleet = value.get("name"), value.get("fleet"), value.get(_FLEET)
        if not isinstance(fleet, Fleet):
            if named is not None:
                raise ValueError(f"there is no fleet {str(named)[:80]!r}")
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
    for key in sorted(FleetKeys.model_fields.keys() - {"name", "placement", "guard"}):
        if key in service:
            raise ValueError(f"{key} is said by its fleet {fleet.name!r}, not here")
    for key in ("placement", "guard"):
        own, shared = service.get(key), type(getattr(fleet, key)).model_fields
        both = sorted(str(one) for one in own if one in shared) if isinstance(own, dict) else []
        if both:
            raise ValueError(f"{key}.{both[0]} is said by its fleet {fleet.name!r}, not here")


class FleetOfServices(NamedTuple):
    """A fleet, its own or a service's, and the services that it works for."""

    name: str
    keys: FleetKeys
    services: list[ShardService]


class Settings(Model):
    """A whole valid configuration."""

    global_: Annotated[Global, Field(alias="global")] = Global()
    consul: Consul | None = None
    controllers: Controllers = Controllers()
    fleets: Annotated[list[Fleet], Field(max_length=SERVICES_MAX)] = []
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
    def every_fleet(self) -> list[FleetOfServices]:
        """In the order of the configuration, those of ``fleets`` first; without those that no service names."""
        found = {fleet.name: FleetOfServices(fleet.name, fleet, []) for fleet in self.fleets}
        for service in self.shard_services:
            found.setdefault(service.fleet, FleetOfServices(service.fleet, service, [])).services.append(service)
        return [fleet for fleet in found.values() if fleet.services]
