"""A second opinion: what its owner cannot reach is tried by another scraper, too. Pure.

One target: after ``AFTER`` looks in a row at which none of its owners had a good scrape, the next scraper in the ring's
order gets it in addition; the owner goes on trying. When the owner succeeds again, or the other one fails as well, it is
the owner's alone. One that nobody can reach is tried again after ``PAUSE_S``, then twice that, at most ``PAUSE_MOST_S``.

A scraper that fails most of what it asks is suspected: ``SAMPLE`` of its targets are tried elsewhere after one look. When
others reach most of what they tried of it, it is *sick*: it gets nothing for ``SICK_S``, then twice that each time, so that
the others take over what it had, make before break. When most scrapers fail most of what they ask, however little that is,
it is not them: none is sick.

What the relabelling of one scraper drops and another one took (``Seen.denied``) counts as tried without success; a few of
those that nobody else took (``Seen.untold``) are tried elsewhere, too. So does what a scraper was given and does not have;
where that is most of what it has of a service, it may be *idle* for that one (``core/idle``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from promring.core.claims import NO_CLAIMS, Claims, by_scraper
from promring.core.coverage import NO_IDS, Seen
from promring.core.idle import (
    NO_CANARIES,
    NOTHING_LACKING,
    IdleJobs,
    Lacking,
    lacked_by,
    not_lacked_by_most,
    only_missing,
    reached_elsewhere,
    sampled,
)
from promring.core.plan import rows_of, with_more
from promring.core.ring import Ring
from promring.core.trials import AFTER, Bars, Trial, gone_on, next_on_ring
from promring.model import Failing, Keys, Loads, Placement, ServiceScraper, TargetPool

TRIALS_LEAST, TRIALS_SHARE = 50, 0.1
SUSPECT_LEAST, SUSPECT_SHARE = 3, 0.5
"""Targets that a suspected scraper fails: so many, and such a share of those that it asks."""
SAMPLE, NEW_MOST = 20, 300
"""Targets of one suspected scraper, and of all, that are given to another one after one look."""
SICK_S, SICK_MOST_S, SICK_FORGOTTEN_S = 300.0, 3600.0, 3600.0


@dataclass(frozen=True, slots=True)
class Sick:
    """A scraper that gets nothing ``until`` then (monotonic seconds). Of the targets it asked it ``failed`` so many; others
    ``tried`` some of those, and reached ``reached``.
    """

    until: float
    pause_s: float
    failed: int
    asked: int
    tried: int
    reached: int
    over: bool = False
    """A look saw that the time had passed. Saved times stand still from the last change on, so ``until`` may be later again
    after a restart.
    """

    @property
    def found(self) -> str:
        """A sentence for people."""
        elsewhere = f"others tried {self.tried} of these, and reach {self.reached}"
        return f"it fails {self.failed} of the {self.asked} targets that it asks; {elsewhere}"


@dataclass(frozen=True, slots=True)
class SecondOpinions:
    """What is known of targets and scrapers that fail. Never changed: ``judged`` makes the next."""

    down: Mapping[int, int] = field(default_factory=dict)
    """Looks in a row at which no owner had a good scrape."""
    trials: Mapping[int, Trial] = field(default_factory=dict)
    again_at: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """When one that nobody could reach may be tried again, and the pause after that."""
    scrapers: Mapping[str, Sick] = field(default_factory=dict)
    """Who is sick, or was not long ago."""
    beyond: int = 0
    """Targets that would be tried elsewhere, but are too many at once."""
    jobs: IdleJobs = field(default_factory=IdleJobs)
    """Who does not have the targets of a service that it was given."""

    def sick(self, now: float) -> dict[str, Sick]:
        """Who gets nothing now."""
        return {name: one for name, one in self.scrapers.items() if now < one.until and not one.over}

    def failing(self, now: float) -> Failing:
        """Who gets nothing now, and who nothing more of a service."""
        return Failing.of(self.sick(now), idle=self.jobs.idle)

    def of(self, ids: Mapping[int, int], services: Collection[str]) -> SecondOpinions:
        """What is known of these targets, by their ids before, with the ids that they have now; of these services; and of
        all scrapers.
        """
        return replace(
            self,
            down={ids[key]: looks for key, looks in self.down.items() if key in ids},
            trials={ids[key]: trial for key, trial in self.trials.items() if key in ids},
            again_at={ids[key]: pause for key, pause in self.again_at.items() if key in ids},
            jobs=self.jobs.of(services),
        )

    def renamed(self, scrapers: Mapping[str, str]) -> SecondOpinions:
        """With the names that the scrapers have now; who has none is no scraper any more."""
        trials = self.trials.items()
        return replace(
            self,
            trials={key: replace(one, scraper=scrapers[one.scraper]) for key, one in trials if one.scraper in scrapers},
            scrapers={scrapers[name]: one for name, one in self.scrapers.items() if name in scrapers},
            jobs=self.jobs.renamed(scrapers),
        )

    def and_those_of(self, other: SecondOpinions) -> SecondOpinions:
        """What two fleets knew, of the same scrapers; ours where they differ."""
        return SecondOpinions(
            {**other.down, **self.down},
            {**other.trials, **self.trials},
            {**other.again_at, **self.again_at},
            {**other.scrapers, **self.scrapers},
            self.beyond + other.beyond,
            self.jobs.and_those_of(other.jobs),
        )

    def judged(
        self,
        placement: Placement,
        ring: Ring,
        seen: Mapping[str, Seen],
        now: float,
        lacks: Mapping[ServiceScraper, Lacking] = NOTHING_LACKING,
        told: Collection[ServiceScraper] = (),
        claims: Claims = NO_CLAIMS,
        capacities: Loads | None = None,
    ) -> SecondOpinions:
        """After another look at all scrapers. ``placement`` is without trials; ``capacities`` as of ``applied``. For a
        target whose owners cannot be seen nothing changes. ``lacks``: what scrapers do not have, of all services and
        scrapers of which something was ``told`` (``core/idle.lacking``), where slices hold what is in ``claims``.
        """
        asking = _asking(placement, seen)
        asked_by, good = _asked_and_good(len(placement.pool), asking)
        holders = _holders_asking(placement.pool, claims, asking) if any(len(x.ids) for x in lacks.values()) else asked_by
        enough = holders >= (placement.owners >= 0).sum(axis=1)
        credible = only_missing(not_lacked_by_most(lacks), placement.pool, enough, self.trials.keys())
        lacked = lacked_by(credible)
        down, up_at, over = _reached(placement, seen, lacked, {*self.trials, *self.again_at})
        failing = _failing(placement.pool, asking, asked_by, good)
        suspects = {name for name, one in failing.items() if one.is_suspect}
        if 2 * sum(one.fails_most for one in failing.values()) > len(failing):
            suspects = set()
        counted = {key: self.down.get(key, 0) + 1 for key in down}
        without = self.jobs.suspects(credible, now)
        bars = Bars(suspects | _full(placement, capacities), self.jobs.doubtful(credible, now), lacked)
        live = {s.id for s in placement.scrapers if s.weight}
        known = {key: trial for key, trial in self.trials.items() if key not in over and trial.scraper in live}
        again = {key: pause for key, pause in self.again_at.items() if key not in over}
        trials, again = gone_on(known, again, placement, ring, up_at, seen, bars, now)
        most = max(TRIALS_LEAST, int(TRIALS_SHARE * len(placement.pool)))
        sample = _sample(suspects, failing) | sampled(without, credible, self.jobs.idle)
        due = [key for key in sorted(counted) if key not in trials and (counted[key] >= AFTER or key in sample)]
        due = [key for key in due if key not in again or again[key][0] <= now]
        others = [key for key in due if key not in sample][: max(0, most - len(trials))]
        chosen = [*(key for key in due if key in sample), *others][:NEW_MOST]
        trials |= {key: Trial(other, now) for key, other in next_on_ring(placement, ring, chosen, bars)}
        beyond = len(due) - len(chosen)
        reached = reached_elsewhere(without, credible, placement.pool, asked_by > 0, good)
        jobs = self.jobs.only(live).after(lacks, reached, told, now)
        return SecondOpinions(counted, trials, again, self._sick_after(suspects, failing, now), beyond, jobs)

    def _sick_after(self, suspects: Iterable[str], failing: Mapping[str, _Failing], now: float) -> Mapping[str, Sick]:
        well = {name for name, one in self.scrapers.items() if name in failing and failing[name].is_well_again(one.asked)}
        sick = self.sick(now).keys() - well
        known = {
            name: replace(one, over=name not in sick, until=min(one.until, now) if name in well else one.until)
            for name, one in self.scrapers.items()
            if now < one.until + SICK_FORGOTTEN_S
        }
        for name in sorted(suspects):
            one, before = failing[name], known.get(name)
            if one.is_sick and name not in sick:
                pause_s = SICK_S if before is None else min(SICK_MOST_S, 2 * before.pause_s)
                known[name] = Sick(now + pause_s, pause_s, len(one.ids), one.asked, one.tried, one.reached)
        return known

    def applied(
        self, placement: Placement, capacities: Loads | None = None, canaries: Mapping[ServiceScraper, Keys] = NO_CANARIES
    ) -> Placement:
        """``placement`` with one more owner for each target on trial, and who has it as one of its ``canaries``, as
        far as ``capacities`` (int64, the most load of each scraper; None: no bound) has room.
        """
        more = [(key, trial.scraper) for key, trial in self.trials.items()]
        able = {s.id for s in placement.scrapers if s.able}
        more += [(key, name) for (_, name), ids in canaries.items() if name in able for key in ids.tolist()]
        return placement if not more else with_more(placement, more, capacities)


@dataclass(frozen=True, slots=True, eq=False)
class _Failing:
    """One scraper: how many targets it asked lately, the ids of those that it failed; how many of those another one asked,
    and how many of these with success.
    """

    asked: int
    ids: npt.NDArray[np.uint64]
    tried: int
    reached: int

    @property
    def fails_most(self) -> bool:
        """Whether it fails at least ``SUSPECT_SHARE`` of what it asks, however few targets that are."""
        return len(self.ids) >= max(1.0, SUSPECT_SHARE * self.asked)

    @property
    def is_suspect(self) -> bool:
        return self.fails_most and len(self.ids) >= SUSPECT_LEAST

    def is_well_again(self, asked: int) -> bool:
        """Whether it asks no less than when it failed, and reaches most: what it failed then it still has. So where most
        scrapers began to fail in the middle of a look, or where another controller leads, and does not call it sick.
        """
        return self.asked >= asked and not self.fails_most

    @property
    def is_sick(self) -> bool:
        return self.tried >= min(SUSPECT_LEAST, len(self.ids)) and 2 * self.reached >= self.tried


def _full(placement: Placement, capacities: Loads | None) -> set[str]:
    """Who has no room for another target."""
    if capacities is None:
        return set()
    carried = placement.carried().items()
    return {name for (name, load), most in zip(carried, capacities.tolist(), strict=True) if load >= most}


Tried = Mapping[str, tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]]


def _asking(placement: Placement, seen: Mapping[str, Seen]) -> Tried:
    """For each scraper that was seen the rows that it asked lately, or drops; and whether with success."""
    there = [(s.id, seen[s.id]) for s in placement.scrapers if s.id in seen]
    return {name: _tried(placement.pool, one, one.denied) for name, one in there}


def _asked_and_good(size: int, asking: Tried) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Of each row how many ask it, and whether one has success."""
    asked_by, good = np.zeros(size, dtype=np.int32), np.zeros(size, dtype=bool)
    for rows, up in asking.values():
        np.add.at(asked_by, rows, 1)
        good[rows[up]] = True
    return asked_by, good


