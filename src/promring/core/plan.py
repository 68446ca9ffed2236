"""From a placement to what each scraper gets, and the difference of two placements.

A slice is a file_sd list in JSON with one target a line, in the order of the pool's keys: easy to grep, a change is a
line in a diff, and the bytes are the same in every process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promring.model import SEPARATOR, Keys, Move, Moved, Owners, Placement, Plan, TargetPool

EMPTY_BODY = b"[]\n"
Rows = npt.NDArray[np.intp]


# --- slices ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """The rows of a pool by scraper: those of scraper i are ``rows[bounds[i]:bounds[i + 1]]``, ascending."""

    pool: TargetPool
    rows: Rows
    bounds: list[int]

    def of(self, scraper: int) -> Rows:
        return self.rows[self.bounds[scraper] : self.bounds[scraper + 1]]

    def count(self, scraper: int) -> int:
        return self.bounds[scraper + 1] - self.bounds[scraper]

    def body(self, scraper: int) -> bytes:
        """The slice as bytes."""
        return body_of(self.pool, self.of(scraper))


def body_of(pool: TargetPool, rows: Rows) -> bytes:
    """A slice with these ascending rows, as bytes. Rows that follow each other in the pool are one piece of its blob."""
    if not rows.size:
        return EMPTY_BODY
    breaks = np.flatnonzero(np.diff(rows) != 1)
    starts = pool.bounds[rows[np.r_[0, breaks + 1]]].tolist()
    ends = pool.bounds[rows[np.r_[breaks, len(rows) - 1]] + 1].tolist()
    ends[-1] -= len(SEPARATOR)
    blob = pool.blob
    pieces = [blob[start:end] for start, end in zip(starts, ends, strict=True)]
    return b"".join((b"[\n", *pieces, b"\n]\n"))


def shares(placement: Placement) -> Shares:
    scrapers, replicas = len(placement.scrapers), placement.owners.shape[1]
    flat = placement.owners.reshape(-1) + 1  # 0: nobody
    small = flat.astype(np.uint16) if scrapers < 2**16 - 1 else flat
    order = np.argsort(small, kind="stable")  # a radix sort for 16 bits
    ends = np.cumsum(np.bincount(small, minlength=scrapers + 1)).tolist()
    return Shares(placement.pool, order // replicas if replicas > 1 else order, ends)


def bodies(placement: Placement) -> Iterator[tuple[int, bytes, int]]:
    """For each scraper of the placement, in order: its index, its slice as bytes, the number of targets in it."""
    found = shares(placement)
    return ((i, found.body(i), found.count(i)) for i in range(len(placement.scrapers)))


def same_body(old: TargetPool, one: Rows, new: TargetPool, other: Rows) -> bool:
    """Whether rows ``one`` of ``old`` and ``other`` of ``new`` are the same bytes: the same fragments, by their digests."""
    if len(one) != len(other):
        return False
    if old is new:
        return bool((one == other).all())
    return bool((old.digests[one] == new.digests[other]).all())


# --- differences -----------------------------------------------------------------------------------------------------


def compare(old: Placement | None, new: Placement) -> Plan:
    """Who gives how many targets to whom; ``old`` None: everything is new. Targets are matched by id."""
    names = sorted({s.id for s in new.scrapers} | ({s.id for s in old.scrapers} if old else set()))
    index = {name: i for i, name in enumerate(names)}
    now = _named(new, index)
    before = np.full((len(new.pool), 1), -1, dtype=np.int32)
    if old is not None:
        row = np.arange(len(new.pool)) if old.pool is new.pool else rows_of(old.pool, new.pool.ids)
        before = np.vstack([_named(old, index), np.full((1, old.owners.shape[1]), -1, dtype=np.int32)])[row]
    gained, lost = _only_in(now, before), _only_in(before, now)
    moves = []
    nobody = len(names)
    for k in range(max(gained.shape[1], lost.shape[1])):
        to = gained[:, k] if k < gained.shape[1] else np.full(len(now), -1, dtype=np.int32)
        of = lost[:, k] if k < lost.shape[1] else np.full(len(now), -1, dtype=np.int32)
        rows = np.flatnonzero((to >= 0) | (of >= 0))
        pairs = np.where(of[rows] < 0, nobody, of[rows]).astype(np.int64) * (nobody + 1)
        pairs += np.where(to[rows] < 0, nobody, to[rows])
        different, which, counts = np.unique(pairs, return_inverse=True, return_counts=True)
        loads = counts if new.loads is None else np.bincount(which, weights=new.loads[rows]).astype(np.int64)
        moves += list(zip(different.tolist(), counts.tolist(), loads.tolist(), strict=True))
    total: dict[int, tuple[int, int]] = {}
    for pair, count, load in moves:
        counted, carried = total.get(pair, (0, 0))
        total[pair] = counted + count, carried + load
    called = [*names, None]
    return Plan(
        tuple(
            Move(called[pair // (nobody + 1)], called[pair % (nobody + 1)], count, load)
            for pair, (count, load) in sorted(total.items())
        ),
        _moved(new.pool, names, lost, gained),
    )


def _moved(pool: TargetPool, names: list[str], lost: Owners, gained: Owners) -> Moved | None:
    rows = np.flatnonzero((lost[:, 0] >= 0) & (gained[:, 0] >= 0))
    return Moved(tuple(names), pool.ids[rows], lost[rows, 0], gained[rows, 0]) if len(rows) else None


def _named(placement: Placement, index: dict[str, int]) -> Owners:
    """Owners by number of their name; -1 stays."""
    numbers = np.array([*(index[s.id] for s in placement.scrapers), -1], dtype=np.int32)
    return numbers[placement.owners]


def rows_of(pool: TargetPool, ids: Keys) -> Rows:
    """For each id its row in ``pool``, the number of rows when it has none: shape of ``ids``."""
    known, order = pool.by_id()
    at = np.searchsorted(known, ids)
    at[at == len(known)] = 0
    rows = np.full(len(ids), len(pool), dtype=np.intp)
    if len(known):
        same = known[at] == ids
        rows[same] = at[same] if order is None else order[at[same]]
    return rows


def _only_in(one: Owners, other: Owners) -> Owners:
    """The owners in each row of ``one`` that its row of ``other`` lacks, -1 for the rest; ascending, -1 last."""
    shared = (one[:, :, None] == other[:, None, :]).any(axis=2)
    left = np.where(shared, -1, one)
    if left.shape[1] == 1:
        return left
    most = np.iinfo(np.int32).max
    left = np.sort(np.where(left < 0, most, left), axis=1)
    return np.where(left == most, -1, left)
