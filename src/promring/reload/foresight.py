"""What a reload would do to what runs: the numbers for ``decisions``. Pure, touches nothing; long for a long pool.

The living scrapers are those of now, and those that the new configuration lists besides, which join when they are healthy.
Only where it is asked whether targets would have no room they do not count: they may be a mistake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from promring.config.settings import FleetKeys, FleetOfServices, Settings, ShardService
from promring.core.claims import Claims
from promring.core.difference import compare
from promring.core.joined import FleetPool, Part, salt_of
from promring.core.placement import Policy, capacities, place_living
from promring.core.pool import merge_sources
from promring.core.preview import NotLiveError, Preview
from promring.core.recall import recalled
from promring.core.ring import Ring
from promring.core.room import Held, keeping
from promring.fleet.fleet import Fleet
from promring.fleet.state import Memory
from promring.fleet.succession import Origin, collisions, id_of, inherited, listed_then, origins
from promring.fleet.successors import successors
from promring.model import Members, Placement, PromringError, Scraper
from promring.reload.decisions import Foreseen, Known, Question
from promring.rules import places_by, policy_of, ranks_of
from promring.runtime.near import meant


@dataclass(frozen=True, slots=True)
class Now:
    """What runs, at one moment. ``memories`` by fleet, ``known`` by service."""

    settings: Settings
    memories: Mapping[str, Memory]
    known: Mapping[str, Known]

    @classmethod
    def of(cls, settings: Settings, fleets: Mapping[str, Fleet]) -> Now:
        memories = {name: fleet.memory() for name, fleet in fleets.items()}
        known = {}
        for name, memory in memories.items():
            members = tuple(s for s in memory.members if s not in memory.departing)
            for service in fleets[name].services.values():
                slices = {s.scraper.id: s.targets for s in memory.of(service.name).slices.values()}
                ways = tuple(w.way for w in service.retirement.ways)
                distinct = None if (placement := service.placement) is None else len(placement.pool)
                known[service.name] = Known(members, slices, distinct, ways, memory.drained)
        return cls(settings, memories, known)


def foresee(now: Now, new: Settings, question: Question | None = None) -> dict[str, Foreseen]:
    """For each fleet of ``new`` that goes on and that the change may move; with a ``question`` also a preview of each.
    Raises ``PromringError`` for what is asked and cannot be.
    """
    before = {s.name: s for s in now.settings.shard_services}
    came_from = origins(now.settings, new, successors(now.settings, new))
    if question and question.service:
        there = [fleet.name for fleet in new.every_fleet] + [one.name for one in new.shard_services]
        if question.service not in there:
            known, near = ", ".join(dict.fromkeys(there))[:200], meant(question.service, there)
            raise PromringError(f"no fleet {question.service[:80]!r} in this configuration; there is {known}{near}")
    found = {}
    for fleet in new.every_fleet:
        names = {service.name for service in fleet.services}
        if question and question.service and question.service not in {fleet.name, *names}:
            continue
        goes_on = {service.name: came_from[service.name] for service in fleet.services if service.name in came_from}
        if not goes_on:
            continue
        moves = any(_may_move(before[origin.service], _named(fleet, name)) for name, origin in goes_on.items())
        changed = moves or _others(now.settings, goes_on)
        if question is not None or changed:
            found[fleet.name] = _foreseen(now.memories, fleet, came_from, question, now.settings)
    return found


def _named(fleet: FleetOfServices, name: str) -> ShardService:
    return next(service for service in fleet.services if service.name == name)


def _others(old: Settings, goes_on: Mapping[str, Origin]) -> bool:
    """Whether these are not just the services that one fleet had."""
    fleets = {origin.fleet for origin in goes_on.values()}
    return len(fleets) > 1 or len(goes_on) != sum(service.fleet in fleets for service in old.shard_services)


def _may_move(old: ShardService, new: ShardService) -> bool:
    return (
        places_by(old) != places_by(new)
        or old.identity != new.identity
        or {n[:2] for n in old.listed} != {n[:2] for n in new.listed}
    )


def _foreseen(
    memories: Mapping[str, Memory],
    fleet: FleetOfServices,
    came_from: Mapping[str, Origin],
    question: Question | None,
    old: Settings,
) -> Foreseen:
    after, names = inherited(fleet, memories, came_from, old)
    clashing = [scraper for name in names for scraper in collisions(memories[name], fleet.keys)]
    was_listed = frozenset().union(*(memories[name].listed for name in names))
    new = [fleet.keys.scraper(node) for node in fleet.keys.listed if (node.host, node.port) not in was_listed]
    members = _members(after, fleet.keys, question, new)
    if not after.planned or not any(s.weight for s in members):
        return Foreseen(clashing=clashing)
    parts = {
        service.name: Part(
            merge_sources(known.sources, ranks_of(service), service.placement.hash_labels, service.zone_label),
            service.placement.replication_factor,
            salt_of(fleet.name, service.name),
        )
        for service in fleet.services
        if (known := after.of(service.name)).slices
    }
    pool, policy = FleetPool.of(parts), policy_of(fleet)
    every = {s.id: s for s in (*members, *listed_then(after, fleet.keys))}
    ring, listed = (Ring(some, policy.virtual_nodes) for some in (members, tuple(sorted(every.values()))))
    loads = after.loads.of(pool) if after.loads is not None and fleet.keys.placement.loads.learns else None
    then, had = place_living(pool, ring, listed, policy, loads), recalled(after.claims, pool)
    there = Ring(_members(after, fleet.keys, question), policy.virtual_nodes) if new else ring
    surely = place_living(pool, there, listed, policy, loads) if new and any(s.able for s in there.scrapers) else then
    if had is None:
        return Foreseen(clashing=clashing)
    plan = compare(had, then)
    live = {s.id: s.weight for s in after.members if s.id not in _leaving(after, question)}
    lost = _lost(had, after.claims, surely, live, policy)
    preview = Preview(had, then, plan) if question is not None else None
    return Foreseen(plan.moved, int((had.owners >= 0).sum()), lost, clashing, preview)


def _lost(had: Placement, claims: Claims, then: Placement, live: Mapping[str, float], policy: Policy) -> int:
    """How many targets that somebody ``had`` nobody would scrape: they have no owner ``then``, and no scraper that is
    ``live`` (with its weight) has room to keep them.
    """
    most = capacities([live.get(s.id) or s.weight or 1.0 for s in then.scrapers], policy)
    if most is None:
        return 0
    index = {s.id: i for i, s in enumerate(then.scrapers) if s.id in live}
    numbers = np.array([index.get(name, -1) for name in claims.names], dtype=np.int32)
    rows, scrapers = claims.rows(then.pool), numbers[claims.scrapers]
    there = (scrapers >= 0) & (rows < len(then.pool))
    rows, scrapers = rows[there], scrapers[there]
    unseen = np.zeros(len(rows), dtype=bool)
    held = Held(rows, scrapers, claims.since[there], unseen, unseen, unseen, unseen, unseen)
    then, stays = keeping(then, held, then.owners.shape[1], most)
    lost = np.flatnonzero((then.owners < 0).all(axis=1) & (had.owners >= 0).any(axis=1))
    return len(np.setdiff1d(lost, rows[stays]))


def _members(memory: Memory, keys: FleetKeys, question: Question | None, new: Sequence[Scraper] = ()) -> Members:
    """Who would have a share, with weight 0 for whoever is drained or leaves. ``new``: who is listed besides."""
    off = memory.drained | {s.id for s in (*memory.departing, *(s for s in memory.members if s.draining))}
    off |= _leaving(memory, question)
    members = [replace(s, weight=0.0) if s.id in off else s for s in memory.members]
    known = {s.id for s in members}
    members += [replace(s, weight=0.0) if s.id in off else s for s in new if s.id not in known]
    known = {s.id for s in members}
    for text in question.joining if question else ():
        joining = _joining(text, keys)
        if joining.id in known:
            raise PromringError(f"{joining.id} is a live scraper already, or counts as one here")
        members.append(joining)
    return tuple(sorted(members))


def _leaving(memory: Memory, question: Question | None) -> set[str]:
    names: Sequence[str] = question.without if question else ()
    found = {id_of(name, lambda: memory.members) for name in names}
    known = {s.id for s in memory.members}
    if strange := sorted(found - known):
        raise NotLiveError(strange[0], known)
    return found


def _joining(text: str, keys: FleetKeys) -> Scraper:
    try:
        return keys.joining(text)
    except ValueError as error:
        raise PromringError(str(error)) from None
