"""``promring simulate``: how even and how stable a fleet of a given size would be. Synthetic; nothing is asked."""

from __future__ import annotations

import io
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from promring.cli.output import Output, output_option, say, working
from promring.cli.simulated_loads import LoadsFileError, read_loads
from promring.core.difference import compare
from promring.core.joined import FleetPool, Part, salt_of
from promring.core.placement import Policy, place
from promring.core.pool import build_pool
from promring.core.preview import fit
from promring.core.ring import Ring
from promring.model import Loads, Members, Placement, PlacementError, Scraper, TargetGroup, TargetPool
from promring.runtime.text import counted

BINS, BAR = 12, 48
TARGETS_MOST = 5_000_000
TAIL, MEDIAN_SAMPLES = 1.5, 300


@dataclass(frozen=True, slots=True)
class Fleet:
    """``loads``: samples a scrape of each target; None: each counts 1."""

    scrapers: int
    targets: int
    leave: int
    join: int
    zones: int
    loads: Loads | None
    services: int = 1


@dataclass(frozen=True, slots=True)
class Balance:
    """Of the fullest scraper to the mean."""

    count_max_over_mean: float
    load_max_over_mean: float


@dataclass(frozen=True, slots=True)
class Leave:
    """How many targets moved, and how many the leavers had."""

    moved: int
    share: int


