"""A target that another scraper tries besides its owner: who does, until when, and who is next. Pure.

The first scraper in the ring's order is chosen that neither owns the target nor is barred: controllers that see the same
choose the same. One without success that is barred by now, or that does not have the target in its list for long, makes
way for the next: another controller, which serves its list, may have chosen differently.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from promring.core.coverage import NO_IDS, Seen
from promring.core.plan import rows_of
from promring.core.ring import Ring
from promring.model import Keys, Placement, ServiceScraper

AFTER = 3
PAUSE_S, PAUSE_MOST_S = 600.0, 4 * 3600.0


@dataclass(frozen=True, slots=True)
class Trial:
    """``scraper`` has the target in addition, since then; ``failed``: looks in a row at which whoever had it in addition
    failed it, or was seen not to have it.
    """

    scraper: str
    since: float
    failed: int = 0


Trials = Mapping[int, Trial]
NO_TRIALS: Trials = {}
Pauses = Mapping[int, tuple[float, float]]
"""By id: when one that nobody could reach may be tried again, and the pause after that."""


@dataclass(frozen=True, slots=True)
class Bars:
    """Who is not asked to try: the ``suspects``, and of a service those that are ``without`` its job. ``lacked``: by
    scraper, the ids that it was given long ago and does not have.
    """

    suspects: Collection[str]
    without: Collection[ServiceScraper]
    lacked: Mapping[str, Keys]

    def of(self, service: str) -> set[str]:
        return {*self.suspects, *(name for one, name in self.without if one == service)}


def gone_on(
    trials: Trials,
    pauses: Pauses,
    placement: Placement,
    ring: Ring,
    up_at: Mapping[int, Collection[str]],
    seen: Mapping[str, Seen],
    bars: Bars,
    now: float,
) -> tuple[dict[int, Trial], dict[int, tuple[float, float]]]:
    """``trials`` and ``pauses`` after another look; ``up_at``: by id, who reaches it."""
    found, again, vain = dict[int, Trial](), dict(pauses), list[int]()
    for key, trial in trials.items():
        reaches, lacks = trial.scraper in up_at.get(key, ()), key in bars.lacked.get(trial.scraper, NO_IDS)
        failed = 0 if reaches else trial.failed + (lacks or _asked(trial, key, seen))
        if failed >= AFTER:
            pause = again[key][1] if key in again else PAUSE_S
            again[key] = now + pause, min(PAUSE_MOST_S, 2 * pause)
            continue
        found[key] = replace(trial, failed=failed)
        if not reaches:
            vain.append(key)
    for key, other in next_on_ring(placement, ring, vain, bars, found):
        found[key] = Trial(other, now, found[key].failed)
    return found, again


def _asked(trial: Trial, key: int, seen: Mapping[str, Seen]) -> int:
    """1 when the scraper was seen trying since the trial began, or dropping it, else 0."""
    one = seen.get(trial.scraper)
    if one is None:
        return 0
    return int(one.of(np.array([key], dtype=np.uint64))[0][0] > trial.since or (one.at > trial.since and key in one.dropped))


def next_on_ring(
    placement: Placement, ring: Ring, ids: list[int], bars: Bars, trials: Trials = NO_TRIALS
) -> Iterable[tuple[int, str]]:
    """For each id the first scraper in the ring's order that does not own it and may be asked. Of one that is on trial
    already only where that scraper may not be asked any more, or lacks it.
    """
    for key, row in zip(ids, rows_of(placement.pool, np.array(ids, dtype=np.uint64)).tolist(), strict=True):
        barred = bars.of(placement.pool.by_service(np.array([row]))[0][0])
        if key in trials:
            name = trials[key].scraper
            if name not in barred and key not in bars.lacked.get(name, NO_IDS):
                continue
            barred.add(name)
        barred |= {placement.scrapers[i].id for i in placement.owners[row].tolist() if i >= 0}
        order = ring.preference(int(placement.pool.keys[row]))
        other = next((s.id for s in order if s.id not in barred and s.able), None)
        if other is not None:
            yield key, other
