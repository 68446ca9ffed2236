"""What two versions of a long list have in common, as stretches: so many rows, from there in the old to here in the new one.

``between`` finds them in columns, ``of_lines`` in bytes that are lines. Both trim what is equal at the beginning and the
end, which is nearly all of a list in which one row changed, and match the rest by the values of the rows. They are exact:
what a stretch covers is the same, and in the same order, in both versions; what is covered by none has to be told.

``Rope`` is the way back: a buffer as pieces of a file, to which stretches are applied without reading the file. So a journal
of a thousand changes is read once, at the end.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Stretches = npt.NDArray[np.int64]
"""Shape (n, 3): where each begins in the old version and in the new one, and how long it is. Ascending in both."""
Column = npt.NDArray[np.uint64] | npt.NDArray[np.int64] | npt.NDArray[np.int32] | npt.NDArray[np.float64]
Values = npt.NDArray[np.int64]
STRETCHES_MOST = 20_000
CHUNK_BYTES = 1 << 20
_ODD = np.uint64(0x9E3779B97F4A7C15)


# --- what two versions have in common --------------------------------------------------------------------------------


def between(old: Sequence[Column], new: Sequence[Column]) -> Stretches | None:
    """Of rows that are columns of one length; None when there are too many to be worth it."""
    first = _alike(old, new)
    rest = min(len(old[0]), len(new[0])) - first
    last = _alike([c[len(c) - rest :][::-1] for c in old], [c[len(c) - rest :][::-1] for c in new])
    middle = _matched([c[first : len(c) - last] for c in old], [c[first : len(c) - last] for c in new])
    if middle is None:
        return None
    ends = [[len(old[0]) - last, len(new[0]) - last, last]]
    found = np.concatenate([_stretches([[0, 0, first]]), middle + np.array([first, first, 0]), _stretches(ends)])
    return found[found[:, 2] > 0]


def of_lines(old: bytes, new: bytes) -> Stretches | None:
    """Of bytes, in bytes. What is in no stretch begins and ends with a line."""
    if old is new:
        return _stretches([[0, 0, len(new)]] if new else [])
    first = _alike_bytes(old, new)
    first = new.rfind(b"\n", 0, first) + 1
    last = _alike_bytes_at_end(old, new, min(len(old), len(new)) - first)
    at = new.find(b"\n", len(new) - last)
    last = len(new) - at - 1 if at >= 0 else 0
    olds, news = (part[first : len(part) - last].splitlines(keepends=True) for part in (old, new))
    lines = between(*([np.fromiter(map(hash, some), dtype=np.int64, count=len(some))] for some in (olds, news)))
    if lines is None:
        return None
    starts = (np.cumsum([first, *map(len, some)], dtype=np.int64) for some in (olds, news))
    found = [_stretches([[0, 0, first]]), in_bytes(lines, *starts), _stretches([[len(old) - last, len(new) - last, last]])]
    every = np.concatenate(found)
    every = every[every[:, 2] > 0]
    return every if same_bytes(every, old, new) else None


def in_bytes(rows: Stretches, old: Values, new: Values) -> Stretches:
    """Stretches of rows as bytes; ``old``, ``new``: where each row begins, and the last one ends."""
    starts, ends = old[rows[:, 0]], old[rows[:, 0] + rows[:, 2]]
    return np.stack([starts, new[rows[:, 1]], ends - starts], axis=1)


def same_bytes(found: Stretches, old: bytes, new: bytes) -> bool:
    """Whether the two are the same there."""
    view = memoryview(old)
    return all(new.startswith(view[o : o + size], n) for o, n, size in found.tolist())


def left_of(found: Stretches, size: int) -> Values:
    """Shape (n, 2): the parts of the new version, of this size, that no stretch covers: from, to."""
    starts = np.append(0, found[:, 1] + found[:, 2])
    ends = np.append(found[:, 1], size)
    left = np.stack([starts, ends], axis=1)
    return left[starts < ends]


def _stretches(rows: list[list[int]]) -> Stretches:
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _alike(old: Sequence[Column], new: Sequence[Column]) -> int:
    """How many rows are the same at the beginning."""
    rows = min(len(old[0]), len(new[0]))
    for one, other in zip(old, new, strict=True):
        differ = one[:rows] != other[:rows]
        rows = int(differ.argmax()) if differ.any() else rows
    return rows


def _alike_bytes(old: bytes, new: bytes) -> int:
    most = min(len(old), len(new))
    for at in range(0, most, CHUNK_BYTES):
        one, other = (part[at : min(at + CHUNK_BYTES, most)] for part in (old, new))
        if one != other:
            return at + int((np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8)).argmax())
    return most


def _alike_bytes_at_end(old: bytes, new: bytes, most: int) -> int:
    for at in range(0, most, CHUNK_BYTES):
        size = min(CHUNK_BYTES, most - at)
        one, other = (part[len(part) - at - size : len(part) - at] for part in (old, new))
        if one != other:
            return at + int((np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8))[::-1].argmax())
    return most


def _matched(old: Sequence[Column], new: Sequence[Column]) -> Stretches | None:
    """By the values of the rows, wherever they are."""
    if not len(old[0]) or not len(new[0]):
        return _stretches([])
    codes, wanted = _codes(old), _codes(new)
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    at = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    rows = order[at]
    same = codes[at] == wanted
    for one, other in zip(old, new, strict=True):
        same &= one[rows] == other
    here = np.flatnonzero(same)
    there = rows[here]
    if not len(here):
        return _stretches([])
    breaks = np.flatnonzero((np.diff(here) != 1) | (np.diff(there) != 1)) + 1
    starts = np.append(0, breaks)
    if len(starts) > STRETCHES_MOST:
        return None
    return _in_order(np.stack([there[starts], here[starts], np.diff(np.append(starts, len(here)))], axis=1))


def _codes(columns: Sequence[Column]) -> npt.NDArray[np.uint64]:
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        bits = column.view(np.uint64) if column.dtype.itemsize == 8 else column.astype(np.uint64)
        mixed = (mixed ^ bits) * _ODD
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _in_order(found: Stretches) -> Stretches:
    """Those that are ascending in both versions: the long ones first, others where they fit in between."""
    ends = found[:, 0] + found[:, 2]
    if (found[1:, 0] >= ends[:-1]).all():
        return found
    chosen: list[tuple[int, int, int]] = []
    """New, old, length."""
    for old, new, size in found[np.argsort(-found[:, 2], kind="stable")].tolist():
        at = bisect(chosen, (new, old, size))
        after_last = at == 0 or chosen[at - 1][1] + chosen[at - 1][2] <= old
        if after_last and (at == len(chosen) or old + size <= chosen[at][1]):
            chosen.insert(at, (new, old, size))
    return _stretches([[old, new, size] for new, old, size in chosen])


# --- the way back ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Rope:
    """A buffer in pieces: where each begins in a file, and how many bytes it has."""

    starts: Values
    sizes: Values

    @classmethod
    def of(cls, start: int, size: int) -> Rope:
        return cls(np.array([start], dtype=np.int64), np.array([size], dtype=np.int64))

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def patched(self, found: Stretches, start: int, size: int) -> Rope:
        """The next version: these stretches of this one, in bytes, and between them what the file has at ``start``. Raises
        ValueError when they do not belong to it.
        """
        ends = np.cumsum(self.sizes)
        length, limit = int(ends[-1]) if len(ends) else 0, start + size
        pieces: list[tuple[Values, Values]] = []
        told = 0
        """How much of the new version is there already."""
        for old, new, run in found.tolist():
            if run <= 0 or not 0 <= old <= length - run or new < told or start + new - told > limit:
                raise ValueError("corrupt: a change of what is not there")
            if new > told:
                pieces.append((np.array([start]), np.array([new - told])))
                start += new - told
            pieces.append(self._part(ends, old, run))
            told = new + run
        pieces.append((np.array([start]), np.array([limit - start])))
        return Rope(*(np.concatenate(columns).astype(np.int64) for columns in zip(*pieces, strict=True)))._joined()

    def _part(self, ends: Values, old: int, size: int) -> tuple[Values, Values]:
        first, last = int(np.searchsorted(ends, old, side="right")), int(np.searchsorted(ends, old + size, side="left"))
        starts, sizes = self.starts[first : last + 1].copy(), self.sizes[first : last + 1].copy()
        skipped = old - int(ends[first] - self.sizes[first])
        starts[0] += skipped
        sizes[0] -= skipped
        sizes[-1] -= int(ends[last]) - (old + size)
        return starts, sizes

    def _joined(self) -> Rope:
        """With pieces that follow each other in the file as one."""
        kept = self.sizes > 0
        starts, sizes = self.starts[kept], self.sizes[kept]
        if not len(starts):
            return Rope(starts, sizes)
        first = np.append(True, starts[1:] != starts[:-1] + sizes[:-1])
        return Rope(starts[first], np.add.reduceat(sizes, np.flatnonzero(first)))

    def read(self, read: Callable[[int, int], bytes]) -> bytes:
        """``read``: so many bytes from there."""
        return b"".join([read(start, size) for start, size in zip(self.starts.tolist(), self.sizes.tolist(), strict=True)])


def decoded(packed: bytes) -> Stretches:
    """Raises ValueError when they are none."""
    found = np.frombuffer(packed, dtype="<i8").astype(np.int64)
    if len(found) % 3 or (found < 0).any() or (found > 1 << 40).any():
        raise ValueError("corrupt: stretches of a change")
    return found.reshape(-1, 3)


def encoded(found: Stretches) -> bytes:
    return found.astype("<i8").tobytes()


def literal(left: Values, whole: bytes) -> bytes:
    """The bytes of the new version that are in no stretch."""
    return b"".join([whole[start:end] for start, end in left.tolist()])


def rows_left(left: Values) -> npt.NDArray[np.intp]:
    """The rows of the new version that are in no stretch."""
    if not len(left):
        return np.empty(0, dtype=np.intp)
    return np.concatenate([np.arange(start, end) for start, end in left.tolist()])
