"""The slices of a fleet, from the placement in force. Pure.

A slice keeps its generation as long as its bytes are the same, and only those that may have changed are put together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from promring.core.joined import FleetShares, same_owners, touched
from promring.core.verdicts import Facts
from promring.fleet.planner import Lists
from promring.fleet.state import Memory, ServiceMemory
from promring.model import Generation, Placement, Scraper, Slice

Slices = Mapping[str, Mapping[str, Slice]]
"""By service and scraper."""


@dataclass(frozen=True, slots=True, eq=False)
class InForce:
    """What the slices of a fleet are made of: the owners of each target, and those that still hold it."""

    placement: Placement
    shares: FleetShares

    @classmethod
    def of(cls, placement: Placement) -> InForce:
        return cls(placement, FleetShares(placement))

    def or_same(self, before: InForce | None) -> InForce:
        """With the placement of ``before`` where it says the same, so that equal ones can be told by identity."""
        if before is None or not _same_owners(before.placement, self.placement):
            return self
        return InForce(before.placement, self.shares)


def slices_of(now: InForce, before: InForce | None, memory: Memory) -> Slices:
    """The slice of every live scraper, ``[]`` for one without targets; the old one where the bytes are the same. One that is
    leaving gets none of a service that it never had.
    """
    generation = Generation(memory.generation.epoch, memory.generation.n + 1)
    numbers = {s.id: i for i, s in enumerate(before.placement.scrapers)} if before else {}
    was = np.array([numbers.get(s.id, -1) for s in now.placement.scrapers], dtype=np.intp)
    result: dict[str, Mapping[str, Slice]] = {}
    for name in now.shares.pool.names:
        old = memory.of(name).slices
        if before and same_owners(before.placement, now.placement, name) and len(old) == len(numbers):
            result[name] = old
        else:
            result[name] = _slices(name, generation, old, now, before, was)
    return result


def _slices(
    service: str,
    generation: Generation,
    old: Mapping[str, Slice],
    now: InForce,
    before: InForce | None,
    was: npt.NDArray[np.intp],
) -> dict[str, Slice]:
    """``was``: the number that each scraper had in the placement before; -1: none."""
    scrapers = now.placement.scrapers
    kept: dict[int, Slice] = {}
    for index in _unchanged(service, now, before, was) if before else ():
        scraper = scrapers[index]
        had = old.get(scraper.id)
        if had is not None and same_place(had.scraper, scraper):
            kept[index] = had
    rest = [index for index in range(len(scrapers)) if index not in kept]
    bodies = dict(zip(rest, now.shares.bodies(rest, service), strict=True))
    result: dict[str, Slice] = {}
    for index, scraper in enumerate(scrapers):
        had = kept.get(index)
        if had is None:
            had = old.get(scraper.id)
            if had is None and scraper.draining and not len(now.shares.of(index, service)):
                continue
            if had is None or not same_place(had.scraper, scraper) or had.body != bodies[index]:
                had = Slice(service, scraper, generation, bodies[index], len(now.shares.of(index, service)))
                _ = had.sha256  # made here, in a thread: who serves and shows it asks for it on the event loop
        result[scraper.id] = had
    return result


def _unchanged(service: str, now: InForce, before: InForce, was: npt.NDArray[np.intp]) -> list[int]:
    """The numbers of the scrapers whose slice has the same bytes as before."""
    maybe = touched(before.placement, now.placement, service)
    may_differ = np.isin(np.arange(len(was)), list(maybe)) if maybe is not None else np.ones(len(was), dtype=bool)
    same = now.shares.unchanged(before.shares, np.where(may_differ, was, -1), service)
    found: list[int] = np.flatnonzero(same | (~may_differ & (was >= 0))).tolist()
    return found


def changed_slices(before: Memory, slices: Slices) -> list[Slice]:
    """Those that are others than ``before``."""
    changed: list[Slice] = []
    for name, now in slices.items():
        if now is not (old := before.of(name).slices):
            changed += [s for n, s in now.items() if s is not old.get(n)]
    return changed


def in_epoch(memory: Memory, epoch: int) -> Memory:
    """The same slices, as a controller with that epoch sends them."""
    generation = Generation(epoch, 1 if memory.planned else 0)
    return replace(
        memory,
        generation=generation,
        services={
            name: replace(one, slices={n: replace(s, generation=generation) for n, s in one.slices.items()})
            for name, one in memory.services.items()
        },
    )


def service_memory(name: str, lists: Mapping[str, Lists], slices: Mapping[str, Slice], facts: Facts) -> ServiceMemory:
    """What is remembered of one service: the ``lists`` of all that its ``slices`` are made of."""
    times = {source: fact.good_at for source, fact in facts.services.get(name, {}).items()}
    return ServiceMemory(dict(lists[name]), slices, times)


def same_place(one: Scraper, other: Scraper) -> bool:
    """The same scraper at the same address, whatever its zone and weight."""
    return (one.id, one.host, one.port) == (other.id, other.host, other.port)


def _same_owners(one: Placement, other: Placement) -> bool:
    return one.pool is other.pool and one.scrapers == other.scrapers and np.array_equal(one.owners, other.owners)
