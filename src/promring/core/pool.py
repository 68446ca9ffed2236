"""Merges the target groups of all sources into one ``TargetPool``.

Promises: the pool depends on the order of the *sources* (the first one wins a target that two of them have), and on
nothing else: not on the order of groups or targets inside them, where equal targets with other labels are settled by the
smaller encoding. Does not promise anything about the order of rows but that it is the order of keys.

A target's identity is ``__address__``, the labels that change what is scraped and the chosen ``hash_labels``. Its key on the
ring is ``xxh3_64`` of the UTF-8 identity, or of the ``hash_labels``. Other labels may change without a move.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import xxhash

from promring.model import Groups, Keys, TargetPool

REDIRECTING = ("__scheme__", "__metrics_path__")
_encode = msgspec.json.Encoder().encode


def build_pool(sources: Sequence[Groups], hash_labels: tuple[str, ...] | None = None) -> TargetPool:
    """Every address of every group of every source, once. ``sources`` in order of precedence."""
    rows: dict[str, tuple[int, bytes, tuple[tuple[str, str], ...]]] = {}
    addresses: dict[str, str] = {}
    duplicates = conflicts = 0
    for rank, groups in enumerate(sources):
        for group in groups:
            suffix = _identity_suffix(group.labels, hash_labels or ())
            tail = b"]" + (b',"labels":' + _encode(dict(group.labels)) if group.labels else b"") + b"}"
            for address in group.targets:
                identity = address + suffix
                fragment = b'{"targets":[' + _encode(address) + tail
                row = (rank, fragment, group.labels)
                known = rows.setdefault(identity, row)
                addresses[identity] = address
                if known is row:
                    continue
                duplicates += 1
                conflicts += known[1] != fragment
                if rank == known[0] and fragment < known[1]:
                    rows[identity] = row
    identities = list(rows)
    keyed = identities if hash_labels is None else [_chosen(addresses[i], rows[i][2], hash_labels) for i in identities]
    keys = np.fromiter((xxhash.xxh3_64_intdigest(k.encode()) for k in keyed), dtype=np.uint64, count=len(keyed))
    order = np.argsort(keys, kind="stable").tolist()
    _settle_ties(order, keys, identities)
    return TargetPool(
        keys=keys[order] if order else keys,
        identities=[identities[i] for i in order],
        fragments=[rows[identities[i]][1] for i in order],
        duplicates=duplicates,
        conflicts=conflicts,
    )


def _identity_suffix(labels: tuple[tuple[str, str], ...], hash_labels: tuple[str, ...]) -> str:
    """``\\0name\\0value`` for each label that makes it another target, in order of name; mostly the empty string."""
    return "".join(f"\0{n}\0{v}" for n, v in labels if n in REDIRECTING or n.startswith("__param_") or n in hash_labels)


def _chosen(address: str, labels: tuple[tuple[str, str], ...], hash_labels: tuple[str, ...]) -> str:
    values = {**dict(labels), "__address__": address}
    return "\0".join(f"{name}\0{values.get(name, '')}" for name in hash_labels)


def _settle_ties(order: list[int], keys: Keys, identities: list[str]) -> None:
    """Rows with one key in order of identity, so that the pool does not depend on the order of the input."""
    ordered = keys[order] if order else keys
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if order else np.empty(0, dtype=np.intp)
    ends = np.r_[starts[1:], len(order)] if order else starts
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        order[start:end] = sorted(order[start:end], key=identities.__getitem__)
