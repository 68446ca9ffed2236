"""Whether other loads are worth that targets move. Pure.

Loads are measured, and a move costs a hand-over. So a placement by newer loads is put in force only when it moves nothing,
or when it is a gain: the fullest scraper has less by ``GAIN`` of a fair share, or less load is above the capacity or without
an owner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from promring.core.placement import Policy, capacities
from promring.model import Loads, Placement

GAIN = 0.10
APART_S = 600.0
"""Loads alone move targets at most once in so long."""


@dataclass(frozen=True, slots=True)
class Gain:
    """``before``, ``after``: what the fullest scraper has, in fair shares, by the newer loads; ``moves``: whether a target
    gets another owner; ``relieves``: whether load above the capacity, or without an owner, gets less by it.
    """

    before: float
    after: float
    moves: bool
    relieves: bool

    @property
    def worth(self) -> bool:
        """Whether the moves are."""
        return self.relieves or self.before - self.after >= GAIN


def gain(now: Placement, then: Placement, policy: Policy) -> Gain:
    """``now``: the placement by the older loads; ``then``: by the newer ones, of the same pool and scrapers."""
    assert then.loads is not None
    today = replace(now, loads=then.loads)
    moves = not np.array_equal(np.sort(now.owners), np.sort(then.owners))
    relieves = _troubled(then, policy) < _troubled(today, policy)
    return Gain(fullest(today), fullest(then), moves, relieves)


def fullest(placement: Placement) -> float:
    """The load of the fullest scraper in fair shares; 1 without load. A target that is heavier than a share counts as one:
    nobody can have less of it.
    """
    weights = _weights(placement)
    loads = _loads(placement)
    owned = placement.owners >= 0
    total = float((loads[:, None] * owned).sum())
    if not total or not weights.sum():
        return 1.0
    shares = weights * (total / weights.sum())
    rows, columns = np.nonzero(owned)
    owners = placement.owners[rows, columns]
    counted = np.minimum(loads[rows], shares[owners])
    carried = np.bincount(owners, weights=counted, minlength=len(weights))
    able = weights > 0
    return float((carried[able] / shares[able]).max())


def _troubled(placement: Placement, policy: Policy) -> int:
    """Load without an owner, and above the capacity of a scraper that has more than one target."""
    loads, lacking = _loads(placement), placement.lacking()
    trouble = int((loads[:, None] * lacking).sum())
    most = capacities(_weights(placement).tolist(), policy)
    if most is None:
        return trouble
    carried = np.array(list(placement.carried().values()))
    several = np.array(list(placement.counts().values())) > 1
    return trouble + int(np.maximum(carried - most, 0)[several].sum())


def _weights(placement: Placement) -> npt.NDArray[np.float64]:
    return np.array([s.weight if s.able else 0.0 for s in placement.scrapers])


def _loads(placement: Placement) -> Loads:
    return np.ones(len(placement.pool), dtype=np.int64) if placement.loads is None else placement.loads
