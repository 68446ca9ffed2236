"""From the bodies of Consul's API to groups with the labels of Prometheus' ``consul_sd_configs``.

Owns: which label holds what, compared with Prometheus' own package in ``tests/real/test_discovery_consul.py``. Pure.
Promises: an instance that cannot be understood is left out and named, the others go on; where two metadata keys become one
label (``rack-id`` and ``rack_id``) the one that comes first in order of its name has it, which is said (Prometheus takes
either, by chance).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from promring.discovery.groups import Refusals, read_pool
from promring.discovery.json_list import Group
from promring.discovery.list_rules import ANY, ListRules
from promring.model import DiscoveryError, TargetPool, join_host_port

PREFIX = "__meta_consul_"
NODE_MAINTENANCE = "_node_maintenance"
SERVICE_MAINTENANCE = "_service_maintenance:"
INSTANCES_MAX = 1_000_000
WORST_FIRST = ("critical", "warning", "passing")
_NOT_LABEL = re.compile(r"[^a-zA-Z0-9_]")
_Error = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Node(msgspec.Struct, frozen=True, rename="pascal", gc=False):
    node: str = ""
    address: str = ""
    meta: dict[str, str] | None = None
    tagged_addresses: dict[str, str] | None = None


class _Service(msgspec.Struct, frozen=True, rename="pascal", gc=False):
    id: str = msgspec.field(name="ID", default="")
    tags: list[str] | None = None
    address: str = ""
    port: int = 0
    meta: dict[str, str] | None = None
    namespace: str = ""
    partition: str = ""


class _Check(msgspec.Struct, frozen=True, gc=False):
    id: str = msgspec.field(name="CheckID", default="")
    status: str = msgspec.field(name="Status", default="")


class Instance(msgspec.Struct, frozen=True, rename="pascal", gc=False):
    """One entry of ``/v1/health/service``."""

    node: _Node
    service: _Service
    checks: list[_Check] | None = None


class Query(NamedTuple):
    """What of an answer does not stand in it. ``port``: instead of the instances' own, in the address only."""

    service: str
    datacenter: str
    tag_separator: str = ","
    port: int | None = None


def services_of(body: bytes, wanted: Collection[str], tags: Sequence[str]) -> list[str]:
    """The services of ``/v1/catalog/services`` to be asked for: of ``wanted``, or all when that is empty, those that have
    every one of ``tags``, compared with case. In order of name. Raises ValueError.
    """
    try:
        listed = msgspec.json.decode(body, type=dict[str, list[str] | None] | None) or {}
    except _Error as error:
        raise ValueError(f"malformed catalogue: {_line(error)}") from None
    return sorted(name for name, has in listed.items() if (not wanted or name in wanted) and set(tags) <= set(has or ()))


def pool_of_instances(body: bytes, query: Query, where: str, rules: ListRules = ANY) -> TargetPool:
    """The targets of an answer of ``/v1/health/service``. Raises ``DiscoveryError`` when it is no such answer."""
    refusals = Refusals()
    found = groups_of(body, query, where, refusals)
    return read_pool(found, where, size_bytes=len(body), rules=rules, refusals=refusals)


def groups_of(body: bytes, query: Query, where: str, refusals: Refusals) -> Iterator[Group]:
    """One group an instance. Raises ``DiscoveryError``."""
    try:
        entries = msgspec.json.decode(body, type=list[msgspec.Raw] | None) or []
    except _Error as error:
        raise DiscoveryError(f"{where}: malformed answer about {query.service}: {_line(error)}") from None
    if len(entries) > INSTANCES_MAX:
        raise DiscoveryError(f"{where}: more than {INSTANCES_MAX} instances of {query.service}")
    refused = 0
    for i, entry in enumerate(entries):
        try:
            one = _decode(entry)
        except _Error as error:
            refused += 1
            refusals.add(f"{query.service}[{i}]: {_line(error)}")
            continue
        host = one.service.address or one.node.address
        yield Group([join_host_port(host, query.port or one.service.port)], _labels(one, query, refusals))
    if refused and refused == len(entries):
        raise DiscoveryError(f"{where}: no instance of {query.service} can be understood: {refusals.named[0]}")


_decode = msgspec.json.Decoder(Instance).decode


def _labels(one: Instance, query: Query, refusals: Refusals) -> dict[str, str | None]:
    node, service = one.node, one.service
    labels: dict[str, str | None] = {}
    for kind, values in (
        ("metadata_", node.meta),
        ("service_metadata_", service.meta),
        ("tagged_address_", node.tagged_addresses),
    ):
        _add_values(labels, kind, values or {}, refusals)
    separator = query.tag_separator
    labels |= {
        f"{PREFIX}service": query.service,
        f"{PREFIX}dc": query.datacenter,
        f"{PREFIX}address": node.address,
        f"{PREFIX}node": node.node,
        f"{PREFIX}namespace": service.namespace,
        f"{PREFIX}partition": service.partition,
        f"{PREFIX}tags": f"{separator}{separator.join(service.tags or ())}{separator}",
        f"{PREFIX}service_address": service.address,
        f"{PREFIX}service_port": str(service.port),
        f"{PREFIX}service_id": service.id,
        f"{PREFIX}health": worst(one.checks or ()),
    }
    return labels


def _add_values(labels: dict[str, str | None], kind: str, values: Mapping[str, str], refusals: Refusals) -> None:
    by_label: dict[str, str] = {}
    for key in sorted(values):
        label = f"{PREFIX}{kind}{_NOT_LABEL.sub('_', key)}"
        if (first := by_label.setdefault(label, key)) == key:
            labels[label] = values[key]
        else:
            refusals.remark(f"{first!r} and {key!r} would both be {label}, {first!r} is")


def worst(checks: Sequence[_Check]) -> str:
    """The state of an instance: the worst of its checks and its node's; empty for a status that Consul does not have."""
    found = set()
    maintained = False
    for check in checks:
        if check.id == NODE_MAINTENANCE or check.id.startswith(SERVICE_MAINTENANCE):
            maintained = True
        elif check.status in WORST_FIRST:
            found.add(check.status)
        else:
            return ""
    if maintained:
        return "maintenance"
    return next((status for status in WORST_FIRST if status in found), "passing")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
