"""Balance by learnt loads: the fullest scraper over the mean, in series, by count and by what was learnt.

The figures of each round have noise. *true*: by the series that the targets really have, not by what was learnt. A round is
measured beside one placement of the same targets.
"""

from __future__ import annotations

import time

import numpy as np
from rich.table import Table

from bench.movement import fleet, moved, scrapers
from bench.report import console
from promring.core.gain import gain
from promring.core.joined import FleetPool
from promring.core.learning import SMOOTHED, Figures, Learning
from promring.core.loads import Floats, encode
from promring.core.placement import Policy, place, place_living
from promring.core.ring import Ring
from promring.model import Loads, Placement

SIZES = ((20, 10_000), (200, 60_000))
NOISE, ROUNDS = 0.2, 60
POLICY = Policy(load_factor=1.10 * 0.99)
TOLD = 10_900
"""Targets that a note beside a lock tells by themselves."""
SHAPES = ("long tail", "lognormal", "1 % heavy")


def _series(shape: str, rng: np.random.Generator, count: int) -> Floats:
    """How many series each target has."""
    if shape == "long tail":
        return np.clip(rng.pareto(1.1, count), 0, 500) * 800 + 100
    return rng.lognormal(7, 1.5, count) if shape == "lognormal" else np.where(rng.random(count) < 0.01, 100_000.0, 900.0)


async def run() -> None:
    table = Table(title="true series of the fullest scraper over the mean; noise of 20 %", title_justify="left")
    for name in ("scrapers", "targets", "series", "by count", "learnt", "with noise", "in a note", "noise moved", "a death"):
        table.add_column(name, justify="left" if name == "series" else "right")
    for count, targets in SIZES:
        for shape in SHAPES:
            table.add_row(str(count), str(targets), shape, *_measured(count, targets, shape))
    console.print(table)
    console.print("asked: learnt at most 1.10; noise moves 0; a death at most 1.3 of its share")


def _measured(count: int, targets: int, shape: str) -> list[str]:
    rng = np.random.default_rng(targets)
    pool, ring = fleet(targets, 1), Ring(scrapers(count), POLICY.virtual_nodes)
    true = _series(shape, rng, targets)
    by_count = place(pool, ring, POLICY)
    learning, placed, noted = _learnt(pool, ring, true, rng)
    exact = _round(pool, Learning(), true, rng, noise=0.0)
    for _ in range(SMOOTHED):
        exact = _round(pool, exact, true, rng, noise=0.0)
    for _ in range(ROUNDS if targets <= 10_000 else 20):
        learning = _round(pool, learning, true, rng)
    again = learning.book(targets)
    assert again is not None
    then = place(pool, ring, POLICY, again.of(pool))
    noisy = moved(placed, then) if gain(placed, then, POLICY).worth else 0
    dead = ring.scrapers[count // 3]
    living = Ring(tuple(s for s in ring.scrapers if s is not dead), POLICY.virtual_nodes)
    after = place_living(pool, living, ring, POLICY, placed.loads)
    loads = np.rint(true).astype(np.int64)
    carried = dict(zip((s.id for s in ring.scrapers), _carried(placed, loads).tolist(), strict=True))[dead.id]
    gone = int(loads[(placed.owners != _renumbered(after, placed)).any(axis=1)].sum())
    known = exact.book(targets)
    assert known is not None
    by_exact = place(pool, ring, POLICY, known.of(pool))
    spreads = [f"{_spread(one, loads):.3f}" for one in (by_count, by_exact, placed, noted)]
    return [*spreads, str(noisy), f"{gone / carried:.2f}"]


def _learnt(pool: FleetPool, ring: Ring, true: Floats, rng: np.random.Generator) -> tuple[Learning, Placement, Placement]:
    learning, began = Learning(), time.perf_counter()
    for _ in range(SMOOTHED):
        learning = _round(pool, learning, true, rng)
    took, began = (time.perf_counter() - began) / SMOOTHED, time.perf_counter()
    whole, note = learning.book(len(pool)), learning.book(TOLD)
    assert whole is not None
    assert note is not None
    placed = place(pool, ring, POLICY, whole.of(pool))
    console.print(
        f"{len(pool)} targets: a round {took / (time.perf_counter() - began):.2f} of a placement with its book; "
        f"the book {len(encode(whole)) / len(pool):.1f} bytes a target, in a note {len(encode(note)) / 1024:.0f} KiB"
    )
    return learning, placed, place(pool, ring, POLICY, note.of(pool))


def _round(pool: FleetPool, learning: Learning, true: Floats, rng: np.random.Generator, noise: float = NOISE) -> Learning:
    name = pool.names[0]
    said = Figures(pool.parts[name].pool.ids, true * rng.uniform(1 - noise, 1 + noise, len(true)))
    return learning.reading(pool, {name: said}, None)


def _carried(placed: Placement, loads: Loads) -> Loads:
    return np.bincount(placed.owners[:, 0], weights=loads, minlength=len(placed.scrapers)).astype(np.int64)


def _spread(placed: Placement, loads: Loads) -> float:
    carried = _carried(placed, loads)
    return float(carried.max() / carried.mean())


def _renumbered(placed: Placement, like: Placement) -> Loads:
    """The owners of ``placed`` with the numbers that ``like`` has."""
    number = {s.id: i for i, s in enumerate(like.scrapers)}
    return np.array([number[s.id] for s in placed.scrapers])[placed.owners]
