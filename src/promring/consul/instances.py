"""The instances of a service as Consul shows them, and what that says about the scraper behind each.

Promises: whatever Go leaves out of its JSON has a default; an instance that makes no sense is left out and named, the others
go on. Who is alive is decided here from every status, because a critical check may mean maintenance, which is a drain.

| Consul says | the scraper is |
|---|---|
| a check of the instance is critical | dead |
| maintenance of the instance | drained, if its own checks do not say that it is dead |
| maintenance of a node | drained, all on that node |
| a check of a node is critical | dead, all on that node |
| a warning | alive, unless ``scrapers.consul.warning: dead`` |

What is said of the node of an agent that stands beside promring says nothing about a scraper: that is the agent through
which promring registered it, or the one that promring asks. When that agent is dead its checks say nothing, too, and the
scraper is to be asked directly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from promring.runtime.address import PORT_MAX, canonical_host

MARK = {"registered_by": "promring"}
WEIGHT = "promring_weight"
"""Metadata of a scraper."""
SERF = "serfHealth"
NODE_MAINTENANCE = "_node_maintenance"
SERVICE_MAINTENANCE = "_service_maintenance:"
MADE_BY_AGENTS = ("http", "tcp", "udp", "grpc", "h2ping")
"""Types of checks that an agent of Consul makes by asking the instance."""
INSTANCES_MAX = 20_000
OBJECTS_MAX = 1_000_000
READ_RULES = 'the token must have service "{service}" read, and node_prefix "" read'
FILTERED = "Consul leaves instances of {service} out of its answer: " + READ_RULES
_SPACE = re.compile(r"[ \t\r\n]*")


class Node(msgspec.Struct, frozen=True, rename="pascal"):
    node: str = ""
    address: str = ""
    meta: dict[str, str] | None = None
    datacenter: str = ""


class Weights(msgspec.Struct, frozen=True, rename="pascal"):
    """Of an instance, beside the others of its service: while it passes, and while it warns."""

    passing: int = 1
    warning: int = 1


class Service(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="ID", default="")
    service: str = msgspec.field(name="Service", default="")
    address: str = msgspec.field(name="Address", default="")
    port: int = msgspec.field(name="Port", default=0)
    meta: dict[str, str] | None = msgspec.field(name="Meta", default=None)
    weights: Weights | None = msgspec.field(name="Weights", default=None)
    kind: str = msgspec.field(name="Kind", default="")
    """Empty: a service; else a proxy or gateway of Consul's service mesh."""


class Check(msgspec.Struct, frozen=True):
    """``service_id``: empty for a check of the node. ``type`` and ``output`` as Consul says them, whatever that is."""

    id: str = msgspec.field(name="CheckID", default="")
    status: str = msgspec.field(name="Status", default="")
    service_id: str = msgspec.field(name="ServiceID", default="")
    type: Any = msgspec.field(name="Type", default="")
    output: Any = msgspec.field(name="Output", default="")

    @property
    def has_not_run(self) -> bool:
        """Whether its agent shall ask the instance and has not done so: that is critical, and says nothing, since it was
        registered or the agent was started.
        """
        return self.status == "critical" and self.type in MADE_BY_AGENTS and not self.output


class Condition(NamedTuple):
    """``alive`` None: Consul does not know, ask it. ``why``: in words, when it is not just passing."""

    alive: bool | None
    drained: bool = False
    warning: bool = False
    why: str = ""


