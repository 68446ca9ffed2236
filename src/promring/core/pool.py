"""From listed groups to a ``TargetPool``: one of each source, and one of all sources together.

Promises: a pool depends on the order of the *sources* and on nothing else: not on the order of groups or targets inside
them.

Entries of one source that differ in any label are different targets, as in Prometheus; equal entries are one. Two sources
have the same target where its address and the labels that redirect a scrape agree: the first source wins, with all it has of
that target, and what lost is counted and named.

A target's key on the ring is ``xxh3_64`` of the UTF-8 text of address and redirecting labels, or of the chosen
``hash_labels``. Other labels may change without a move.

Each fragment ends with the label ``ID_LABEL``, which holds the row's id in 16 hex digits: scrapers show it among a target's
discovered labels whatever relabelling does, so that a target is found by what it is and not by what became of its address.
"""

from __future__ import annotations

from array import array
from binascii import hexlify
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_hexdigest
from xxhash import xxh3_64_intdigest as xxh3_64

from promring.core.fragment import ID_LABEL, SEAL, SEALED_BYTES, Target, Whole, decode, encode, fragments, suffix_of
from promring.model import SEPARATOR, Bounds, Fingerprint, Keys, TargetGroup, TargetPool

CONFLICTS_NAMED = 10

_NO_LABELS = b',"labels":{'

Rows = npt.NDArray[np.intp]


# --- one source ------------------------------------------------------------------------------------------------------


class Listed(NamedTuple):
    """Some addresses that share labels, none of them empty. ``suffix``: ``suffix_of`` these."""

    addresses: Sequence[str]
    labels: Mapping[str, str]
    suffix: str


def pool_of(groups: Iterable[TargetGroup]) -> TargetPool:
    """Every address of every group; equal entries once. Group labels must be sorted, none of them empty."""
    return pool_of_listed(Listed(group.targets, dict(group.labels), suffix_of(group.labels)) for group in groups)


def pool_of_listed(groups: Iterable[Listed]) -> TargetPool:
    """As ``pool_of``."""
    listed: list[bytes] = []
    keys, digests = array("Q"), array("Q")
    for addresses, labels, suffix in groups:
        if labels and len(addresses) == 1 and ID_LABEL not in labels:  # at once
            key, bare = xxh3_64((addresses[0] + suffix).encode()), encode(Whole(addresses, labels))
            listed.append(b'%b,%b%016x"}}' % (bare[:-2], SEAL, key))
            digests.append(xxh3_64(bare))
            keys.append(key)
            continue
        encoded = _labels(labels)
        bare = b'],"labels":{' + encoded + b"}}" if encoded else b"]}"
        sealed = (bare[:-2] + b"," if encoded else bare[:-1] + _NO_LABELS) + SEAL
        for address in addresses:
            key, begin = xxh3_64((address + suffix).encode()), b'{"targets":[' + encode(address)
            listed.append(b'%b%b%016x"}}' % (begin, sealed, key))
            digests.append(xxh3_64(begin + bare))
            keys.append(key)
    known, digest = _column(keys), _column(digests)
    order = np.argsort(known, kind="stable")
    duplicates = 0
    if (ties := _ties(known[order])) is not None:
        for row in (row for tie in ties for row in order[tie].tolist()):
            listed[row] = _bare(listed[row])
        order, duplicates = _without_copies(order, ties, listed)
    chosen = [listed[i] for i in order.tolist()]
    return _assemble(known[order], digest[order], chosen, _unsealed(chosen, ties), duplicates=duplicates)


def _labels(labels: Mapping[str, str]) -> bytes:
    """As JSON without the braces."""
    if ID_LABEL in labels:  # a slice may be a source
        labels = {name: value for name, value in labels.items() if name != ID_LABEL}
    return encode(labels)[1:-1] if labels else b""


def _unsealed(chosen: Sequence[bytes], ties: list[slice] | None) -> list[int]:
    """The rows of fragments without their ids; only where there were ties."""
    if ties is None:
        return []
    return [row for row, fragment in enumerate(chosen) if SEAL not in fragment[-SEALED_BYTES:]]


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


