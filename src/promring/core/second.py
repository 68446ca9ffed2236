"""A second opinion: a target that its owner cannot reach is tried by the next scraper in preference, too. Pure.

After ``AFTER`` looks in a row at which none of its owners had a good scrape, the next scraper in the ring's order gets the
target in addition; the owner goes on trying. When the owner succeeds again, or the other one fails as well, the target is
the owner's alone. One that nobody can reach is tried again after ``PAUSE_S``, then twice that, at most ``PAUSE_MOST_S``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from promring.core.coverage import Seen
from promring.core.plan import rows_of
from promring.core.ring import Ring
from promring.model import Placement

AFTER = 3
PAUSE_S, PAUSE_MOST_S = 600.0, 4 * 3600.0
TRIALS_LEAST, TRIALS_SHARE = 50, 0.1


@dataclass(frozen=True, slots=True)
class Trial:
    """``scraper`` has the target in addition, since then; ``failed``: looks in a row at which it could not reach it."""

    scraper: str
    since: float
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Opinions:
    """What is known of targets that are hard to reach, by id. Never changed: ``judged`` makes the next."""

    down: Mapping[int, int] = field(default_factory=dict)
    """Looks in a row at which no owner had a good scrape."""
    trials: Mapping[int, Trial] = field(default_factory=dict)
    again_at: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """When one that nobody could reach may be tried again, and the pause after that."""

    def judged(self, placement: Placement, ring: Ring, seen: Mapping[str, Seen], now: float) -> Opinions:
        """After another look at all scrapers. ``placement`` is without trials."""
        down, up_at = _reached(placement, seen)
        counted = {key: self.down.get(key, 0) + 1 for key in down}
        trials: dict[int, Trial] = {}
        again = {key: pause for key, pause in self.again_at.items() if key in counted}
        live = {s.id for s in placement.scrapers if s.weight}
        for key, trial in self.trials.items():
            if key not in counted or trial.scraper not in live:
                continue  # an owner reaches it, or it is gone, or the other scraper is
            failed = 0 if trial.scraper in up_at.get(key, ()) else trial.failed + _asked(trial, key, seen)
            if failed >= AFTER:
                pause = again.get(key, (0.0, PAUSE_S))[1]
                again[key] = now + pause, min(PAUSE_MOST_S, 2 * pause)
            else:
                trials[key] = replace(trial, failed=failed)
        most = max(TRIALS_LEAST, int(TRIALS_SHARE * len(placement.pool)))
        for key in sorted(counted):
            due = counted[key] >= AFTER and key not in trials and again.get(key, (now, 0.0))[0] <= now
            if due and len(trials) < most and (other := _next(placement, ring, key)) is not None:
                trials[key] = Trial(other, now)
        return Opinions(counted, trials, again)

    def applied(self, placement: Placement) -> Placement:
        """``placement`` with one more owner for each target on trial."""
        if not self.trials:
            return placement
        index = {s.id: i for i, s in enumerate(placement.scrapers)}
        rows = rows_of(placement.pool, np.array(list(self.trials), dtype=np.uint64))
        more = np.full((len(placement.pool), 1), -1, dtype=np.int32)
        for row, trial in zip(rows.tolist(), self.trials.values(), strict=True):
            number = index.get(trial.scraper, -1)
            if row < len(placement.pool) and number not in placement.owners[row]:
                more[row, 0] = number
        return replace(placement, owners=np.concatenate([placement.owners, more], axis=1))


def _reached(placement: Placement, seen: Mapping[str, Seen]) -> tuple[set[int], dict[int, list[str]]]:
    """Ids whose owners were all asked, scraped it, and had no good scrape; and who has a good scrape of those."""
    pool = placement.pool
    tried, good = np.zeros(len(pool), dtype=np.int32), np.zeros(len(pool), dtype=bool)
    for number, scraper in enumerate(placement.scrapers):
        one = seen.get(scraper.id)
        if one is None:
            continue
        rows = rows_of(pool, one.ids)
        there = (rows < len(pool)) & one.scraped
        rows, up = rows[there], one.up[there]
        mine = (placement.owners[rows] == number).any(axis=1)
        tried[rows[mine]] += 1
        good[rows[mine & up]] = True
    wanted = (placement.owners >= 0).sum(axis=1)
    rows = np.flatnonzero((tried >= wanted) & (wanted > 0) & ~good)
    down = set(pool.ids[rows].tolist())
    up_at: dict[int, list[str]] = {}
    ids = np.sort(pool.ids[rows])
    for name, one in seen.items():
        for key in np.intersect1d(one.ids[one.up], ids).tolist():
            up_at.setdefault(key, []).append(name)
    return down, up_at


def _asked(trial: Trial, key: int, seen: Mapping[str, Seen]) -> int:
    """1 when the scraper was seen trying since the trial began, else 0."""
    one = seen.get(trial.scraper)
    return int(one is not None and one.at > trial.since and key in one.scraped_ids)


def _next(placement: Placement, ring: Ring, key: int) -> str | None:
    """The first scraper in the ring's order for this id that does not own it."""
    (row,) = rows_of(placement.pool, np.array([key], dtype=np.uint64)).tolist()
    owners = {placement.scrapers[i].id for i in placement.owners[row].tolist() if i >= 0}
    order = ring.preference(int(placement.pool.keys[row]))
    return next((s.id for s in order if s.id not in owners), None)
