"""From listed groups to a ``TargetPool``: one of each source, and one of all sources together.

Promises: a pool depends on the order of the *sources* (the first one wins a target that two of them have), and on nothing
else: not on the order of groups or targets inside them, where equal targets with other labels are settled by the smaller
encoding.

A target's identity is ``__address__``, the labels that change what is scraped and the chosen ``hash_labels``. Its key on the
ring is ``xxh3_64`` of the UTF-8 identity, or of the ``hash_labels``. Other labels may change without a move.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_hexdigest
from xxhash import xxh3_64_intdigest as xxh3_64

from promring.model import SEPARATOR, Bounds, Keys, ListMark, TargetGroup, TargetPool

KEPT_LABELS = re.compile(r"__scheme__|__metrics_path__|__(param|scrape|meta)_.*")
"""Labels that begin with two underscores and still pass: Prometheus users rely on them (``failures.md`` A1)."""
REDIRECTING = ("__scheme__", "__metrics_path__")
_encode = msgspec.json.Encoder().encode

Rows = npt.NDArray[np.intp]


class Target(msgspec.Struct, frozen=True):
    """A fragment of a pool, decoded."""

    targets: tuple[str]
    labels: dict[str, str] = {}

    @property
    def address(self) -> str:
        return self.targets[0]

    def identity(self, hash_labels: Sequence[str] = ()) -> str:
        """The address, then ``\\0name\\0value`` for each label that makes it another target, in order of name."""
        return self.address + _suffix(self.labels.items(), hash_labels)


decode: Callable[[bytes], Target] = msgspec.json.Decoder(Target).decode
"""A fragment as a ``Target``."""


def target(pool: TargetPool, row: int) -> Target:
    return decode(pool.fragment(row))


def identities(pool: TargetPool) -> list[str]:
    """Of every row: long for a long pool."""
    return [decode(fragment).identity() for fragment in fragments(pool)]


def fragments(pool: TargetPool) -> Iterator[bytes]:
    ends = pool.bounds.tolist()
    return (pool.blob[start : end - len(SEPARATOR)] for start, end in pairwise(ends))


# --- one source ------------------------------------------------------------------------------------------------------


def pool_of(groups: Iterable[TargetGroup]) -> TargetPool:
    """Every address of every group. Of a target that is listed with other labels too, all rows stay: which one wins is
    settled by ``merge``.
    """
    listed: list[bytes] = []
    ids, digests = array("Q"), array("Q")
    for group in groups:
        suffix = _suffix(group.labels, ())
        tail = b"]" + (b',"labels":' + _encode(dict(group.labels)) if group.labels else b"") + b"}"
        for address in group.targets:
            fragment = b'{"targets":[' + _encode(address) + tail
            listed.append(fragment)
            ids.append(xxh3_64((address + suffix).encode()))
            digests.append(xxh3_64(fragment))
    known, digest = _column(ids), _column(digests)
    order = np.argsort(known, kind="stable")
    duplicates = 0
    if (ties := _ties(known[order])) is not None:
        order, duplicates = _without_copies(order, ties, listed)
    return _assemble(known[order], known[order], digest[order], [listed[i] for i in order.tolist()], duplicates)


def _without_copies(order: Rows, ties: list[slice], listed: list[bytes]) -> tuple[Rows, int]:
    """Rows of one identity in order of their bytes, equal ones once. How many were left out."""
    rows = order.tolist()
    kept: list[int] = []
    done = 0
    for tie in ties:
        kept += rows[done : tie.start]
        kept += {listed[i]: i for i in sorted(rows[tie], key=listed.__getitem__)}.values()
        done = tie.stop
    kept += rows[done:]
    return np.array(kept, dtype=np.intp), len(rows) - len(kept)


def mark_of(pool: TargetPool) -> ListMark:
    """The same for the same targets with the same labels."""
    return ListMark(len(pool), xxh3_64_hexdigest(pool.ids.tobytes() + pool.digests.tobytes()))


# --- all sources -----------------------------------------------------------------------------------------------------


def merge(
    pools: Sequence[TargetPool],
    hash_labels: Sequence[str] | None = None,
    zone_label: str | None = None,
    *,
    ranked: bool = True,
) -> TargetPool:
    """The pool of all ``pools``, each target once. ``ranked``: in order of precedence, else they are parts of one source,
    and what differs between them stays, as in ``pool_of``.

    ``zone_label`` names the label with the zone that a target asks for.
    """
    if len(pools) == 1 and not hash_labels and not zone_label and (not ranked or _ties(pools[0].ids) is None):
        return pools[0]
    listed = [fragment for pool in pools for fragment in fragments(pool)]
    digests = _joined([pool.digests for pool in pools])
    ids = keys = _joined([pool.ids for pool in pools])
    if hash_labels:
        ids, keys = _rekeyed(listed, hash_labels)
    rank = np.repeat(np.arange(len(pools)), [len(pool) for pool in pools])
    order = np.argsort(ids, kind="stable")
    duplicates, conflicts = sum(p.duplicates for p in pools), sum(p.conflicts for p in pools)
    if (ties := _ties(ids[order])) is not None:
        if ranked:
            order, more, conflicts_here = _first_of_each(order, ties, listed, rank, hash_labels or ())
            conflicts += conflicts_here
        else:
            order, more = _without_copies(order, ties, listed)
        duplicates += more
    if hash_labels:
        order = order[np.argsort(keys[order], kind="stable")]
    chosen = [listed[i] for i in order.tolist()]
    zones, names = _zones(chosen, zone_label) if zone_label else (None, ())
    settled = ids[order]
    by = keys[order] if hash_labels else settled
    return _assemble(by, settled, digests[order], chosen, duplicates, conflicts, zones, names)


def build_pool(
    sources: Sequence[Iterable[TargetGroup]], hash_labels: Sequence[str] | None = None, zone_label: str | None = None
) -> TargetPool:
    """Of listed groups at once."""
    return merge([pool_of(groups) for groups in sources], hash_labels, zone_label)


def _first_of_each(
    order: Rows, ties: list[slice], listed: list[bytes], rank: Rows, hash_labels: Sequence[str]
) -> tuple[Rows, int, int]:
    """Of rows with one identity the one of the first source, there the smaller bytes. How many were left out, and how many
    of those had other labels. Two identities with one hash both stay, in their own order.
    """
    rows = order.tolist()
    kept: list[int] = []
    done = conflicts = 0
    for tie in ties:
        kept += rows[done : tie.start]
        best: dict[str, int] = {}
        for i in sorted(rows[tie], key=lambda i: (rank[i], listed[i])):
            first = best.setdefault(decode(listed[i]).identity(hash_labels), i)
            conflicts += listed[i] != listed[first]
        kept += [best[name] for name in sorted(best)]
        done = tie.stop
    kept += rows[done:]
    return np.array(kept, dtype=np.intp), len(rows) - len(kept), conflicts


def _rekeyed(listed: list[bytes], hash_labels: Sequence[str]) -> tuple[Keys, Keys]:
    """Ids that tell ``hash_labels`` apart, and keys that are made of nothing else."""
    ids, keys = array("Q"), array("Q")
    for fragment in listed:
        one = decode(fragment)
        values = {**one.labels, "__address__": one.address}
        ids.append(xxh3_64(one.identity(hash_labels).encode()))
        keys.append(xxh3_64("\0".join(f"{name}\0{values.get(name, '')}" for name in hash_labels).encode()))
    return _column(ids), _column(keys)


def _zones(listed: list[bytes], label: str) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Index in the sorted names, for each row; the empty name is for targets that do not ask."""
    asked = [decode(fragment).labels.get(label, "") for fragment in listed]
    names = tuple(sorted(set(asked)))
    index = {name: i for i, name in enumerate(names)}
    return np.fromiter((index[name] for name in asked), dtype=np.int32, count=len(asked)), names