def _holders_asking(pool: TargetPool, claims: Claims, asking: Tried) -> npt.NDArray[np.int32]:
    """Of each row how many ask it that have it in their slices. Others do it as another controller tries it, or still."""
    found, rows = np.zeros(len(pool), dtype=np.int32), claims.rows(pool)
    for name, theirs in zip(claims.names, by_scraper(claims.scrapers, len(claims.names)), strict=True):
        if name in asking:
            asked, _ = asking[name]
            found[asked[np.isin(asked, rows[theirs])]] += 1
    return found


def _failing(
    pool: TargetPool, asking: Tried, asked_by: npt.NDArray[np.int32], good: npt.NDArray[np.bool_]
) -> dict[str, _Failing]:
    """Every scraper that asks something."""
    found = {}
    for name, (rows, up) in asking.items():
        if len(rows):
            bad = rows[~up]
            found[name] = _Failing(len(rows), pool.ids[bad], int((asked_by[bad] > 1).sum()), int(good[bad].sum()))
    return found


def _tried(
    pool: TargetPool, one: Seen, lacking: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """The rows that a scraper asked lately, or is ``lacking``; and whether with success."""
    rows, up = rows_of(pool, one.ids[one.scraped]), one.up[one.scraped]
    if len(lacking):
        more = np.setdiff1d(rows_of(pool, lacking), rows)
        rows, up = np.concatenate([rows, more]), np.concatenate([up, np.zeros(len(more), dtype=bool)])
    there = rows < len(pool)
    return rows[there], up[there]


def _sample(suspects: Iterable[str], failing: Mapping[str, _Failing]) -> set[int]:
    """Targets of suspected scrapers that others shall try."""
    return {key for name in suspects for key in failing[name].ids[:SAMPLE].tolist()}


def _reached(
    placement: Placement, seen: Mapping[str, Seen], lacked: Mapping[str, Keys], known: Collection[int]
) -> tuple[set[int], dict[int, list[str]], set[int]]:
    """Ids whose owners were all asked, scraped or ``lacked`` it, and had no good scrape; who has a good scrape of those, or
    of what is ``known``; and which of the ``known`` are over: an owner reaches them, or they are no targets any more.
    """
    pool = placement.pool
    tried, good = np.zeros(len(pool), dtype=np.int32), np.zeros(len(pool), dtype=bool)
    for number, scraper in enumerate(placement.scrapers):
        one = seen.get(scraper.id)
        if one is None:
            continue
        rows, up = _tried(pool, one, np.concatenate([one.denied, one.untold, lacked.get(scraper.id, NO_IDS)]))
        mine = (placement.owners[rows] == number).any(axis=1)
        tried[rows[mine]] += 1
        good[rows[mine & up]] = True
    wanted = (placement.owners >= 0).sum(axis=1)
    rows = np.flatnonzero((tried >= wanted) & (wanted > 0) & ~good)
    down = set(pool.ids[rows].tolist())
    up_at: dict[int, list[str]] = {}
    asked = np.array(sorted(known), dtype=np.uint64)
    where = rows_of(pool, asked)
    over = np.concatenate([good, [True]])[np.minimum(where, len(pool))]
    ids = np.union1d(pool.ids[rows], asked)
    for name, one in seen.items():
        for key in np.intersect1d(one.ids[one.up & one.scraped], ids).tolist():
            up_at.setdefault(key, []).append(name)
    return down, up_at, set(asked[over].tolist())
