"""What of the way of placing is another one in another configuration, in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection

from promring.config.settings import ShardService
from promring.fleet.ways import Place

OF_SERVICE = ("replication_factor", "hash_labels")
OF_FLEET = ("load_factor", "capacity", "virtual_nodes")


def of_service(old: ShardService, new: ShardService, *, alone: bool) -> list[str]:
    """What is set for each service. ``alone``: it is the only service of its fleet, and need not be named."""
    return _changed(OF_SERVICE, old, new, "" if alone else f" of {new.name}")


def of_fleet(old: ShardService, new: ShardService, named: Callable[[Collection[Place]], str]) -> list[str]:
    """What is set for all services of their fleet, and for its scrapers. ``named`` names scrapers to people."""
    said = _changed(OF_FLEET, old, new)
    if old.zone_label != new.zone_label:
        said.append(f"zones {_value(old.zone_label)} -> {_value(new.zone_label)}")
    was = {(n.host, n.port): n for n in old.listed}
    both = [(was[n.host, n.port], n) for n in new.listed if (n.host, n.port) in was]
    changed = {key: [n for before, n in both if getattr(before, key) != getattr(n, key)] for key in ("zone", "weight")}
    return said + [f"{key} of {named([(n.host, n.port) for n in nodes])}" for key, nodes in changed.items() if nodes]


def _changed(keys: Collection[str], old: ShardService, new: ShardService, of: str = "") -> list[str]:
    both = [(key, getattr(old.placement, key), getattr(new.placement, key)) for key in keys]
    return [f"{key}{of} {_value(was)} -> {_value(now)}" for key, was, now in both if was != now]


def _value(value: object) -> str:
    return "none" if value is None else ",".join(value) if isinstance(value, list) else f"{value}"
