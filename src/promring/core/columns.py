"""The columns of a pool, put together from heads: a head is a fragment up to where the row's id is put in.

A fragment ends with its id, so a row that gets another id, or whose id is not known yet, is its head and another end. Pure.
"""

from __future__ import annotations

from array import array
from binascii import hexlify
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import itemgetter

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest as xxh3_64

from promring.core.fragment import SEAL, encode_lines
from promring.model import SEPARATOR, Bounds, Keys, Rows, TargetPool

AT_ONCE = 4096
"""Rows that are put together by one call, which holds the interpreter."""
_END = np.dtype([("before", f"S{1 + len(SEAL)}"), ("id", "S16"), ("after", f"S{3 + len(SEPARATOR)}")])
_AFTER = b'"}}' + SEPARATOR
_LABELS = b',"labels":'
_NO_LABELS = b"{}"
_but_braces: Callable[[bytes], bytes] = itemgetter(slice(0, -2))


# --- bare fragments, heads and sealed ones ---------------------------------------------------------------------------


def bare_fragments(targets: Sequence[msgspec.Struct]) -> tuple[list[bytes], bool]:
    """As they are listed, without ids; whether some have no labels. ``targets``: with the fields of ``Whole``."""
    encoded = encode_lines(targets)  # a line break or quote within a text is escaped: what is replaced is no text
    bare = encoded.replace(_LABELS + _NO_LABELS + b"}\n", b"}\n")
    return bare.splitlines(), len(bare) != len(encoded)


def bare(head: bytes) -> bytes:
    return head.removesuffix(_LABELS) + b"}" if head.endswith(_LABELS) else head + b"}}"


def heads_of_labelled(listed: Sequence[bytes], rows: list[int]) -> list[bytes]:
    """Of bare fragments that all have labels."""
    return list(map(_but_braces, map(listed.__getitem__, rows)))


def heads_of_bare(listed: Sequence[bytes], rows: list[int]) -> list[bytes]:
    some = map(listed.__getitem__, rows)
    return [_but_braces(one) if one.endswith(b"}}") else one[:-1] + _LABELS for one in some]


def heads_of(pool: TargetPool) -> list[bytes]:
    ends = pool.bounds.tolist()
    blob, cut = pool.blob, _END.itemsize
    return [blob[start : end - cut] for start, end in pairwise(ends)]


def chosen(texts: Sequence[bytes], rows: list[int]) -> list[bytes]:
    return list(map(texts.__getitem__, rows))


def some_unlabelled(pool: TargetPool) -> bool:
    """Whether some of its targets have no labels but their ids."""
    begins = np.frombuffer(pool.blob, dtype=np.uint8)[pool.bounds[1:] - _END.itemsize]
    return bool((begins == ord("{")).any())


def sealed(heads: Callable[[list[int]], list[bytes]], order: Rows, ids: Keys, *, unlabelled: bool) -> tuple[bytes, Bounds]:
    """The blob and bounds of rows in this order, with these ids. ``heads``: of some of them; ``unlabelled``: whether some
    have no labels.
    """
    bounds: Bounds = np.zeros(len(order) + 1, dtype=np.int64)
    pieces: list[bytes] = []
    for start in range(0, len(order), AT_ONCE):
        some = heads(order[start : start + AT_ONCE].tolist())
        both = [b""] * (2 * len(some))
        both[0::2], both[1::2] = some, _ends(ids[start : start + AT_ONCE])
        lengths = np.fromiter(map(len, some), dtype=np.int64, count=len(some)) + _END.itemsize
        bounds[start + 1 : start + 1 + len(some)] = lengths
        piece = b"".join(both)
        pieces.append(piece.replace(_LABELS + b"," + SEAL, _LABELS + b"{" + SEAL) if unlabelled else piece)
    return b"".join(pieces), np.cumsum(bounds, out=bounds)


def _ends(ids: Keys) -> list[bytes]:
    ends = np.empty(len(ids), dtype=_END)
    ends["before"], ends["after"] = b"," + SEAL, _AFTER
    ends["id"] = np.frombuffer(hexlify(ids.astype(">u8").tobytes()), dtype="S16")
    found: list[bytes] = ends.view(f"S{_END.itemsize}").tolist()
    return found


# --- rows of one key -------------------------------------------------------------------------------------------------


def ties_of(ordered: Keys) -> list[slice] | None:
    """Where an ascending column has equal values; None when nowhere."""
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    if not same.size:
        return None
    starts = same[np.r_[True, np.diff(same) > 1]]
    ends = same[np.r_[np.diff(same) > 1, True]] + 2
    return [slice(a, b) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def with_ties_settled(order: Rows, ties: list[slice], settle: Callable[[list[int]], Iterable[int]]) -> tuple[Rows, int]:
    """``order`` with the rows of each tie as ``settle`` gives them. How many it left out."""
    rows = order.tolist()
    kept: list[int] = []
    done = 0
    for tie in ties:
        kept += rows[done : tie.start]
        kept += settle(rows[tie])
        done = tie.stop
    kept += rows[done:]
    return np.array(kept), len(rows) - len(kept)


def without_copies(listed: Callable[[int], bytes], rows: list[int]) -> Iterable[int]:
    """In order of their bytes, equal ones once."""
    return dict(sorted((listed(row), row) for row in rows)).values()


def ids_of(core: Keys, digests: Keys) -> tuple[Keys, Keys]:
    """Ids, and digests that tell them apart, too. ``core``, the hashes of the identities, where these are all different;
    rows of one value get the hash of it and of their own digest. So a target that is listed once keeps its id whatever its
    other labels are, and one of several whatever the others are: a scraper begins anew with a target whose id is another.
    """
    order = np.argsort(core)
    ties = ties_of(core[order])
    if ties is None:
        return core, digests
    ids, digests = core.copy(), digests.copy()
    for row in (row for tie in ties for row in order[tie].tolist()):
        ids[row] = digests[row] = xxh3_64(f"{int(core[row]):016x}#{int(digests[row]):016x}".encode())
    return ids, digests


def column(values: array[int]) -> Keys:
    return np.array(values)


def joined(columns: list[Keys]) -> Keys:
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.uint64)