class HealthEntry(msgspec.Struct, frozen=True, rename="pascal"):
    """One instance of a service with its node, of what ``/v1/health/service`` gives."""

    node: Node
    service: Service
    checks: list[Check] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether promring registered it."""
        return (self.service.meta or {}).items() >= MARK.items()

    @property
    def node_is_dead(self) -> bool:
        """The agent that checks the instance is gone, so nobody checks it any more."""
        return any(check.id == SERF and check.status == "critical" for check in self.checks or ())

    @property
    def host(self) -> str:
        """The instance's address; the node's where the instance has none. As it was registered."""
        return self.service.address or self.node.address

    def place(self) -> tuple[str, int]:
        """Host and port in their one spelling. Raises ValueError, which says why these are none of a scraper."""
        if self.service.kind:
            raise ValueError(f"it is a {self.service.kind} of the service mesh, not a scraper")
        if not self.host:
            raise ValueError("it has no address")
        if not 0 < self.service.port <= PORT_MAX:
            raise ValueError("it has no port" if not self.service.port else f"port {self.service.port} is none")
        return canonical_host(self.host), self.service.port

    @property
    def metadata(self) -> dict[str, str]:
        """The node's, and over it the instance's."""
        return {**(self.node.meta or {}), **(self.service.meta or {})}

    def weight(self, condition: Condition) -> int | None:
        """Consul's own weight of the instance, as it is now; None: it says none that goes before promring's."""
        if self.service.weights is None or WEIGHT in self.metadata:
            return None
        return max(0, self.service.weights.warning if condition.warning else self.service.weights.passing)

    def condition(self, *, own_node: str = "", warning_is_dead: bool = False) -> Condition:
        """What Consul says of the scraper. ``own_node``: of the agent that was asked; empty: not known."""
        checks = self.checks or []
        of_node = [c for c in checks if not c.service_id]
        own = [c for c in checks if c.service_id and not c.id.startswith(SERVICE_MAINTENANCE)]
        maintained = any(c.id.startswith(SERVICE_MAINTENANCE) and c.status != "passing" for c in checks)
        troubled = [c for c in of_node if c.status not in ("passing", "warning")]
        if self.is_ours or (own_node and self.node.node == own_node):
            if self.node_is_dead or (troubled and not own):
                return Condition(None, maintained, why=f"asked directly: {troubled[0].id} of node {self.node.node}")
        else:
            maintained |= any(c.id == NODE_MAINTENANCE for c in troubled)
            own += [c for c in of_node if c.id != NODE_MAINTENANCE]
        warned = any(c.status == "warning" for c in own)
        fine = ("passing",) if warning_is_dead else ("passing", "warning")
        for check in sorted((c for c in own if c.status not in fine), key=lambda c: c.has_not_run):
            if check.has_not_run:
                return Condition(None, maintained, warned, f"asked directly: Consul has not run {check.id} yet")
            return Condition(False, maintained, warned, f"{check.status} in Consul: {check.id}")
        why = "in maintenance in Consul" if maintained else "warning in Consul" if warned else ""
        return Condition(True, maintained, warned, why)


@dataclass(frozen=True, slots=True)
class Instances:
    """An answer about a service. ``broken``: instances that cannot be understood, and why; ``filtered``: the token may not
    see some, None when this Consul (before 1.11) does not say; ``index``: to wait for the next answer with.
    """

    entries: list[HealthEntry]
    broken: Mapping[str, str]
    filtered: bool | None
    index: int


def decode_instances(body: bytes) -> tuple[list[HealthEntry], dict[str, str]]:
    """Those that can be understood, and why not the others, by their ids. Raises ValueError when nothing can be."""
    if body.count(b"{") > OBJECTS_MAX:
        raise ValueError(f"more than {OBJECTS_MAX} objects")
    try:
        entries = msgspec.json.decode(body, type=list[HealthEntry] | None) or []
        broken: dict[str, str] = {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        entries, broken = _one_by_one(body)
    if len(entries) + len(broken) > INSTANCES_MAX:
        raise ValueError(f"more than {INSTANCES_MAX} instances")
    return entries, broken


def _one_by_one(body: bytes) -> tuple[list[HealthEntry], dict[str, str]]:
    """As ``decode_instances``, when one of them, or the whole, is not as it should be. Slow, and bounded in memory."""
    entries: list[HealthEntry] = []
    broken: dict[str, str] = {}
    why = ""
    for number, one in enumerate(_elements(body)):
        if number >= INSTANCES_MAX:
            raise ValueError(f"more than {INSTANCES_MAX} instances")
        try:
            entries.append(msgspec.convert(one, HealthEntry))
        except (msgspec.ValidationError, RecursionError) as error:
            why = str(error)
            broken[_id_of(one) or f"number {number}"] = f"malformed: {why}"
    if broken and not entries:
        raise ValueError(why)
    return entries, broken


def _elements(body: bytes) -> Iterator[Any]:
    """Of a JSON array, one at a time. Raises ValueError."""
    decoder, text = json.JSONDecoder(), body.decode()
    at = _SPACE.match(text, 0).end()  # type: ignore[union-attr]  # it matches nothing, too
    if text[at : at + 1] != "[":
        raise ValueError("it is no list")
    following = "["
    while following != "]":
        at = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]
        if following == "[" and text[at : at + 1] == "]":
            return
        try:
            one, at = decoder.raw_decode(text, at)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        yield one
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        following = text[at : at + 1]
        if following not in (",", "]"):
            raise ValueError("cut off")


def _id_of(one: object) -> str:
    service = one.get("Service") if isinstance(one, dict) else None
    name = service.get("ID") if isinstance(service, dict) else None
    return name[:200] if isinstance(name, str) else ""
