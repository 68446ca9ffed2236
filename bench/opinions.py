"""What one look of an audit costs the judge of it: who tries which target besides its owner, and which scrapers are idle.

Seconds of CPU for 100,000 targets, in a thread, once in an ``audit.interval``. Beside it the same without the search for
scrapers that lack what they were given, and with one that lacks one of its services.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.table import Table

from bench.report import console
from promring.core.claims import Claims, Taken, never
from promring.core.coverage import Seen
from promring.core.idle import lacking
from promring.core.joined import FleetPool, Part, salt_of
from promring.core.placement import Policy, place
from promring.core.pool import pool_of
from promring.core.ring import Ring
from promring.core.second_opinion import SecondOpinions
from promring.model import Placement, Scraper, TargetGroup

TARGETS, ROUNDS, NOW = 100_000, 7, 1000.0
SIZES = ((20, 8), (1000, 8), (1000, 50))
"""Scrapers and services."""


async def run() -> None:
    made = Table(title=f"a look at {TARGETS:,} targets, seconds of CPU, median of {ROUNDS}", title_justify="left")
    for name in ("scrapers", "services", "opinions", "… and who lacks what", "one lacks a service", "ratios"):
        made.add_column(name, justify="right")
    for scrapers, services in SIZES:
        alone, whole, one_lacks = _measured(scrapers, services)
        ratios = f"1 : {whole / alone:.2f} : {one_lacks / alone:.2f}"
        made.add_row(str(scrapers), str(services), f"{alone:.3f}", f"{whole:.3f}", f"{one_lacks:.3f}", ratios)
    console.print(made)


def _measured(scrapers: int, services: int) -> tuple[float, float, float]:
    members = tuple(Scraper(f"s{i}:1", f"s{i}", 1) for i in range(scrapers))
    names = [f"v{k}" for k in range(services)]
    lists = {name: pool_of([TargetGroup.of([f"{name}n{i}:1" for i in range(TARGETS // services)])]) for name in names}
    pool = FleetPool.of({name: Part(lists[name], 1, salt_of("f", name)) for name in names})
    ring = Ring(members, 64)
    placed = place(pool, ring, Policy(64))
    owners = placed.owners[:, 0]
    claims = Claims(
        tuple(s.id for s in placed.scrapers), pool.ids, owners, np.zeros(len(pool)), never(len(pool)), (pool, None)
    )
    told = {(name, s.id) for name in names for s in members}
    taken = {pair: Taken((1e9,), (0.0,)) for pair in told}
    seen, lacks_one = (_seen(placed, rows) for rows in (None, slice(0, len(lists["v0"]))))

    def alone() -> None:
        SecondOpinions().judged(placed, ring, seen, NOW)

    def whole(sight: dict[str, Seen]) -> None:
        SecondOpinions().judged(placed, ring, sight, NOW, lacking(pool, claims, taken, sight, told), told)

    return _cpu(alone), _cpu(lambda: whole(seen)), _cpu(lambda: whole(lacks_one))


def _seen(placed: Placement, without: slice | None) -> dict[str, Seen]:
    """Everybody scrapes what is its own; the first scraper nothing of the rows ``without``."""
    found = {}
    for number, scraper in enumerate(placed.scrapers):
        mine = placed.owners[:, 0] == number
        if without is not None and number == 0:
            mine[without] = False
        ids = np.sort(placed.pool.ids[mine])
        found[scraper.id] = Seen(NOW, ids, np.full(len(ids), NOW - 1), np.ones(len(ids), dtype=bool), 5.0)
    return found


def _cpu(work: Callable[[], None]) -> float:
    took = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return statistics.median(took)
