"""A scraper that answers and does not have the targets of a service that it was given: what it lacks, and since when. Pure.

Its job was taken out of the configuration, its list does not reach it, or another server has its address by now. It is
*idle* for that service when others scrape some of what it lacks. Then all that it lacks goes elsewhere. A few targets, its
``canaries``, stay in its slice besides: as soon as it is seen to have them it gets its share again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from promring.core.claims import Claims, Flags, Taken, among, by_scraper, shown_by
from promring.core.coverage import NO_IDS, Seen
from promring.core.joined import FleetPool
from promring.core.plan import rows_of
from promring.core.ring import Ring
from promring.model import Keys, ServiceScraper, TargetPool

GIVEN_S = 75.0
"""So long a scraper may take to apply a list that it took: a vmagent looks at its files once a minute."""
LASTS_S = 20.0
"""So long it must lack most of them: a server that just started answers before it has read its lists."""
SHARE, LEAST, WELL = 0.5, 3, 2
"""Lacking such a share of what it was given, and at least so many; seen to have more so many times in a row."""
TRIED, CANARIES = 20, 20
"""How many of the targets that a suspect lacks others try; how many an idle scraper has in its slice besides, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Lacking:
    """One service and scraper: how many targets it was ``given`` long enough ago, and the ``ids`` (uint64, ascending) of
    those that it does not list, and is not known to drop.
    """

    given: int
    ids: Keys

    @property
    def most(self) -> bool:
        return len(self.ids) >= max(1.0, SHARE * self.given)


NOTHING_LACKING: Mapping[ServiceScraper, Lacking] = {}
NO_CANARIES: Mapping[ServiceScraper, Keys] = {}


@dataclass(frozen=True, slots=True)
class Idle:
    """It lacked ``lacking`` of the targets that it was ``given``, 0 where another controller found it. ``well``: looks in a
    row at which it had most of what it has.
    """

    lacking: int = 0
    given: int = 0
    well: int = 0

    def found(self, service: str) -> str:
        """A sentence for people."""
        had = self.given - self.lacking
        if not self.given:
            return f"the leader found that it does not have the targets of {service} that it was given"
        return f"it had {had or 'none'} of the {self.given} targets of {service} that it was given"


def lacking(
    pool: TargetPool,
    claims: Claims,
    taken: Mapping[ServiceScraper, Taken],
    seen: Mapping[str, Seen],
    told: Collection[ServiceScraper],
) -> dict[ServiceScraper, Lacking]:
    """What each scraper lacks of each service, for the pairs of which something was ``told`` and whose slice holds
    something. ``claims``: what the slices hold; ``taken``: when that was taken; ``seen``: what each scraper does of all
    services.
    """
    found: dict[ServiceScraper, Lacking] = {}
    rows = claims.rows(pool)
    for name, theirs in zip(claims.names, by_scraper(claims.scrapers, len(claims.names)), strict=True):
        if (one := seen.get(name)) is None:
            continue
        there = theirs[rows[theirs] < len(pool)]
        mine = there[np.argsort(rows[there], kind="stable")]
        lists_all = bool(among(one.ids, pool.ids[rows[mine]]).all())
        for service, part in pool.by_service(rows[mine]):
            if (service, name) not in told:
                continue
            if lists_all:  # as most do
                found[service, name] = Lacking(part.stop - part.start, NO_IDS)
                continue
            since = taken.get((service, name), Taken()).since(claims.since[mine[part]])
            given = pool.ids[rows[mine[part]][since <= one.at - GIVEN_S]]
            without = given[~shown_by(one, given)]
            found[service, name] = Lacking(len(given), np.sort(without) if len(without) > one.hidden else without[:0])
    return found


