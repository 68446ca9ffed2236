"""Proof that every target is scraped: what the scrapers were seen scraping, beside what their slices hold. Pure.

A target is covered when a live scraper was seen scraping it. What a scraper was not asked, or did not answer, proves
nothing: its targets are not covered as far as anybody knows, and are told apart as ``unproved``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest as xxh3_64

from promring.core.plan import rows_of, shares
from promring.core.pool import REDIRECTING, decode, fragments
from promring.model import Keys, Placement, TargetPool

Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
FOREIGN_KEPT = 100


@dataclass(frozen=True, slots=True)
class Active:
    """One target that a scraper says it has. ``discovered``: its labels before relabelling."""

    discovered: Mapping[str, str]
    scraped: bool
    """Whether it was scraped at least once."""
    up: bool
    instance: str = ""
    """The label of its series."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one scraper was seen doing, asked ``at`` (seconds). One row a target of the pool, ids ascending."""

    at: float
    ids: Keys
    scraped: Flags
    up: Flags
    foreign: tuple[str, ...] = ()
    """Addresses that no source lists, the first ``FOREIGN_KEPT``."""
    foreign_count: int = 0

    @property
    def scraped_ids(self) -> Keys:
        return self.ids[self.scraped]


class Index:
    """Finds the rows of a pool for what scrapers say of their targets."""

    def __init__(self, pool: TargetPool) -> None:
        """Decodes every fragment: a second for a million targets."""
        self.pool = pool
        self._special: dict[str, list[tuple[dict[str, str], int]]] = {}
        """By address: targets that labels, too, tell from others."""
        plain = np.ones(len(pool), dtype=bool)
        for row, (fragment, known) in enumerate(zip(fragments(pool), pool.ids.tolist(), strict=True)):
            one = decode(fragment)
            if xxh3_64(one.address.encode()) != known:
                plain[row] = False
                self._special.setdefault(one.address, []).append((one.labels, row))
        self._plain = plain
        self._tell_apart()

    def _tell_apart(self) -> None:
        """A target whose address others have, too, is told from them by its labels, like them."""
        addresses = list(self._special)
        hashes = np.array([xxh3_64(address.encode()) for address in addresses], dtype=np.uint64)
        for address, row in zip(addresses, rows_of(self.pool, hashes).tolist(), strict=True):
            if row < len(self.pool) and self._plain[row]:
                self._plain[row] = False
                self._special[address].append((decode(self.pool.fragment(row)).labels, row))

    def seen(self, at: float, active: Iterable[Active]) -> Seen:
        ids: list[int] = []
        flags: list[tuple[bool, bool]] = []
        foreign: list[str] = []
        addresses = [(a, self._address(a)) for a in active]
        hashes = np.array([xxh3_64(address.encode()) for _, address in addresses], dtype=np.uint64)
        rows = rows_of(self.pool, hashes)
        for (one, address), row in zip(addresses, rows.tolist(), strict=True):
            special = self._match(one.discovered, address)
            if special is not None:
                ids.append(int(self.pool.ids[special]))
            elif row < len(self.pool) and self._plain[row]:
                ids.append(int(self.pool.ids[row]))
            else:
                foreign.append(address)
                continue
            flags.append((one.scraped, one.up))
        column = np.array(ids, dtype=np.uint64)
        order = np.argsort(column)
        scraped, up = np.array(flags, dtype=bool).reshape(len(flags), 2)[order].T
        return Seen(at, column[order], scraped, up, tuple(foreign[:FOREIGN_KEPT]), len(foreign))

    def _address(self, one: Active) -> str:
        """As it was listed. Prometheus 2.42 shows ``__address__`` as relabelling left it: of a probe (blackbox exporter) it
        is the exporter's, and the target's own is its parameter and its instance.
        """
        names = (one.discovered.get("__address__", ""), one.discovered.get("__param_target", ""), one.instance)
        hashes = np.array([xxh3_64(name.encode()) for name in names], dtype=np.uint64)
        rows = rows_of(self.pool, hashes) if one.discovered.get("__param_target") or names[0] != names[2] else ()
        for name, row in zip(names, rows, strict=False):
            if name in self._special or (row < len(self.pool) and self._plain[row]):
                return name
        return names[0]

    def _match(self, discovered: Mapping[str, str], address: str) -> int | None:
        """The special target whose labels are all among those discovered; of several the one with the most."""
        best: tuple[int, int] | None = None
        for labels, row in self._special.get(address, ()):
            if all(discovered.get(name) == value for name, value in labels.items() if _tells(name, discovered)):
                best = max(best or (-1, -1), (len(labels), row))
        return best[1] if best else None


def _tells(name: str, discovered: Mapping[str, str]) -> bool:
    """Whether the scraper must show this label unchanged: it drops none, but a job may overwrite its own defaults."""
    return name in discovered or name in REDIRECTING or name.startswith("__param_")


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
    scrapers: Mapping[str, ScraperCoverage] = field(default_factory=dict)
    dropped: Rows = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    """In the slice of a scraper whose job's relabelling drops them."""

    @property
    def ratio(self) -> float:
        """Share of the targets that are proved to be scraped; 1 when there are none."""
        return float(self.covered.mean()) if len(self.covered) else 1.0

    @property
    def uncovered(self) -> int:
        return int((~self.covered).sum())


def coverage(in_force: Placement, seen: Mapping[str, Seen], failed: Mapping[str, str]) -> Coverage:
    """``in_force``: what the slices hold, those who hold on included. ``seen``, ``failed``: by scraper id."""
    pool, found = in_force.pool, shares(in_force)
    times = np.zeros(len(pool), dtype=np.int32)
    beyond = np.zeros(len(pool), dtype=bool)
    up, unknown = np.zeros(len(pool), dtype=bool), np.zeros(len(pool), dtype=bool)
    scrapers = {}
    for i, scraper in enumerate(in_force.scrapers):
        expected = found.of(i)
        one = seen.get(scraper.id)
        if one is None or scraper.id in failed:
            unknown[expected] = True
            why = failed.get(scraper.id, "not asked yet")
            scrapers[scraper.id] = ScraperCoverage(len(expected), 0, 0, 0, 0, why)
            continue
        rows = rows_of(pool, one.ids)
        there = rows < len(pool)
        rows, scraped, good = rows[there], one.scraped[there], one.up[there]
        rows_scraped = np.unique(rows[scraped])
        times[rows_scraped] += 1
        up[rows[good]] = True
        more = np.setdiff1d(rows, expected)
        beyond[np.intersect1d(more, rows_scraped)] = True
        mine = np.intersect1d(expected, rows_scraped)
        scrapers[scraper.id] = ScraperCoverage(
            expected=len(expected),
            scraped=len(mine),
            missing=len(expected) - len(mine),
            foreign=len(more) + int((~there).sum()) + one.foreign_count,
            down=len(np.setdiff1d(mine, rows[good])),
        )
    covered = times > 0
    return Coverage(
        pool,
        covered,
        missing=np.flatnonzero(~covered & ~unknown),
        unproved=np.flatnonzero(~covered & unknown),
        doubled=np.flatnonzero(beyond & (times > 1)),
        down=np.flatnonzero(covered & ~up),
        scrapers=scrapers,
    )