def fingerprint_of(pool: TargetPool) -> Fingerprint:
    """The same for the same targets with the same labels."""
    return Fingerprint(len(pool), xxh3_64_hexdigest(pool.ids.tobytes() + pool.digests.tobytes()))


def selected(pool: TargetPool, rows: Rows) -> TargetPool:
    """These ascending rows of a pool without two rows of one key."""
    return _assemble(pool.keys[rows], pool.digests[rows], [pool.fragment(row) for row in rows.tolist()], ())


# --- all sources -----------------------------------------------------------------------------------------------------


def merge(
    pools: Sequence[TargetPool],
    hash_labels: Sequence[str] | None = None,
    zone_label: str | None = None,
    *,
    ranked: bool = True,
    ranks: Sequence[int] | None = None,
) -> TargetPool:
    """The pool of all ``pools``, which are placed by their own identity (no ``hash_labels`` before). ``ranked``: they are
    sources in order of precedence; else parts of one source, and all that differs between them stays, as in ``pool_of``.
    ``ranks``: of each source, where some have the same: between those all that differs stays, too.

    ``zone_label`` names the label with the zone that a target asks for.
    """
    if len(pools) == 1 and not hash_labels and not zone_label:
        return pools[0]
    listed = [fragment for pool in pools for fragment in fragments(pool)]
    digests, keys = (_joined([column(pool) for pool in pools]) for column in (_digests, _keys))
    rank = np.repeat(np.arange(len(pools)) if ranks is None else np.array(ranks), [len(pool) for pool in pools])
    order = np.argsort(keys, kind="stable")
    duplicates, refused = sum(p.duplicates for p in pools), sum(p.refused for p in pools)
    lost = _Lost()
    if (ties := _ties(keys[order])) is not None:
        for row in (row for tie in ties for row in order[tie].tolist()):
            listed[row] = _bare(listed[row])
            digests[row] = xxh3_64(listed[row])
        if ranked:
            order, more = _of_first_source(order, ties, listed, rank, lost)
        else:
            order, more = _without_copies(order, ties, listed)
        duplicates += more
    core = keys[order]
    if hash_labels:
        by = _rekeyed([listed[i] for i in order.tolist()], hash_labels)
        again = np.argsort(by, kind="stable")
        order, core, by = order[again], core[again], by[again]
    chosen = [listed[i] for i in order.tolist()]
    bare = _unsealed(chosen, ties)
    zones, names = _zones(chosen, zone_label) if zone_label else (None, ())
    return replace(
        _assemble(core, digests[order], chosen, bare, by=by if hash_labels else None, duplicates=duplicates),
        zones=zones,
        zone_names=names,
        conflicts=lost.conflicts,
        conflicts_named=tuple(lost.named),
        refused=refused,
        remarks=tuple(remark for pool in pools for remark in pool.remarks)[:CONFLICTS_NAMED],
    )


def merge_sources(
    lists: Mapping[str, TargetPool],
    ranks: Mapping[str, int],
    hash_labels: Sequence[str] | None = None,
    zone_label: str | None = None,
) -> TargetPool:
    """``merge`` of what sources say, by name. A source without a rank comes after all that have one."""
    unknown = max(ranks.values(), default=-1) + 1
    chosen = [ranks.get(name, unknown + number) for number, name in enumerate(lists)]
    return merge(list(lists.values()), hash_labels, zone_label, ranks=chosen)


def build_pool(
    sources: Sequence[Iterable[TargetGroup]], hash_labels: Sequence[str] | None = None, zone_label: str | None = None
) -> TargetPool:
    """Of listed groups at once."""
    return merge([pool_of(groups) for groups in sources], hash_labels, zone_label)


@dataclass(slots=True)
class _Lost:
    """Entries of later sources that had other labels than the first source's: how many, the first few addresses."""

    conflicts: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, target: Target) -> None:
        self.conflicts += 1
        if len(self.named) < CONFLICTS_NAMED and target.address not in self.named:
            self.named.append(target.address)


