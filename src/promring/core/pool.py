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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_hexdigest
from xxhash import xxh3_64_intdigest as xxh3_64

from promring.core.columns import (
    bare,
    bare_fragments,
    chosen,
    column,
    heads_of,
    heads_of_bare,
    heads_of_labelled,
    ids_of,
    joined,
    sealed,
    some_unlabelled,
    ties_of,
    with_ties_settled,
    without_copies,
)
from promring.core.fragment import ID_LABEL, Target, Whole, decode, encode, suffix_of
from promring.model import Fingerprint, Keys, Rows, TargetGroup, TargetPool

CONFLICTS_NAMED = 10
AT_ONCE = 1000
AT_ONCE_BYTES = 1024 * 1024
"""Targets that are encoded by one call, and how long the labels may be that some of them share."""


# --- one source ------------------------------------------------------------------------------------------------------


class Listed(NamedTuple):
    """Some addresses that share labels, none of them empty. ``suffix``: ``suffix_of`` these."""

    addresses: Sequence[str]
    labels: Mapping[str, str]
    suffix: str


class Wholes(NamedTuple):
    """Many targets, each with labels of its own: ``fragments`` as ``Whole`` has them, and the identity of each."""

    fragments: Sequence[msgspec.Struct]
    identities: Iterable[str]


def pool_of(groups: Iterable[TargetGroup]) -> TargetPool:
    """Every address of every group; equal entries once. Group labels must be sorted, none of them empty."""
    return pool_of_listed(Listed(group.targets, dict(group.labels), suffix_of(group.labels)) for group in groups)


def pool_of_listed(groups: Iterable[Listed | Wholes]) -> TargetPool:
    """As ``pool_of``."""
    listing = _Listing()
    for group in groups:
        if isinstance(group, Wholes):
            listing.take(group)
        else:
            listing.add(group)
    return listing.pool()


