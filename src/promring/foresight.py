"""What a reload would do to what runs: the numbers for ``decisions``. Pure, touches nothing; long for a long pool.

The living scrapers are those of now: what a new configuration lists besides joins when it is healthy, and is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from promring.build import places_by, policy_of
from promring.core.handover import Claims
from promring.core.placement import Policy, capacities, place
from promring.core.plan import compare, rows_of
from promring.core.pool import merge
from promring.core.preview import Preview
from promring.core.recall import recalled
from promring.core.ring import Ring
from promring.core.room import keeping
from promring.decisions import Foreseen, Known, Question
from promring.model import Members, Placement, PromringError, Scraper
from promring.service import Service
from promring.settings import Settings, ShardService
from promring.state import Memory
from promring.succession import collisions, id_of, succeed, successors


@dataclass(frozen=True, slots=True)
class Now:
    """What runs, at one moment."""

    settings: Settings
    memories: Mapping[str, Memory]
    known: Mapping[str, Known]

    @classmethod
    def of(cls, settings: Settings, services: Mapping[str, Service]) -> Now:
        memories = {name: service.memory() for name, service in services.items()}
        return cls(
            settings,
            memories,
            {
                name: Known(
                    tuple(s for s in memory.members if s not in memory.departing),
                    {s.scraper.id: s.targets for s in memory.slices.values()},
                    tuple(w.way for w in services[name].reconciler.retirement.ways),
                )
                for name, memory in memories.items()
            },
        )


def foresee(now: Now, new: Settings, question: Question | None = None) -> dict[str, Foreseen]:
    """By the names of ``new``, for each service that goes on and that the change may move; with a ``question`` also a
    preview of each. Raises ``PromringError`` for what is asked and cannot be.
    """
    before, from_ = {s.name: s for s in now.settings.shard_services}, successors(now.settings, new)
    found = {}
    for service in new.shard_services:
        name = from_.get(service.name)
        memory = now.memories.get(name) if name else None
        if memory is None or (question and question.service and question.service != service.name):
            continue
        if question is not None or _may_move(before[name or ""], service):
            found[service.name] = _foreseen(memory, service, question)
    return found


def _may_move(old: ShardService, new: ShardService) -> bool:
    return (
        places_by(old) != places_by(new)
        or old.identity != new.identity
        or {n[:2] for n in old.listed} != {n[:2] for n in new.listed}
    )


def _foreseen(memory: Memory, service: ShardService, question: Question | None) -> Foreseen:
    after = succeed(memory, service)
    clashing = collisions(memory, service)
    members = _members(after, service, question)
    if not memory.slices or not any(s.weight for s in members):
        return Foreseen(clashing=clashing)
    pool = merge(list(memory.sources.values()), service.placement.hash_labels, service.zone_label)
    policy = policy_of(service)
    then, had = place(pool, Ring(members, policy.virtual_nodes), policy), recalled(after.claims, pool)
    if had is None:
        return Foreseen(clashing=clashing)
    plan = compare(had, then)
    live = {s.id: s.weight for s in after.members if s.id not in _leaving(memory, question)}
    lost = _lost(had, after.claims, then, live, policy)
    described = Preview(had, then, plan).describe() if question is not None else None
    return Foreseen(plan.moved, int((had.owners >= 0).sum()), lost, clashing, described)


def _lost(had: Placement, claims: Claims, then: Placement, live: Mapping[str, float], policy: Policy) -> int:
    """How many targets that somebody ``had`` nobody would scrape: they have no owner ``then``, and no scraper that is
    ``live`` (with its weight) has room to keep them.
    """
    most = capacities([live.get(s.id) or s.weight or 1.0 for s in then.scrapers], policy)
    if most is None:
        return 0
    index = {s.id: i for i, s in enumerate(then.scrapers) if s.id in live}
    numbers = np.array([index.get(name, -1) for name in claims.names], dtype=np.int32)
    rows, scrapers = rows_of(then.pool, claims.ids), numbers[claims.scrapers]
    there = (scrapers >= 0) & (rows < len(then.pool))
    rows, scrapers = rows[there], scrapers[there]
    then, stays = keeping(then, rows, scrapers, then.owners.shape[1], most)
    lost = np.flatnonzero((then.owners < 0).all(axis=1) & (had.owners >= 0).any(axis=1))
    return len(np.setdiff1d(lost, rows[stays]))


def _members(memory: Memory, service: ShardService, question: Question | None) -> Members:
    """Who would have a share, with weight 0 for whoever is drained or leaves."""
    off = memory.drained | {s.id for s in memory.members if s.draining} | _leaving(memory, question)
    members = [replace(s, weight=0.0) if s.id in off else s for s in memory.members]
    known = {s.id for s in members}
    for text in question.joining if question else ():
        joining = _joining(text, service)
        if joining.id in known:
            raise PromringError(f"{joining.id} is a live scraper already")
        members.append(joining)
    return tuple(sorted(members))


def _leaving(memory: Memory, question: Question | None) -> set[str]:
    names: Sequence[str] = question.without if question else ()
    found = {id_of(name, lambda: memory.members) for name in names}
    known = {s.id for s in memory.members}
    if strange := sorted(found - known):
        raise PromringError(f"{strange[0]} is not a live scraper; there is {', '.join(sorted(known)[:20])}")
    return found


def _joining(text: str, service: ShardService) -> Scraper:
    try:
        return service.joining(text)
    except ValueError as error:
        raise PromringError(str(error)) from None
