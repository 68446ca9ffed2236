"""Places targets while some scrapers are held: nobody knows whether they live, so they keep what they have in their slices,
and whatever else would come to them goes to others.

Pure. What they keep stays where the ring wants it; so when they are back, nothing of it has moved. A target that would be
new to one of them goes where it would go without them, within the capacity of who gets it, else to nobody until the hold is
over.
Flow: ``core/admission`` says who is held, ``reconcile`` places with this.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from promring.core.handover import Claims
from promring.core.placement import NOBODY, Policy, place
from promring.core.ring import Ring
from promring.model import Owners, Placement, TargetPool

Cells = npt.NDArray[np.bool_]


def place_around(pool: TargetPool, ring: Ring, policy: Policy, aside: Collection[str], had: Claims) -> Placement:
    """As ``placement.place``, with nothing new for the scrapers ``aside``. ``had``: what is in whose slice.

    Raises ``PlacementError`` as ``place`` does.
    """
    placed = place(pool, ring, policy)
    others = tuple(replace(s, weight=0.0) if s.id in aside else s for s in ring.scrapers)
    if others == ring.scrapers or not any(s.able for s in others):
        return placed
    new = _new_to(placed, aside, had)
    if not new.any():
        return placed
    instead = place(pool, Ring(others, policy.virtual_nodes), policy)
    owners = _replaced(placed.owners, new, instead.owners)
    if policy.capacity is not None:
        limits = [int(policy.capacity * s.weight) for s in ring.scrapers]
        _within(owners, new, limits)
    return replace(placed, owners=owners)


def _new_to(placed: Placement, aside: Collection[str], had: Claims) -> Cells:
    """Which cells of ``owners`` give one of ``aside`` a target that is not in its slice."""
    new = np.zeros(placed.owners.shape, dtype=bool)
    for index, scraper in enumerate(placed.scrapers):
        if scraper.id in aside:
            known = had.ids[had.scrapers == had.names.index(scraper.id)] if scraper.id in had.names else had.ids[:0]
            new |= (placed.owners == index) & ~np.isin(placed.pool.ids, known)[:, None]
    return new


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
