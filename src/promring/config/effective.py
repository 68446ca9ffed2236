"""The configuration in force, value by value: what the file says and on which line, and what is a default. Without secrets.

Promises: a secret is ``***``, a URL has neither user nor query. A text is shown only when its key is known to hold no secret
(``OPEN``): a new key is hidden until somebody decides. Arguments of programs, values of headers and settings of Python
functions are free text, and always hidden.
Not promised: a secret that was written into a text of another kind, such as a description.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from promring.config.document import Document, KeyPath, show
from promring.config.kinds import Kind
from promring.config.node import Node
from promring.config.settings import FLEET_ONLY, FleetGuard, FleetPlacement, Settings
from promring.config.values import SIZE, SPAN
from promring.discovery.pasted_keys import Blocks
from promring.model import join_host_port
from promring.runtime.redact import HIDDEN, Secret, scrub

OPEN = frozenset(
    """
    address callable datacenter datacenters description dest_dir dest_sd_file_name endpoints files filter fleet
    hash_labels health_filter host identity job key label label_names max_version min_version name names namespace
    no_proxy node_meta node_zone_label partition path path_prefix pod_zone_label port protocol proxy_jump query scheme
    scrape_pool selector server_name service services tag_separator tags type user username
    """.split()  # noqa: SIM905 - a word a key
)
"""Keys whose texts hold no secret."""
CLOSED = frozenset({"settings", "http_headers", "run"})
"""Keys below which nothing is shown but paths and what is empty."""


@dataclass(frozen=True, slots=True)
class Effective:
    """``key``: its path; ``value``: as text; ``line`` of the file, from 1; None: a default."""

    key: str
    value: str
    line: int | None


def effective(settings: Settings, document: Document) -> list[Effective]:
    """Every value, in the order of the settings."""
    shared = _said_by_fleets(settings)
    return [
        Effective(show(path), value, document.lines.get(document.as_written(path)))
        for path, value in _values(settings, ())
        if path[:3] not in shared and path[:4] not in shared
    ]


def _said_by_fleets(settings: Settings) -> set[KeyPath]:
    """Of services that name a fleet: keys of that fleet."""
    found: set[KeyPath] = set()
    for i, service in enumerate(settings.shard_services):
        if service.fleet != service.name:
            at = ("shard_services", i)
            found |= {(*at, key) for key in FLEET_ONLY}
            found |= {(*at, "placement", key) for key in FleetPlacement.model_fields}
            found |= {(*at, "guard", key) for key in FleetGuard.model_fields}
    return found


def _values(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, Blocks):
        for i, block in enumerate(value.blocks):
            yield from _of_model(block, (*path, value.kind, i))
    elif isinstance(value, BaseModel):
        yield from _of_model(value, (*path, value.kind) if isinstance(value, Kind) else path)
    elif isinstance(value, Node):
        yield path, _node(value)
    elif isinstance(value, list | tuple) and value:
        for i, item in enumerate(value):
            yield from _values(item, (*path, i))
    elif isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _values(item, (*path, str(key)))
    else:
        yield path, _text(value, path)


def _of_model(model: BaseModel, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    for name, field in type(model).model_fields.items():
        value, at = getattr(model, name), (*path, field.alias or name)
        if name == "oauth2" or name.endswith("_ref"):
            continue  # refused, wherever it is said
        if isinstance(value, float) and _is_a(SPAN, field):
            yield at, _span(value)
        elif isinstance(value, int) and _is_a(SIZE, field):
            yield at, f"{value // 1024**2}MiB"
        else:
            yield from _values(value, at)
    if not type(model).model_fields:
        yield path, "{}"


def _is_a(mark: object, field: FieldInfo) -> bool:
    """Whether it is a value of that type, or none."""
    return mark in field.metadata or any(mark in getattr(one, "__metadata__", ()) for one in get_args(field.annotation))


def _text(value: object, path: KeyPath) -> str:
    keys = {part for part in path if isinstance(part, str)}
    if value is None:
        return "null"
    if isinstance(value, list | tuple | Mapping | str) and not value:
        return '""' if isinstance(value, str) else "{}" if isinstance(value, Mapping) else "[]"
    if isinstance(value, Path | Secret):
        return str(value)
    if keys & CLOSED:
        return HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:.15g}"
    last = next(part for part in reversed(path) if isinstance(part, str))
    return scrub(value) if isinstance(value, str) and (last in OPEN or "node_meta" in keys) else HIDDEN


def _node(node: Node) -> str:
    zone = f",zone={node.zone}" if node.zone else ""
    return f"{join_host_port(node.host, node.port)}{zone}" + (f",weight={node.weight:g}" if node.weight != 1 else "")


def _span(seconds: float) -> str:
    """``5m``, ``500ms``: the largest unit that leaves no rest."""
    millis = round(seconds * 1000)
    units = (("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))
    return next((f"{millis // size}{unit}" for unit, size in units if millis and millis % size == 0), f"{millis}ms")
