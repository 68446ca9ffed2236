"""How long the event loop stands still in a fleet of 1,000,000 targets in 50 services on 1,000 scrapers: by a change of one
target, of all services, by a death, a return, a join, and by a compaction of the state. Scrapers come for their slices.

The first row is of a moment in which nothing happens: how busy the machine is. The lists are made before the clock starts.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path

from bench.report import console, table
from bench.services import FLEET, LABELS, members, pool_with, reconciler_of
from bench.stall import lateness
from promring.delivery.http_sd import HttpSdDelivery
from promring.fleet.facts import FactBoard
from promring.fleet.reconcile import Reconciler
from promring.fleet.store import Store
from promring.model import Known
from promring.runtime.threads import favour_the_loop
from promring.telemetry import log

TARGETS, SERVICES, SCRAPERS = 1_000_000, 50, 1000
TIMES, LEAVER, COMPACTED_S = 3, 17, 600.0
NAMES = [f"s{n}" for n in range(SERVICES)]
ASKED = "<= 150 ms"
Work = Callable[[], Coroutine[None, None, None]]


async def run() -> None:
    favour_the_loop()
    with tempfile.TemporaryDirectory() as text:
        folder, facts = Path(text), FactBoard()
        store = Store(folder / "state", FLEET, log.get())
        stalls = _Stalls(facts, reconciler_of(folder, facts, NAMES, lambda _: HttpSdDelivery(), store))
        await stalls.measure(store, folder / "state" / f"{FLEET}.state")
        table(f"{TARGETS} targets in {SERVICES} services on {SCRAPERS} scrapers: the event loop is late by", stalls.rows)
        console.print("  ".join(stalls.took))


class _Stalls:
    def __init__(self, facts: FactBoard, reconciler: Reconciler) -> None:
        self._facts, self._reconciler = facts, reconciler
        self.rows: list[tuple[str, list[float], str]] = []
        self.took: list[str] = []

    async def measure(self, store: Store, state: Path) -> None:
        each = TARGETS // SERVICES
        await self._lists(NAMES, each)
        self._facts.members.put(members(range(SCRAPERS)))
        await self._timed("nothing happens", lambda: asyncio.sleep(2))
        await self._timed("the first plan", self._cycle)
        for n in range(1, TIMES + 1):
            await self._lists(NAMES[:1], each + n)
            await self._timed("one target more", self._cycle)
        await self._lists(NAMES, each + TIMES + 1)
        await self._timed("targets of all services", self._cycle)
        for _ in range(TIMES):
            self._facts.members.put(members(i for i in range(SCRAPERS) if i != LEAVER))
            await self._timed("a death", self._cycle)
            self._facts.members.put(members(range(SCRAPERS)))
            await self._timed("a return", self._cycle)
        for n in range(1, TIMES + 1):
            self._facts.members.put(members(range(SCRAPERS + n)))
            await self._timed("a join", self._cycle)
        for some in (NAMES[:20], NAMES[20:40]):  # together more than half of the file, none alone
            await self._lists(some, each, changed="1")
            await self._timed("every label of 20 services", self._cycle)
        compacting, size = asyncio.create_task(store.run()), state.stat().st_size
        await self._timed("a compaction of the state", lambda: _shrunk(state, size))
        compacting.cancel()

    async def _lists(self, names: Iterable[str], count: int, changed: str = "0") -> None:
        for name in names:
            pool = await asyncio.to_thread(pool_with, name, count, {**LABELS, "changed": changed})
            self._facts.services[name].cells["list"].put(Known(pool))

    async def _cycle(self) -> None:
        await self._reconciler.cycle(time.monotonic())

    async def _timed(self, what: str, work: Work) -> None:
        late, began = asyncio.create_task(lateness()), time.monotonic()
        await asyncio.sleep(0.01)
        await work()
        late.cancel()
        worst = max(await late)
        self.took.append(f"{what}: {time.monotonic() - began:.2f} s")
        known = next((seconds for name, seconds, _ in self.rows if name == what), None)
        if known is None:
            self.rows.append((what, [worst], ASKED))
        else:
            known.append(worst)


async def _shrunk(state: Path, size: int) -> None:
    async with asyncio.timeout(COMPACTED_S):
        while state.stat().st_size >= size:  # noqa: ASYNC110 - nothing rings when the file is there
            await asyncio.sleep(0.05)
