"""The difference of two placements. Pure."""

from __future__ import annotations

import numpy as np

from promring.core.joined import carried_over
from promring.model import Keys, Move, Moved, Owners, Placement, Plan


def compare(old: Placement | None, new: Placement) -> Plan:
    """Who gives how many targets to whom; ``old`` None: everything is new. Targets are matched by id."""
    names = sorted({s.id for s in new.scrapers} | ({s.id for s in old.scrapers} if old else set()))
    index = {name: i for i, name in enumerate(names)}
    now = _named(new, index)
    before = np.full((len(new.pool), 1), -1, dtype=np.int32)
    if old is not None:
        before = carried_over(_named(old, index), old.pool, new.pool, -1)
    loads, ids = new.loads, new.pool.ids
    if now.shape == before.shape:  # of a million targets few move at a time
        changed = np.flatnonzero((now != before).any(axis=1))
        now, before, ids, loads = now[changed], before[changed], ids[changed], None if loads is None else loads[changed]
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
        summed = counts if loads is None else np.bincount(which, weights=loads[rows]).astype(np.int64)
        moves += list(zip(different.tolist(), counts.tolist(), summed.tolist(), strict=True))
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
        _moved(ids, names, lost, gained),
    )


def _moved(ids: Keys, names: list[str], lost: Owners, gained: Owners) -> Moved | None:
    rows = np.flatnonzero((lost[:, 0] >= 0) & (gained[:, 0] >= 0))
    return Moved(tuple(names), ids[rows], lost[rows, 0], gained[rows, 0]) if len(rows) else None


def _named(placement: Placement, index: dict[str, int]) -> Owners:
    """Owners by number of their name; -1 stays."""
    numbers = [index[s.id] for s in placement.scrapers]
    if numbers == list(range(len(numbers))):
        return placement.owners
    return np.array([*numbers, -1], dtype=np.int32)[placement.owners]


def _only_in(one: Owners, other: Owners) -> Owners:
    """The owners in each row of ``one`` that its row of ``other`` lacks, -1 for the rest; ascending, -1 last."""
    shared = (one[:, :, None] == other[:, None, :]).any(axis=2)
    left = np.where(shared, -1, one)
    if left.shape[1] == 1:
        return left
    most = np.iinfo(np.int32).max
    left = np.sort(np.where(left < 0, most, left))
    return np.where(left == most, -1, left)
