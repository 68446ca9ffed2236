"""Places all targets at once: which scrapers own each row of the pool.

Plain (no ``load_factor``, no ``capacity``): the owner is the holder of the first token at or after the key.

Bounded: nobody gets more than ``load_factor`` times its fair share of the load, in whole numbers (``_Bounds``). Targets
propose along the ring; a scraper that has too many keeps the heaviest (ties: those that ask it first of all, then the
smaller keys) and sends the rest on to the next scraper clockwise; rounds are synchronous, so the order of the input does not
matter. This is deferred acceptance (Gale and Shapley, 1962) on the bounded-load ring of Mirrokni, Thorup and Zadimoghaddam
("Consistent Hashing with Bounded Loads", 2016). Where next to no room is left one target can drive another from scraper to
scraper for thousands of rounds; who is still homeless after ``ROUNDS_MAX`` takes the next scraper clockwise that has room,
and drives nobody out.

What is asked of a placement, the strongest first:

1. the owners of a target are different scrapers, as many as it shall have and live;
2. ``capacity`` is never exceeded, but by a single target that is heavier and then alone. What has no room has no owner;
   the lightest go first, and the last replicas before the first;
3. the fair share is not exceeded, unless what is left cannot be packed so: it then grows, by 1 % at a time, until it can;
4. replicas are in different zones while there are enough, a target is in the zone that it asks for while that has room;
5. the ring's order of preference.

The previous placement is not an input: every controller computes the same owners from the same facts. Who is listed, dead or
alive, is a fact, too: ``place_living``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from promring.core.packing import NOBODY, Ranked, Rows, fitting, has_other_group, settled, summed
from promring.core.ring import Circle, Ring
from promring.model import Loads, Owners, Placement, PlacementError, TargetPool

LOAD_MOST, LOADS_MOST = 2**32, 2**50  # of one target, of all: floats hold whole numbers up to 2**53
LOAD_FACTOR_MOST = 1000.0
SMALL_STEPS = 10


@dataclass(frozen=True, slots=True)
class Policy:
    """How to place. Raises ``PlacementError`` for numbers that are none.

    ``load_factor``  no scraper above this times its fair share, >= 1; None: no bound
    ``capacity``     the most load that a scraper of weight 1 may have, > 0; None: no bound
    """

    virtual_nodes: int = 512
    load_factor: float | None = 1.10
    capacity: float | None = None
    replication_factor: int = 1

    def __post_init__(self) -> None:
        if self.load_factor is not None and not 1 <= self.load_factor <= LOAD_FACTOR_MOST:
            raise PlacementError(f"load_factor must be from 1 to {LOAD_FACTOR_MOST:g}, not {self.load_factor}")
        if self.capacity is not None and not 0 < self.capacity < math.inf:
            raise PlacementError(f"capacity must be above 0 and finite, not {self.capacity}")
        if self.replication_factor < 1 or self.virtual_nodes < 1:
            raise PlacementError("replication_factor and virtual_nodes must be at least 1")


def place(pool: TargetPool, ring: Ring, policy: Policy, loads: Loads | None = None) -> Placement:
    """Owners of every target of ``pool``. ``loads``: int64, shape (n,), not negative; None: each target counts 1.

    Raises ``PlacementError`` for a ring without tokens (there is nobody to own them) and for loads that are none.
    """
    if not len(ring.circle.tokens):
        raise PlacementError(
            "every live scraper has weight 0" if len(ring) else "cannot place targets on a ring without scrapers"
        )
    check_loads(pool, loads)
    able = int((ring.weights > 0).sum())
    wanted = None if pool.replicas is None else np.minimum(pool.replicas, able)
    replicas = max(min(policy.replication_factor, able), 0 if wanted is None else int(wanted.max(initial=1)))
    if replicas == 1 and policy.load_factor is None and policy.capacity is None and pool.zones is None:
        return Placement(ring.scrapers, pool, ring.circle.owners(pool)[:, None], None, loads, wanted)
    table = _Table(pool, ring, loads, wanted, replicas)
    total, bounds = 0, None
    for r in range(replicas):
        asking = table.asking(r)
        total += table.total(asking)
        bounds = _Bounds.of(total, ring, policy)
        _place_replica(table, r, bounds, asking)
    return Placement(ring.scrapers, pool, table.owners, table.reached(bounds), loads, wanted)


def place_living(pool: TargetPool, ring: Ring, listed: Ring, policy: Policy, loads: Loads | None = None) -> Placement:
    """As ``place``, on the scrapers of ``ring``. ``listed``: these, as if all could take their share, and those that are
    listed and cannot be used: dead ones, drained ones.

    Targets are placed on all that are listed first; then what is owned by one that cannot be used goes into the free room of
    the others, in the ring's order, and drives nobody out. So a death moves what the dead one had and nothing else, and its
    return brings back just that.
    """
    if listed.scrapers == ring.scrapers or not len(ring.circle.tokens):
        return place(pool, ring, policy, loads)
    base = place(pool, listed, policy, loads)
    able = int((ring.weights > 0).sum())
    wanted = None if pool.replicas is None else np.minimum(pool.replicas, able)
    replicas = max(min(policy.replication_factor, able), 0 if wanted is None else int(wanted.max(initial=1)))
    table = _Table(pool, ring, loads, wanted, replicas)
    table.keep(_kept_of(base, ring))
    asking = [table.asking(r) for r in range(replicas)]
    bounds = _Bounds.of(sum(map(table.total, asking)), ring, policy)
    for r, rows in enumerate(asking):
        homeless = rows[table.owners[rows, r] == NOBODY]
        _place_replica(table, r, bounds, homeless)
    return Placement(ring.scrapers, pool, table.owners, table.reached(bounds), loads, wanted)


def _kept_of(base: Placement, ring: Ring) -> Owners:
    """The owners that can be used, by their numbers in ``ring``, first in each row; then nobody."""
    index = {s.id: i for i, s in enumerate(ring.scrapers) if s.able}
    numbers = np.array([*(index.get(s.id, NOBODY) for s in base.scrapers), NOBODY], dtype=np.int32)
    owners = numbers[base.owners]
    if owners.shape[1] == 1:
        return owners
    return np.take_along_axis(owners, np.argsort(owners == NOBODY, axis=1, kind="stable"), axis=1)


def check_loads(pool: TargetPool, loads: Loads | None) -> None:
    """Raises ``PlacementError`` that names the first target with a load that is none."""
    if loads is None:
        return
    if loads.dtype != np.int64 or loads.shape != (len(pool),):
        raise PlacementError(f"loads must be int64 of shape ({len(pool)},), not {loads.dtype} of {loads.shape}")
    wrong = np.flatnonzero((loads < 0) | (loads > LOAD_MOST))
    if wrong.size:
        row = int(wrong[0])
        raise PlacementError(f"{pool.fragment(row).decode()}: its load must be from 0 to {LOAD_MOST}, not {loads[row]}")
    if int(loads.sum()) > LOADS_MOST:
        raise PlacementError(f"the loads of all targets must not be more than {LOADS_MOST} together")


class _Bounds(NamedTuple):
    """How much each scraper may have: its ``fair`` share; when that does not suffice its share ``rounded_up``; and ``most``
    in no case, None: there is no capacity. int64, shape (scrapers,).
    """

    fair: Loads
    rounded_up: Loads
    most: Loads | None

    @classmethod
    def of(cls, total: int, ring: Ring, policy: Policy) -> _Bounds | None:
        """None: no bound. The fair shares are whole numbers, and together the load factor times the ``total``: some scrapers
        have the number above their share, the others the one below, so that a scraper or a target more changes few of them.
        """
        most = capacities(ring.weights.tolist(), policy)
        if policy.load_factor is None:
            return None if most is None else cls(most, most, most)
        weights, which, counts = np.unique(ring.weights, return_inverse=True, return_counts=True)
        load = Fraction(str(policy.load_factor)) * total  # floats would make 111 of 110
        everybody = sum(Fraction(w) * n for w, n in zip(weights.tolist(), counts.tolist(), strict=True))
        shares = [load * Fraction(w) / everybody for w in weights.tolist()]
        fair = np.array([math.floor(share) for share in shares], dtype=np.int64)[which]
        parts = np.array([float(share % 1) for share in shares])[which]
        broken = np.flatnonzero(parts > 0)
        above = broken[np.argsort(ring.lots[broken] / parts[broken], kind="stable")[: math.ceil(load) - int(fair.sum())]]
        rounded_up = fair + (parts > 0)
        fair[above] += 1
        if most is None:
            return cls(fair, rounded_up, None)
        return cls(np.minimum(fair, most), np.minimum(rounded_up, most), most)


def capacities(weights: Sequence[float], policy: Policy) -> Loads | None:
    """int64, the most load of scrapers with these weights; None: no bound."""
    if policy.capacity is None:
        return None
    floors = [math.floor(min(policy.capacity * w, LOADS_MOST)) for w in weights]
    return np.array([max(1, floor) if w else 0 for floor, w in zip(floors, weights, strict=True)], dtype=np.int64)


class _Table:
    """The work in progress: who owns what so far. Rows as the pool has them."""

    def __init__(
        self, pool: TargetPool, ring: Ring, loads: Loads | None, wanted: npt.NDArray[np.int32] | None, replicas: int
    ) -> None:
        self.pool, self.ring, self.loads = pool, ring, loads
        self.ranked = Ranked(pool.keys, len(pool.parts_in_order) == 1)
        self.wanted = None if wanted is None or (wanted == replicas).all() else wanted
        self.owners: Owners = np.full((len(pool), replicas), NOBODY, dtype=np.int32)
        self.used: Loads = np.zeros(len(ring), dtype=np.int64)

    def asking(self, replica: int) -> Rows:
        """The rows that shall have so many owners and one more."""
        return np.arange(len(self.pool)) if self.wanted is None else np.flatnonzero(self.wanted > replica)

    def total(self, rows: Rows) -> int:
        """The load of these."""
        return len(rows) if self.loads is None else int(self.loads[rows].sum())

    def keep(self, owners: Owners) -> None:
        """Begin with these."""
        columns = min(owners.shape[1], self.owners.shape[1])
        self.owners[:, :columns] = owners[:, :columns]
        for column in self.owners.T:
            rows = np.flatnonzero(column != NOBODY)
            self.used += summed(column[rows], self.load_of(rows), len(self.ring))

    def load_of(self, rows: Rows) -> Loads | None:
        """Of ascending rows."""
        return self.loads if self.loads is None or len(rows) == len(self.pool) else self.loads[rows]

    def settle(self, rows: Rows, owners: Owners, replica: int) -> Rows:
        """Write down ``owners``; the rows that got none."""
        self.owners[slice(None) if len(rows) == len(self.pool) else rows, replica] = owners
        if (placed := owners != NOBODY).all():
            self.used += summed(owners, self.load_of(rows), len(self.ring))
        else:
            self.used += summed(owners[placed], self.load_of(rows[placed]), len(self.ring))
        left: Rows = rows[~placed]
        return left

    def reached(self, bounds: _Bounds | None) -> Loads | None:
        """The limits, raised to what was needed where targets could not be packed within them; a target that is heavier
        than its owner's limit is left out of this, being there alone.
        """
        if bounds is None:
            return None
        limits = bounds.fair
        result = np.maximum(limits, self.used)
        for scraper in np.flatnonzero(self.used > limits).tolist():
            loads = self.load_of(np.flatnonzero((self.owners == scraper).any(axis=1)))
            if loads is not None and (loads > 0).sum() == 1:
                result[scraper] = limits[scraper]
        return result


def _place_replica(table: _Table, replica: int, bounds: _Bounds | None, rest: Rows) -> None:
    """The owners number ``replica`` of the rows ``rest``, within ``bounds``."""
    ring, limits = table.ring, None if bounds is None else bounds.fair
    if replica == 0 and table.pool.zones is not None:
        rest = _in_their_zones(table, limits, rest)
    if replica and replica < ring.zones.max() + 1:  # while there are enough zones
        rest = _offer(table, rest, replica, ring.circle.grouped(ring.zones), limits)
    rest = _offer(table, rest, replica, ring.circle, limits)
    if bounds is None or not rest.size:
        return
    limits, most = bounds.rounded_up, bounds.most
    rest = _offer(table, rest, replica, ring.circle, limits, rounds=0)
    steps = 0
    while rest.size:
        steps += 1
        wider = limits + limits // (100 if steps <= SMALL_STEPS else 20) + (ring.weights > 0)
        limits, before = wider if most is None else np.minimum(wider, most), limits
        if (limits == before).all():
            return  # every scraper is as full as it may be: what is left has no owner
        rest = _offer(table, rest, replica, ring.circle, limits, rounds=0)


def _in_their_zones(table: _Table, limits: Loads | None, asking: Rows) -> Rows:
    """Of the rows ``asking`` those that ask for a zone to the scrapers there, the heaviest first while there is room. Who
    is left.
    """
    ring, pool = table.ring, table.pool
    assert pool.zones is not None
    zones = np.full(len(pool), NOBODY, dtype=np.int32)
    zones[asking] = pool.zones[asking]
    names = np.array([s.zone for s in ring.scrapers])
    left: list[Rows] = [np.empty(0, dtype=np.intp)]
    left += [np.flatnonzero(zones == number) for number, name in enumerate(pool.zone_names) if not name]
    for number, name in enumerate(pool.zone_names):
        if not name:
            continue
        rows = table.ranked.sorted(np.flatnonzero(zones == number))
        there = (names == name) & (ring.weights > 0)
        if there.any() and limits is not None:
            room = (limits - table.used)[there].sum(keepdims=True)
            if (loads := None if table.loads is None else table.loads[rows]) is not None:
                order = np.argsort(-loads, kind="stable")
                rows, loads = rows[order], loads[order]
            fits = fitting(loads, np.zeros(len(rows), dtype=np.int32), room)
            left.append(rows[~fits])
            rows = rows[fits]
        rows = np.sort(rows)
        left.append(_offer(table, rows, 0, ring.circle.only(there), limits) if there.any() else rows)
    return np.sort(np.concatenate(left))


# --- proposals -------------------------------------------------------------------------------------------------------


def _offer(table: _Table, rows: Rows, replica: int, circle: Circle, limits: Loads | None, rounds: int | None = None) -> Rows:
    """Ascending ``rows`` propose along ``circle``; nobody who has an owner already is driven out. Who is left."""
    taken = np.append(circle.groups, np.int32(NOBODY))[table.owners[rows, :replica]]
    able = has_other_group(circle, taken)
    left, rows, taken = (rows[:0], rows, taken) if able.all() else (rows[~able], rows[able], taken[able])
    if not rows.size:
        return left
    every = len(rows) == len(table.pool)
    ranked = table.ranked if every else table.ranked.of(rows)
    at = None if every and not replica else circle.past(circle.first(ranked.keys), taken)
    owners = circle.owners(table.pool) if at is None else circle.holders[at]
    if limits is not None:
        owners = settled(ranked, owners, at, table.load_of(rows), circle, taken, limits, table.used, rounds)
    return np.sort(np.concatenate([left, table.settle(rows, owners, replica)]))


# --- sums ------------------------------------------------------------------------------------------------------------
