"""What would happen if scrapers left or joined: the placement then, beside the one now. Pure, touches nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from promring.core.fragment import target
from promring.core.joined import FleetPool, FleetShares
from promring.core.placement import Policy, place_living
from promring.core.plan import bodies, compare, shares
from promring.core.ring import TOKENS_MOST, Ring, tokens_wanted
from promring.model import Loads, Members, Placement, Plan, PromringError, Scraper, TargetPool

NAMED_MOST = 20
CHANGES_MOST = 100
"""Scrapers that one preview takes away, and as many that it adds."""


class PreviewError(PromringError):
    """What was asked for cannot be: the text names the scraper."""


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    before: Placement
    after: Placement
    plan: Plan

    @property
    def no_room(self) -> int:
        """Owners that targets have and shall not have then for want of room: replicas that fewer scrapers cannot hold are
        none of them. So many stay with a scraper that is drained, while it lives; a dead one leaves them to nobody.
        """
        if self.before.pool is not self.after.pool:
            return sum(move.count for move in self.plan.moves if move.destination is None)
        had, has = ((side.owners >= 0).sum(axis=1) for side in (self.before, self.after))
        return int(np.minimum(np.maximum(had - has, 0), self.after.lacking().sum(axis=1)).sum())

    def describe(self) -> dict[str, Any]:
        """Plain values for people and programs: each scraper before and after, and who gives how many to whom."""
        before, after = self.before, self.after
        now, then = _sides(before), _sides(after)
        digests = _digests(after)
        gains: Counter[str | None] = Counter()
        gives: Counter[str | None] = Counter()
        for move in self.plan.moves:
            gains[move.destination] += move.count
            gives[move.source] += move.count
        zones = {s.id: s.zone for s in (*before.scrapers, *after.scrapers)}
        none = {"targets": None, "load": None, "limit": None}
        return {
            "targets": len(after.pool),
            "load": len(after.pool) if after.loads is None else int(after.loads.sum()),
            "moved": self.plan.moved,
            "load_moved": self.plan.load_moved,
            "most": None if after.limits is None else int(after.limits.max()),
            "fits": fit(after),
            "no_room": self.no_room,
            "scrapers": [
                {
                    "id": name,
                    "zone": zones[name],
                    "before": now.get(name, none)["targets"],
                    "after": then.get(name, none)["targets"],
                    "load_before": now.get(name, none)["load"],
                    "load_after": then.get(name, none)["load"],
                    "limit": then.get(name, none)["limit"],
                    "gains": gains[name],
                    "gives": gives[name],
                    "sha256": digests.get(name),
                }
                for name in sorted({*now, *then})
            ],
            "zones": _zones(now, then, zones),
            "moves": [{"from": m.source, "to": m.destination, "targets": m.count, "load": m.load} for m in self.plan.moves],
        }


def preview(
    pool: TargetPool,
    members: Members,
    policy: Policy,
    *,
    without: Sequence[str] = (),
    joining: Sequence[Scraper] = (),
    loads: Loads | None = None,
    before: Placement | None = None,
    listed: Members = (),
) -> Preview:
    """The plan for ``members`` less ``without`` plus ``joining``. ``before``: the placement of ``pool`` in force; None: that
    of ``members``. ``listed``: who is listed, alive or not, each with the share it has when it lives; who leaves stays
    listed. Raises ``PreviewError``.
    """
    if len(without) > CHANGES_MOST or len(joining) > CHANGES_MOST:
        raise PreviewError(f"at most {CHANGES_MOST} scrapers may leave, and {CHANGES_MOST} join, in one preview")
    ids = {s.id for s in members}
    for name in without:
        if name not in ids:
            raise PreviewError(f"{name} is not a live scraper; there is {_named(ids)}")
    for scraper in joining:
        if scraper.id in ids:
            raise PreviewError(f"{scraper.id} is a live scraper already")
    later = tuple(sorted({*(s for s in members if s.id not in without), *joining}))
    if not any(scraper.able for scraper in later):
        raise PreviewError("no scraper would be left: the plan would be held, every slice would stay as it is")
    wanted = tokens_wanted(later, policy.virtual_nodes)
    if joining and wanted > TOKENS_MOST:
        raise PreviewError(
            f"the ring would have {wanted} virtual nodes (virtual_nodes times all weights), more than {TOKENS_MOST}"
        )
    every = {s.id: s for s in (*members, *listed)}
    if before is None:
        before = _placed(pool, members, every.values(), policy, loads)
    after = _placed(pool, later, (every | {s.id: s for s in joining}).values(), policy, loads)
    return Preview(before, after, compare(before, after))


def _placed(pool: TargetPool, members: Members, listed: Iterable[Scraper], policy: Policy, loads: Loads | None) -> Placement:
    ring = Ring(members, policy.virtual_nodes)
    return place_living(pool, ring, Ring(tuple(sorted(listed)), policy.virtual_nodes), policy, loads)


def _named(ids: set[str]) -> str:
    more = len(ids) - NAMED_MOST
    return ", ".join(sorted(ids)[:NAMED_MOST]) + (f" and {more} more" if more > 0 else "")


def fit(placement: Placement) -> dict[str, Any]:
    """Whether every target has all its owners; what has no room, and what is heavier than its owner may carry, named as
    far as ``NAMED_MOST``.
    """
    left, giants = placement.unplaced(), placement.giants()
    loads = placement.loads
    return {
        "all": not left.size,
        "unplaced": len(left),
        "unplaced_load": len(left) if loads is None else int(loads[left].sum()),
        "unplaced_targets": [target(placement.pool, row).address for row in left[:NAMED_MOST].tolist()],
        "too_heavy": len(giants),
        "too_heavy_targets": [target(placement.pool, row).address for row in giants[:NAMED_MOST].tolist()],
    }


def _digests(placement: Placement) -> dict[str, str]:
    """Of each scraper's slices, by id: the SHA-256 of the one, or of those of all services in order of name."""
    pool = placement.pool
    if not isinstance(pool, FleetPool):
        return {placement.scrapers[i].id: hashlib.sha256(body).hexdigest() for i, body, _ in bodies(placement)}
    found = FleetShares(pool, shares(placement))
    return {
        scraper.id: hashlib.sha256(b"".join(found.body(i, name) for name in pool.names)).hexdigest()
        for i, scraper in enumerate(placement.scrapers)
    }


def _sides(placement: Placement) -> dict[str, dict[str, int | None]]:
    counts, carried = placement.counts(), placement.carried()
    limits = [None] * len(counts) if placement.limits is None else placement.limits.tolist()
    return {
        name: {"targets": counts[name], "load": carried[name], "limit": limit}
        for name, limit in zip(counts, limits, strict=True)
    }


def _zones(
    now: dict[str, dict[str, int | None]], then: dict[str, dict[str, int | None]], zones: dict[str, str]
) -> list[dict[str, Any]]:
    """Targets and scrapers of each zone, now and then; nothing when no scraper has a zone."""
    if not any(zones.values()):
        return []
    rows = []
    for zone in sorted(set(zones.values())):
        sides = [[side[name] for name in side if zones[name] == zone] for side in (now, then)]
        before, after = (sum(row["targets"] or 0 for row in side) for side in sides)
        rows.append(
            {
                "zone": zone,
                "scrapers_before": len(sides[0]),
                "scrapers_after": len(sides[1]),
                "before": before,
                "after": after,
            }
        )
    return rows