# --- columns ---------------------------------------------------------------------------------------------------------


def _assemble(
    keys: Keys,
    ids: Keys,
    digests: Keys,
    chosen: list[bytes],
    duplicates: int,
    conflicts: int = 0,
    zones: npt.NDArray[np.int32] | None = None,
    zone_names: tuple[str, ...] = (),
) -> TargetPool:
    lengths = np.fromiter(map(len, chosen), dtype=np.int64, count=len(chosen)) + len(SEPARATOR)
    bounds: Bounds = np.zeros(len(chosen) + 1, dtype=np.int64)
    np.cumsum(lengths, out=bounds[1:])
    blob = SEPARATOR.join(chosen) + (SEPARATOR if chosen else b"")
    if (keys == ids).all():
        keys = ids  # one array for both
    return TargetPool(keys, ids, digests, blob, bounds, zones, zone_names, duplicates, conflicts)


def _column(values: array[int]) -> Keys:
    return np.frombuffer(values, dtype=np.uint64) if values else np.empty(0, dtype=np.uint64)


def _joined(columns: list[Keys]) -> Keys:
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.uint64)


def _ties(ordered: Keys) -> list[slice] | None:
    """Where an ascending column has equal values; None when nowhere."""
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    if not same.size:
        return None
    starts = same[np.r_[True, np.diff(same) > 1]]
    ends = same[np.r_[np.diff(same) > 1, True]] + 2
    return [slice(a, b) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def _suffix(labels: Iterable[tuple[str, str]], hash_labels: Sequence[str]) -> str:
    """Labels in order of name; mostly the empty string."""
    return "".join(f"\0{n}\0{v}" for n, v in labels if n in REDIRECTING or n.startswith("__param_") or n in hash_labels)
