"""What a save of the state costs after one target of a fleet changed, beside a save of the whole; and what a load costs.

Two sizes, with one service and with 50: the memory of a fleet as the loop leaves it, with lists, slices and claims. One
target gets another label, and the one before it has its own back, as often as there are changes; each save is measured, then
the file is loaded beside all that.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.report import console, table
from promring.core.claims import Claims
from promring.core.joined import FleetPool, FleetShares, Part
from promring.core.placement import Policy, place
from promring.core.pool import pool_of
from promring.core.ring import Ring
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.store import Store
from promring.model import NEVER_ENDS, Generation, Placement, Scraper, Slice, TargetGroup, TargetPool
from promring.telemetry import log

SIZES = ((100_000, 1), (100_000, 50), (1_000_000, 1), (1_000_000, 50))
SCRAPERS, CHANGES, FLEET = 20, 6, "bench"
LABELS = {"env": "production", "region": "eu-west-1", "team": "platform", "dc": "dc1", "role": "node"}


def _pool(service: int, count: int, changed: int = -1, n: int = 0) -> TargetPool:
    """Target ``changed`` has another label."""
    hosts = [f"10.{service}.{i // 250 % 250}.{i % 250}:{9100 + i // 62500}" for i in range(count)]
    if changed < 0:
        return pool_of([TargetGroup.of(hosts, LABELS)])
    one = TargetGroup.of([hosts.pop(changed)], {**LABELS, "change": str(n)})
    return pool_of([TargetGroup.of(hosts, LABELS), one])


def _memory(pools: dict[str, TargetPool], n: int, before: Memory | None, placed: Placement) -> Memory:
    """As the loop does: what has the same bytes is the same object."""
    pool = FleetPool.of({name: Part(one) for name, one in pools.items()})
    now = FleetShares(replace(placed, pool=pool))
    services = {}
    for name in pools:
        old = before.of(name) if before else ServiceMemory()
        if before and old.sources["s"] is pools[name]:
            services[name] = replace(old)
            continue
        slices = {}
        for index, scraper in enumerate(placed.scrapers):
            body = now.body(index, name)
            had = old.slices.get(scraper.id)
            same = had if had is not None and had.body == body else None
            slices[scraper.id] = same or Slice(name, scraper, Generation(1, n), body, len(now.of(index, name)))
        services[name] = ServiceMemory({"s": pools[name]}, slices, {"s": time.time()})
    rows = np.arange(len(pool))
    ever = np.full(len(rows), NEVER_ENDS)
    claims = Claims(tuple(s.id for s in placed.scrapers), pool.ids[rows], placed.owners[:, 0].copy(), -ever, ever)
    return Memory(placed.scrapers, services, Generation(1, n), claims, members_at=time.time(), catalogue=placed.scrapers)


def _members() -> tuple[Scraper, ...]:
    return tuple(sorted(Scraper(f"10.9.0.{i}:9090", f"10.9.0.{i}", 9090) for i in range(SCRAPERS)))


def _first(targets: int, services: int) -> tuple[dict[str, TargetPool], Placement, Memory]:
    pools = {f"job-{i:02}": _pool(i, targets // services) for i in range(services)}
    placed = place(FleetPool.of({name: Part(one) for name, one in pools.items()}), Ring(_members(), 512), Policy())
    return pools, placed, _memory(pools, 1, None, placed)


async def run() -> None:
    for targets, services in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            await _run(Path(folder), targets, services)


async def _run(folder: Path, targets: int, services: int) -> None:
    pools, placed, memory = _first(targets, services)
    store, path = Store(folder, FLEET, log.get()), folder / f"{FLEET}.state"
    with _peak("a save of the whole"):
        whole_s = await _took(store, memory)
    whole = path.stat().st_size
    took, wrote = [], []
    for n in range(CHANGES):
        pools = {**pools, "job-00": _pool(0, targets // services, n * 997 % (targets // services), n)}
        memory = _memory(pools, n + 2, memory, placed)
        size = path.stat().st_size
        with _peak("a save of a change") if not n else contextlib.nullcontext():
            took.append(await _took(store, memory))
        wrote.append((path.stat().st_size - size) / 1000)
    with _peak("a load, with what was loaded"):
        started = time.perf_counter()
        loaded = Store(folder, FLEET, log.get()).load()
        load_s = time.perf_counter() - started
    assert loaded == replace(memory, claims=loaded.claims), "what is loaded is not what was saved"
    title = f"state, {targets:,} targets in {services} services on {SCRAPERS} scrapers"
    table(f"{title}: a save after a change of one target", [("time", took, "")])
    table(f"{title}: written", [("a frame", wrote, "< 100 kB")], "kB", 1)
    share, share_s = statistics.median(wrote) * 1000 / whole, statistics.median(took) / whole_s
    console.print(
        f"whole: {whole / 1e6:.1f} MB in {whole_s:.2f} s; a change: {share:.6f} of the bytes, {share_s:.3f} of the time;"
        f" load with {CHANGES} changes {load_s:.2f} s"
    )


async def _took(store: Store, memory: Memory) -> float:
    started = time.perf_counter()
    await store.save(memory)
    return time.perf_counter() - started


@contextlib.contextmanager
def _peak(what: str) -> Iterator[None]:
    """Print how much more memory the process had at the worst moment of the block than before it."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    yield
    console.print(f"memory of {what}: {_status('VmHWM') - before:.0f} MB at most, beyond {before:.0f} MB")


def _status(name: str) -> float:
    """MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:"))
