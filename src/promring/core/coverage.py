"""Proof that every target is scraped: what the scrapers were seen doing, beside what their slices hold. Pure.

A target is covered when a live scraper was seen to have asked it lately. What a scraper was not asked, or did not answer,
proves nothing: its targets are not covered as far as anybody knows, and are told apart as ``unproved``. So are targets that
a server lists but never asks (``Active.never_asked``). A target that the job's own relabelling drops is nobody's to scrape:
it is ``dropped``, and does not count; unless another scraper takes it (``denied``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from promring.core.fragment import ID_LABEL, id_of
from promring.core.marks import Marks
from promring.core.plan import rows_of, shares
from promring.core.shown import ids_shown
from promring.core.unlabelled import TAKEN_AWAY, listed_ids
from promring.model import LONG_AGO, Keys, Placement, TargetPool

Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
Times = npt.NDArray[np.float64]
FOREIGN_KEPT = ERRORS_KEPT = 100
STALE_INTERVALS, STALE_LEAST_S = 3.0, 15.0
INTERVAL_UNKNOWN_S = 60.0
"""Prometheus' default."""
NO_IDS = np.empty(0, dtype=np.uint64)


class Active(NamedTuple):
    """One target that a scraper says it has. A tuple: an audit makes one for each target of the fleet, and a frozen
    dataclass costs four times as much.
    """

    discovered: Mapping[str, str]
    """Its labels before relabelling."""
    up: bool
    age_s: float | None = 0.0
    """Since its last scrape, by the scraper's own clock; None: it was never asked."""
    interval_s: float | None = None
    never_asked: str = ""
    """Why the scraper does not ask it although it lists it, or does not say what came of it."""
    error: str = ""
    """Of its last scrape."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one scraper was seen doing, asked ``at`` (monotonic seconds): an attribute for each thing that it tells. One row
    a target of the pool, ids ascending.

    ``scraped_at``  float64, monotonic seconds: when it last asked the target, or a little earlier; ``LONG_AGO``: it did not
    ``up``          whether that scrape was a good one
    """

    at: float
    ids: Keys
    scraped_at: Times
    up: Flags
    interval_s: float = 0.0
    """The longest scrape interval of these; 0: nobody said."""
    dropped: Keys = field(default_factory=NO_IDS.copy)
    """Ids of targets that the job's own relabelling drops, or makes equal to another, ascending; of former targets, too."""
    denied: Keys = field(default_factory=NO_IDS.copy)
    """Those of ``dropped`` that another scraper took (``core/takers``): they are not nobody's."""
    untold: Keys = field(default_factory=NO_IDS.copy)
    """A few of ``dropped`` that another scraper shall try, as nobody knows yet whether that takes them."""
    hidden: int = 0
    """How many it dropped besides, without saying which."""
    foreign: tuple[str, ...] = ()
    """Addresses that no source lists, the first ``FOREIGN_KEPT``."""
    foreign_count: int = 0
    never_asked: str = ""
    """Why it asks none, or some, of its targets."""
    errors: Mapping[int, str] = field(default_factory=dict)
    """By id: why the last scrape failed, of the first ``ERRORS_KEPT``."""
    unlabelled: Keys = field(default_factory=NO_IDS.copy)
    """Ids of targets that may be among those that it shows without an id (``core/unlabelled``), ascending."""
    dropped_bare: Keys = field(default_factory=NO_IDS.copy)
    """The same among those that it drops: it scrapes none of these, and has them from another list than its slice."""
    stale_s: Times | None = None
    """float64, of each row: how long ago it may have been asked to count as asked; None: by ``interval_s``."""

    @property
    def bare(self) -> Keys:
        return np.concatenate([self.unlabelled, self.dropped_bare])

    @property
    def scraped(self) -> Flags:
        """Which were asked lately: not longer ago than some intervals, so that a server that stands still proves nothing."""
        lately: Flags = self.scraped_at >= self.at - (self.stale_after_s if self.stale_s is None else self.stale_s)
        return lately

    @property
    def still(self) -> str:
        """That it asked none of its targets lately, although once; mostly empty."""
        newest = float(self.scraped_at.max(initial=LONG_AGO))
        if newest == LONG_AGO or self.scraped.any():
            return ""
        return f"its newest scrape was {self.at - newest:.0f} s before the Date of its answer: one of these clocks is wrong?"

    @property
    def stale_after_s(self) -> float:
        return max(STALE_LEAST_S, STALE_INTERVALS * (self.interval_s or INTERVAL_UNKNOWN_S))

    def of(self, ids: Keys) -> tuple[Times, Flags]:
        """For each id when that target was last asked (``LONG_AGO``: not lately), and whether with success."""
        if not len(self.ids):
            return np.full(len(ids), LONG_AGO), np.zeros(len(ids), dtype=bool)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        there = (self.ids[at] == ids) & self.scraped[at]
        return np.where(there, self.scraped_at[at], LONG_AGO), there & self.up[at]

    def lists(self, ids: Keys) -> bool:
        """Whether the scraper has all these targets."""
        if not len(self.ids):
            return not len(ids)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return bool((self.ids[at] == ids).all())

    def has_just(self, ids: Keys) -> bool:
        """Whether it has these targets, ``ids`` ascending, and no other; those that its relabelling drops count as there."""
        if np.array_equal(self.ids, ids):
            return True
        return np.array_equal(np.union1d(self.ids, np.intersect1d(self.dropped, ids)), ids)


