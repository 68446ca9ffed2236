"""``promring simulate``: how even and how stable a fleet of a given size would be. Synthetic; nothing is asked."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import click
import numpy as np
from rich.console import Console

from promring.core.placement import Policy, place
from promring.core.plan import compare
from promring.core.pool import build_pool
from promring.core.ring import Ring
from promring.model import Members, Placement, Scraper, TargetGroup

BINS, BAR = 12, 48


@click.command()
@click.option("--scrapers", type=click.IntRange(1, 10_000), required=True)
@click.option("--targets", type=click.IntRange(1, 5_000_000), required=True)
@click.option("--leave", type=click.IntRange(0), default=1, show_default=True, help="How many scrapers leave.")
@click.option("--join", type=click.IntRange(0), default=1, show_default=True, help="How many scrapers join.")
@click.option(
    "--load-factor",
    type=click.FloatRange(1.0, 1000.0),
    default=1.10,
    show_default=True,
    help="No scraper above this times its share.",
)
@click.option("--plain", is_flag=True, help="The plain ring, without a bound.")
@click.option("--virtual-nodes", type=click.IntRange(1, 65536), default=512, show_default=True)
@click.option("--skew", is_flag=True, help="Loads with a long tail; placed by count all the same.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def simulate(
    scrapers: int,
    targets: int,
    leave: int,
    join: int,
    load_factor: float,
    plain: bool,
    virtual_nodes: int,
    skew: bool,
    as_json: bool,
) -> None:
    """Place synthetic targets on synthetic scrapers; print balance, movement and a histogram."""
    if load_factor != load_factor:
        raise click.UsageError("--load-factor: not a number")
    if leave >= scrapers:
        raise click.UsageError("--leave: somebody must stay")
    policy = Policy(virtual_nodes, None if plain else load_factor)
    data, placement = _simulate(scrapers, targets, leave, join, policy, skew)
    if as_json:
        click.echo(json.dumps(data, indent=2))
    else:
        _show(data, placement)


def fleet(size: int, first: int = 0) -> Members:
    ids = (f"10.{i // 65025}.{i // 255 % 255}.{i % 255}:9090" for i in range(first, first + size))
    return tuple(sorted(Scraper(i, i.partition(":")[0], 9090) for i in ids))


def _simulate(
    scrapers: int, targets: int, leave: int, join: int, policy: Policy, skew: bool
) -> tuple[dict[str, Any], Placement]:
    names = [f"172.{i // 65025 % 255}.{i // 255 % 255}.{i % 255}:{9100 + i // 16_581_375}" for i in range(targets)]
    pool = build_pool([(TargetGroup.of(names),)])
    members = fleet(scrapers)
    ring = Ring(members, policy.virtual_nodes)
    started = time.perf_counter()
    now = place(pool, ring, policy)
    place_s = time.perf_counter() - started
    stay = members[leave:]
    after = place(pool, Ring(stay, policy.virtual_nodes), policy)
    more = place(pool, Ring((*members, *fleet(join, scrapers)), policy.virtual_nodes), policy)
    counts = np.array(list(now.counts().values()))
    loads = np.random.default_rng(1).pareto(1.5, targets) + 0.5 if skew else np.ones(targets)
    carried = np.bincount(now.owners, weights=loads, minlength=scrapers)
    data = {
        "scrapers": scrapers,
        "targets": targets,
        "balance": {
            "count_max_over_mean": float(counts.max() / counts.mean()),
            "load_max_over_mean": float(carried.max() / carried.mean()),
        },
        "leave": {"moved": compare(now, after).moved, "share": int(counts[:leave].sum())},
        "join": {"moved": compare(now, more).moved, "ideal": targets * join / (scrapers + join)},
        "place_s": place_s,
    }
    return data, now


def _show(data: dict[str, Any], placement: Placement) -> None:
    console = Console(highlight=False)
    counts = sorted(placement.counts().values())
    balance, leave, join = data["balance"], data["leave"], data["join"]
    console.print(f"{data['targets']} targets on {data['scrapers']} scrapers, placed in {data['place_s'] * 1000:.1f} ms")
    console.print(f"targets a scraper: {counts[0]} .. {statistics.median(counts):g} .. {counts[-1]} (least, median, most)")
    console.print(
        f"most over mean: {balance['count_max_over_mean']:.3f} by count, {balance['load_max_over_mean']:.3f} by load"
    )
    console.print(f"leave: {leave['moved']} move, {leave['share']} must ({_ratio(leave['moved'], leave['share'])})")
    console.print(f"join: {join['moved']} move, {join['ideal']:.0f} would be ideal ({_ratio(join['moved'], join['ideal'])})")
    histogram, edges = np.histogram(counts, bins=min(BINS, max(1, counts[-1] - counts[0])))
    for number, low, high in zip(histogram.tolist(), edges, edges[1:], strict=False):
        bar = "#" * round(BAR * number / histogram.max())
        console.print(f"{low:>9.0f} - {high:<9.0f} {bar} {number}")


def _ratio(moved: float, needed: float) -> str:
    return f"{moved / needed:.2f} x" if needed else "nobody"
