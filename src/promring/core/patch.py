"""A merged pool when one of the lists it is made of has changed a little: only what changed is looked at. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from promring.core.pool import CONFLICTS_NAMED, merge
from promring.model import Keys, Rows, TargetPool

FEW = 8
"""A list is patched when at most one row in so many is another one."""


def merge_again(pools: Sequence[TargetPool], before: Sequence[TargetPool], merged: TargetPool) -> TargetPool:
    """``merge`` of parts of one source, from what it gave for those ``before``."""
    shared = merged.duplicates != sum(pool.duplicates for pool in before)  # two lists have the same entry
    if shared or len(pools) != len(before) or len(pools) < 2:
        return merge(pools, ranked=False)
    for old, new in zip(before, pools, strict=True):
        patched = merged if old is new else _patched(merged, old, new)
        if patched is None:
            return merge(pools, ranked=False)
        merged = patched
    remarks = tuple(remark for pool in pools for remark in pool.remarks)[:CONFLICTS_NAMED]
    return replace(merged, refused=sum(pool.refused for pool in pools), remarks=remarks)


def _patched(merged: TargetPool, old: TargetPool, new: TargetPool) -> TargetPool | None:
    """With the rows of ``new`` in place of those of ``old``. None where that is not all: many rows differ, or two targets
    have one identity, before or after.
    """
    if any(pool.ids is not pool.keys or pool.zones is not None for pool in (merged, old, new)):
        return None
    gone, come = _not_in(old, new), _not_in(new, old)
    if (len(gone) + len(come)) * FEW > len(merged):
        return None
    leaving = np.searchsorted(merged.keys, old.keys[gone])
    if not _equal(merged.keys, leaving, old.keys[gone]).all():
        return None
    stays = np.ones(len(merged), dtype=bool)
    stays[leaving] = False
    kept = merged.keys[stays]
    into = np.searchsorted(kept, new.keys[come])
    if _equal(kept, into, new.keys[come]).any():
        return None
    bytes_of = [new.blob[new.bounds[row] : new.bounds[row + 1]] for row in come.tolist()]
    lengths = np.insert(np.diff(merged.bounds)[stays], into, [len(one) for one in bytes_of])
    keys = np.insert(kept, into, new.keys[come])
    return TargetPool(
        keys,
        keys,
        np.insert(merged.digests[stays], into, new.digests[come]),
        _spliced(merged, leaving, np.flatnonzero(stays), into, bytes_of),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        duplicates=merged.duplicates - old.duplicates + new.duplicates,
    )


def _not_in(one: TargetPool, other: TargetPool) -> Rows:
    """The rows of ``one`` that ``other`` has not, or has with other labels."""
    at = np.searchsorted(other.keys, one.keys)
    same = _equal(other.keys, at, one.keys) & _equal(other.digests, at, one.digests)
    return np.flatnonzero(~same)


def _equal(column: Keys, at: Rows, values: Keys) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether ``column`` has these values there. Beyond its end belongs what is greater than all of it."""
    if not len(column):
        return np.zeros(len(values), dtype=bool)
    return np.asarray(column[np.minimum(at, len(column) - 1)] == values)


def _spliced(merged: TargetPool, leaving: Rows, kept: Rows, into: Rows, come: Sequence[bytes]) -> bytes:
    """The fragments of ``merged`` without the rows that are ``leaving``, and with those that ``come`` before the rows
    ``into`` of what is ``kept``.
    """
    places = np.append(kept, len(merged))[into].tolist()
    cuts = [(row, 0, fragment) for row, fragment in zip(places, come, strict=True)]  # in order of key, and stay so
    cuts = sorted([*cuts, *((row, 1, b"") for row in leaving.tolist())], key=lambda cut: cut[:2])
    pieces: list[memoryview | bytes] = []
    blob, done = memoryview(merged.blob), 0  # no copy of its own for each piece
    for row, drops, fragment in cuts:
        pieces += [blob[merged.bounds[done] : merged.bounds[row]], fragment]
        done = row + drops
    pieces.append(blob[merged.bounds[done] :])
    return b"".join(pieces)
