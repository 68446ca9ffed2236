"""Placing a million targets on a thousand scrapers, beside what others would use for it.

Keys are known and sorted in every case (hashing is measured apart). Look-ups by packages that place one target a call are
measured on a part of the targets and given as nanoseconds a target. Movement is over what was necessary.

  ring            promring's plain ring, numpy
  bounded 1.10    promring's default
  rendezvous      highest random weight, vectorised over scrapers with numpy (a part of the targets)
  hashmod         what Prometheus' relabelling does: md5 of the address modulo the number
  bisect ring     the same ring looked up by bisect, one target at a time
  uhashring       the package, ketama
  jump            the package jump-consistent-hash, C; its scrapers are numbered, so only the last may leave
"""

from __future__ import annotations

import gc
import hashlib
import resource
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise

import jump
import numpy as np
import numpy.typing as npt
from rich.table import Table
from uhashring import HashRing

from bench.report import console
from promring.core.placement import Policy, place
from promring.core.plan import bodies
from promring.core.pool import build_pool
from promring.core.ring import Ring
from promring.model import Members, Scraper, TargetGroup, TargetPool

SCRAPERS, TARGETS, PART, RUNS = 1000, 1_000_000, 20_000, 5
SMALL_SCRAPERS, SMALL_TARGETS = 20, 10_000
Owners = npt.NDArray[np.int64]
Place = Callable[[TargetPool, list[str]], Owners]


def fleet(size: int) -> list[str]:
    return [f"10.{i // 62500}.{i // 250 % 250}.{i % 250}:9090" for i in range(size)]


def members(ids: Sequence[str]) -> Members:
    return tuple(sorted(Scraper(i, i.partition(":")[0], 9090) for i in ids))


def labelled(count: int) -> TargetPool:
    """A pool with six labels each."""
    common = {"env": "production", "region": "eu-central-1", "team": "platform", "job": "node", "os": "linux"}
    groups = tuple(
        TargetGroup.of([f"10.{i // 62500}.{i // 250 % 250}.{i % 250}:9100"], {**common, "host": f"host-{i:07d}"})
        for i in range(count)
    )
    return build_pool([groups])


def _promring(factor: float | None) -> Place:
    def run(pool: TargetPool, ids: list[str]) -> Owners:
        ring = Ring(members(ids), 512)
        placed = place(pool, ring, Policy(512, factor))
        return np.array([ids.index(s.id) for s in ring.scrapers])[placed.owners]

    return run


def _rendezvous(pool: TargetPool, ids: list[str]) -> Owners:
    best = np.zeros(len(pool), dtype=np.uint64)
    owner = np.zeros(len(pool), dtype=np.int64)
    for i, name in enumerate(ids):
        seed = np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big"))
        mixed = (pool.keys ^ seed) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        higher = mixed > best
        best[higher], owner[higher] = mixed[higher], i
    return owner


def _hashmod(pool: TargetPool, ids: list[str]) -> Owners:
    digests = (hashlib.md5(name.encode(), usedforsecurity=False).digest() for name in pool.identities)
    return np.array([int.from_bytes(d[8:], "big") % len(ids) for d in digests])


def _bisect(pool: TargetPool, ids: list[str]) -> Owners:
    ring = Ring(members(ids), 512)
    tokens, holders = ring.tokens.tolist(), ring.holders.tolist()
    index = [ids.index(s.id) for s in ring.scrapers]
    return np.array([index[holders[bisect_left(tokens, key) % len(tokens)]] for key in pool.keys.tolist()])


def _uhashring(pool: TargetPool, ids: list[str]) -> Owners:
    ring = HashRing(nodes=ids)
    index = {name: i for i, name in enumerate(ids)}
    return np.array([index[ring.get_node(name)] for name in pool.identities])


def _jump(pool: TargetPool, ids: list[str]) -> Owners:
    return np.array([jump.hash(key, len(ids)) for key in pool.keys.tolist()])


KINDS: dict[str, Place] = {
    "ring": _promring(None),
    "bounded 1.10": _promring(1.10),
    "rendezvous": _rendezvous,
    "hashmod": _hashmod,
    "bisect ring": _bisect,
    "uhashring": _uhashring,
    "jump": _jump,
}
WHOLE = ("ring", "bounded 1.10")


