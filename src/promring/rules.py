"""What the configuration of a fleet says, as the rules that decisions are made by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator

from promring.config.settings import (
    FleetKeys,
    FleetOfServices,
    ShardService,
)
from promring.core.joined import salt_of
from promring.core.placement import Policy
from promring.core.standing import Rules
from promring.core.verdicts import Guard
from promring.discovery import SourceSettings
from promring.fleet.planner import Placing

MEASURED = 0.99
"""Of ``load_factor``, where loads are measured and told in levels: what a placement by those keeps exactly, the loads
themselves then keep within ``load_factor``.
"""


def places_by(settings: ShardService) -> tuple[Hashable, ...]:
    """All of the configuration that says where a target is placed, but for who the scrapers are."""
    weights = {(n.host, n.port): (n.zone, n.weight) for n in settings.listed}
    uneven = frozenset((place, said) for place, said in weights.items() if said != ("", 1.0))
    chosen = settings.placement
    policy = (chosen.virtual_nodes, chosen.load_factor, chosen.capacity, chosen.replication_factor, chosen.loads.learns)
    return policy, tuple(chosen.hash_labels or ()), settings.zone_label, uneven


def sources_of(settings: ShardService) -> dict[str, SourceSettings]:
    """In order of precedence, by a name that stays the same across a reload."""
    return {name: part for name, part, _ in _ranked(settings)}


def ranks_of(settings: ShardService) -> dict[str, int]:
    """Of each source, by name: the lower one wins a target, and equal ones are one list."""
    return {name: rank for name, _, rank in _ranked(settings)}


def _ranked(settings: ShardService) -> Iterator[tuple[str, SourceSettings, int]]:
    counts: Counter[str] = Counter()
    rank, joins = -1, False
    for entry in settings.targets:
        for part in entry.parts:
            rank += not (joins and entry.joins)
            joins = entry.joins
            counts[part.source_name] += 1
            count = counts[part.source_name]
            yield f"{part.source_name}#{count}" if count > 1 else part.source_name, part, rank


def placing_of(settings: ShardService) -> Placing:
    """How its targets are placed among those of its fleet."""
    chosen = settings.placement
    return Placing(chosen.hash_labels, chosen.replication_factor, salt_of(settings.fleet, settings.name), ranks_of(settings))


def policy_of(fleet: FleetOfServices) -> Policy:
    chosen = fleet.keys.placement
    replicas = max(service.placement.replication_factor for service in fleet.services)
    bound = chosen.load_factor
    if bound is not None and chosen.loads.learns:
        bound = max(1.0, round(bound * MEASURED, 6))
    return Policy(chosen.virtual_nodes, bound, chosen.capacity, replicas)


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
