"""From a placement to what each scraper gets.

A slice is a file_sd list in JSON with one target a line, in the order of the pool's keys: easy to grep, a change is a
line in a diff, and the bytes are the same in every process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from promring.model import SEPARATOR, Keys, Loads, Placement, TargetPool

EMPTY_BODY = b"[]\n"
Rows = npt.NDArray[np.intp]


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
    """A slice with these ascending rows, as bytes."""
    return bodies_of(pool, [rows])[0]


def bodies_of(pool: TargetPool, parts: Sequence[Rows]) -> list[bytes]:
    """As ``body_of`` for each of the ``parts``, all at once: of many short slices each would cost more than its bytes do.

    Rows that follow each other in the pool are one piece of its blob. Pieces are views, so that the memory is read when they
    are joined, one after the other without a look-up between them: three times as fast as copies.
    """
    rows, ends = (
        np.concatenate([np.empty(0, dtype=np.intp), *parts]),
        np.cumsum([len(part) for part in parts], dtype=np.intp),
    )
    begins = np.append(True, np.diff(rows) != 1)[: len(rows)]
    begins[ends[:-1][ends[:-1] < len(rows)]] = True
    firsts = np.flatnonzero(begins)
    starts = pool.bounds[rows[firsts]].tolist()
    stops = pool.bounds[rows[np.append(firsts[1:], len(rows))[: len(firsts)] - 1] + 1].tolist()
    blob, bodies, done = memoryview(pool.blob), list[bytes](), 0
    for until in np.searchsorted(firsts, ends).tolist():
        if done == until:
            bodies.append(EMPTY_BODY)
            continue
        stops[until - 1] -= len(SEPARATOR)
        pieces = [blob[start:stop] for start, stop in zip(starts[done:until], stops[done:until], strict=True)]
        bodies.append(b"".join((b"[\n", *pieces, b"\n]\n")))
        done = until
    return bodies


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


def same_bodies(old: Shares, was: npt.NDArray[np.intp], new: Shares) -> npt.NDArray[np.bool_]:
    """For each scraper of ``new`` whether its slice has the same bytes, the same fragments by their digests, as that of
    scraper ``was`` of ``old``; -1: it had none. Shapes: those scrapers.
    """
    begins, before = np.array(new.bounds), np.array(old.bounds)
    counts, had = np.diff(begins), np.append(np.diff(before), -1)[was]  # -1: as many as no slice has
    same: npt.NDArray[np.bool_] = counts == had
    asked = np.flatnonzero(same)
    sizes = counts[asked]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = new.rows[np.repeat(begins[asked], sizes) + within]
    others = old.rows[np.repeat(before[was[asked]], sizes) + within]
    differ = rows != others if old.pool is new.pool else new.pool.digests[rows] != old.pool.digests[others]
    same[np.repeat(asked, sizes)[differ]] = False
    return same


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


def with_more(placement: Placement, more: Iterable[tuple[int, str]], capacities: Loads | None) -> Placement:
    """``placement`` with further columns of owners. ``more``: the id of a target, and the scraper that gets it besides, as
    far as ``capacities`` (int64, the most load of each scraper; None: no bound) has room.
    """
    keys, names = zip(*more, strict=True)
    index = {s.id: i for i, s in enumerate(placement.scrapers)}
    room = None if capacities is None else capacities - np.array(list(placement.carried().values()))
    added: dict[int, list[int]] = {}
    for row, name in zip(rows_of(placement.pool, np.array(keys, dtype=np.uint64)).tolist(), names, strict=True):
        number = index.get(name)
        if row >= len(placement.pool) or number is None or number in placement.owners[row] or number in added.get(row, ()):
            continue
        load = 1 if placement.loads is None else int(placement.loads[row])
        if room is None or load <= room[number]:
            added.setdefault(row, []).append(number)
            if room is not None:
                room[number] -= load
    columns = np.full((len(placement.pool), max(map(len, added.values()), default=1)), -1, dtype=np.int32)
    for row, numbers in added.items():
        columns[row, : len(numbers)] = numbers
    return replace(placement, owners=np.concatenate([placement.owners, columns], axis=1))