@dataclass(frozen=True, slots=True)
class IdleJobs:
    """Who lacks most of what, ``since`` when (monotonic seconds), and who is ``idle``. Never changed."""

    since: Mapping[ServiceScraper, float] = field(default_factory=dict)
    idle: Mapping[ServiceScraper, Idle] = field(default_factory=dict)

    def doubtful(self, lacks: Mapping[ServiceScraper, Lacking], now: float) -> set[ServiceScraper]:
        """Who has lacked most for long, however few targets that are, and who is idle: nobody to ask to try others'.
        ``lacks``: as ``not_lacked_by_most`` has it.
        """
        return {pair for pair in lacks if now - self.since.get(pair, now) >= LASTS_S} | self.idle.keys()

    def suspects(self, lacks: Mapping[ServiceScraper, Lacking], now: float) -> set[ServiceScraper]:
        """Those of the ``doubtful`` who may be idle. A few targets are enough where the scraper lacks most of all that it
        was given.
        """
        given, lacked = Counter[str](), Counter[str]()
        for (_, name), one in lacks.items():
            given[name] += one.given
            lacked[name] += len(one.ids)
        idle_all = {name for name in lacked if lacked[name] >= max(LEAST, SHARE * given[name])}
        doubtful = self.doubtful(lacks, now)
        enough = {(service, name) for (service, name), one in lacks.items() if len(one.ids) >= LEAST or name in idle_all}
        return (doubtful & enough) | self.idle.keys()

    def after(
        self,
        lacks: Mapping[ServiceScraper, Lacking],
        reached: Collection[ServiceScraper],
        told: Collection[ServiceScraper],
        now: float,
    ) -> IdleJobs:
        """After another look. ``reached``: the suspects of which others scrape enough of what they lack."""
        since = {pair: self.since.get(pair, now) for pair, one in lacks.items() if one.most}
        since |= {pair: at for pair, at in self.since.items() if pair not in told}  # nothing is known of it at this look
        idle = {}
        for pair, one in self.idle.items():
            if pair not in told:
                idle[pair] = one
            elif pair in lacks and (not lacks[pair].given or lacks[pair].most):
                idle[pair] = replace(one, well=0)
            elif pair in lacks and one.well + 1 < WELL:
                idle[pair] = replace(one, well=one.well + 1)
        for pair in reached:
            if pair not in self.idle and pair in since:
                idle[pair] = Idle(len(lacks[pair].ids), lacks[pair].given)
        return IdleJobs(since, idle)

    def told(self, pairs: Iterable[ServiceScraper]) -> IdleJobs:
        """With those idle that the leader calls so."""
        idle = {pair: self.idle.get(pair, Idle()) for pair in pairs}
        return self if idle.keys() == self.idle.keys() else replace(self, idle=idle)

    def only(self, scrapers: Collection[str]) -> IdleJobs:
        """What is known of these."""
        return self.renamed({name: name for name in scrapers})

    def renamed(self, scrapers: Mapping[str, str]) -> IdleJobs:
        """With the names that the scrapers have now; who has none is no scraper any more."""
        return IdleJobs(
            {(service, scrapers[name]): at for (service, name), at in self.since.items() if name in scrapers},
            {(service, scrapers[name]): one for (service, name), one in self.idle.items() if name in scrapers},
        )

    def of(self, services: Collection[str]) -> IdleJobs:
        """Of these services alone."""
        return IdleJobs(
            {(service, name): at for (service, name), at in self.since.items() if service in services},
            {(service, name): one for (service, name), one in self.idle.items() if service in services},
        )

    def and_those_of(self, other: IdleJobs) -> IdleJobs:
        return IdleJobs({**other.since, **self.since}, {**other.idle, **self.idle})


def not_lacked_by_most(lacks: Mapping[ServiceScraper, Lacking]) -> dict[ServiceScraper, Lacking]:
    """``lacks`` without the services that most scrapers lack, two at least: the fault is not with these scrapers then."""
    asked = Counter(service for (service, _), one in lacks.items() if one.given)
    lack_most = Counter(service for (service, _), one in lacks.items() if one.most)
    not_they = {service for service, count in lack_most.items() if count > 1 and 2 * count > asked[service]}
    return {(service, name): one for (service, name), one in lacks.items() if service not in not_they}


def only_missing(
    lacks: Mapping[ServiceScraper, Lacking], pool: TargetPool, enough: Flags, tried: Collection[int]
) -> dict[ServiceScraper, Lacking]:
    """``lacks`` without the targets that are scraped anyway. ``enough``: by row of the pool, whether as many scrape it as
    shall; a former owner counts, as the new one may read its list only once in minutes. ``tried``: ids of those that stay
    although they are scraped, since that is a trial.
    """
    few = np.array(sorted(tried), dtype=np.uint64)

    def missing(one: Lacking) -> Lacking:
        return Lacking(one.given, one.ids[~enough[rows_of(pool, one.ids)] | among(few, one.ids)])

    return {pair: missing(one) if len(one.ids) else one for pair, one in lacks.items()}


def lacked_by(lacks: Mapping[ServiceScraper, Lacking]) -> dict[str, Keys]:
    """By scraper, of all services."""
    found: dict[str, list[Keys]] = {}
    for (_, name), one in lacks.items():
        found.setdefault(name, []).append(one.ids)
    return {name: np.concatenate(ids) for name, ids in found.items()}


def sampled(
    suspects: Iterable[ServiceScraper], lacks: Mapping[ServiceScraper, Lacking], idle: Mapping[ServiceScraper, Idle]
) -> set[int]:
    """Ids that others shall try: a few that each suspect ``lacks``. Of one that is ``idle`` others have all of it."""
    return {key for pair in suspects if pair not in idle for key in lacks[pair].ids[:TRIED].tolist()}


def canaries(pool: FleetPool, ring: Ring, pairs: Iterable[ServiceScraper]) -> dict[ServiceScraper, Keys]:
    """The ids of the targets by which it is seen when an idle scraper has its list again: the first ``CANARIES`` of those of
    the service that the ring gives it, or else of all. Others own them, so nothing is lost where two controllers differ.
    """
    number = {s.id: i for i, s in enumerate(ring.scrapers) if s.able}
    pairs = [(service, name) for service, name in pairs if name in number]
    if not pairs:
        return {}
    first, found = ring.circle.owners(pool), {}
    for service, name in pairs:
        rows = pool.rows(service)
        mine = np.flatnonzero(first[rows] == number[name]) + rows.start
        found[service, name] = np.sort(pool.ids[mine if len(mine) else rows])[:CANARIES]
    return found


def reached_elsewhere(
    suspects: Iterable[ServiceScraper], lacks: Mapping[ServiceScraper, Lacking], pool: TargetPool, tried: Flags, good: Flags
) -> set[ServiceScraper]:
    """The suspects of which others scrape at least half of what they ``tried`` of it with success. ``tried``, ``good``:
    whether somebody asks each row of the pool, and whether one has success.
    """
    found = set()
    for pair in suspects:
        if pair not in lacks:
            continue
        rows = rows_of(pool, lacks[pair].ids)
        asked = rows[tried[rows]]
        reached = asked[good[asked]]
        if len(asked) >= max(1, min(LEAST, len(rows))) and 2 * len(reached) >= len(asked):
            found.add(pair)
    return found
