"""Who has which target in its slice, and what is known of the slices that scrapers took. Pure.

``core/handover`` makes the claims of one step from those of the step before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from promring.core.coverage import Seen
from promring.core.joined import rows_between
from promring.core.plan import rows_of
from promring.model import LONG_AGO, NEVER_ENDS, Keys, Owners, ServiceScraper, TargetPool

Times = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
TAKEN_MOST, TAKEN_APART_S = 256, 1.0
APPLIED_S = 10.0
"""In this time a scraper applies a list that it took."""
DEPARTED_KEPT_S = 600.0


@dataclass(frozen=True, slots=True)
class Taken:
    """When one scraper took its slices, at its sink or by coming for them: at ``ats[i]`` the scraper had a slice with all
    that was put in force until ``uptos[i]``. The same of a service: when its slices could be had. Monotonic seconds, both
    ascending. Never changed: ``and_then`` makes the next.
    """

    uptos: tuple[float, ...] = ()
    ats: tuple[float, ...] = ()

    def and_then(self, upto: float, at: float) -> Taken:
        """It took another. Of two in one second the first is forgotten, of many some of the older half: what was given
        then counts as taken a little later.
        """
        if self.uptos and upto <= self.uptos[-1]:
            return self
        kept = list(zip(self.uptos, self.ats, strict=True))
        if len(kept) > 1 and kept[-1][1] - kept[-2][1] < TAKEN_APART_S:
            del kept[-1]
        if len(kept) >= TAKEN_MOST:  # every second of the older half
            half = TAKEN_MOST // 2
            kept = kept[:half:2] + kept[half:]
        uptos, ats = zip(*kept, (upto, at), strict=True)
        return Taken(uptos, ats)

    def after(self, before: Taken) -> Taken:
        """What this says, and what the scraper took ``before``."""
        return self if before is self else Taken((*before.uptos, *self.uptos), (*before.ats, *self.ats))

    def since(self, begun: Times) -> Times:
        """For each time at which something was given when it had it; ``NEVER_ENDS``: it has not yet."""
        return np.append(np.array(self.ats), NEVER_ENDS)[np.searchsorted(np.array(self.uptos), begun)]

    def upto(self, at: float) -> float:
        """Until when all that was put in force was in what it had ``at`` that time; ``LONG_AGO``: it had nothing."""
        number = bisect_right(self.ats, at)
        return self.uptos[number - 1] if number else LONG_AGO


NOTHING_TAKEN: Mapping[ServiceScraper, Taken] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """Who has which target in its slice: one row a target and scraper, columns of one length.

    ``ids``       uint64: the target, as in ``TargetPool.ids``
    ``scrapers``  int32: index in ``names``
    ``since``     float64, seconds: when the claim was put in force
    ``until``     float64, seconds: when it ends at the latest; ``NEVER_ENDS`` for an owner
    ``made_in``   the pool that they were made in, and the row of each there: what is not searched again; rows None: there is
                  one claim for each row, in order
    """

    names: tuple[str, ...]
    ids: Keys
    scrapers: Owners
    since: Times
    until: Times
    made_in: tuple[TargetPool, npt.NDArray[np.int32] | None] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, pool: TargetPool) -> Rows:
        """Of each the row of its target in ``pool``, the number of its rows when it has none."""
        if self.made_in is None:
            return rows_of(pool, self.ids)
        made_in, rows = self.made_in
        between = rows_between(made_in, pool)
        return between if rows is None else between[rows]

    @property
    def held(self) -> int:
        """How many are beyond the owners'."""
        return int(np.isfinite(self.until).sum())

    @property
    def ends_next(self) -> float:
        """When the next one ends; ``NEVER_ENDS`` when none does."""
        return float(self.until.min(initial=NEVER_ENDS))

    def __eq__(self, other: object) -> bool:
        """The same claims, those that end the same ones; whenever that is."""
        if not isinstance(other, Claims):
            return NotImplemented
        columns = (
            (self.ids, other.ids),
            (self.scrapers, other.scrapers),
            (np.isfinite(self.until), np.isfinite(other.until)),
        )
        return self.names == other.names and all(np.array_equal(one, two) for one, two in columns)

    __hash__ = object.__hash__


def never(count: int) -> Times:
    """So many times ``NEVER_ENDS``, of claims that have no end: read-only, and in no more memory than one."""
    return np.broadcast_to(np.float64(NEVER_ENDS), count)


NO_CLAIMS = Claims((), *(np.empty(0, dtype=kind) for kind in (np.uint64, np.int32, np.float64, np.float64)))  # type: ignore[arg-type]


def taken_at(
    pool: TargetPool, names: Sequence[str], held: tuple[Rows, Owners, Times], taken: Mapping[ServiceScraper, Taken]
) -> Times:
    """For each that is ``held`` (row, scraper, since) when the scraper took the first slice with it since then, seconds;
    ``NEVER_ENDS``: none is known. ``names``: of the scrapers; ``taken``: by service and name.
    """
    rows, scrapers, since = held
    at = np.full(len(rows), NEVER_ENDS)
    for number in np.unique(scrapers).tolist():
        mine = np.flatnonzero(scrapers == number)
        mine = mine[np.argsort(rows[mine], kind="stable")]
        for service, part in pool.by_service(rows[mine]):
            at[mine[part]] = taken.get((service, names[number]), Taken()).since(since[mine[part]])
    return at


def shown_by(one: Seen, ids: Keys) -> Flags:
    """For each id whether the scraper lists it, drops it, or may scrape it without an id."""
    return among(one.ids, ids) | among(one.dropped, ids) | among(one.unlabelled, ids)


