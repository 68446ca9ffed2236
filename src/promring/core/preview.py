"""What would happen if scrapers left or joined: the placement then, beside the one now. Pure, touches nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promring.core.difference import compare
from promring.core.fragment import target
from promring.core.placement import Policy, place_living
from promring.core.ring import TOKENS_MOST, Ring, tokens_wanted
from promring.model import Loads, Members, Placement, Plan, PromringError, Scraper, TargetPool
from promring.runtime.text import few

NAMED_MOST = 20
CHANGES_MOST = 100
"""Scrapers that one preview takes away, and as many that it adds."""


class PreviewError(PromringError):
    """What was asked for cannot be: the text names the scraper."""


class NotLiveError(PreviewError):
    """One that shall leave is not there. ``name``: it; ``live``: those that are."""

    def __init__(self, name: str, live: Iterable[str]) -> None:
        self.name, self.live = name, sorted(live)
        super().__init__(f"{name} is not a live scraper; there is {few(self.live, NAMED_MOST)}")


@dataclass(frozen=True, slots=True)
class Fit:
    """Targets that lack an owner, their load, and targets that are heavier than their owner may carry: how many, and the
    addresses of the first ``NAMED_MOST``. ``ownerless``: those that lack an owner and have no other.
    """

    unplaced: int = 0
    ownerless: int = 0
    unplaced_load: int = 0
    unplaced_targets: tuple[str, ...] = ()
    too_heavy: int = 0
    too_heavy_targets: tuple[str, ...] = ()

    @property
    def all(self) -> bool:
        """Whether every target has all its owners."""
        return not self.unplaced


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
            raise NotLiveError(name, ids)
    for scraper in joining:
        if scraper.id in ids:
            raise PreviewError(f"{scraper.id} is a live scraper already")
    later = tuple({*(s for s in members if s.id not in without), *joining})
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
    return place_living(pool, ring, Ring(tuple(listed), policy.virtual_nodes), policy, loads)


def fit(placement: Placement) -> Fit:
    """Whether every target has all its owners."""
    left, giants = placement.unplaced(), placement.giants()
    return Fit(
        unplaced=len(left),
        ownerless=int((placement.owners[left] < 0).all(axis=1).sum()),
        unplaced_load=len(left) if placement.loads is None else int(placement.loads[left].sum()),
        unplaced_targets=_addresses(placement, left),
        too_heavy=len(giants),
        too_heavy_targets=_addresses(placement, giants),
    )


def _addresses(placement: Placement, rows: npt.NDArray[np.integer]) -> tuple[str, ...]:
    return tuple(target(placement.pool, row).address for row in rows[:NAMED_MOST].tolist())
