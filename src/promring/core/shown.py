"""Which targets of a pool those are that a scraper shows. Pure.

Each line of a slice has a label with the id of its target. The id changes when its address is listed a second time with
other labels, and when one of the two goes (``columns.ids_of``). vmagent does not start a target anew when only its ``__``
labels change, and goes on showing the id that it read first. So where an id is in no list any more, address and labels tell
which target it is, if just one has these and may have had that id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
from xxhash import xxh3_64_intdigest

from promring.core.fragment import ID_LABEL, decode, id_of
from promring.core.plan import rows_of
from promring.core.unlabelled import identity_hashes
from promring.model import TargetPool

Labels = Mapping[str, str]
TWINS_MOST, STALE_MOST = 100, 2000
"""So many targets with one address are looked through; for so many targets of one answer."""


def ids_shown(pool: TargetPool, shown: Sequence[Labels]) -> list[int | None]:
    """For each target, by its labels before relabelling, the id of the one in ``pool`` that it is; None: in no list."""
    told = [id_of(labels.get(ID_LABEL, "")) or 0 for labels in shown]
    rows = rows_of(pool, np.array(told, dtype=np.uint64))
    listed = (rows < len(pool)).tolist()
    found: list[int | None] = [key if there else None for key, there in zip(told, listed, strict=True)]
    stale = (i for i, there in enumerate(listed) if not there and told[i])
    for i in islice(stale, STALE_MOST):
        found[i] = _known_by_labels(pool, shown[i], told[i])
    return found


def _known_by_labels(pool: TargetPool, shown: Labels, told: int) -> int | None:
    """What says most of where and what to scrape goes first: the job may add some of it."""
    labels = {name: value for name, value in shown.items() if value and name != ID_LABEL}
    hashes = np.array(identity_hashes(labels), dtype=np.uint64)
    ends = (np.searchsorted(pool.keys, hashes, side).tolist() for side in ("left", "right"))
    for alone, first, end in zip(rows_of(pool, hashes).tolist(), *ends, strict=True):
        maybe = {*range(first, min(end, first + TWINS_MOST)), *([alone] if alone < len(pool) else [])}
        if same := [row for row in maybe if told in _ids_before(pool, row) and _is(pool, row, labels)]:
            return int(pool.ids[same[0]]) if len(same) == 1 else None
    return None


def _ids_before(pool: TargetPool, row: int) -> tuple[int, int]:
    """Those that a target has had when it was the only one of its address, and when it was not."""
    alone = xxh3_64_intdigest(decode(pool.fragment(row)).identity().encode())
    return alone, xxh3_64_intdigest(f"{alone:016x}#{int(pool.digests[row]):016x}".encode())


def _is(pool: TargetPool, row: int, shown: Labels) -> bool:
    """Whether a row has these labels. A scraper shows labels of its own besides: the job, and those that begin with
    ``__``.
    """
    target = decode(pool.fragment(row))
    listed = {name: value for name, value in target.labels.items() if value} | {"__address__": target.address}
    if any(shown.get(name) != value for name, value in listed.items()):
        return False
    return all(name in listed or name.startswith("__") or name == "job" for name in shown)