def with_seen(
    before: Claims,
    seen: Mapping[str, Seen],
    pool: TargetPool,
    told: Collection[ServiceScraper] = (),
    taken: Mapping[ServiceScraper, Taken] = NOTHING_TAKEN,
) -> Claims:
    """``before``, and what scrapers were seen to have besides: another leader gave them that.

    A scraper does not hold on to what it was not seen to have, nor to drop. But where it has none of its targets of a
    service, whatever it drops, it has just started; and what it had just ``taken`` from us it may not have applied yet.
    ``told``: services and scrapers of which something was seen, where the ``pool`` has several services; of the others
    nobody knows.
    """
    gone, held, rows = np.zeros(len(before), dtype=bool), np.isfinite(before.until), before.rows(pool)
    order = np.argsort(rows)
    order = order[: np.searchsorted(rows[order], len(pool))]
    for name, which in zip(before.names, by_scraper(before.scrapers[order], len(before.names)), strict=True):
        mine = order[which]
        if (one := seen.get(name)) is None or not held[mine].any():
            continue
        for service, part in pool.by_service(rows[mine]):
            some = mine[part]
            listed = among(one.ids, before.ids[some])
            if (service and (service, name) not in told) or not listed.any():
                continue
            shown = listed | among(one.dropped, before.ids[some])
            took_at = taken.get((service, name), Taken()).since(before.since[some])
            gone[some] = held[some] & ~shown & ~((took_at <= one.at) & (took_at > one.at - APPLIED_S))
    kept = ~gone
    before = Claims(before.names, before.ids[kept], before.scrapers[kept], before.since[kept], before.until[kept])
    return _with_more(before, {name: (one.ids, one.at) for name, one in seen.items()})


def _with_more(before: Claims, more: Mapping[str, tuple[Keys, float]]) -> Claims:
    """``before``, and what scrapers have besides: ids, since when."""
    number = {name: i for i, name in enumerate(before.names)}
    names = (*before.names, *(name for name in more if name not in number))
    ids, scrapers, since = [before.ids], [before.scrapers], [before.since]
    for index, mine in enumerate(by_scraper(before.scrapers, len(names))):
        if names[index] in more:
            has, at = more[names[index]]
            new = np.setdiff1d(has, before.ids[mine])
            ids.append(new)
            scrapers.append(np.full(len(new), index, dtype=np.int32))
            since.append(np.full(len(new), at))
    until = np.concatenate([before.until, never(sum(map(len, ids)) - len(before))])
    return Claims(names, np.concatenate(ids), np.concatenate(scrapers), np.concatenate(since), until)


def together(parts: Sequence[Claims]) -> Claims:
    """The rows of all ``parts`` (at least one), with each name once in ``names``."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    number = {name: i for i, name in enumerate(names)}
    numbers = [np.array([number[name] for name in part.names], dtype=np.int32)[part.scrapers] for part in parts]
    return Claims(
        names,
        np.concatenate([part.ids for part in parts]),
        np.concatenate(numbers),
        np.concatenate([part.since for part in parts]),
        np.concatenate([part.until for part in parts]),
    )


def _of_names(some: Claims, names: Collection[str]) -> Claims:
    """The rows of these scrapers."""
    mine = np.isin(some.scrapers, [i for i, name in enumerate(some.names) if name in names])
    return Claims(some.names, some.ids[mine], some.scrapers[mine], some.since[mine], some.until[mine])


@dataclass(frozen=True, slots=True, eq=False)
class Departed:
    """What scrapers had when they left the plan: they keep it, and some of them were never gone. A scraper that comes back
    holds it as the old owner of a target that moves does. That counts from its return: the slices that it took before say
    little of what it has now. Never changed: ``and_then`` makes the next.
    """

    claims: Claims = NO_CLAIMS
    """The targets of each, by the ids of the fleet. Their times say nothing."""
    left: Mapping[str, float] = field(default_factory=dict)
    """When each of these scrapers left, monotonic seconds."""

    def and_then(self, before: Claims, live: Collection[str], now: float) -> Departed:
        """The scrapers of ``before`` that are not ``live`` left now. After ``DEPARTED_KEPT_S`` they are forgotten."""
        leaving = dict.fromkeys((name for name in before.names if name not in live), now)
        away = ((name, at) for name, at in self.left.items() if name not in live and name not in leaving)
        kept = {name: at for name, at in away if now - at < DEPARTED_KEPT_S}
        if not leaving and len(kept) == len(self.left):
            return self
        return Departed(together([_of_names(self.claims, kept), _of_names(before, leaving)]), kept | leaving)

    def back(self, before: Claims, live: Collection[str], now: float) -> Claims:
        """``before``, and what those have who are ``live`` again."""
        had, there = self.claims, {name for name in self.left if name in live}
        if not there:
            return before
        each = zip(had.names, by_scraper(had.scrapers, len(had.names)), strict=True)
        return _with_more(before, {name: (had.ids[mine], now) for name, mine in each if name in there})

    def renamed(self, names: Sequence[str]) -> Departed:
        """``names``: those of the scrapers of ``claims``, as they are called now."""
        now = dict(zip(self.claims.names, names, strict=True))
        return Departed(
            replace(self.claims, names=tuple(names)), {now.get(name, name): at for name, at in self.left.items()}
        )


def among(ascending: Keys, ids: Keys) -> Flags:
    """Which of ``ids`` are in the other one."""
    if not len(ascending):
        return np.zeros(len(ids), dtype=bool)
    return np.asarray(ascending[np.minimum(np.searchsorted(ascending, ids), len(ascending) - 1)] == ids)


def by_scraper(scrapers: Owners | Rows, count: int) -> list[Rows]:
    """For each of ``count`` scrapers the rows that are its, ascending."""
    order = np.argsort(scrapers, kind="stable")
    return np.split(order, np.searchsorted(scrapers[order], np.arange(1, count)))[:count]
