"""All targets of a fleet as one pool: those of its shard services, one service after the other. Pure.

A fleet places the targets of all its services at once, so that the bound and the capacity of a scraper are over its whole
load. Everything that decides works on rows; here is which rows are whose.

Two services may list the same target. It has the same key in both, so that the ring prefers the same scraper, and an id of
its own in each: the id in its service's list, and a salt of the service (``salt_of``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest as xxh3_64

from promring.core.plan import Shares, bodies_of, rows_of, same_bodies, shares
from promring.model import Keys, Owners, Placement, Rows, TargetPool

Kind = TypeVar("Kind", bound=np.generic)
_NO_BLOB = np.zeros(1, dtype=np.int64)


def salt_of(fleet: str, service: str) -> int:
    """What tells the ids of a service from those of the others. 0 in a fleet that is its service's own, and has its name."""
    return 0 if fleet == service else xxh3_64(service.encode())


def salted(ids: Keys, salt: int) -> Keys:
    """The ids of a service as the fleet has them, and back. The same array where there is no salt."""
    return ids ^ np.uint64(salt) if salt else ids


@dataclass(frozen=True, slots=True)
class Part:
    """One service: its targets, how many owners each shall have, and the salt of its ids."""

    pool: TargetPool
    replicas: int = 1
    salt: int = 0


@dataclass(frozen=True, eq=False)
class FleetPool(TargetPool):
    """The rows of service i are ``starts[i]`` to ``starts[i + 1]``, services in order of name. Fragments are with the parts:
    there is no blob.
    """

    parts: Mapping[str, Part] = None  # type: ignore[assignment]
    names: tuple[str, ...] = ()
    starts: npt.NDArray[np.intp] = None  # type: ignore[assignment]

    @classmethod
    def of(cls, parts: Mapping[str, Part]) -> FleetPool:
        names = tuple(sorted(parts))
        pools = [parts[name].pool for name in names]
        starts = np.cumsum([0, *map(len, pools)], dtype=np.intp)
        ids = _joined([salted(parts[name].pool.ids, parts[name].salt) for name in names])
        zones, zone_names = _zones(pools)
        return cls(
            _joined([pool.keys for pool in pools]),
            ids,
            _joined([pool.digests for pool in pools]),
            b"",
            _NO_BLOB,
            zones,
            zone_names,
            replicas=np.repeat(np.array([parts[name].replicas for name in names], dtype=np.int32), np.diff(starts)),
            parts={name: parts[name] for name in names},
            names=names,
            starts=starts,
        )

    def rows(self, service: str) -> slice:
        """The rows of a service; none for one that is not here."""
        if service not in self.parts:
            return slice(0, 0)
        number = self.names.index(service)
        return slice(int(self.starts[number]), int(self.starts[number + 1]))

    def fragment(self, row: int) -> bytes:
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[self.names[number]].pool.fragment(row - int(self.starts[number]))

    def by_service(self, rows: Rows) -> list[tuple[str, slice]]:
        cuts = np.searchsorted(rows, self.starts).tolist()
        pieces = zip(self.names, cuts[:-1], cuts[1:], strict=True)
        return [(name, slice(first, last)) for name, first, last in pieces if first < last]

    def by_id(self) -> tuple[Keys, Rows | None]:
        return self._by_id

    @property
    def parts_in_order(self) -> Sequence[TargetPool]:
        return [self.parts[name].pool for name in self.names]

    @cached_property
    def _by_id(self) -> tuple[Keys, Rows | None]:
        return TargetPool.by_id(self)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, FleetPool) and self.parts == other.parts)

    __hash__ = object.__hash__


def rows_between(one: TargetPool, other: TargetPool) -> Rows:
    """For each row of ``one`` that of the same target in ``other``, the number of its rows when it has none. A service whose
    list is the same object is not searched.
    """
    if one is other:
        return np.arange(len(one))
    if not isinstance(one, FleetPool) or not isinstance(other, FleetPool):
        return rows_of(other, one.ids)
    found = np.full(len(one), len(other), dtype=np.intp)
    for name, part in one.parts.items():
        there = other.parts.get(name)
        if there is None or there.salt != part.salt:
            continue
        rows = np.arange(len(part.pool)) if there.pool is part.pool else rows_of(there.pool, part.pool.ids)
        found[one.rows(name)] = np.where(rows < len(there.pool), rows + other.rows(name).start, len(other))
    return found


def carried_over(column: npt.NDArray[Kind], then: TargetPool, now: TargetPool, missing: float) -> npt.NDArray[Kind]:
    """What ``column``, of the rows of ``then``, has for each row of ``now``; ``missing``: for one that was not there. May be
    the same array. A service whose list is the same object is not searched.
    """
    if then is now:
        return column
    found = np.full((len(now), *column.shape[1:]), missing, dtype=column.dtype)
    if not isinstance(now, FleetPool) or not isinstance(then, FleetPool):
        rows = rows_of(then, now.ids)
        there = rows < len(then)
        found[there] = column[rows[there]]
        return found
    for name, part in now.parts.items():
        was = then.parts.get(name)
        if was is None or was.salt != part.salt:
            continue
        mine, before = found[now.rows(name)], column[then.rows(name)]
        if was.pool is part.pool:
            mine[:] = before
        else:
            rows = rows_of(was.pool, part.pool.ids)
            there = rows < len(was.pool)
            mine[there] = before[rows[there]]
    return found


