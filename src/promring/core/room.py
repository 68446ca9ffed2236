"""What happens to targets that live scrapers have when there is not room for all within the capacity. Pure.

A placement looks at no scraper's past: where room is short it may leave out a target that a live scraper has, and give that
scraper another one instead. Here who has a target keeps it, within its own capacity, and gives up what it would newly get:
first what another live scraper has, which keeps it in turn, then what nobody has. A claim on a target that the scraper is
seen not to have counts last: nothing is given up for it, and it is given up as what is new.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from promring.core.claims import APPLIED_S, Flags, Rows, Taken, Times, among, by_scraper, shown_by, taken_at
from promring.core.coverage import Seen
from promring.model import NEVER_ENDS, Loads, Owners, Placement, ServiceScraper, TargetPool


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The claims of live scrapers: row and scraper, and ``since`` when. Of each, what the scraper is seen doing:

    ``success``  it scrapes the target with success
    ``sure``     it did so since the claim began: it may have had the target before, and lost it in between
    ``failure``  it answers, and does not
    ``listed``   it has the target in its list
    ``lacked``   it has not, although it has had the time to apply a slice with it
    """

    rows: Rows
    scrapers: Owners
    since: Times
    success: Flags
    sure: Flags
    failure: Flags
    listed: Flags
    lacked: Flags

    @property
    def had_since(self) -> Times:
        """``since``, and one and the same time for all with success. When a claim began each controller knows a little
        differently; of scrapers with success all controllers must choose the same one.
        """
        return np.where(self.success, NEVER_ENDS, self.since)


def held_by(
    pool: TargetPool,
    names: tuple[str, ...],
    held: tuple[Rows, Owners, Times],
    sees: Mapping[str, Seen],
    taken: Mapping[ServiceScraper, Taken],
) -> Held:
    """``held``: row, scraper, since; ``names``: of the scrapers; ``sees``: what those do who answer, by name; ``taken``: by
    service and name.
    """
    rows, scrapers, since = held
    looked_at = np.zeros(len(rows))
    success, sure, failure, listed, lacked = (np.zeros(len(rows), dtype=bool) for _ in range(5))
    for name, mine in zip(names, by_scraper(scrapers, len(names)), strict=True):
        if (one := sees.get(name)) is None:
            continue
        ids = pool.ids[rows[mine]]
        scraped_at, success[mine] = one.of(ids)
        sure[mine] = success[mine] & (scraped_at >= since[mine])
        failure[mine] = ~success[mine]
        listed[mine] = among(one.ids, ids)
        if not one.hidden:
            lacked[mine], looked_at[mine] = (since[mine] <= one.at) & ~shown_by(one, ids), one.at
    some = np.flatnonzero(lacked)
    took = taken_at(pool, names, (rows[some], scrapers[some], since[some]), taken)
    lacked[some] = (took == NEVER_ENDS) | (took + APPLIED_S <= looked_at[some])
    return Held(rows, scrapers, since, success, sure, failure, listed, lacked)


def is_short(wanted: Placement, replicas: int) -> bool:
    """Whether there is not room for everything."""
    return bool(wanted.lacking(replicas).any())


def keeping(wanted: Placement, held: Held, replicas: int, most: Loads) -> tuple[Placement, Flags]:
    """``wanted`` without what was given up, and which of the claims stay although they are no owner's. Of several claims on
    one target the one with success stays, by the id of the scraper; without success the oldest, since a younger one may
    never have been taken. ``most``: int64, the capacity of each scraper.
    """
    stays = np.zeros(len(held.rows), dtype=bool)
    short = np.flatnonzero(wanted.lacking(replicas).any(axis=1))
    if not len(short):
        return wanted, stays
    work = _Work(wanted, held, replicas, most)
    for row in short.tolist():
        work.lacking.append(row)
    work.run()
    for row, scraper in work.kept:
        stays[work.claims[row][scraper]] = True
    return replace(wanted, owners=work.owners), stays


class _Work:
    def __init__(self, wanted: Placement, held: Held, replicas: int, most: Loads) -> None:
        self.owners: Owners = wanted.owners.copy()
        self.claims: dict[int, dict[int, int]] = defaultdict(dict)
        """By row and scraper: which claim. Those with success come first, by the scraper's id, then the oldest."""
        self.lacked: set[tuple[int, int]] = set()
        """Row and scraper, of those that the scraper is seen not to have."""
        order = np.lexsort((held.scrapers, held.had_since, held.lacked, ~held.success))
        rows, scrapers, lacked = held.rows[order].tolist(), held.scrapers[order].tolist(), held.lacked[order].tolist()
        for number, row, scraper, lacks in zip(order.tolist(), rows, scrapers, lacked, strict=True):
            self.claims[row][scraper] = number
            if lacks:
                self.lacked.add((row, scraper))
        self.lacking: deque[int] = deque()
        self.kept: set[tuple[int, int]] = set()
        self._replicas = np.full(len(wanted.pool), replicas) if wanted.wanted is None else wanted.wanted
        self._loads = wanted.loads
        self._room = (most - list(wanted.carried().values())).tolist()
        self._new = self._newcomers()

    def _newcomers(self) -> dict[int, list[tuple[int, int]]]:
        """By scraper: rows (and columns) that it would newly get, those that another one has last."""
        found: dict[int, list[tuple[int, int]]] = defaultdict(list)
        rows, columns = np.nonzero(self.owners >= 0)
        owners = self.owners[rows, columns]
        for row, column, owner in zip(rows.tolist(), columns.tolist(), owners.tolist(), strict=True):
            if not self._has(row, owner):
                found[owner].append((row, column))
        for some in found.values():
            some.sort(key=lambda one: any(self._has(one[0], scraper) for scraper in self.claims.get(one[0], ())))
        return found

    def _has(self, row: int, scraper: int) -> bool:
        return scraper in self.claims.get(row, ()) and (row, scraper) not in self.lacked

    def run(self) -> None:
        looked_at = []
        while self.lacking:
            looked_at.append(row := self.lacking.popleft())
            self._keep(row, had=True)
        for row in dict.fromkeys(looked_at):
            self._keep(row, had=False)

    def _keep(self, row: int, *, had: bool) -> None:
        """With those who have it, or with those who do not have it yet, in the room that is left."""
        mine = set(self.owners[row].tolist())
        missing = int((self.owners[row, : self._replicas[row]] < 0).sum())
        missing -= sum((row, scraper) in self.kept for scraper in self.claims.get(row, ()))
        for scraper in self.claims.get(row, ()):
            if missing <= 0:
                break
            if scraper in mine or (row, scraper) in self.kept or self._has(row, scraper) != had:
                continue
            if had:
                self._make_room(scraper, self._load(row))
            if self._room[scraper] >= self._load(row):
                self._room[scraper] -= self._load(row)
                self.kept.add((row, scraper))
                missing -= 1

    def _make_room(self, scraper: int, load: int) -> None:
        while self._room[scraper] < load and self._new[scraper]:
            row, column = self._new[scraper].pop()
            self.owners[row, column] = -1
            self._room[scraper] += self._load(row)
            self.lacking.append(row)

    def _load(self, row: int) -> int:
        return 1 if self._loads is None else int(self._loads[row])
