"""Places targets while some scrapers are held: nobody knows whether they live, so they keep what they had, and whatever else
would come to them goes to others.

Pure. What they got while others were already missing counts as not theirs: it came from those, and may never have been
scraped by them. What they had stays, also where the room in the others would let it go home. A target that would be new to
one of them goes where it would go without them, within the capacity of who gets it, else to nobody until the hold is over.
Flow: ``core/admission`` says who is held, ``reconcile`` places with this.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from promring.core.admission import Aside
from promring.core.handover import NEVER, Claims
from promring.core.placement import NOBODY, Policy, place_living
from promring.core.ring import Ring
from promring.model import Owners, Placement, TargetPool

Cells = npt.NDArray[np.bool_]
"""A flag for each cell of ``owners``."""
Rows = npt.NDArray[np.bool_]
"""A flag for each row of the pool."""


def place_around(pool: TargetPool, ring: Ring, listed: Ring, policy: Policy, aside: Aside, had: Claims) -> Placement:
    """As ``placement.place_living``, with nothing new for the scrapers ``aside``. ``had``: what is in whose slice.

    Raises ``PlacementError`` as ``place`` does.
    """
    placed = place_living(pool, ring, listed, policy)
    others = tuple(replace(s, weight=0.0) if s.id in aside.scrapers else s for s in ring.scrapers)
    if others == ring.scrapers or not any(s.able for s in others):
        return placed
    theirs = {i: _had_by(s.id, pool, aside, had) for i, s in enumerate(ring.scrapers) if s.id in aside.scrapers}
    new = np.zeros(placed.owners.shape, dtype=bool)
    for index, rows in theirs.items():
        new |= (placed.owners == index) & ~rows[:, None]
    owners = placed.owners.copy()
    if new.any():
        instead = place_living(pool, Ring(others, policy.virtual_nodes), listed, policy)
        owners = _replaced(owners, new, instead.owners)
    for index, rows in theirs.items():
        _give_back(owners, index, rows, list(theirs), placed.wanted)
    if policy.capacity is not None:
        _within(owners, new, [int(policy.capacity * s.weight) for s in ring.scrapers])
    return replace(placed, owners=owners)


def _had_by(scraper: str, pool: TargetPool, aside: Aside, had: Claims) -> Rows:
    """The rows of ``pool`` that it owned before the first of those that are missing went."""
    if scraper not in had.names:
        return np.zeros(len(pool), dtype=bool)
    mine = (had.scrapers == had.names.index(scraper)) & (had.since < aside.since) & (had.until == NEVER)
    return np.isin(pool.ids, had.ids[mine])


def _give_back(owners: Owners, index: int, rows: Rows, aside: list[int], wanted: npt.NDArray[np.int32] | None) -> None:
    """Let ``index`` own all of ``rows``, instead of one that is not ``aside``; within the ``wanted`` owners of each."""
    lacks = rows & ~(owners == index).any(axis=1)
    for column in reversed(range(owners.shape[1])):
        free = lacks & ~np.isin(owners[:, column], aside)
        if wanted is not None:
            free &= column < wanted
        owners[free, column] = index
        lacks &= ~free


def _replaced(owners: Owners, new: Cells, instead: Owners) -> Owners:
    """``owners`` with others in the place of the ``new`` ones: the first of ``instead`` that does not own the row yet."""
    owners = np.where(new, NOBODY, owners).astype(owners.dtype)
    for column in range(owners.shape[1]):
        for candidate in instead.T:
            free = new[:, column] & (owners[:, column] == NOBODY) & ~(owners == candidate[:, None]).any(axis=1)
            owners[free, column] = candidate[free]
    return owners


def _within(owners: Owners, new: Cells, limits: list[int]) -> None:
    """Take from each scraper, of what it got instead, what is more than its limit."""
    for index, limit in enumerate(limits):
        mine = owners == index
        got = np.argwhere(mine & new)
        over = min(int(mine.sum()) - max(1, limit), len(got))
        if over > 0:
            owners[tuple(got[-over:].T)] = NOBODY
