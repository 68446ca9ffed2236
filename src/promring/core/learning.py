"""From what scrapers say of their targets, again and again, to loads that hold still. Pure.

A figure is the number of samples that one scrape of a target gave. Figures are smoothed over about ``SMOOTHED`` readings. A
target's level is the one nearest to the mean of its first ``SMOOTHED`` figures. After that a target keeps its level until
the smoothed figure is a whole ``STEP`` away from it for ``READINGS`` readings in a row: rounding to the nearest step
instead would move targets at the edge between two steps with each breath of noise.

Promises: noise of 20 % changes no level that was right; memory is 13 bytes a target of the pool; a target that nobody has a
figure of, now or for good, keeps what is known of it. Flow: ``loads/learner`` brings the figures, ``book`` goes to
``fleet/weighing``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from promring.core.joined import FleetPool
from promring.core.loads import TABLE, Floats, Levels, LoadBook, ServiceLoads, level_of
from promring.core.plan import rows_of
from promring.model import Keys, Loads, TargetPool

SMOOTHED = 10
READINGS = 3
STEP = 1.25
RIPE, READINGS_ENOUGH = 0.9, 3 * SMOOTHED
FIGURE_MOST = 100_000_000
"""More samples in one scrape are a fault of whoever says so."""
_WEIGHT = 2 / (SMOOTHED + 1)
_FAR = math.log(STEP) - 1e-9
"""A step that is exactly one is a whole one, however it is rounded."""
_COUNT_MOST = 255

N = TypeVar("N", bound=np.generic)
Flags = npt.NDArray[np.bool_]
Small = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What was said of targets of one service. ``ids``: uint64, shape (n,), in any order, also several times;
    ``values``: float64, shape (n,).
    """

    ids: Keys
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """Of one service: a row a target of ``pool``.

    ``values``  float64: the smoothed figure; NaN: none yet
    ``counts``  uint8: how many figures there were, at most 255
    ``levels``  uint16, where ``known``
    ``known``   bool: whether it has a level
    ``away``    uint8: for how many readings the figure was a whole step away from the level
    """

    pool: TargetPool
    values: Floats
    counts: Small
    levels: Levels
    known: Flags
    away: Small

    @classmethod
    def nothing(cls, pool: TargetPool) -> Learnt:
        n = len(pool)
        flags, small = np.zeros(n, dtype=bool), np.zeros(n, dtype=np.uint8)
        return cls(pool, np.full(n, np.nan), small, small.astype(np.uint16), flags, small)

    @classmethod
    def from_book(cls, pool: TargetPool, book: ServiceLoads | None) -> Learnt:
        """The levels that ``book`` has in force are kept until figures say something else."""
        none = cls.nothing(pool)
        if book is None:
            return none
        return cls(pool, none.values, none.counts, book.level_of(pool.ids), np.ones(len(pool), dtype=bool), none.away)

    def of(self, pool: TargetPool) -> Learnt:
        """The same for the targets of ``pool``: those that are gone are forgotten."""
        if pool is self.pool:
            return self
        rows = rows_of(self.pool, pool.ids)
        there = rows < len(self.pool)
        none = self.nothing(pool)

        def taken(old: npt.NDArray[N], new: npt.NDArray[N]) -> npt.NDArray[N]:
            column = new.copy()
            column[there] = old[rows[there]]
            return column

        return Learnt(
            pool,
            taken(self.values, none.values),
            taken(self.counts, none.counts),
            taken(self.levels, none.levels),
            taken(self.known, none.known),
            taken(self.away, none.away),
        )

    def reading(self, figures: Figures) -> Learnt:
        """After one more reading. Of several figures of one target the highest counts."""
        rows = rows_of(self.pool, figures.ids)
        there = rows < len(self.pool)
        told = np.full(len(self.pool), -1.0)
        np.maximum.at(told, rows[there], figures.values[there])
        read = told >= 0
        counts = np.where(read & (self.counts < _COUNT_MOST), self.counts + 1, self.counts).astype(np.uint8)
        weight = np.maximum(1 / np.maximum(counts, 1), _WEIGHT)
        before = np.where(np.isnan(self.values), told, self.values)
        values = np.where(read, before + (told - before) * weight, self.values)
        return self._with_levels(values, counts, read)

    def _with_levels(self, values: Floats, counts: Small, read: Flags) -> Learnt:
        loads = np.maximum(values, 1.0)
        far = np.abs(np.log(loads / TABLE[self.levels])) >= _FAR  # not where there is no figure yet
        away = np.where(read, np.where(far & self.known, self.away + 1, 0), self.away).astype(np.uint8)
        changed = read & np.where(self.known, away >= READINGS, counts >= SMOOTHED)
        levels = self.levels.copy()
        levels[changed] = level_of(loads[changed])
        away[changed] = 0
        return Learnt(self.pool, values, counts, levels, self.known | changed, away)

    @property
    def learnt(self) -> int:
        """How many targets have figures enough for a level of their own."""
        return int((self.counts >= SMOOTHED).sum())

    def loads(self, typical: int) -> Loads:
        """int64: the load of each row now; ``typical``: the level of those that have none."""
        now = np.where(np.isnan(self.values), TABLE[np.where(self.known, self.levels, typical)], np.maximum(self.values, 1))
        return np.rint(now).astype(np.int64)

    def service_loads(self, most: int) -> ServiceLoads | None:
        """What the book says of the service; None while there is no level."""
        if not self.known.any():
            return None
        levels = self.levels[self.known]
        typical = int(np.sort(levels)[(len(levels) - 1) // 2])
        return ServiceLoads.of(typical, self.pool.ids[self.known], levels, most)


@dataclass(frozen=True, slots=True, eq=False)
class Learning:
    """Of a fleet: by service."""

    services: Mapping[str, Learnt] = field(default_factory=dict)
    readings: int = 0

    def reading(self, pool: FleetPool, figures: Mapping[str, Figures], book: LoadBook | None) -> Learning:
        """After one more reading, of the targets that ``pool`` has. ``book``: in force, for what is not known yet."""
        services: dict[str, Learnt] = {}
        for name, part in pool.parts.items():
            known = self.services.get(name)
            if known is None:
                known = Learnt.from_book(part.pool, book.services.get(name) if book is not None else None)
            known = known.of(part.pool)
            services[name] = known.reading(figures[name]) if name in figures else known
        return Learning(services, min(self.readings + 1, READINGS_ENOUGH))

    @property
    def is_ripe(self) -> bool:
        """Whether a plan may be made of it: most targets have a level and none is about to have one, or there was time
        enough. Loads of a few would move these, and after that nothing for a while.
        """
        targets = sum(len(one.pool) for one in self.services.values())
        known = sum(int(one.known.sum()) for one in self.services.values())
        begun = any(bool(((one.counts > 0) & ~one.known).any()) for one in self.services.values())
        return self.readings >= READINGS_ENOUGH or (0 < RIPE * targets <= known and not begun)

    def book(self, most: int, moved_at: float = 0.0) -> LoadBook | None:
        """What all controllers may place by; at most ``most`` targets are told by themselves. None: nothing is known."""
        found: dict[str, ServiceLoads] = {}
        left = most
        for name, one in sorted(self.services.items(), key=lambda item: (len(item[1].pool), item[0])):
            said = one.service_loads(left)
            if said is not None:
                found[name] = said
                left -= len(said.halves)
        return LoadBook(found, moved_at) if found else None

    def loads(self, pool: FleetPool) -> Loads | None:
        """int64: the load of each row of ``pool`` by the newest figures. None while there are none."""
        book = self.book(0)
        if book is None or not self.learnt:
            return None
        found = np.full(len(pool), TABLE[book.typical], dtype=np.int64)
        for name, part in pool.parts.items():
            if (known := self.services.get(name)) is not None and name in book.services:
                found[pool.rows(name)] = known.of(part.pool).loads(book.services[name].typical)
        return found

    @property
    def learnt(self) -> int:
        """Targets with figures of their own."""
        return sum(one.learnt for one in self.services.values())
