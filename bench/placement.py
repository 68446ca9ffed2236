"""Placing a million targets on a thousand scrapers, beside what others would use for it.

Keys are known and sorted in every case (hashing is measured apart). Look-ups by packages that place one target a call are
measured on a part of the targets and given as nanoseconds a target. Movement is over what was necessary.

  ring            promring's plain ring, numpy
  bounded 1.10    promring's default
  by series 1.10  promring with a load per target, a long tail
  rendezvous      highest random weight, vectorised over scrapers with numpy (a part of the targets)
  hashmod         what Prometheus' relabelling does: md5 of the address modulo the number
  bisect ring     the same ring looked up by bisect, one target at a time
  uhashring       the package, ketama
  jump            the package jump-consistent-hash, C; its scrapers are numbered, so only the last may leave
"""

from __future__ import annotations

import gc
import hashlib
import os
import resource
import shutil
import statistics
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import jump
import numpy as np
import numpy.typing as npt
from rich.table import Table
from uhashring import HashRing

from bench.report import console
from promring.core.fragment import fragments, identities
from promring.core.joined import FleetPool, FleetShares, Part, salt_of, touched
from promring.core.placement import Policy, place, place_living
from promring.core.plan import Shares, bodies_of, same_bodies, shares
from promring.core.pool import build_pool
from promring.core.ring import Ring
from promring.model import Loads, Members, Placement, Scraper, TargetGroup, TargetPool

SCRAPERS, TARGETS, PART, RUNS, SERVICES = 1000, 1_000_000, 20_000, 5, 50
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
    groups = (
        TargetGroup.of([f"10.{i // 62500}.{i // 250 % 250}.{i % 250}:9100"], {**common, "host": f"host-{i:07d}"})
        for i in range(count)
    )
    return build_pool([groups])


def long_tail(count: int) -> Loads:
    """Samples a scrape: most a few hundred, some ten thousands."""
    return (np.random.default_rng(1).pareto(1.5, count) * 100 + 50).astype(np.int64)


def _promring(factor: float | None, *, series: bool = False) -> Place:
    def run(pool: TargetPool, ids: list[str]) -> Owners:
        ring = Ring(members(ids), 512)
        placed = place(pool, ring, Policy(512, factor), long_tail(len(pool)) if series else None)
        return np.array([ids.index(s.id) for s in ring.scrapers])[placed.owners[:, 0]]

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
    digests = (hashlib.md5(name.encode(), usedforsecurity=False).digest() for name in identities(pool))
    return np.array([int.from_bytes(d[8:], "big") % len(ids) for d in digests])


def _bisect(pool: TargetPool, ids: list[str]) -> Owners:
    circle = Ring(members(ids), 512).circle
    tokens, holders = circle.tokens.tolist(), circle.holders.tolist()
    index = [ids.index(s.id) for s in members(ids)]
    return np.array([index[holders[bisect_left(tokens, key) % len(tokens)]] for key in pool.keys.tolist()])


def _uhashring(pool: TargetPool, ids: list[str]) -> Owners:
    ring = HashRing(nodes=ids)
    index = {name: i for i, name in enumerate(ids)}
    return np.array([index[ring.get_node(name)] for name in identities(pool)])


def _jump(pool: TargetPool, ids: list[str]) -> Owners:
    return np.array([jump.hash(key, len(ids)) for key in pool.keys.tolist()])


KINDS: dict[str, Place] = {
    "ring": _promring(None),
    "bounded 1.10": _promring(1.10),
    "by series 1.10": _promring(1.10, series=True),
    "rendezvous": _rendezvous,
    "hashmod": _hashmod,
    "bisect ring": _bisect,
    "uhashring": _uhashring,
    "jump": _jump,
}