def _of_first_source(order: Rows, ties: list[slice], listed: list[bytes], rank: Rows, lost: _Lost) -> tuple[Rows, int]:
    """Of rows with one identity all those of the first source that has it, in order of their bytes. How many were left out.

    Two identities with one hash both stay, in their own order.
    """
    rows = order.tolist()
    kept: list[int] = []
    done = 0
    for tie in ties:
        kept += rows[done : tie.start]
        found: dict[str, dict[bytes, int]] = {}
        first: dict[str, int] = {}
        for i in sorted(rows[tie], key=lambda i: (rank[i], listed[i])):
            target = decode(listed[i])
            name = target.identity()
            if first.setdefault(name, int(rank[i])) == rank[i]:
                found.setdefault(name, {}).setdefault(listed[i], i)
            elif listed[i] not in found[name]:
                lost.add(target)
        kept += [i for name in sorted(found) for i in found[name].values()]
        done = tie.stop
    kept += rows[done:]
    return np.array(kept, dtype=np.intp), len(rows) - len(kept)


def _rekeyed(chosen: list[bytes], hash_labels: Sequence[str]) -> Keys:
    """Keys that are made of these labels and nothing else."""
    keys = array("Q")
    for fragment in chosen:
        one = decode(fragment)
        values = {**one.labels, "__address__": one.address}
        keys.append(xxh3_64("\0".join(f"{name}\0{values.get(name, '')}" for name in hash_labels).encode()))
    return _column(keys)


def _zones(listed: list[bytes], label: str) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Index in the sorted names, for each row; the empty name is for targets that do not ask."""
    asked = [decode(fragment).labels.get(label, "") for fragment in listed]
    names = tuple(sorted(set(asked)))
    index = {name: i for i, name in enumerate(names)}
    return np.fromiter((index[name] for name in asked), dtype=np.int32, count=len(asked)), names


# --- columns ---------------------------------------------------------------------------------------------------------


def _assemble(
    core: Keys, digests: Keys, chosen: list[bytes], bare: Iterable[int], *, by: Keys | None = None, duplicates: int = 0
) -> TargetPool:
    """``core``: the hash of each row's identity; ``by``: the keys, where they are others. ``bare``: rows of ``chosen`` that
    get their ids here.
    """
    ids, digests = _ids(core, digests)
    _seal(chosen, bare, ids)
    lengths = np.fromiter(map(len, chosen), dtype=np.int64, count=len(chosen)) + len(SEPARATOR)
    bounds: Bounds = np.zeros(len(chosen) + 1, dtype=np.int64)
    np.cumsum(lengths, out=bounds[1:])
    blob = SEPARATOR.join(chosen) + (SEPARATOR if chosen else b"")
    return TargetPool(core if by is None else by, ids, digests, blob, bounds, duplicates=duplicates)


def _ids(core: Keys, digests: Keys) -> tuple[Keys, Keys]:
    """Ids, and digests that tell them apart, too. ``core`` itself when its values are all different; rows of one value get
    the hash of it and of their own digest. So a target that is listed once keeps its id whatever its other labels are, and
    one of several whatever the others are: a scraper begins anew with a target whose id is another one.
    """
    order = np.argsort(core, kind="stable")
    ties = _ties(core[order])
    if ties is None:
        return core, digests
    ids, digests = core.copy(), digests.copy()
    for row in (row for tie in ties for row in order[tie].tolist()):
        ids[row] = digests[row] = xxh3_64(f"{int(core[row]):016x}#{int(digests[row]):016x}".encode())
    return ids, digests


def _seal(listed: list[bytes], rows: Iterable[int], ids: Keys) -> None:
    """Put their ids into these fragments; in place."""
    digits = hexlify(ids.astype(">u8").tobytes())
    for row in rows:
        fragment, number = listed[row], digits[16 * row : 16 * row + 16]
        if fragment.endswith(b"}}"):
            listed[row] = b'%s,%s%s"}}' % (fragment[:-2], SEAL, number)
        else:
            listed[row] = b'%s%s%s%s"}}' % (fragment[:-1], _NO_LABELS, SEAL, number)


def _bare(fragment: bytes) -> bytes:
    """As it was listed, without its id."""
    if SEAL not in fragment[-SEALED_BYTES:]:
        return fragment
    head = fragment[:-SEALED_BYTES]
    return head[:-1] + b"}}" if head.endswith(b",") else head[: -len(_NO_LABELS)] + b"}"


def _digests(pool: TargetPool) -> Keys:
    return pool.digests


def _keys(pool: TargetPool) -> Keys:
    return pool.keys


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