async def run() -> None:
    console.print(f"placement: building {TARGETS} targets with 6 labels each ...")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pool = labelled(TARGETS)
    gc.collect()
    grown = (_resident() - before * 1024) / TARGETS
    part = TargetPool(pool.keys[:: TARGETS // PART], pool.identities[:: TARGETS // PART], [])
    speeds = _speeds(pool, part)
    _table(speeds)
    _reshard(pool)
    console.print(f"memory: {grown:.0f} bytes a target resident, with 6 labels (asked: <= 600)")
    _growth()


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _timed(work: Callable[[], object], runs: int = RUNS) -> list[float]:
    took = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return took


def _speeds(pool: TargetPool, part: TargetPool) -> dict[str, list[float]]:
    """Nanoseconds a target, the ring being there: SCRAPERS scrapers."""
    ids = fleet(SCRAPERS)
    ring = Ring(members(ids), 512)
    found = {}
    for name in KINDS:
        if name in WHOLE:
            policy = Policy(512, None if name == "ring" else 1.10)
            found[name] = [s / len(pool) * 1e9 for s in _timed(lambda p=policy: place(pool, ring, p))]  # type: ignore[misc]
    tokens, holders = ring.tokens.tolist(), ring.holders.tolist()
    hash_ring = HashRing(nodes=ids)
    keys = part.keys.tolist()
    by_target: dict[str, Callable[[], object]] = {
        "rendezvous": lambda: _rendezvous(part, ids),
        "hashmod": lambda: _hashmod(part, ids),
        "bisect ring": lambda: [holders[bisect_left(tokens, key) % len(tokens)] for key in keys],
        "uhashring": lambda: [hash_ring.get_node(name) for name in part.identities],
        "jump": lambda: [jump.hash(key, SCRAPERS) for key in keys],
    }
    for name, work in by_target.items():
        found[name] = [s / len(part) * 1e9 for s in _timed(work)]
    return found


def _table(speeds: dict[str, list[float]]) -> None:
    pool, ids = labelled(SMALL_TARGETS), fleet(SMALL_SCRAPERS)
    loads = np.random.default_rng(1).pareto(1.5, len(pool)) * 100 + 50
    table = Table(
        title=f"speed: {TARGETS} targets on {SCRAPERS} scrapers; the rest: {SMALL_TARGETS} on {SMALL_SCRAPERS}",
        title_justify="left",
    )
    for heading in ("kind", "ns a target", "spread", "x ring", "count max/mean", "series max/mean", "leave", "join"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    ring_ns = statistics.median(speeds["ring"])
    for name, kind in KINDS.items():
        owners = kind(pool, ids)
        counts = np.bincount(owners, minlength=len(ids))
        series = np.bincount(owners, weights=loads, minlength=len(ids))
        ns = speeds[name]
        leave = "-" if name == "jump" else f"{_moved(kind, pool, owners, ids, leave=True):.2f}"
        row = [f"{statistics.median(ns):.0f}", f"{min(ns):.0f}-{max(ns):.0f}", f"{statistics.median(ns) / ring_ns:.1f}"]
        balance = [f"{counts.max() / counts.mean():.2f}", f"{series.max() / series.mean():.2f}"]
        table.add_row(name, *row, *balance, leave, f"{_moved(kind, pool, owners, ids, leave=False):.2f}")
    console.print(table)
    console.print("leave, join: targets moved over those that must (the worst of 20 leavers; K/(N+1) for a join)")
    console.print(f"ring against uhashring: {statistics.median(speeds['uhashring']) / ring_ns:.0f} x (asked: >= 100)")
    ratio = statistics.median(speeds["bounded 1.10"]) / ring_ns
    console.print(f"bounded 1.10 against ring: {ratio:.1f} x (asked: <= 4)")


def _moved(kind: Place, pool: TargetPool, owners: Owners, ids: list[str], *, leave: bool) -> float:
    names = np.array(ids)[owners]
    if not leave:
        more = [*ids, "10.9.9.9:9090"]
        return float((np.array(more)[kind(pool, more)] != names).sum() / (len(pool) / len(more)))
    worst = 0.0
    for leaver in ids:
        rest = [i for i in ids if i != leaver]
        after = np.array(rest)[kind(pool, rest)]
        worst = max(worst, float((after != names).sum() / (names == leaver).sum()))
    return worst


def _reshard(pool: TargetPool) -> None:
    """One scraper leaves: new ring, placement and every slice as bytes, beside joining the same fragments alone."""
    ids = fleet(SCRAPERS)
    Ring(members(ids), 512)  # tokens are cached from now on, as in a running promring
    policy = Policy()

    def reshard() -> int:
        placed = place(pool, Ring(members(ids[1:]), 512), policy)
        return sum(len(body) for _, body, _ in bodies(placed))

    placed = place(pool, Ring(members(ids[1:]), 512), policy)
    order = np.argsort(placed.owners, kind="stable")
    bounds = np.searchsorted(placed.owners[order], np.arange(len(placed.scrapers) + 1)).tolist()
    rows = order.tolist()
    grouped = [[pool.fragments[r] for r in rows[a:b]] for a, b in pairwise(bounds)]

    def join() -> int:
        return sum(len(b"[\n" + b",\n".join(fragments) + b"\n]\n") for fragments in grouped)

    full, alone = statistics.median(_timed(reshard)), statistics.median(_timed(join))
    console.print(
        f"full reshard to every slice as bytes: {full * 1000:.0f} ms, "
        f"joining the same fragments {alone * 1000:.0f} ms: {full / alone:.1f} x (asked: <= 3)"
    )


def _growth() -> None:
    took = {}
    for count in (10_000, 100_000, 1_000_000):
        pool = TargetPool(np.sort(np.random.default_rng(2).integers(0, 2**64, count, dtype=np.uint64)), [""] * count, [])
        ring = Ring(members(fleet(SCRAPERS)), 512)
        took[count] = statistics.median(_timed(lambda p=pool, r=ring: place(p, r, Policy())))  # type: ignore[misc]
    steps = [took[100_000] / took[10_000], took[1_000_000] / took[100_000]]
    shown = ", ".join(f"{count}: {s * 1000:.1f} ms" for count, s in took.items())
    console.print(f"growth, bounded: {shown}; x 10 targets: {steps[0]:.1f} x, {steps[1]:.1f} x (asked: <= 11)")
