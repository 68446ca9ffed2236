"""The rows of a pool in order of key; of a pool that differs little from one before, made from the order there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from promring.model import Keys, Rows


class InOrder(NamedTuple):
    """``keys``: uint64, ascending; ``rows``: the row of each, ascending among equal keys; None: in order of rows."""

    keys: Keys
    rows: Rows | None


class Stay(NamedTuple):
    """``length`` rows that followed each other from ``was`` on, and follow each other from ``row`` on now."""

    was: int
    row: int
    length: int


def in_order(keys: Keys) -> InOrder:
    rows: Rows = np.argsort(keys, kind="stable")
    return InOrder(keys[rows], rows)


def again_in_order(before: InOrder, stays: Sequence[Stay], keys: Keys) -> InOrder:
    """As ``in_order(keys)``, without sorting again what stays. ``before``: the order then; ``stays``: in ascending order,
    the rows whose keys are the same as then.
    """
    number = np.full(len(before.keys), -1, dtype=np.intp)
    is_new = np.ones(len(keys), dtype=bool)
    for one in stays:
        number[one.was : one.was + one.length] = np.arange(one.row, one.row + one.length)
        is_new[one.row : one.row + one.length] = False
    rows = number if before.rows is None else number[before.rows]
    there = rows >= 0
    rows, known = rows[there], before.keys[there]
    new = np.flatnonzero(is_new)
    new = new[np.argsort(keys[new], kind="stable")]
    at = _places(known, rows, keys[new], new) + np.arange(len(new))
    old = np.ones(len(keys), dtype=bool)
    old[at] = False
    merged_keys, merged_rows = np.empty(len(keys), dtype=np.uint64), np.empty(len(keys), dtype=np.intp)
    merged_keys[at], merged_rows[at] = keys[new], new
    merged_keys[old], merged_rows[old] = known, rows
    return InOrder(merged_keys, merged_rows)


def _places(known: Keys, rows: Rows, keys: Keys, new: Rows) -> Rows:
    """Before which of ``known``, whose rows are ``rows``, each of ``keys`` comes, whose rows are ``new``."""
    first, last = np.searchsorted(known, keys, side="left"), np.searchsorted(known, keys, side="right")
    while (open_ := np.flatnonzero(first < last)).size:  # among equal keys by row
        middle = (first[open_] + last[open_]) // 2
        later = rows[middle] < new[open_]
        first[open_[later]] = middle[later] + 1
        last[open_[~later]] = middle[~later]
    return first
