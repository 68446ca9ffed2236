"""How many scrapers the load of a fleet needs within ``capacity``: by sums and one packing, not by a placement. Pure.

The answer is for whoever sizes the fleet, an autoscaler too. It is about scrapers of one weight, the commonest of those
that live. Fewer can never be enough. That so many are enough is promised for a packing that puts the heaviest target first
onto the emptiest scraper; the placement prefers the ring's order, and may need one more where targets are heavy.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promring.core.placement import Policy, capacities
from promring.model import Loads, Placement, Scraper

HEAVY_PARTS = 64
"""A target that is heavier than this part of a capacity is packed by itself, the others as their sum."""
SCRAPERS_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Needed:
    """``load``: of all targets, each counted for each owner that it shall have. ``each``: the capacity of a scraper of this
    ``weight``. ``scrapers``: so many that can take targets live. ``needed``: so many of this weight the load needs;
    ``after_scraper``, ``after_zone``: so many must there be to have enough left when one of them, or one zone, is lost.
    ``after_zone`` is None where there are not two zones.
    """

    load: int
    each: int
    weight: float
    scrapers: int
    needed: int
    after_scraper: int
    after_zone: int | None


def scrapers_needed(placement: Placement, policy: Policy, loads: Loads | None = None) -> Needed | None:
    """For the targets of ``placement``. ``loads``: int64, newer ones than it was made with. None without ``capacity``, and
    while no scraper can take anything.
    """
    able = [s for s in placement.scrapers if s.able]
    if not able:
        return None
    weight = _commonest(able)
    most = capacities([weight], policy)
    if most is None:
        return None
    each = int(most[0])
    wanted = _owners_wanted(placement, policy)
    loads = placement.loads if loads is None else loads
    load = int(wanted.sum() if loads is None else (loads * wanted).sum())
    packed = -(-load // each) if loads is None else _packed(np.repeat(loads, wanted), each)
    needed = max(packed, int(wanted.max(initial=0)))
    zones = len({s.zone for s in able if s.zone})
    after_zone = _with_zone_lost(needed, zones) if zones > 1 else None
    return Needed(load, each, weight, len(able), needed, needed + 1 if needed else 0, after_zone)


def _commonest(able: Sequence[Scraper]) -> float:
    weights = Counter(s.weight for s in able)
    return max(weights, key=lambda weight: (weights[weight], weight))


def _owners_wanted(placement: Placement, policy: Policy) -> Loads:
    """How many owners each row shall have, as long as there are scrapers enough."""
    pool = placement.pool
    if pool.replicas is not None:
        return pool.replicas.astype(np.int64)
    return np.full(len(pool), policy.replication_factor)


def _with_zone_lost(needed: int, zones: int) -> int:
    """So many, spread evenly, that ``needed`` are left without the fullest zone."""
    count = needed
    while count - -(-count // zones) < needed:
        count += 1
    return count


def _packed(loads: Loads, each: int) -> int:
    """How many scrapers of capacity ``each``. A target that is heavier than that is on one of its own."""
    alone = loads >= each
    rest = loads[~alone]
    heavy = np.sort(rest[rest * HEAVY_PARTS > each])[::-1].tolist()
    light = rest[rest * HEAVY_PARTS <= each]
    total, heaviest = int(light.sum()), int(light.max(initial=1))
    count = max(1, -(-int(rest.sum()) // each)) if len(rest) else 0
    while count < SCRAPERS_MOST and not _fits(heavy, total, heaviest, count, each):
        count += max(1, count // 100)
    return count + int(alone.sum())


def _fits(heavy: list[int], light: int, heaviest: int, count: int, each: int) -> bool:
    """Whether ``heavy`` fit on ``count`` scrapers, the heaviest first onto the emptiest, and beside them ``light`` together,
    of which none is above ``heaviest``: one refuses such a target only when less than that is free.
    """
    rooms = [-each] * count
    for load in heavy:
        if -rooms[0] < load:
            return False
        heapq.heapreplace(rooms, rooms[0] + load)
    return light <= sum(max(0, -room - (heaviest - 1)) for room in rooms)
