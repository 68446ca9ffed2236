"""One service of many changes one target: the cost beyond the same service alone. And one target more in one of ten files.

Everything is done that a running controller does after the list is read: guard, merge, placement, hand-over, slices, the
state and the files on disk, with fsync. The list itself is made before the clock starts, but for the ten files.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bench.report import console
from promring.core.admission import NOBODY_ASIDE
from promring.core.aside import place_around
from promring.core.evidence import Handover
from promring.core.joined import salt_of
from promring.core.placement import Policy
from promring.core.pool import pool_of
from promring.core.standing import Rules
from promring.core.verdicts import Guard
from promring.delivery import Delivery
from promring.delivery.file import FileDelivery
from promring.discovery.file import FileSource
from promring.discovery.polling import poll
from promring.election.leadership import Leadership
from promring.fleet.deliveries import ServiceDeliveries
from promring.fleet.dispatcher import Dispatcher
from promring.fleet.facts import FactBoard, Pace
from promring.fleet.planner import Placing, Planner
from promring.fleet.reconcile import Reconciler
from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.model import Known, Members, Scraper, TargetGroup, TargetPool
from promring.runtime.threads import favour_the_loop
from promring.telemetry import log
from promring.telemetry.metrics import Metrics

FLEET, SCRAPERS, CHANGES = "main", 20, 7
LABELS = {"env": "production", "region": "eu", "team": "platform", "rack": "r1", "os": "linux", "role": "db"}


async def run() -> None:
    favour_the_loop()
    for targets in (100_000, 1_000_000):
        alone = await _one_target_changes({"s0": targets // 50})
        many = await _one_target_changes({f"s{n}": targets // 50 for n in range(50)})
        one = await _one_target_changes({"s0": targets})
        console.print(
            f"services, {targets} targets on {SCRAPERS} scrapers, one of 50 services changes one target: {_shown(many)};"
            f" that service alone: {_shown(alone)}; all targets in one service: {_shown(one)}; one placement of the whole"
            f" fleet: {many.place_s:.3f} s (asked: beyond the service alone at most one placement)"
        )
    took = await _ten_files()
    shown = f"median {statistics.median(took):.2f} s, worst {max(took):.2f} s"
    console.print(f"services, one target more in one of ten files of 100000, until it is on disk: {shown} (asked: <= 1.5 s)")


class Timed:
    """Seconds of each change, and of processor time; and of one placement of all, processor time."""

    def __init__(self, changes: list[float], processor: list[float], place_s: float) -> None:
        self.changes, self.processor, self.place_s = changes, processor, place_s


def _shown(timed: Timed) -> str:
    took = f"{statistics.median(timed.changes):.3f} s ({min(timed.changes):.3f} to {max(timed.changes):.3f})"
    return f"{took}, of processor time {statistics.median(timed.processor):.3f} s"


def _to_files(folder: Path) -> Callable[[str], Delivery]:
    return lambda name: FileDelivery(f"{folder}/out/{name}/{{scraper}}.json", log.get())


def pool_with(service: str, count: int, labels: Mapping[str, str] = LABELS) -> TargetPool:
    number = int(service[1:])
    addresses = [f"10.{number}.{i // 250 % 250}.{i % 250}:{9100 + i // 62500}" for i in range(count)]
    return pool_of([TargetGroup.of(addresses, labels)])


def members(numbers: Iterable[int]) -> Known[Members]:
    hosts = [f"10.9.{i // 250}.{i % 250}" for i in numbers]
    return Known(tuple(sorted(Scraper(f"{host}:9090", host, 9090) for host in hosts)))


def reconciler_of(
    folder: Path, facts: FactBoard, names: Sequence[str], deliver: Callable[[str], Delivery], store: Store | None = None
) -> Reconciler:
    """``deliver``: of a service."""
    for name in names:
        facts.add(name, ["list"])
    term, metrics = Leadership(), Metrics()
    couriers = {
        name: ServiceDeliveries(FLEET, name, [deliver(name)], term, facts.wake, metrics, log.get()) for name in names
    }
    facts.members.put(members(range(SCRAPERS)))
    return Reconciler(
        FLEET,
        rules=Rules(join_delay_s=0),
        guards={name: Guard() for name in names},
        handover=Handover(0.0, confirm=False),
        pace=Pace(60.0, 0.0),
        facts=facts,
        planner=Planner(Policy(), {name: Placing(None, 1, salt_of(FLEET, name)) for name in names}, None, (), log.get()),
        dispatcher=Dispatcher(couriers, {}, term, facts.wake, log.get()),
        leadership=term,
        store=store or Store(folder / "state", FLEET, log.get()),
        memory=Memory(),
        metrics=metrics,
        log=log.get(),
    )


async def _one_target_changes(sizes: Mapping[str, int]) -> Timed:
    with tempfile.TemporaryDirectory() as folder:
        facts = FactBoard()
        reconciler = reconciler_of(Path(folder), facts, list(sizes), _to_files(Path(folder)))
        for name, count in sizes.items():
            facts.services[name].cells["list"].put(Known(pool_with(name, count)))
        await reconciler.cycle()
        took, processor = [], []
        for n in range(1, CHANGES + 1):
            changed = pool_with("s0", sizes["s0"] + n)
            facts.services["s0"].cells["list"].put(Known(changed))
            started, began = time.perf_counter(), time.process_time()
            await reconciler.cycle(time.monotonic())
            took.append(time.perf_counter() - started)
            processor.append(time.process_time() - began)
        placed, ring = reconciler.planner.placed, reconciler.planner.ring
        assert placed is not None
        assert ring is not None
        began = time.process_time()
        place_around(placed.pool, ring, ring, reconciler.planner.policy, NOBODY_ASIDE, reconciler.memory.claims)
        return Timed(took, processor, time.process_time() - began)


async def _ten_files() -> list[float]:
    """From the rename of the changed file."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        facts, sizes = FactBoard(), range(10)
        reconciler = reconciler_of(folder, facts, ["s0"], _to_files(folder))
        for n in sizes:
            _write(folder / f"t{n}.json", n, 100_000)
        source, took = FileSource([f"{folder}/t*.json"], 3600.0), []
        async with asyncio.TaskGroup() as group:
            cell = facts.services["s0"].cells["list"]
            tasks = [
                group.create_task(poll("list", source, cell.put, lambda _: None, log.get())),
                group.create_task(reconciler.run()),
            ]
            await _on_disk(folder, "10.0.0.1:9100")
            for n in range(1, 6):
                await asyncio.to_thread(_write, folder / "t3.json", 3, 100_000 + n)
                started = time.perf_counter()
                await _on_disk(folder, f"10.3.{(100_000 + n - 1) // 250 % 250}.{(100_000 + n - 1) % 250}:9101")
                took.append(time.perf_counter() - started)
            for task in tasks:
                task.cancel()
        return took


async def _on_disk(folder: Path, address: str) -> None:
    """Looks at files that changed only."""
    seen: dict[Path, int] = {}
    while True:
        for path in folder.glob("out/s0/*.json"):
            if (at := path.stat().st_mtime_ns) != seen.get(path):
                seen[path] = at
                if address.encode() in await asyncio.to_thread(path.read_bytes):
                    return
        await asyncio.sleep(0.01)


def _write(path: Path, number: int, count: int) -> None:
    listed = [
        {"targets": [f"10.{number}.{i // 250 % 250}.{i % 250}:{9100 + i // 62500}"], "labels": LABELS} for i in range(count)
    ]
    new = path.with_suffix(".new")
    new.write_text(json.dumps(listed))
    new.replace(path)