@dataclass(frozen=True, slots=True)
class Join:
    """How many targets moved, and how many would be an even share of those who joined."""

    moved: int
    ideal: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is printed. ``place_s``: seconds that one placement took."""

    scrapers: int
    targets: int
    services: int
    balance: Balance
    leave: Leave
    join: Join
    place_s: float


@click.command()
@click.option("--scrapers", type=click.IntRange(1, 10_000), required=True, help="How many scrapers.")
@click.option("--targets", type=click.IntRange(1, TARGETS_MOST), help="With --loads: as many as it has figures.")
@click.option("--leave", type=click.IntRange(0), default=1, show_default=True, help="How many scrapers leave.")
@click.option("--join", type=click.IntRange(0, 10_000), default=1, show_default=True, help="How many scrapers join.")
@click.option(
    "--load-factor",
    type=click.FloatRange(1.0, 1000.0),
    default=1.10,
    show_default=True,
    help="No scraper above this times its share.",
)
@click.option("--plain", is_flag=True, help="The plain ring, without a bound.")
@click.option("--capacity", type=click.FloatRange(0, 1e15, min_open=True), help="The most load a scraper may have.")
@click.option(
    "--replicas", type=click.IntRange(1, 100), default=1, show_default=True, help="How many scrapers have each target."
)
@click.option("--zones", type=click.IntRange(0, 100), default=0, help="Scrapers and targets stand in so many zones.")
@click.option(
    "--services",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Among how many services the targets are spread.",
)
@click.option(
    "--virtual-nodes", type=click.IntRange(1, 65536), default=512, show_default=True, help="Points a scraper on the ring."
)
@click.option("--skew", is_flag=True, help="Loads with a long tail, as samples a scrape have; placed by load.")
@click.option(
    "--loads",
    "loads_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Loads of your own targets: the answer of a Prometheus query, such as scrape_samples_post_metric_relabeling, or a "
    "number a line. For more targets they repeat.",
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the histograms into this PNG.")
@output_option
def simulate(
    scrapers: int,
    targets: int | None,
    leave: int,
    join: int,
    load_factor: float,
    plain: bool,
    capacity: float | None,
    replicas: int,
    zones: int,
    services: int,
    virtual_nodes: int,
    skew: bool,
    loads_file: Path | None,
    plot: Path | None,
    output: Output,
) -> None:
    """Show balance and movement of a synthetic fleet: place made-up targets on made-up scrapers, those of all services
    together, and draw a histogram. With --loads they weigh what targets of yours weigh.
    """
    targets, loads = _loads(targets, loads_file, skew=skew)
    if services > targets:
        raise click.UsageError("--services: more than there are targets")
    if leave >= scrapers:
        raise click.UsageError("--leave: somebody must stay")
    try:
        policy = Policy(virtual_nodes, None if plain else load_factor, capacity, replicas)
    except PlacementError as error:
        raise click.UsageError(str(error)) from error
    with working(f"placing {counted(targets, 'target')} on {counted(scrapers, 'scraper')}"):
        data, placement = _simulate(Fleet(scrapers, targets, leave, join, zones, loads, services), policy)
    if plot is not None:
        _plot(data, placement, plot)
    if not output.is_text:
        output.say(asdict(data))
        return
    _show(data, placement)
    if plot is not None:
        say(f"drawn: {plot}")


def _loads(targets: int | None, file: Path | None, *, skew: bool) -> tuple[int, Loads | None]:
    """How many targets there are, and what each weighs."""
    if file is None:
        if targets is None:
            raise click.UsageError("--targets: how many? Or --loads: a file with what each weighs")
        return targets, _long_tail(targets) if skew else None
    if skew:
        raise click.UsageError("--skew and --loads: which loads?")
    try:
        figures, left_out = read_loads(file)
    except LoadsFileError as error:
        raise click.ClickException(f"--loads: {error}") from error
    if left_out:
        say(f"{file}: {left_out} odd figures left out", err=True)
    targets = targets or min(len(figures), TARGETS_MOST)
    return targets, np.resize(figures, targets)


def _long_tail(targets: int) -> Loads:
    tail = np.random.default_rng(1).pareto(TAIL, targets) + 0.5
    return (tail * MEDIAN_SAMPLES).astype(np.int64)


def fleet(size: int, first: int = 0, zones: int = 0) -> Members:
    ids = ((i, f"10.{i // 65025}.{i // 255 % 255}.{i % 255}:9090") for i in range(first, first + size))
    return tuple(sorted(Scraper(s, s.partition(":")[0], 9090, f"zone-{i % zones}" if zones else "") for i, s in ids))


def _fleet_pool(targets: int, zones: int, services: int) -> FleetPool:
    """As many targets for each service, or one more."""
    names = [f"service-{number:04}" for number in range(services)]
    firsts = [targets * number // services for number in range(services + 1)]
    parts = zip(names, firsts, firsts[1:], strict=False)
    return FleetPool.of({name: Part(_pool(first, last, zones), salt=salt_of("fleet", name)) for name, first, last in parts})


def _pool(first: int, last: int, zones: int) -> TargetPool:
    names = [f"172.{i // 65025 % 255}.{i // 255 % 255}.{i % 255}:{9100 + i // 16_581_375}" for i in range(first, last)]
    if not zones:
        return build_pool([(TargetGroup.of(names),)])
    groups = [TargetGroup.of(names[zone::zones], {"zone": f"zone-{zone}"}) for zone in range(zones)]
    return build_pool([groups], zone_label="zone")


def _simulate(size: Fleet, policy: Policy) -> tuple[Outcome, Placement]:
    pool = _fleet_pool(size.targets, size.zones, size.services)
    loads = size.loads
    members = fleet(size.scrapers, zones=size.zones)
    ring = Ring(members, policy.virtual_nodes)
    started = time.perf_counter()
    now = place(pool, ring, policy, loads)
    place_s = time.perf_counter() - started
    after = place(pool, Ring(members[size.leave :], policy.virtual_nodes), policy, loads)
    joined = (*members, *fleet(size.join, size.scrapers, size.zones))
    more = place(pool, Ring(joined, policy.virtual_nodes), policy, loads)
    counts, carried = (np.array(list(sums.values())) for sums in (now.counts(), now.carried()))
    owners = int(counts.sum())
    outcome = Outcome(
        scrapers=size.scrapers,
        targets=size.targets,
        services=size.services,
        balance=Balance(_over_mean(counts), _over_mean(carried)),
        leave=Leave(compare(now, after).moved, int(counts[: size.leave].sum())),
        join=Join(compare(now, more).moved, owners * size.join / (size.scrapers + size.join)),
        place_s=place_s,
    )
    return outcome, now


def _over_mean(sums: Loads) -> float:
    return float(sums.max() / sums.mean()) if sums.any() else 1.0


def _show(data: Outcome, placement: Placement) -> None:
    counts = sorted(placement.counts().values())
    balance, leave, join = data.balance, data.leave, data.join
    of = f" of {data.services} services" if data.services > 1 else ""
    what = f"{counted(data.targets, 'target')}{of}"
    say(f"{what} on {counted(data.scrapers, 'scraper')}, placed in {data.place_s * 1000:.1f} ms")
    say(f"targets a scraper: {counts[0]} .. {statistics.median(counts):g} .. {counts[-1]} (least, median, most)")
    say(f"most over mean: {balance.count_max_over_mean:.3f} by count, {balance.load_max_over_mean:.3f} by load")
    fits = fit(placement)
    if not fits.all:
        say(f"DOES NOT FIT: {counted(fits.unplaced, 'target', 'lack')} an owner (load {fits.unplaced_load})")
    if fits.too_heavy:
        say(f"too heavy for its scraper's limit, and alone there: {fits.too_heavy}")
    say(f"leave: {leave.moved} move, {leave.share} must ({_ratio(leave.moved, leave.share)})")
    say(f"join: {join.moved} move, {join.ideal:.0f} would be ideal ({_ratio(join.moved, join.ideal)})")
    histogram, edges = np.histogram(counts, bins=min(BINS, max(1, counts[-1] - counts[0])))
    for number, low, high in zip(histogram.tolist(), edges, edges[1:], strict=False):
        bar = "#" * round(BAR * number / histogram.max())
        say(f"{low:>9.0f} - {high:<9.0f} {bar} {number}")


def _plot(data: Outcome, placement: Placement, path: Path) -> None:
    """Two histograms over scrapers: targets, and load."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import EngFormatter, MaxNLocator
    except ImportError as error:
        raise click.ClickException("--plot needs matplotlib: pip install 'promring[plot]'") from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(f"{data.targets} targets on {data.scrapers} scrapers")
    for axes, (what, sums, over) in zip(
        figure.subplots(1, 2),
        (
            ("targets", placement.counts(), data.balance.count_max_over_mean),
            ("load", placement.carried(), data.balance.load_max_over_mean),
        ),
        strict=True,
    ):
        values = list(sums.values())
        axes.hist(values, bins=min(40, max(1, len(set(values)))), color="#3b6ea5")
        axes.axvline(statistics.fmean(values), color="#222222", linestyle="--", label="mean")
        if what == "load" and placement.limits is not None:
            axes.axvline(int(placement.limits.max()), color="#b03030", label="limit")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel(f"{what} a scraper (most over mean {over:.3f})")
        axes.set_ylabel("scrapers")
        axes.legend()
    drawn = io.BytesIO()  # a pipe takes no picture that is written to and fro
    figure.savefig(drawn, format="png", dpi=120)
    try:
        path.write_bytes(drawn.getvalue())
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error


def _ratio(moved: float, needed: float) -> str:
    return f"{moved / needed:.2f} x" if needed else "nobody"
