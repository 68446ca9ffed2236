"""One service after the other changes one percent of its targets, in a fleet of 50 services on 1,000 scrapers that fetch
their slices and have not come yet: processor time of a change, and memory.

Measured is what follows a list that is read: judging, placing, handing over, slices, the state on disk, what is served. The
lists are made before the clock starts.
"""

from __future__ import annotations

import asyncio
import io
import random
import tempfile
import time
from pathlib import Path

import psutil

from bench.report import console, table
from bench.services import FLEET, members, reconciler_of
from promring.core.pool import pool_of
from promring.delivery.http_sd import HttpSdDelivery
from promring.fleet.facts import FactBoard
from promring.fleet.store import Store
from promring.model import Known, TargetGroup
from promring.runtime.threads import favour_the_loop
from promring.telemetry import log

SERVICES, SCRAPERS, ROUNDS = 50, 1000, 2
SIZES = (200_000, 1_000_000)
NAMES = [f"s{n}" for n in range(SERVICES)]


async def run() -> None:
    favour_the_loop()
    log.configure("error", stream=io.StringIO())  # that nobody comes is said of each of them
    for targets in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            took = await _changes(Path(folder), targets)
        title = f"{targets} targets in {SERVICES} services on {SCRAPERS} scrapers, one service changes 1 %: processor time"
        table(title, [("a change", took, "")])
        console.print(f"{psutil.Process().memory_info().rss / 1e6:.0f} MB resident")


async def _changes(folder: Path, targets: int) -> list[float]:
    """Seconds of processor time of each change."""
    facts, each = FactBoard(), targets // SERVICES
    store = Store(folder / "state", FLEET, log.get())
    reconciler = reconciler_of(folder, facts, NAMES, lambda _: HttpSdDelivery(), store)
    listed = {name: list(range(n * each, (n + 1) * each)) for n, name in enumerate(NAMES)}
    for name in NAMES:
        _list(facts, name, listed[name])
    facts.members.put(members(range(SCRAPERS)))
    await reconciler.cycle(time.monotonic())
    compacting, took = asyncio.create_task(store.run()), []
    for name in NAMES * ROUNDS:
        for place in random.sample(range(each), each // 100):
            listed[name][place] += targets
        _list(facts, name, listed[name])
        began = time.process_time()
        await reconciler.cycle(time.monotonic())
        took.append(time.process_time() - began)
    compacting.cancel()
    return took


def _list(facts: FactBoard, name: str, numbers: list[int]) -> None:
    addresses = [f"10.{n // 62500 % 250}.{n // 250 % 250}.{n % 250}:{9100 + n // 15_625_000}" for n in numbers]
    facts.services[name].cells["list"].put(Known(pool_of([TargetGroup.of(addresses, {"env": "p"})])))
