"""promring beside the Target Allocator of the OpenTelemetry Operator (Go): the same targets, deaths, returns and joins.

The Target Allocator is its own code, run by ``scripts/bench-target-allocator`` (it needs Go), whose output is given as
``TARGET_ALLOCATOR=FILE``; without it only promring is shown. Its seconds are from target groups in memory to an owner for
every target. Those of promring are from the bytes of the lists: read, judged, merged, placed, put into slices, saved, and
served from memory. promring has one thread that computes; the Target Allocator takes all cores for a part of its work.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from bench.report import console
from bench.services import members, reconciler_of
from promring.delivery.http_sd import HttpSdDelivery
from promring.discovery.groups import Reader
from promring.fleet.facts import FactBoard
from promring.fleet.reconcile import Reconciler
from promring.model import Known, TargetPool
from promring.runtime.threads import favour_the_loop

SERVICES, IN_A_GROUP, RUNS = 50, 20, 5
SIZES, FLEETS = (100_000,), (20, 1000)
STRATEGIES = ("consistent-hashing", "least-weighted")
Figures = dict[str, tuple[list[float], list[float]]]
"""By what happens: the seconds of each run, and what moved over the mean of all, which is what has to move."""


async def run() -> None:
    favour_the_loop()
    theirs = _theirs()
    for size in SIZES:
        for many in FLEETS:
            with tempfile.TemporaryDirectory(prefix="promring-bench-") as folder:
                ours, fullest = await _ours(Path(folder), size, many)
            _show(size, many, ours, fullest, theirs)


class Lists:
    """The lists of all services, as numbers of targets and as they stand in files."""

    def __init__(self, size: int) -> None:
        each = size // SERVICES
        self._size = size
        self.numbers = {f"s{n}": list(range(n * each, (n + 1) * each)) for n in range(SERVICES)}
        self._readers = {name: Reader() for name in self.numbers}
        self.texts = {name: _text(numbers) for name, numbers in self.numbers.items()}

    def change(self, service: str, places: Sequence[int]) -> None:
        for place in places:
            self.numbers[service][place] += self._size
        self.texts[service] = _text(self.numbers[service])

    def read(self, service: str) -> TargetPool:
        found = self._readers[service].opened(self.texts[service], service)
        return found if isinstance(found, TargetPool) else found()


async def _ours(folder: Path, size: int, many: int) -> tuple[Figures, float]:
    """What each step takes and moves, and the fullest scraper over the mean."""
    lists, facts = Lists(size), FactBoard()
    reconciler = reconciler_of(folder, facts, list(lists.numbers), lambda _: HttpSdDelivery())
    facts.put_listed(members(range(many)).value)
    facts.put_members(members(range(many)))
    found: Figures = {}

    async def step(what: str, services: Sequence[str], scrapers: range | None = None, of: float = 0.0) -> None:
        before, began = _owners(reconciler) if of else {}, time.perf_counter()
        changed = False
        for name in services:
            pool, cell = lists.read(name), facts.services[name].cells["list"]
            good = cell.fact.good
            changed |= good is None or good.value is not pool
            cell.put(Known(pool))
        if scrapers is not None:
            facts.put_listed(members(range(max(many, scrapers.stop))).value)  # who is dead is still listed
            facts.put_members(members(scrapers))
        if changed or scrapers is not None:
            await reconciler.cycle(time.monotonic())
        seconds, moved = found.setdefault(what, ([], []))
        seconds.append(time.perf_counter() - began)
        if of:
            moved.append(_moved(before, _owners(reconciler)) / of)

    every = list(lists.numbers)
    await step("every target for the first time", every)
    for n in range(RUNS):
        await step("read again, nothing changed", every)
        lists.change("s0", [0])
        await step("one target changed", every)
        for name in every:
            each = len(lists.numbers[name])
            lists.change(name, [(i * 100 + n) % each for i in range(each // 100)])
        await step("1 % changed, in every job", every)
    for _ in range(RUNS):
        await step("one dies", [], range(1, many), size / many)
        await step("it comes back", [], range(many), size / many)
        await step("one more joins", [], range(many + 1), size / (many + 1))
        await step("it is taken off the list again", [], range(many), size / (many + 1))
    return found, max(_counts(reconciler).values()) / (size / many)


def _text(numbers: Sequence[int]) -> bytes:
    groups = [numbers[i : i + IN_A_GROUP] for i in range(0, len(numbers), IN_A_GROUP)]
    return json.dumps([{"targets": [_address(n) for n in some], "labels": {"env": "p"}} for some in groups]).encode()


def _address(number: int) -> str:
    return f"10.{number // 62500 % 250}.{number // 250 % 250}.{number % 250}:{9100 + number // 15_625_000}"


def _owners(reconciler: Reconciler) -> dict[int, str]:
    """The name of the owner, by the id of the target."""
    placement = reconciler.placement
    assert placement is not None
    names = np.array([scraper.id for scraper in placement.scrapers])
    return dict(zip(placement.pool.ids.tolist(), names[placement.owners[:, 0]].tolist(), strict=True))


def _counts(reconciler: Reconciler) -> dict[str, int]:
    placement = reconciler.placement
    assert placement is not None
    counts = np.bincount(placement.owners[:, 0], minlength=len(placement.scrapers)).tolist()
    return {scraper.id: count for scraper, count in zip(placement.scrapers, counts, strict=True)}


def _moved(before: Mapping[int, str], after: Mapping[int, str]) -> int:
    return sum(before[key] != name for key, name in after.items())


# --- the Target Allocator --------------------------------------------------------------------------------------------


def _theirs() -> list[dict[str, object]]:
    file = os.environ.get("TARGET_ALLOCATOR")
    if not file:
        console.print("allocator: TARGET_ALLOCATOR names no output of scripts/bench-target-allocator: promring alone")
        return []
    return [json.loads(line) for line in Path(file).read_text().splitlines() if line.startswith("{")]


def _show(size: int, many: int, ours: Figures, fullest: float, theirs: Sequence[Mapping[str, object]]) -> None:
    table = Table(title=f"{size} targets of {SERVICES} jobs, {many} scrapers (collectors)", title_justify="left")
    table.add_column("what")
    for name in ("promring", *STRATEGIES):
        table.add_column(f"{name}, s", justify="right")
        table.add_column("moved", justify="right")
    mine = {(r["strategy"], r["what"]): r for r in theirs if (r["targets"], r["collectors"]) == (size, many)}
    for what, (seconds, moved) in ours.items():
        row = [what, *_cells(seconds, moved)]
        for strategy in STRATEGIES:
            one = mine.get((strategy, what), {})
            row += _cells(one.get("seconds"), one.get("moved"))
        table.add_row(*row)
    others = [mine.get((strategy, "fullest over mean"), {}).get("value") for strategy in STRATEGIES]
    shown = [f"{value:.2f}" if isinstance(value, float) else "" for value in (fullest, *others)]
    table.add_row("fullest over mean", *(cell for value in shown for cell in (value, "")))
    console.print(table)


def _cells(seconds: object, moved: object) -> tuple[str, str]:
    """Medians; empty without figures."""
    return tuple(  # type: ignore[return-value]
        f"{statistics.median(found):.{digits}f}" if isinstance(found, list) and found else ""
        for found, digits in ((seconds, 3), (moved, 2))
    )
