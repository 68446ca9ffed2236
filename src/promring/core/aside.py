"""Places targets while some scrapers can be given nothing new. They keep what they had, and whatever else would come to them
goes to others. Pure.

Scrapers that are held: nobody knows whether they live. What they got while others were already missing counts as not theirs:
it came from those, and may never have been scraped by them. What they had stays, also where the room in the others would let
it go home.

Scrapers that refuse the slices of a service (``Refused``), and take those of others: of that service they keep what they
have, since they go on with their last slice of it.

A target that would be new to one of both goes where it would go without them, within the capacity of the scraper that gets
it, else to nobody until this is over.
Flow: ``core/admission`` says who is held, ``core/refusals`` who refuses what, ``fleet/planner`` places with this.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from promring.core.admission import Aside
from promring.core.claims import Claims
from promring.core.packing import NOBODY
from promring.core.placement import Policy, capacities, place_living
from promring.core.refusals import NOTHING_REFUSED, Refused
from promring.core.ring import Ring
from promring.model import NEVER_ENDS, Loads, Members, Owners, Placement, TargetPool

Cells = npt.NDArray[np.bool_]
"""A flag for each cell of ``owners``."""
Rows = npt.NDArray[np.bool_]
"""A flag for each row of the pool."""


def place_around(
    pool: TargetPool,
    ring: Ring,
    listed: Ring,
    policy: Policy,
    aside: Aside,
    had: Claims,
    refused: Refused = NOTHING_REFUSED,
    loads: Loads | None = None,
) -> Placement:
    """As ``placement.place_living``, with nothing new for the scrapers ``aside``, nor of a service for those that have
    ``refused`` it. ``had``: what is in whose slice. ``loads``: as of ``place``.

    Raises ``PlacementError`` as ``place`` does.
    """
    placed = place_living(pool, ring, listed, policy, loads)
    owners, news = placed.owners.copy(), np.zeros(placed.owners.shape, dtype=bool)
    theirs = {i: _had_by(s.id, pool, aside, had) for i, s in enumerate(ring.scrapers) if s.id in aside.scrapers}
    without_aside = _without(ring.scrapers, aside.scrapers)
    for rows, refusers in _by_refusers(pool, ring, refused):
        others, lacked = _without(ring.scrapers, aside.scrapers | {ring.scrapers[i].id for i in refusers}), refusers
        if others is None:  # nobody would be left for these services: then it is as if nobody refused them
            others, lacked = without_aside, {}
        if others is None or others == ring.scrapers:
            continue
        new = np.zeros(placed.owners.shape, dtype=bool)
        for index, had_rows in theirs.items():
            new |= (placed.owners == index) & (rows & ~had_rows)[:, None]
        for index, lacked_rows in lacked.items():
            new |= (placed.owners == index) & lacked_rows[:, None]
        if new.any():
            instead = place_living(pool, Ring(others, policy.virtual_nodes), listed, policy, loads)
            owners = _replaced(owners, new, instead.owners)
            news |= new
    if without_aside is not None:
        for index, had_rows in theirs.items():
            _give_back(owners, index, had_rows, list(theirs), placed.wanted)
    limits = capacities([s.weight for s in ring.scrapers], policy)
    if limits is not None and news.any():
        _within(owners, news, limits.tolist(), loads)
    return replace(placed, owners=owners)


def _without(scrapers: Members, barred: Collection[str]) -> Members | None:
    """``scrapers``, of which the ``barred`` get nothing; None: then nobody would."""
    others = tuple(replace(s, weight=0.0) if s.id in barred else s for s in scrapers)
    return others if any(s.able for s in others) else None


def _by_refusers(pool: TargetPool, ring: Ring, refused: Refused) -> list[tuple[Rows, dict[int, Rows]]]:
    """The rows of the services that the same scrapers refuse, those that nobody refuses too; and for the number of each
    that refuses them, which of these it does not have.
    """
    number = {s.id: i for i, s in enumerate(ring.scrapers)}
    groups: dict[frozenset[int], tuple[Rows, dict[int, Rows]]] = {}
    for service, cut in pool.by_service(np.arange(len(pool))):
        has = {number[scraper]: ids for (one, scraper), ids in refused.items() if one == service and scraper in number}
        rows, lacked = groups.setdefault(frozenset(has), (np.zeros(len(pool), dtype=bool), {}))
        rows[cut] = True
        for index, ids in has.items():
            lacked.setdefault(index, np.zeros(len(pool), dtype=bool))[cut] = ~np.isin(pool.ids[cut], ids)
    return list(groups.values())


def _had_by(scraper: str, pool: TargetPool, aside: Aside, had: Claims) -> Rows:
    """The rows of ``pool`` that it owned before the first of those that are missing went."""
    if scraper not in had.names:
        return np.zeros(len(pool), dtype=bool)
    mine = (had.scrapers == had.names.index(scraper)) & (had.since < aside.since) & (had.until == NEVER_ENDS)
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


def _within(owners: Owners, new: Cells, limits: list[int], loads: Loads | None) -> None:
    """Take from each scraper, of what it got instead, what is more than its limit: the last rows first."""
    each = np.ones(len(owners), dtype=np.int64) if loads is None else loads
    for index, limit in enumerate(limits):
        mine = owners == index
        got = np.argwhere(mine & new)[::-1]
        over = int((mine * each[:, None]).sum()) - limit
        if over > 0:
            freed = np.cumsum(each[got[:, 0]])
            taken = got[: int(np.searchsorted(freed, over)) + 1]
            owners[tuple(taken.T)] = NOBODY
