"""The load of each target, as all controllers of a fleet place by it: a book of levels. Pure.

A load is told as one of ``LEVELS`` levels, each 1 % above the one before, in two bytes. Of each shard service the book has a
typical level, the median, and the targets whose level is more than ``ALIKE`` levels from it. A target that the book does not
know, such as a new one, has the typical load of its service. A service that is not in the book has the median of the
typical loads of the others.

Targets are told by the upper half of their ids. Two targets that share it share a load: of a million targets about 120
do, and it is the same for every controller.

Promises: the same book and the same pool give the same loads in every process. A book has at most ``ENTRY_BYTES`` for each
target that it tells, and some 300 bytes a service: where there is no room for all, the targets that differ most from the
typical load are told.
Flow: ``core/learning`` makes books, ``fleet/weighing`` puts one in force and shares it, ``core/placement`` places by it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from promring.core.joined import FleetPool
from promring.model import Keys, Loads

Levels = npt.NDArray[np.uint16]
Halves = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]
LEVELS = 1860
ALIKE = 3
"""A target that is so many levels, or fewer, from the typical one is not told by itself."""
ENTRY_BYTES = 6
SERVICES_MOST = 1_000
BOOK_BYTES_MOST = 16 * 1024 * 1024


def _table() -> Loads:
    """The powers of 1.01 in whole numbers, with 64 binary places: the same on every machine."""
    found, exact = [], 1 << 64
    for _ in range(LEVELS):
        found.append((exact + (1 << 63)) >> 64)
        exact = exact * 101 // 100
    return np.array(found, dtype=np.int64)


TABLE = _table()
"""The load of each level, 1 to 108,000,000."""
_EDGES: Floats = np.sqrt(TABLE[:-1].astype(np.float64) * TABLE[1:])


def level_of(values: Floats) -> Levels:
    """The nearest level, by ratio, of each load; the lowest of those that are alike."""
    return np.searchsorted(_EDGES, values).astype(np.uint16)


@dataclass(frozen=True, slots=True, eq=False)
class ServiceLoads:
    """Of one shard service. ``typical``: a level; ``halves``: uint32, shape (n,), ascending and distinct, the upper halves
    of the ids of targets with another level; ``levels``: uint16, shape (n,), which.
    """

    typical: int
    halves: Halves = field(default_factory=lambda: np.empty(0, dtype=np.uint32))
    levels: Levels = field(default_factory=lambda: np.empty(0, dtype=np.uint16))

    @classmethod
    def of(cls, typical: int, ids: Keys, levels: Levels, most: int) -> ServiceLoads:
        """``ids``: uint64, of targets with these ``levels``. At most ``most`` of them are told."""
        halves = upper(ids)
        differ = np.abs(levels.astype(np.int64) - typical) > ALIKE
        away = np.where(differ, np.abs(TABLE[levels] - TABLE[typical]), 0)
        order = np.lexsort((levels, halves, -away))[: max(0, most)]
        order = order[away[order] > 0]
        halves, first = np.unique(halves[order], return_index=True)  # of two with one half the one that is farther away
        return cls(typical, halves, levels[order][first])

    def level_of(self, ids: Keys) -> Levels:
        """uint16, of each id."""
        found = np.full(len(ids), self.typical, dtype=np.uint16)
        if len(self.halves):
            halves = upper(ids)
            at = np.minimum(np.searchsorted(self.halves, halves), len(self.halves) - 1)
            known = self.halves[at] == halves
            found[known] = self.levels[at[known]]
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ServiceLoads):
            return NotImplemented
        same = np.array_equal(self.halves, other.halves) and np.array_equal(self.levels, other.levels)
        return self.typical == other.typical and same

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class LoadBook:
    """Of one fleet. ``services``: by name; ``moved_at``: when loads alone last moved targets, wall-clock seconds, or 0."""

    services: Mapping[str, ServiceLoads] = field(default_factory=dict)
    moved_at: float = 0.0

    def of(self, pool: FleetPool) -> Loads:
        """int64, shape (n,): the load of each row."""
        found = np.full(len(pool), TABLE[self.typical], dtype=np.int64)
        for name, part in pool.parts.items():
            if (known := self.services.get(name)) is not None:
                found[pool.rows(name)] = TABLE[known.level_of(part.pool.ids)]
        return found

    @property
    def typical(self) -> int:
        """The level of a target of a service that nobody knows."""
        known = sorted(one.typical for one in self.services.values())
        return known[(len(known) - 1) // 2] if known else 0

    def renamed(self, names: Mapping[str, str]) -> LoadBook:
        """The services in ``names``, by their names before, with those that they have now."""
        return LoadBook({names[name]: one for name, one in self.services.items() if name in names}, self.moved_at)

    def same_loads(self, other: LoadBook | None) -> bool:
        return other is not None and self.services == other.services


def united(books: Sequence[LoadBook]) -> LoadBook | None:
    """What several fleets had, of services that are one fleet's now: the first says what it has of each."""
    if not books:
        return None
    services = {name: one for book in reversed(books) for name, one in book.services.items()}
    return LoadBook(services, max(book.moved_at for book in books))


def upper(ids: Keys) -> Halves:
    return (ids >> np.uint64(32)).astype(np.uint32)


# --- as bytes --------------------------------------------------------------------------------------------------------


class _Service(msgspec.Struct, array_like=True):
    typical: Annotated[int, msgspec.Meta(ge=0, lt=LEVELS)]
    halves: bytes
    levels: bytes


class _Book(msgspec.Struct, array_like=True):
    services: dict[str, _Service]
    moved_at: float = 0.0


_decode = msgspec.msgpack.Decoder(_Book).decode


def encode(book: LoadBook) -> bytes:
    """For the note beside the lock and for the state."""
    services = {
        name: _Service(one.typical, one.halves.astype("<u4").tobytes(), one.levels.astype("<u2").tobytes())
        for name, one in sorted(book.services.items())
    }
    return msgspec.msgpack.encode(_Book(services, book.moved_at))


def decode(packed: bytes) -> LoadBook | None:
    """None for what is no book."""
    if len(packed) > BOOK_BYTES_MOST:
        return None
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        said = _decode(packed)
        if len(said.services) <= SERVICES_MOST and np.isfinite(said.moved_at) and said.moved_at >= 0:
            return LoadBook({name: _service(one) for name, one in said.services.items()}, said.moved_at)
    return None


def _service(said: _Service) -> ServiceLoads:
    """Raises ValueError for columns that cannot be."""
    halves = np.frombuffer(said.halves, dtype="<u4").astype(np.uint32)
    levels = np.frombuffer(said.levels, dtype="<u2").astype(np.uint16)
    if len(halves) != len(levels) or (halves[1:] <= halves[:-1]).any() or (levels >= LEVELS).any():
        raise ValueError("the columns differ, or are not in order")
    return ServiceLoads(said.typical, halves, levels)
