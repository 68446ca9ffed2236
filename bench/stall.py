"""How long the event loop stands still while 100,000 targets change at once: a source file is replaced, every label of every
target in it is another one; it is read, merged, placed on 20 scrapers, saved and delivered to files.

Then how long it stands still while 50 files of 20,000 targets are read at once, as after a change that all have.

The loop is asked to run something every millisecond; the stall is by how much it is late.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import yaml

from bench.report import console
from promring.core.evidence import Handover
from promring.core.placement import Policy
from promring.core.standing import Rules
from promring.core.verdicts import Guard
from promring.delivery import Delivery
from promring.delivery.file import FileDelivery
from promring.delivery.http_sd import HttpSdDelivery
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
from promring.model import Known, Scraper
from promring.runtime.threads import favour_the_loop
from promring.telemetry import log
from promring.telemetry.metrics import Metrics

TARGETS, SCRAPERS, CHANGES = 100_000, 20, 5
LISTS, LISTED = 50, 20_000


async def run() -> None:
    favour_the_loop()
    for suffix in ("json", "yml"):
        with tempfile.TemporaryDirectory() as folder:
            await _run(Path(folder), suffix)
    with tempfile.TemporaryDirectory() as folder:
        await _many(Path(folder))


async def _run(folder: Path, suffix: str) -> None:
    facts, path = FactBoard(), folder / f"targets.{suffix}"
    board = facts.add("bench", ["s"])
    _write(path, 0)
    term, metrics = Leadership(), Metrics()
    deliveries: list[Delivery] = [FileDelivery(f"{folder}/out/{{scraper}}.json", log.get()), HttpSdDelivery(())]
    couriers = ServiceDeliveries("bench", "bench", deliveries, term, facts.wake, metrics, log.get())
    reconciler = Reconciler(
        "bench",
        rules=Rules(join_delay_s=0),
        guards={"bench": Guard()},
        handover=Handover(0.0, confirm=False),
        pace=Pace(),
        facts=facts,
        planner=Planner(Policy(), {"bench": Placing()}, None, (), log.get()),
        dispatcher=Dispatcher({"bench": couriers}, {}, term, facts.wake, log.get()),
        leadership=term,
        store=Store(folder / "state", "bench", log.get()),
        memory=Memory(),
        metrics=metrics,
        log=log.get(),
    )
    facts.members.put(Known(tuple(sorted(Scraper(f"10.0.0.{i}:9090", f"10.0.0.{i}", 9090) for i in range(SCRAPERS)))))
    worst: list[float] = []
    took: list[float] = []
    async with asyncio.TaskGroup() as group:
        source = FileSource([str(path)], 3600.0)
        tasks = [
            group.create_task(poll("s", source, board.cells["s"].put, lambda _: None, log.get())),
            group.create_task(reconciler.run()),
        ]
        await _generation(reconciler, 1)
        for n in range(1, CHANGES + 1):
            await asyncio.to_thread(_write, path, n)
            started = time.monotonic()
            late = group.create_task(lateness())
            await _generation(reconciler, n + 1)
            await asyncio.sleep(0.3)  # the delivery goes on after the decision
            late.cancel()
            took.append(time.monotonic() - started - 0.3)
            worst.append(max(await late))
        for task in tasks:
            task.cancel()
    shown = " ".join(f"{s * 1000:.0f}" for s in worst)
    console.print(
        f"stall, {TARGETS} targets in {suffix} all change at once: worst of each of {CHANGES} changes {shown} ms"
        f" (asked: <= 50); seen, placed and decided after {max(took):.1f} s at most"
    )


async def _many(folder: Path) -> None:
    """All lists at once; each is there when its answer is published."""
    paths = [folder / f"{n}.json" for n in range(LISTS)]
    read: set[int] = set()
    done = asyncio.Event()

    def publish(n: int, *_: object) -> None:
        read.add(n)
        if len(read) == LISTS:
            done.set()

    for path in paths:
        _write(path, 0, LISTED)
    started, cpu_s = time.monotonic(), time.process_time()
    async with asyncio.TaskGroup() as group:
        late = group.create_task(lateness())
        await asyncio.sleep(0)
        sources = [FileSource([str(path)], 3600.0) for path in paths]
        polls = [
            group.create_task(poll("s", s, partial(publish, n), lambda _: None, log.get())) for n, s in enumerate(sources)
        ]
        await done.wait()
        took_s = time.monotonic() - started
        for task in [*polls, late]:
            task.cancel()
        worst = max(await late)
    console.print(
        f"stall, {LISTS} lists of {LISTED} targets are read at once: worst {worst * 1000:.0f} ms;"
        f" all read after {took_s:.1f} s, {time.process_time() - cpu_s:.1f} s of processor time"
    )


async def _generation(reconciler: Reconciler, n: int) -> None:
    while reconciler.memory.generation.n < n:  # noqa: ASYNC110 - nothing rings when it is decided
        await asyncio.sleep(0.02)


async def lateness() -> list[float]:
    late = [0.0]
    try:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            late.append(time.monotonic() - before - 0.001)
    except asyncio.CancelledError:
        return late


def _write(path: Path, n: int, targets: int = TARGETS) -> None:
    common = {"env": "production", "region": "eu", "team": "platform", "job": "node", "change": str(n)}
    listed = [
        {"targets": [f"10.{i // 62500}.{i // 250 % 250}.{i % 250}:9100"], "labels": {**common, "host": f"h{i}"}}
        for i in range(targets)
    ]
    new = path.with_name("new")
    new.write_text(json.dumps(listed) if path.suffix == ".json" else yaml.dump(listed, Dumper=yaml.CSafeDumper))
    new.rename(path)