class Index:
    """Finds the rows of a pool for what scrapers say of their targets: by the ids in the lines of the slices."""

    def __init__(self, pool: TargetPool) -> None:
        self.pool = pool
        self.own_jobs = b'"job":' in pool.blob
        """Whether lists may say which job a target is of."""

    def seen(self, at: float, active: Iterable[Active]) -> Seen:
        ids: list[int] = []
        columns: list[tuple[float, bool]] = []
        unknown: list[Mapping[str, str]] = []
        errors, interval_s, why = dict[int, str](), 0.0, ""
        told = list(active)
        for one, key in zip(told, ids_shown(self.pool, [a.discovered for a in told]), strict=True):
            if key is None:
                unknown.append(one.discovered)
                continue
            asked_at = LONG_AGO if one.age_s is None or one.never_asked else at - one.age_s
            ids.append(key)
            if one.error and not one.up and len(errors) < ERRORS_KEPT:
                errors[key] = one.error
            columns.append((asked_at, one.up and asked_at > LONG_AGO))
            interval_s, why = max(interval_s, one.interval_s or 0.0), why or one.never_asked
        may_be = listed_ids(self.pool, unknown)
        foreign = [labels.get("__address__", "") for labels, key in zip(unknown, may_be.tolist(), strict=True) if not key]
        column = np.array(ids, dtype=np.uint64)
        order = np.argsort(column)
        scraped_at, up = np.array(columns).reshape(len(columns), 2)[order].T
        return Seen(
            at,
            column[order],
            scraped_at,
            up.astype(bool),
            interval_s,
            foreign=tuple(foreign[:FOREIGN_KEPT]),
            foreign_count=len(foreign),
            never_asked=why,
            errors=errors,
            unlabelled=np.unique(may_be[may_be > 0]),
        )

    def unlabelled(self, discovered: Iterable[Mapping[str, str]]) -> Keys:
        """Ids of targets that those without an id may be, ascending."""
        found = listed_ids(self.pool, discovered)
        return np.unique(found[found > 0])

    def dropped(self, discovered: Iterable[Mapping[str, str]]) -> Keys:
        """The ids in what a scraper says it dropped, ascending; of targets of no pool, too: they may be in the next one."""
        ids = {id_of(labels.get(ID_LABEL, "")) for labels in discovered} - {None}
        return np.array(sorted(ids), dtype=np.uint64)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True)