async def run() -> None:
    console.print(f"placement: building {TARGETS} targets with 6 labels each ...")
    before = _resident()
    pool = labelled(TARGETS)
    gc.collect()
    of_pool = (_resident() - before) / TARGETS
    ring = Ring(members(fleet(SCRAPERS)), 512)
    placed = place(pool, ring, Policy())
    found = shares(placed)
    slices = [found.body(i) for i in range(SCRAPERS)]
    gc.collect()
    of_all = (_resident() - before) / TARGETS
    del slices
    _table(_speeds(pool, ring))
    _reshard(pool)
    _reshard_services(pool)
    _leave_to_disk(pool)
    console.print(f"memory, 6 labels: {of_pool:.0f} bytes a target resident in the pool; with ring, placement and every")
    console.print(f"slice as bytes {of_all:.0f} (asked: <= 600); fragments alone are {len(pool.blob) / TARGETS:.0f}")
    _growth()


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _timed(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> list[float]:
    """Seconds of processor time, which other work on the machine changes little; or by another ``clock``."""
    took = []
    for _ in range(RUNS):
        started = clock()
        work()
        took.append(clock() - started)
    return took


def _speeds(pool: TargetPool, ring: Ring) -> dict[str, list[float]]:
    """Nanoseconds a target, the ring being there."""
    ids = fleet(SCRAPERS)
    loads = long_tail(len(pool))
    whole: dict[str, Callable[[], object]] = {
        "ring": lambda: place(pool, ring, Policy(512, None)),
        "bounded 1.10": lambda: place(pool, ring, Policy()),
        "by series 1.10": lambda: place(pool, ring, Policy(), loads),
    }
    part = replace(pool, keys=pool.keys[:: TARGETS // PART])
    names = [fragment[13:-1].decode().partition('"')[0] for fragment in fragments(pool)][:: TARGETS // PART]
    tokens, holders = ring.circle.tokens.tolist(), ring.circle.holders.tolist()
    hash_ring = HashRing(nodes=ids)
    keys = part.keys.tolist()
    by_target: dict[str, Callable[[], object]] = {
        "rendezvous": lambda: _rendezvous(part, ids),
        "hashmod": lambda: [int.from_bytes(hashlib.md5(n.encode(), usedforsecurity=False).digest()[8:]) % 9 for n in names],
        "bisect ring": lambda: [holders[bisect_left(tokens, key) % len(tokens)] for key in keys],
        "uhashring": lambda: [hash_ring.get_node(name) for name in names],
        "jump": lambda: [jump.hash(key, SCRAPERS) for key in keys],
    }
    speeds = {name: [s / len(pool) * 1e9 for s in _timed(work)] for name, work in whole.items()}
    return speeds | {name: [s / len(keys) * 1e9 for s in _timed(work)] for name, work in by_target.items()}


def _table(speeds: dict[str, list[float]]) -> None:
    pool, ids = labelled(SMALL_TARGETS), fleet(SMALL_SCRAPERS)
    loads = long_tail(len(pool))
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
        by = loads if name == "by series 1.10" else np.ones(len(pool))
        leave = "-" if name == "jump" else _leave(kind, pool, owners, ids, by)
        row = [f"{statistics.median(ns):.0f}", f"{min(ns):.0f}-{max(ns):.0f}", f"{statistics.median(ns) / ring_ns:.1f}"]
        balance = [f"{counts.max() / counts.mean():.2f}", f"{series.max() / series.mean():.2f}"]
        table.add_row(name, *row, *balance, leave, _join(kind, pool, owners, ids, by))
    console.print(table)
    console.print(
        "leave, join: targets moved over those that must (median, worst of 20; K/(N+1) for a join); series by load"
    )
    console.print(f"ring against uhashring: {statistics.median(speeds['uhashring']) / ring_ns:.0f} x (asked: >= 150)")
    ratio = statistics.median(speeds["bounded 1.10"]) / ring_ns
    console.print(f"bounded 1.10 against ring: {ratio:.1f} x (asked: <= 3)")
    ratio = statistics.median(speeds["by series 1.10"]) / ring_ns
    console.print(f"by series 1.10 against ring: {ratio:.1f} x (asked: <= 6)")


Weights: TypeAlias = "npt.NDArray[np.float64] | Loads"


def _leave(kind: Place, pool: TargetPool, owners: Owners, ids: list[str], by: Weights) -> str:
    names, each = np.array(ids)[owners], []
    for leaver in ids:
        rest = [i for i in ids if i != leaver]
        after = np.array(rest)[kind(pool, rest)]
        each.append(float(by[after != names].sum() / by[names == leaver].sum()))
    return f"{statistics.median(each):.2f}, {max(each):.2f}"


def _join(kind: Place, pool: TargetPool, owners: Owners, ids: list[str], by: Weights) -> str:
    more = [*ids, "10.9.9.9:9090"]
    moved = np.array(more)[kind(pool, more)] != np.array(ids)[owners]
    return f"{by[moved].sum() / (by.sum() / len(more)):.2f}"


def _reshard(pool: TargetPool) -> None:
    """One scraper dies, or is taken off the list: new ring, placement and slices as bytes, beside joining the fragments of
    all slices alone. Joining keeps what it made, as a reshard must: memory for new bytes costs as much as filling it.
    """
    ids = fleet(SCRAPERS)
    policy = Policy()
    listed_ring = Ring(members(ids), 512)
    before = shares(place(pool, listed_ring, policy))

    def changed(now: Shares) -> list[bytes]:
        some = _changed(before, now)
        return bodies_of(pool, [now.of(i) for i in some])

    def dies() -> list[bytes]:
        return changed(shares(place_living(pool, Ring(members(ids[1:]), 512), listed_ring, policy)))

    def is_taken_out() -> list[bytes]:
        return changed(_after_leave(pool, ids, policy)[1])

    def every_one() -> list[bytes]:
        placed, now = _after_leave(pool, ids, policy)
        return bodies_of(pool, [now.of(i) for i in range(len(placed.scrapers))])

    listed = list(fragments(pool))
    _, now = _after_leave(pool, ids, policy)
    as_they_lie = [[listed[r] for r in now.of(i).tolist()] for i in range(len(ids) - 1)]

    def join_and_forget() -> None:
        for part in as_they_lie:
            b"".join((b"[\n", b",\n".join(part), b"\n]\n"))

    alone = statistics.median(_timed(lambda: _joined(as_they_lie)))
    forgotten = statistics.median(_timed(join_and_forget))
    in_order = [[bytes(bytearray(fragment)) for fragment in part] for part in as_they_lie]
    best = statistics.median(_timed(lambda: _joined(in_order)))
    console.print(
        f"joining the fragments of every slice: {alone * 1000:.0f} ms; {forgotten * 1000:.0f} ms when none is kept;"
        f" {best * 1000:.0f} ms if they lay sorted by slice"
    )
    for name, work in (
        ("one dies, the changed slices", dies),
        ("one is taken off the list, the changed slices", is_taken_out),
        ("the same, every slice", every_one),
    ):
        took = statistics.median(_timed(work))
        console.print(
            f"full reshard, {name}: {took * 1000:.0f} ms, {took / alone:.1f} x joining all of them (asked: <= 2.5);"
            f" {took / forgotten:.1f} x when none is kept, {took / best:.1f} x if they lay sorted"
        )


def _reshard_services(pool: TargetPool) -> None:
    """The same for a fleet of 50 services, each with its part of the targets: all of them get other slices at once."""
    parts = np.array_split(np.arange(len(pool)), SERVICES)
    whole = FleetPool.of(
        {f"s{n:02}": Part(_rows_of(pool, rows), 1, salt_of("bench", f"s{n:02}")) for n, rows in enumerate(parts)}
    )
    ids, policy = fleet(SCRAPERS), Policy()
    scrapers, listed = members(ids[1:]), Ring(members(ids), 512)
    before = FleetShares(place(whole, listed, policy))
    found = {name: list(fragments(part.pool)) for name, part in whole.parts.items()}
    grouped = [[found[name][r] for r in before.of(i, name).tolist()] for i in range(SCRAPERS) for name in whole.names]
    alone = statistics.median(_timed(lambda: _joined(grouped)))

    def dies() -> list[list[bytes]]:
        now = FleetShares(place_living(whole, Ring(scrapers, 512), listed, policy))
        some = {name: touched(before.placement, now.placement, name) or () for name in whole.names}
        return [list(now.bodies(sorted(some[name]), name)) for name in whole.names]

    def is_taken_out() -> list[list[bytes]]:
        now = FleetShares(place(whole, Ring(scrapers, 512), policy))
        return [list(now.bodies(range(len(scrapers)), name)) for name in whole.names]

    for what, work in (("one of 1000 dies, the changed slices", dies), ("another ring, every slice", is_taken_out)):
        took = statistics.median(_timed(work))
        console.print(
            f"full reshard of {SERVICES} services, {what}: {took * 1000:.0f} ms, {took / alone:.1f} x joining the same"
            f" fragments, {alone * 1000:.0f} ms (asked: <= 4)"
        )


def _joined(grouped: list[list[bytes]]) -> list[bytes]:
    return [b"".join((b"[\n", b",\n".join(part), b"\n]\n")) for part in grouped]


def _rows_of(pool: TargetPool, rows: npt.NDArray[np.intp]) -> TargetPool:
    """These rows, which follow each other."""
    cut, bounds = slice(int(rows[0]), int(rows[-1]) + 1), pool.bounds[rows[0] : rows[-1] + 2]
    keys, blob = pool.keys[cut], pool.blob[int(bounds[0]) : int(bounds[-1])]
    return TargetPool(keys, keys, pool.digests[cut], blob, bounds - bounds[0])


def _changed(before: Shares, now: Shares) -> list[int]:
    """The scrapers whose slices are others than before the first one left."""
    changed: list[int] = np.flatnonzero(~same_bodies(before, np.arange(1, len(now.bounds)), now)).tolist()
    return changed


def _after_leave(pool: TargetPool, ids: list[str], policy: Policy) -> tuple[Placement, Shares]:
    placed = place(pool, Ring(members(ids[1:]), 512), policy)
    return placed, shares(placed)


def _leave_to_disk(pool: TargetPool) -> None:
    """One scraper leaves: until all changed slices are on disk (write, rename; no fsync), beside writing those alone."""
    ids, policy = fleet(SCRAPERS), Policy()
    before = shares(place(pool, Ring(members(ids), 512), policy))
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))

    def write(name: str, body: bytes) -> None:
        (folder / "new").write_bytes(body)
        (folder / "new").rename(folder / name)

    def reshard() -> dict[str, bytes]:
        placed, now = _after_leave(pool, ids, policy)
        some = _changed(before, now)
        bodies = bodies_of(pool, [now.of(i) for i in some])
        written = {placed.scrapers[i].id: body for i, body in zip(some, bodies, strict=True)}
        for name, body in written.items():
            write(name, body)
        return written

    changed = reshard()
    took = statistics.median(_timed(reshard, time.perf_counter))

    def write_alone() -> None:
        for name, body in changed.items():
            write(name, body)

    alone = statistics.median(_timed(write_alone, time.perf_counter))
    shutil.rmtree(folder)
    console.print(
        f"one of {SCRAPERS} leaves, {len(changed)} changed slices on disk, without fsync: {took * 1000:.0f} ms,"
        f" writing them alone {alone * 1000:.0f} ms: {took / alone:.1f} x (asked: <= 2.5)"
    )


def _growth() -> None:
    took = {}
    for count in (10_000, 100_000, 1_000_000):
        keys = np.sort(np.random.default_rng(2).integers(0, 2**64, count, dtype=np.uint64))
        pool = TargetPool(keys, keys, keys, b"", np.zeros(count + 1, dtype=np.int64))
        ring = Ring(members(fleet(SCRAPERS)), 512)
        took[count] = statistics.median(_timed(lambda p=pool, r=ring: place(p, r, Policy())))  # type: ignore[misc]
    steps = [took[100_000] / took[10_000], took[1_000_000] / took[100_000]]
    shown = ", ".join(f"{count}: {s * 1000:.1f} ms" for count, s in took.items())
    console.print(f"growth, bounded: {shown}; x 10 targets: {steps[0]:.1f} x, {steps[1]:.1f} x (asked: <= 11)")
