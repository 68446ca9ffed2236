"""What happens to targets that live scrapers have when there is not room for all within the capacity. Pure.

A placement looks at no scraper's past: where room is short it may leave out a target that a live scraper has, and give that
scraper another one instead. Here who has a target keeps it, within its own capacity, and gives up what it would newly get:
first what another live scraper has, which keeps it in turn, then what nobody has.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from promring.model import Loads, Owners, Placement

Rows = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Times = npt.NDArray[np.float64]


def keeping(
    wanted: Placement, rows: Rows, scrapers: Owners, since: Times, replicas: int, most: Loads
) -> tuple[Placement, Flags]:
    """``wanted`` without what was given up, and which of the claims (``rows``, ``scrapers``, ``since`` when) stay although
    they are no owner's: of several on one target the oldest, since a younger one may never have been taken. ``most``: int64,
    the capacity of each scraper.
    """
    stays = np.zeros(len(rows), dtype=bool)
    short = np.flatnonzero(wanted.lacking(replicas).any(axis=1))
    if not len(short):
        return wanted, stays
    work = _Work(wanted, rows, scrapers, since, replicas, most)
    for row in short.tolist():
        work.lacking.append(row)
    work.run()
    for row, scraper in work.kept:
        stays[work.claims[row][scraper]] = True
    return replace(wanted, owners=work.owners), stays


class _Work:
    def __init__(self, wanted: Placement, rows: Rows, scrapers: Owners, since: Times, replicas: int, most: Loads) -> None:
        self.owners: Owners = wanted.owners.copy()
        self.claims: dict[int, dict[int, int]] = defaultdict(dict)
        """By row and scraper: which claim; the oldest first."""
        order = np.argsort(since, kind="stable")
        for number, row, scraper in zip(order.tolist(), rows[order].tolist(), scrapers[order].tolist(), strict=True):
            self.claims[row][scraper] = number
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
            if owner not in self.claims.get(row, ()):
                found[owner].append((row, column))
        for some in found.values():
            some.sort(key=lambda one: bool(self.claims.get(one[0])))
        return found

    def run(self) -> None:
        while self.lacking:
            row = self.lacking.popleft()
            mine = set(self.owners[row].tolist())
            missing = int((self.owners[row, : self._replicas[row]] < 0).sum())
            missing -= sum((row, scraper) in self.kept for scraper in self.claims.get(row, ()))
            for scraper in self.claims.get(row, ()):
                if missing <= 0:
                    break
                if scraper not in mine and (row, scraper) not in self.kept and self._make_room(scraper, self._load(row)):
                    self._room[scraper] -= self._load(row)
                    self.kept.add((row, scraper))
                    missing -= 1

    def _make_room(self, scraper: int, load: int) -> bool:
        while self._room[scraper] < load and self._new[scraper]:
            row, column = self._new[scraper].pop()
            self.owners[row, column] = -1
            self._room[scraper] += self._load(row)
            self.lacking.append(row)
        return bool(self._room[scraper] >= load)

    def _load(self, row: int) -> int:
        return 1 if self._loads is None else int(self._loads[row])
