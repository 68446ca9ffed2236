"""Targets with one address that differ in other labels. Where relabelling makes two of them equal, Prometheus keeps one, and
lists the other neither as active nor as dropped. Pure.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from promring.core.fragment import decode
from promring.model import Keys, TargetPool


def twins_beside(pool: TargetPool, ids: Keys) -> Keys:
    """The ids of targets that are not among ``ids``, and have the address and the redirecting labels of one that is,
    ascending.
    """
    if pool.ids is pool.keys:
        return np.empty(0, dtype=np.uint64)
    tied = np.zeros(len(pool), dtype=bool)
    same = pool.keys[1:] == pool.keys[:-1]
    tied[1:] |= same
    tied[:-1] |= same
    there = np.isin(pool.ids, ids)
    groups: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(tied).tolist():
        groups[decode(pool.fragment(row)).identity()].append(row)
    found = [row for group in groups.values() if there[group].any() for row in group if not there[row]]
    return np.sort(pool.ids[found])