def part_of(placement: Placement, service: str) -> Placement | None:
    """What of a fleet's placement is a service's, with the rows of the service's own list. ``limits`` are the fleet's, of
    all services together. None for a service that is not in it.
    """
    pool = placement.pool
    if not isinstance(pool, FleetPool) or service not in pool.parts:
        return None
    rows = pool.rows(service)
    return replace(
        placement,
        pool=pool.parts[service].pool,
        owners=placement.owners[rows],
        loads=None if placement.loads is None else placement.loads[rows],
        wanted=None if placement.wanted is None else placement.wanted[rows],
    )


@dataclass(frozen=True, slots=True, eq=False)
class FleetShares:
    """Which rows each scraper has, of each service; found for a service when it is asked for first."""

    placement: Placement
    _found: dict[str, Shares] = field(default_factory=dict)

    @property
    def pool(self) -> FleetPool:
        assert isinstance(self.placement.pool, FleetPool)  # the planner makes no others
        return self.placement.pool

    def by_scraper(self, service: str) -> Shares:
        """Those of one service, rows of its own list."""
        if service not in self._found:
            part = part_of(self.placement, service)
            assert part is not None
            self._found[service] = shares(part)
        return self._found[service]

    def of(self, scraper: int, service: str) -> Rows:
        """The rows of the service's own list, ascending."""
        return self.by_scraper(service).of(scraper)

    def body(self, scraper: int, service: str) -> bytes:
        """The slice of a service for a scraper."""
        return self.by_scraper(service).body(scraper)

    def bodies(self, scrapers: Sequence[int], service: str) -> list[bytes]:
        """The slices of a service for these."""
        found = self.by_scraper(service)
        return bodies_of(found.pool, [found.of(scraper) for scraper in scrapers])

    def unchanged(self, before: FleetShares, was: Rows, service: str) -> npt.NDArray[np.bool_]:
        """For each scraper whether its slice has the bytes that that of scraper ``was`` of ``before`` had; -1: of none."""
        if service not in before.pool.parts:
            return np.zeros(len(was), dtype=bool)
        return same_bodies(before.by_scraper(service), was, self.by_scraper(service))


def same_owners(one: Placement, other: Placement, service: str) -> bool:
    """Whether two placements of a fleet give the same targets of a service to the same scrapers, in the same columns."""
    if one.scrapers != other.scrapers or not isinstance(one.pool, FleetPool) or not isinstance(other.pool, FleetPool):
        return False
    part, there = one.pool.parts.get(service), other.pool.parts.get(service)
    if part is None or there is None or part.pool is not there.pool:
        return False
    mine, others = one.owners[one.pool.rows(service)], other.owners[other.pool.rows(service)]
    return np.array_equal(mine, others) or (mine.shape != others.shape and np.array_equal(_trimmed(mine), _trimmed(others)))


def touched(before: Placement, now: Placement, service: str) -> set[int] | None:
    """The numbers in ``now`` of the scrapers whose targets of a service may be others than ``before``; None: any may be."""
    if not isinstance(before.pool, FleetPool) or not isinstance(now.pool, FleetPool):
        return None
    there, here = before.pool.parts.get(service), now.pool.parts.get(service)
    then, owners = before.owners[before.pool.rows(service)], now.owners[now.pool.rows(service)]
    if there is None or here is None or there.pool is not here.pool or then.shape != owners.shape:
        return None
    known = {s.id for s in before.scrapers}
    found = {i for i, s in enumerate(now.scrapers) if s.id not in known}
    if before.scrapers != now.scrapers:
        number = {s.id: i for i, s in enumerate(now.scrapers)}
        then = np.array([*(number.get(s.id, -1) for s in before.scrapers), -1], dtype=np.int32)[then]
    changed = then != owners
    return found | set(np.unique(np.concatenate([then[changed], owners[changed]])).tolist())


def _trimmed(owners: Owners) -> Owners:
    """Without columns of nobody at the end."""
    used = np.flatnonzero((owners >= 0).any(axis=0))
    return owners[:, : int(used[-1]) + 1 if len(used) else 0]


def _joined(columns: list[Keys]) -> Keys:
    if len(columns) == 1:
        return columns[0]
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.uint64)


def _zones(pools: list[TargetPool]) -> tuple[npt.NDArray[np.int32] | None, tuple[str, ...]]:
    """As in ``TargetPool``, with one list of names; a service whose targets ask for no zone asks for the empty one."""
    if all(pool.zones is None for pool in pools):
        return None, ()
    names = tuple(sorted({"", *(name for pool in pools for name in pool.zone_names)}))
    index = {name: number for number, name in enumerate(names)}
    columns = []
    for pool in pools:
        if pool.zones is None:
            columns.append(np.full(len(pool), index[""]))
        else:
            columns.append(np.array([index[name] for name in pool.zone_names], dtype=np.intp)[pool.zones])
    return np.concatenate(columns, dtype=np.int32), names