class _Listing:
    """The targets of one source. What is added waits until there are many: a call for each costs more than its work."""

    def __init__(self) -> None:
        self._bare: list[bytes] = []
        self._unlabelled = False
        self._keys, self._digests = array("Q"), array("Q")
        self._waiting: list[msgspec.Struct] = []
        self._identities: list[str] = []
        self._shared_bytes = 0

    def add(self, group: Listed) -> None:
        addresses, labels, suffix = group
        if ID_LABEL in labels:  # a slice may be a source
            labels = {name: value for name, value in labels.items() if name != ID_LABEL}
        if len(addresses) == 1:
            self._waiting.append(Whole(addresses, labels))
            self._identities.append(addresses[0] + suffix)
        else:
            self._add_sharing(addresses, msgspec.Raw(encode(labels)), suffix)
        if len(self._waiting) >= AT_ONCE:
            self._take_waiting()

    def _add_sharing(self, addresses: Sequence[str], labels: msgspec.Raw, suffix: str) -> None:
        size_bytes = len(bytes(labels))
        most = max(1, min(AT_ONCE, AT_ONCE_BYTES // size_bytes))
        for start in range(0, len(addresses), most):
            some = addresses[start : start + most]
            self._waiting += [Whole((one,), labels) for one in some]
            self._identities += [one + suffix for one in some]
            self._shared_bytes += size_bytes * len(some)
            if self._shared_bytes >= AT_ONCE_BYTES:
                self._take_waiting()

    def _take_waiting(self) -> None:
        self.take(Wholes(self._waiting, self._identities))
        self._waiting, self._identities, self._shared_bytes = [], [], 0

    def take(self, some: Wholes) -> None:
        fragments, unlabelled = bare_fragments(some.fragments)
        self._bare += fragments
        self._unlabelled |= unlabelled
        self._digests.extend(map(xxh3_64, fragments))
        self._keys.extend(map(xxh3_64, map(str.encode, some.identities)))

    def pool(self) -> TargetPool:
        self._take_waiting()
        keys, digests, listed = column(self._keys), column(self._digests), self._bare
        order, duplicates = np.argsort(keys), 0
        if (ties := ties_of(keys[order])) is not None:
            order, duplicates = with_ties_settled(order, ties, partial(without_copies, listed.__getitem__))
        core = keys[order]
        ids, digests = ids_of(core, digests[order])
        heads = heads_of_bare if self._unlabelled else heads_of_labelled
        blob, bounds = sealed(partial(heads, listed), order, ids, unlabelled=self._unlabelled)
        return TargetPool(core, ids, digests, blob, bounds, duplicates=duplicates)


def fingerprint_of(pool: TargetPool) -> Fingerprint:
    """The same for the same targets with the same labels."""
    return Fingerprint(len(pool), xxh3_64_hexdigest(pool.ids.tobytes() + pool.digests.tobytes()))


def selected(pool: TargetPool, rows: Rows) -> TargetPool:
    """These ascending rows of a pool without two rows of one key."""
    keys = pool.keys[rows]
    blob, bounds = sealed(partial(chosen, heads_of(pool)), rows, keys, unlabelled=some_unlabelled(pool))
    return TargetPool(keys, keys, pool.digests[rows], blob, bounds)


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
    heads = [head for pool in pools for head in heads_of(pool)]
    digests, keys = (joined([of(pool) for pool in pools]) for of in (_digests, _keys))
    order = np.argsort(keys, kind="stable")
    lost, more = _Lost(), 0
    if (ties := ties_of(keys[order])) is not None:
        for row in (row for tie in ties for row in order[tie].tolist()):  # that of an id is another one
            digests[row] = xxh3_64(bare(heads[row]))
        rank = np.repeat(np.arange(len(pools)) if ranks is None else np.array(ranks), [len(pool) for pool in pools])
        one = partial(_of_first_source, rank, lost) if ranked else without_copies
        settle = partial(one, lambda row: bare(heads[row]))
        order, more = with_ties_settled(order, ties, settle)
    core = by = keys[order]
    if hash_labels:
        by = _rekeyed([heads[row] for row in order.tolist()], hash_labels)
        again = np.argsort(by, kind="stable")
        order, core, by = order[again], core[again], by[again]
    zones, names = _zones([heads[row] for row in order.tolist()], zone_label) if zone_label else (None, ())
    ids, digests = ids_of(core, digests[order])
    return TargetPool(
        by,
        ids,
        digests,
        *sealed(partial(chosen, heads), order, ids, unlabelled=any(map(some_unlabelled, pools))),
        duplicates=sum(pool.duplicates for pool in pools) + more,
        zones=zones,
        zone_names=names,
        conflicts=lost.conflicts,
        conflicts_named=tuple(lost.named),
        refused=sum(pool.refused for pool in pools),
        remarks=tuple(remark for pool in pools for remark in pool.remarks)[:CONFLICTS_NAMED],
    )


def merge_sources(
    lists: Mapping[str, TargetPool],
    ranks: Mapping[str, int],
    hash_labels: Sequence[str] | None = None,
    zone_label: str | None = None,
) -> TargetPool:
    """``merge`` of what sources say, by name. A source without a rank comes after all that have one."""
    unknown = max(ranks.values(), default=0) + 1
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


def _of_first_source(rank: Rows, lost: _Lost, listed: Callable[[int], bytes], rows: list[int]) -> list[int]:
    """Of rows with one identity all those of the first source that has it, in order of their bytes.

    Two identities with one hash both stay, in their own order.
    """
    found: dict[str, dict[bytes, int]] = {}
    first: dict[str, int] = {}
    for of, text, row in sorted((int(rank[row]), listed(row), row) for row in rows):
        target = decode(text)
        name = target.identity()
        if first.setdefault(name, of) == of:
            found.setdefault(name, {}).setdefault(text, row)
        elif text not in found[name]:
            lost.add(target)
    return [row for name in sorted(found) for row in found[name].values()]


def _rekeyed(heads: list[bytes], hash_labels: Sequence[str]) -> Keys:
    """Keys that are made of these labels and nothing else."""
    keys = array("Q")
    for cut in heads:
        one = decode(bare(cut))
        values = {**one.labels, "__address__": one.address}
        keys.append(xxh3_64("\0".join(f"{name}\0{values.get(name, '')}" for name in hash_labels).encode()))
    return column(keys)


def _zones(heads: list[bytes], label: str) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Index in the sorted names, for each row; the empty name is for targets that do not ask."""
    asked = [decode(bare(cut)).labels.get(label, "") for cut in heads]
    names = tuple(sorted(set(asked)))
    index = {name: i for i, name in enumerate(names)}
    return np.fromiter((index[name] for name in asked), dtype=np.int32, count=len(asked)), names


def _digests(pool: TargetPool) -> Keys:
    return pool.digests


def _keys(pool: TargetPool) -> Keys:
    return pool.keys
