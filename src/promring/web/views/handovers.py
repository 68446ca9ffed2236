"""The hand-overs of a fleet that are under way: how many are over, how many wait, and which wait the longest."""

from __future__ import annotations

import time

import numpy as np

from promring.core.claims import Claims, Rows
from promring.core.fragment import target
from promring.core.joined import FleetPool
from promring.fleet.fleet import Fleet
from promring.model import Placement
from promring.web.answers.fleets import HandOver, Waiting

NAMED_MOST = 10


def hand_over_of(fleet: Fleet) -> HandOver | None:
    """None while every target is with its owners alone."""
    memory = fleet.reconciler.memory
    waits = np.flatnonzero(np.isfinite(memory.claims.until))
    if not len(waits):
        return None
    timeline, ahead_s = memory.timeline, time.time() - time.monotonic()
    begun = next((one for one in reversed(timeline.reshards) if one.ended_at is None), None)
    ends = memory.claims.until[waits]
    first = waits[np.argsort(ends, kind="stable")[:NAMED_MOST]]
    return HandOver(
        waiting=len(waits),
        begun_with=None if begun is None else max(begun.held, len(waits)),
        reason=None if begun is None else begun.reason,
        since=None if begun is None else round(begun.at, 3),
        changed_at=None if timeline.held_at is None else round(timeline.held_at, 3),
        ends_at=round(float(ends.max()) + ahead_s, 3),
        named=_named(memory.claims, first, fleet.placement),
    )


def _named(claims: Claims, some: Rows, placement: Placement | None) -> list[Waiting]:
    """Nothing for a moment in which the plan is newer than the claims: no list of all targets is searched here."""
    if placement is None or claims.made_in is None or claims.made_in[0] is not placement.pool:
        return []
    pool, rows = claims.made_in
    if not isinstance(pool, FleetPool):
        return []
    found = []
    for claim in some.tolist():
        row = claim if rows is None else int(rows[claim])
        number = int(np.searchsorted(pool.starts, row, side="right")) - 1
        service, own = pool.names[number], pool.parts[pool.names[number]].pool
        at = row - int(pool.starts[number])
        owners = [placement.scrapers[one].id for one in placement.owners[row].tolist() if one >= 0]
        kept_by = claims.names[int(claims.scrapers[claim])]
        found.append(Waiting(service, f"{int(own.ids[at]):016x}", target(own, at).address, kept_by, owners))
    return found
