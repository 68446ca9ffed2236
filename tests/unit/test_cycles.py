"""I15: a loop that has gone round very often has no more in memory than one that went round a few times."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import psutil
import pytest

from promring.fleet import timeline
from promring.fleet.timeline import RESHARDS_KEPT
from promring.model import Unknown
from promring.telemetry import log
from tests.leaks import open_descriptors
from tests.rows import Seen
from tests.unit.test_reconcile import TARGETS, A, B, Loop

MORE_OBJECTS, MORE_MB = 300, 10


def used() -> tuple[int, int, int, float]:
    """Objects that the collector knows, tasks, descriptors, memory in MB."""
    gc.collect()
    return len(gc.get_objects()), len(asyncio.all_tasks()), open_descriptors(), psutil.Process().memory_info().rss / 2**20


async def go_round(loop: Loop, times: int) -> None:
    """Mostly nothing is new; at times a source fails, and rarely a scraper dies and comes back."""
    for n in range(times):
        if n % 100 == 0:
            await loop.say((A, B) if n % 200 else (A,), TARGETS)
        elif n % 3 == 0:
            loop.cells["s"].put(Unknown(f"refused {n}"))
        await loop.reconciler.cycle()


@pytest.mark.parametrize("times", [5_000, pytest.param(100_000, marks=pytest.mark.long)])
async def test_many_cycles_leave_nothing_behind(
    tmp_path: Path, times: int, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "TARGETS_KEPT", RESHARDS_KEPT)  # else ten thousand reshards are kept until it is full
    monkeypatch.setattr(timeline, "MADE_KEPT", RESHARDS_KEPT)
    log.configure("error")
    loop = Loop(tmp_path)
    for n in range(RESHARDS_KEPT + 10):  # the timeline is full
        await loop.say((A, B) if n % 2 else (A,), TARGETS)
    await go_round(loop, 500)
    objects, tasks, descriptors, memory_mb = used()
    await go_round(loop, times)
    more_objects, more_tasks, more_descriptors, more_memory_mb = used()
    assert more_objects - objects < MORE_OBJECTS
    assert (more_tasks, more_descriptors) == (tasks, descriptors)
    assert more_memory_mb - memory_mb < MORE_MB
    seen(f"{times} cycles: {more_objects - objects:+} objects, {more_memory_mb - memory_mb:+.1f} MB")