class ScraperCoverage:
    """One scraper: how many targets its slice holds, how many of them it scrapes; what it lacks and has beyond."""

    expected: int
    scraped: int
    missing: int
    foreign: int
    """Targets that are not in its slice, or in no source at all."""
    down: int
    error: str = ""
    """Why it could not be asked; the numbers are 0 then."""
    dropped: int = 0
    """Of those in its slice, what its relabelling drops."""
    never_asked: str = ""
    """Why targets of its slice are not seen scraped."""
    denied: int = 0
    """Of those that are ``missing``, what its relabelling drops although another scraper took it."""

    @property
    def behind(self) -> bool:
        return bool(self.missing or self.foreign)


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """Of one shard service at one moment. Rows are those of ``pool``."""

    pool: TargetPool
    covered: Flags
    missing: Rows
    """Not scraped by anybody, although everybody who should was asked."""
    unproved: Rows
    """Not seen scraped, and somebody who should could not be asked."""
    doubled: Rows
    """Scraped by one more than have it in their slices."""
    down: Rows
    """Scraped, but not one scrape succeeds."""
    dropped: Rows
    """Dropped by relabelling: nobody shall scrape them."""
    scrapers: Mapping[str, ScraperCoverage] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Share of the targets that are proved to be scraped, of those that shall be; 1 when there are none."""
        wanted = len(self.covered) - len(self.dropped)
        return 1.0 - self.uncovered / wanted if wanted else 1.0

    @property
    def uncovered(self) -> int:
        return len(self.missing) + len(self.unproved)


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """One scraper, beside what its slice holds. Rows are those of the pool."""

    asked: Rows
    good: Rows
    """Those of ``asked`` that answered."""
    beyond: Rows
    """What it scrapes, and is not in its slice."""
    missing: Rows
    dropped: Rows
    """All that its relabelling drops."""
    counts: ScraperCoverage


def coverage(
    in_force: Placement, seen: Mapping[str, Seen], failed: Mapping[str, str], asked: TargetPool | None = None
) -> Coverage:
    """``in_force``: what the slices hold, those who hold on included. ``seen``, ``failed``: by scraper id. ``asked``: the
    targets as they were when the scrapers were asked; None: the same. The answers prove nothing of targets that came since.
    """
    pool, found = in_force.pool, shares(in_force)
    times = np.zeros(len(pool), dtype=np.int32)
    beyond, up, unknown, dropped = (np.zeros(len(pool), dtype=bool) for _ in range(4))
    scrapers, marks = {}, Marks(len(pool))
    for i, scraper in enumerate(in_force.scrapers):
        expected = found.of(i)
        one = seen.get(scraper.id)
        if one is None or scraper.id in failed:
            unknown[expected] = True
            why = failed.get(scraper.id, "not asked yet") if len(expected) else ""
            scrapers[scraper.id] = ScraperCoverage(len(expected), 0, 0, 0, 0, why)
            continue
        compared = _compared(pool, expected, one, marks)
        times[compared.asked] += 1  # once each, however often it is there
        up[compared.good] = True
        beyond[compared.beyond] = True
        dropped[compared.dropped] = True  # whoever has it in its list, as with what is covered
        if len(compared.missing) <= one.hidden:  # it drops so many without saying which
            unknown[compared.missing] = True
        unknown[np.intersect1d(compared.missing, _known(pool, one.bare))] = True
        scrapers[scraper.id] = compared.counts
    if asked is not None and asked is not pool:
        unknown |= rows_of(asked, pool.ids) == len(asked)
    covered = times > 0
    dropped &= ~covered & ~unknown
    open_ = ~covered & ~dropped
    return Coverage(
        pool,
        covered,
        missing=np.flatnonzero(open_ & ~unknown),
        unproved=np.flatnonzero(open_ & unknown),
        doubled=np.flatnonzero(beyond & (times > 1)),
        down=np.flatnonzero(covered & ~up),
        dropped=np.flatnonzero(dropped),
        scrapers=scrapers,
    )


def _compared(pool: TargetPool, expected: Rows, one: Seen, marks: Marks) -> _Compared:
    rows = rows_of(pool, one.ids)
    there = rows < len(pool)
    rows, scraped, good = rows[there], one.scraped[there], one.up[there]
    asked, succeeded = rows[scraped], rows[good & scraped]
    denied = _known(pool, one.denied)
    dropped = _known(pool, np.setdiff1d(one.dropped, one.denied))
    shall = marks.put(expected)
    strange, beyond = rows[~shall[rows]], asked[~shall[asked]]
    open_ = expected[~marks.put(asked)[expected]]
    unlisted = open_[~marks.put(rows)[open_]]
    left_out = unlisted[marks.put(dropped)[unlisted]]
    missing = open_[~marks.put(left_out)[open_]]
    mine = marks.put(succeeded)[expected]
    counts = ScraperCoverage(
        expected=len(expected),
        scraped=len(expected) - len(open_),
        missing=len(missing),
        foreign=len(np.unique(strange)) + int((~there).sum()) + one.foreign_count,
        down=len(expected) - len(open_) - int(mine.sum()),
        dropped=len(left_out),
        never_asked=one.never_asked or one.still or (TAKEN_AWAY if len(missing) and len(one.bare) else ""),
        denied=int(marks.put(denied)[missing].sum()),
    )
    return _Compared(asked, succeeded, beyond, missing, dropped, counts)


def _known(pool: TargetPool, ids: Keys) -> Rows:
    """The rows of those that are in the pool."""
    rows = rows_of(pool, ids)
    return np.asarray(rows[rows < len(pool)])
