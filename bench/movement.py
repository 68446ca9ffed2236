"""What moves when a scraper dies, returns, joins: over its share, mean and worst over ten consecutive sizes of a fleet.

*before*: placed over the living alone. Several services share the targets of the larger fleet; one changes a target.
"""

from __future__ import annotations

import statistics
import time

from rich.table import Table

from bench.report import console
from promring.core.difference import compare
from promring.core.joined import FleetPool, Part, salt_of, same_owners
from promring.core.placement import Policy, place, place_living
from promring.core.pool import pool_of
from promring.core.ring import Ring
from promring.model import Members, Placement, Scraper, TargetGroup

SIZES = ((20, 10_000, 1), (1000, 100_000, 50))
CONSECUTIVE = 10
POLICY = Policy()


def scrapers(count: int) -> Members:
    return tuple(Scraper(f"s{n:05}:9090", f"s{n:05}", 9090) for n in range(count))


def fleet(targets: int, services: int) -> FleetPool:
    parts = {}
    for number in range(services):
        name, count = f"job{number:02}", targets // services
        names = [f"10.{number}.{n >> 8 & 255}.{n & 255}:9100" for n in range(count)]
        parts[name] = Part(pool_of([TargetGroup.of(names)]), 1, salt_of("main", name))
    return FleetPool.of(parts)


def moved(before: Placement, after: Placement) -> int:
    return sum(move.count for move in compare(before, after).moves)


async def run() -> None:
    table = Table(title="movement over the share of the scraper that dies, returns, joins", title_justify="left")
    for name in ("scrapers", "targets", "services", "what", "mean", "worst", "asked"):
        table.add_column(name, justify="left" if name in ("what", "asked") else "right")
    for count, targets, services in SIZES:
        for what, ratios, asked in _measured(count, targets, services):
            numbers = f"{statistics.mean(ratios):.2f}", f"{max(ratios):.2f}"
            table.add_row(str(count), str(targets), str(services), what, *numbers, asked)
    console.print(table)
    _one_service()


def _measured(count: int, targets: int, services: int) -> list[tuple[str, list[float], str]]:
    pool = fleet(targets, services)
    deaths, before, returns, joins, loads = [], [], [], [], []
    for size in range(count, count + CONSECUTIVE):
        every = scrapers(size)
        listed = Ring(every, POLICY.virtual_nodes)
        whole, dead = place(pool, listed, POLICY), every[size // 3]
        living = Ring(tuple(s for s in every if s is not dead), POLICY.virtual_nodes)
        after, share = place_living(pool, living, listed, POLICY), whole.counts()[dead.id]
        deaths.append(moved(whole, after) / share)
        before.append(moved(whole, place(pool, living, POLICY)) / share)
        returns.append(moved(after, place_living(pool, listed, listed, POLICY)) / share)
        more = place(pool, Ring(scrapers(size + 1), POLICY.virtual_nodes), POLICY)
        joins.append(moved(whole, more) * (size + 1) / len(pool))
        loads.append(max(after.counts().values()) * len(living) / len(pool))
    return [
        ("a death", deaths, "1.05"),
        ("a death, placed over the living alone", before, ""),
        ("its return", returns, "the same back"),
        ("a join of one that was not listed", joins, "mean 1.3, worst 1.5"),
        ("most loaded over the mean, after a death", loads, "1.10, whole numbers"),
    ]


def _one_service() -> None:
    """One of 50 services gets a target: what of the others moves, and what a placement takes."""
    count, targets, services = SIZES[1]
    pool, ring = fleet(targets, services), Ring(scrapers(count), POLICY.virtual_nodes)
    before = place(pool, ring, POLICY)
    names = [f"10.7.{n >> 8 & 255}.{n & 255}:9100" for n in range(targets // services + 1)]
    changed = FleetPool.of({**pool.parts, "job07": Part(pool_of([TargetGroup.of(names)]), 1, salt_of("main", "job07"))})
    took = []
    for _ in range(5):
        began = time.perf_counter()
        after = place(changed, ring, POLICY)
        took.append(time.perf_counter() - began)
    others = sum(not same_owners(before, after, name) for name in pool.names if name != "job07")
    console.print(
        f"one target more in one of {services} services: {others} other services have a target moved,"
        f" the placement of all takes {statistics.median(took) * 1000:.0f} ms"
    )
