"""Targets that a scraper shows without the label that holds their id. Pure.

Prometheus 2.42 does not show a label that relabelling took away (``labeldrop``, ``labelkeep``) among those from before it.
Such a target is found by its address and the labels that redirect it. That is no proof that it is the one of the slice: the
job may have the address from another list, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np
from xxhash import xxh3_64_intdigest

from promring.core.fragment import ID_LABEL, REDIRECTING, redirects, suffix_of
from promring.core.plan import rows_of
from promring.model import Keys, TargetPool

TAKEN_AWAY = (
    f"it shows targets without {ID_LABEL}: they are of another list, or it is a Prometheus 2 whose relabelling takes that "
    "label away (labelkeep, labeldrop)"
)
_KINDS = (*REDIRECTING, "__param_")
_WAYS = [
    tuple(kind for kind, on in zip(_KINDS, way, strict=True) if on) for way in product((True, False), repeat=len(_KINDS))
]


def listed_ids(pool: TargetPool, shown: Iterable[Mapping[str, str]]) -> Keys:
    """For each target, by its labels before relabelling, the id of the one in ``pool`` that it may be; 0: it is none of
    them, or says its id. The job adds labels of its own, so a target is looked for with and without each kind of them; what
    says most goes first.
    """
    targets = list(shown)
    found: Keys = np.zeros(len(targets), dtype=np.uint64)
    bare = [row for row, labels in enumerate(targets) if ID_LABEL not in labels]
    if not bare:
        return found
    keys = [identity_hashes(targets[row]) for row in bare]
    each = np.array(keys, dtype=np.uint64)
    there = (rows_of(pool, each.ravel()) < len(pool)).reshape(each.shape)
    first = each[np.arange(len(each)), there.argmax(axis=1)]
    found[bare] = np.where(there.any(axis=1), first, 0)
    return found


def identity_hashes(labels: Mapping[str, str]) -> list[int]:
    """Of the identities that a target with these labels may have in a list, what says most first."""
    return [xxh3_64_intdigest(text.encode()) for text in _identities(labels)]


def _identities(labels: Mapping[str, str]) -> list[str]:
    address = labels.get("__address__", "")
    some = [(name, value) for name, value in labels.items() if value and redirects(name)]
    return [
        address + suffix_of((name, value) for name, value in some if any(map(name.startswith, kinds))) for kinds in _WAYS
    ]
