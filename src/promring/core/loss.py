"""What the loss of one scraper, or of one zone, would do to the rest: by sums, not by a placement. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from promring.core.placement import Policy, capacities
from promring.model import Placement, Scraper


@dataclass(frozen=True, slots=True)
class Loss:
    """``lost``: the name of the scraper or zone; ``load``: of all targets, each for each owner that so few scrapers can give
    it, also where it has none now; ``room``: the capacity of those that are left,
    None without one; ``each``: what a scraper of weight 1 would carry on average.
    """

    lost: str
    load: int
    room: int | None
    each: float

    @property
    def lacking(self) -> int:
        """The load that would have no room."""
        return 0 if self.room is None else max(0, self.load - self.room)


def worst_scraper(placement: Placement, policy: Policy) -> Loss | None:
    """The loss of the scraper after which the others have the least; None when nobody would be left."""
    able = [s for s in placement.scrapers if s.able]
    heaviest = max(able, key=lambda s: (s.weight, s.id), default=None)
    return _worst([(heaviest.id, [s for s in able if s is not heaviest])] if heaviest else (), placement, policy)


def worst_zone(placement: Placement, policy: Policy) -> Loss | None:
    """Of a whole zone; None when there are not two."""
    able = [s for s in placement.scrapers if s.able]
    zones = {s.zone for s in able if s.zone}
    return _worst(((zone, [s for s in able if s.zone != zone]) for zone in zones), placement, policy)


def _worst(cases: Iterable[tuple[str, list[Scraper]]], placement: Placement, policy: Policy) -> Loss | None:
    found = []
    for name, left in cases:
        if not left:
            continue
        load, weights = _wanted(placement, policy, len(left)), [s.weight for s in left]
        most = capacities(weights, policy)
        found.append(Loss(name, load, None if most is None else int(most.sum()), load / sum(weights)))
    return max(found, key=lambda one: (one.lacking, one.each, one.lost), default=None)


def _wanted(placement: Placement, policy: Policy, scrapers: int) -> int:
    """The load that so many ``scrapers`` shall carry."""
    replicas, loads = placement.pool.replicas, placement.loads
    if replicas is None:
        return min(policy.replication_factor, scrapers) * (len(placement.pool) if loads is None else int(loads.sum()))
    owners = np.minimum(replicas, scrapers)
    return int(owners.sum(dtype=np.int64) if loads is None else (owners * loads).sum())
