"""The columns of a pool, put together from heads: a head is a fragment up to where the row's id is put in.

A fragment ends with its id, so a row that gets another id, or whose id is not known yet, is its head and another end. Pure.
"""

from __future__ import annotations

from array import array
from binascii import hexlify
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest as xxh3_64

from promring.core.fragment import SEAL, SEALED_BYTES, encode_lines
from promring.model import SEPARATOR, Bounds, Keys, Rows, TargetPool

AT_ONCE = 32 * 1024
"""Rows that are put together by one call, which holds the interpreter."""
_END = np.dtype([("before", f"S{len(SEAL)}"), ("id", "S16"), ("after", f"S{3 + len(SEPARATOR)}")])
_AFTER = b'"}}' + SEPARATOR
_NO_LABELS = b',"labels":{'


# --- heads -----------------------------------------------------------------------------------------------------------


def heads_and_digests(targets: Sequence[msgspec.Struct]) -> tuple[list[bytes], Iterable[int]]:
    """``targets``: with the fields of ``Whole``."""
    encoded = encode_lines(targets)  # a line break or quote within a text is escaped: what is looked for is in no text
    digests = map(xxh3_64, encoded.replace(_NO_LABELS + b"}}\n", b"}\n").splitlines())
    heads = encoded.replace(b"}}\n", b",}}\n").replace(b"{,}}\n", b"{}}\n").split(b"}}\n")
    heads.pop()
    return heads, digests


def heads_of(pool: TargetPool) -> list[bytes]:
    ends = pool.bounds.tolist()
    blob, cut = pool.blob, SEALED_BYTES + len(SEPARATOR)
    return [blob[start : end - cut] for start, end in pairwise(ends)]


def bare(head: bytes) -> bytes:
    """The fragment as it was listed, without an id."""
    return head[:-1] + b"}}" if head.endswith(b",") else head.removesuffix(_NO_LABELS) + b"}"


def sealed(heads: Sequence[bytes], order: Rows, ids: Keys) -> tuple[bytes, Bounds]:
    """The blob of these rows of ``heads`` and its bounds. ``ids``: in that order."""
    bounds: Bounds = np.zeros(len(order) + 1, dtype=np.int64)
    pieces: list[bytes] = []
    for start in range(0, len(order), AT_ONCE):
        chosen = list(map(heads.__getitem__, order[start : start + AT_ONCE].tolist()))
        both = [b""] * (2 * len(chosen))
        both[0::2], both[1::2] = chosen, _ends(ids[start : start + AT_ONCE])
        pieces.append(b"".join(both))
        bounds[start + 1 : start + 1 + len(chosen)] = np.fromiter(map(len, chosen), dtype=np.int64, count=len(chosen))
    bounds[1:] += _END.itemsize
    return b"".join(pieces), np.cumsum(bounds, out=bounds)


def _ends(ids: Keys) -> list[bytes]:
    ends = np.empty(len(ids), dtype=_END)
    ends["before"], ends["after"] = SEAL, _AFTER
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
    return np.array(kept, dtype=np.intp), len(rows) - len(kept)


def without_copies(heads: Sequence[bytes], rows: list[int]) -> Iterable[int]:
    """In order of their bytes, equal ones once."""
    return dict(sorted((bare(heads[row]), row) for row in rows)).values()


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
    return np.frombuffer(values, dtype=np.uint64) if values else np.empty(0, dtype=np.uint64)


def joined(columns: list[Keys]) -> Keys:
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.uint64)
