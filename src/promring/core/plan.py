"""From a placement to what each scraper gets, and the difference of two placements.

A slice is a file_sd list in JSON with one target a line, in the order of the pool's keys: easy to grep, a change is a
line in a diff, and the bytes are the same in every process.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from promring.model import Keys, Move, Placement, Plan

EMPTY_BODY = b"[]\n"


def bodies(placement: Placement) -> Iterator[tuple[int, bytes, int]]:
    """For each scraper of the placement, in order: its index, its slice as bytes, the number of targets in it."""
    fragments = placement.pool.fragments
    small = placement.owners.astype(np.uint16) if len(placement.scrapers) < 2**16 else placement.owners
    order = np.argsort(small, kind="stable")  # a radix sort for 16 bits
    ends = np.cumsum(np.bincount(small, minlength=len(placement.scrapers))).tolist()
    start = 0
    for i, end in enumerate(ends):
        rows = order[start:end].tolist()
        yield i, _body(list(map(fragments.__getitem__, rows))), len(rows)
        start = end


def _body(fragments: list[bytes]) -> bytes:
    return b"[\n" + b",\n".join(fragments) + b"\n]\n" if fragments else EMPTY_BODY


def compare(old: Placement | None, new: Placement) -> Plan:
    """Who gives how many targets to whom; ``old`` None: everything is new.

    Targets are matched by key, by identity where keys repeat.
    """
    ids = [s.id for s in new.scrapers]
    if old is None:
        counts = np.bincount(new.owners, minlength=len(ids)).tolist()
        return Plan(tuple(Move(None, d, c) for d, c in zip(ids, counts, strict=True) if c))
    names = sorted({*ids, *(s.id for s in old.scrapers)})
    index = {name: i for i, name in enumerate(names)}
    old_owner = np.array([index[s.id] for s in old.scrapers], dtype=np.int64)[old.owners]
    new_owner = np.array([index[i] for i in ids], dtype=np.int64)[new.owners]
    before = np.full(len(new.pool), len(names), dtype=np.int64)  # len(names): was not in the old pool
    if old.pool is new.pool:
        before = old_owner
    elif not (_distinct(old.pool.keys) and _distinct(new.pool.keys)):  # hash_labels give many targets one key
        owner_of = dict(zip(old.pool.identities, old_owner.tolist(), strict=True))
        before = np.array([owner_of.get(name, len(names)) for name in new.pool.identities], dtype=np.int64)
    elif len(old.pool):
        at = np.minimum(np.searchsorted(old.pool.keys, new.pool.keys), len(old.pool) - 1)
        same = old.pool.keys[at] == new.pool.keys
        before[same] = old_owner[at[same]]
    changed = before != new_owner
    pairs, counts_ = np.unique(before[changed] * len(names) + new_owner[changed], return_counts=True)
    moves = []
    for pair, count in zip(pairs.tolist(), counts_.tolist(), strict=True):
        source, destination = divmod(pair, len(names))
        moves.append(Move(names[source] if source < len(names) else None, names[destination], count))
    return Plan(tuple(moves))


def _distinct(keys: Keys) -> bool:
    """Whether ascending ``keys`` have no two equal ones."""
    return bool((keys[1:] != keys[:-1]).all())
