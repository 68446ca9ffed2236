"""The round of one configuration, and the one that replaces it."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from promring.build import Context
from promring.config.load import loads
from promring.election.leadership import Leadership
from promring.reload import left
from promring.reload.decisions import LeftBehind
from promring.reload.left import LeftServices
from promring.running import Built, Running
from promring.telemetry import log
from promring.telemetry.metrics import Metrics
from tests.waiting import until

CONFIGURATION = """
shard_services:
  - name: main
    scrapers: {probe: {nodes: [one:9090]}}
    targets: [{file: {files: [targets.yml]}}]
    delivery: [{http_sd: {}}]
"""


async def test_a_configuration_that_is_put_before_the_first_one_runs_is_said_to_run_only_when_it_does(
    tmp_path: Path,
) -> None:
    leadership, metrics = Leadership(), Metrics()
    running = Running(LeftServices(tmp_path, log.get()), leadership, metrics, log.get(), renamed=lambda: None)
    context = Context(loads(CONFIGURATION), tmp_path / "x.yml", tmp_path, None, leadership, metrics, log.get())
    first, second = (Built(context, (), {}, {}, AsyncExitStack()) for _ in range(2))
    said = list[bool]()
    first.stack.callback(lambda: said.append(running.runs.is_set()))
    running.put(second)
    task = asyncio.create_task(running.run(first))
    try:
        await until(lambda: bool(said) and running.runs.is_set(), "the second one runs", 30)
        assert said == [False]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_disk_that_hangs_does_not_keep_the_fleets_of_a_reload_from_running(tmp_path: Path) -> None:
    slow = tmp_path / "gone.left.json"
    os.mkfifo(slow)  # whoever reads it waits for a writer
    try:
        async with asyncio.timeout(60):
            await LeftServices(tmp_path, log.get(), patience_s=2.0).remember([], [])  # its thread has begun by then
    finally:
        await until(lambda: written(slow), "the reader goes on", 30)


async def test_what_a_reload_leaves_behind_while_the_disk_is_searched_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def slow(*_: object) -> list[LeftBehind]:
        begun.set()
        assert goes_on.wait(60)
        return [LeftBehind("older", ["a:1"], 3, ["x"]), LeftBehind("gone", ["a:1"], 7, ["x"])]

    monkeypatch.setattr(left, "remembered", slow)
    services = left.LeftServices(tmp_path, log.get())
    search = asyncio.create_task(services.find({}))
    await until(begun.is_set, "the search has begun", 30)
    services.after_reload([LeftBehind("gone", ["a:1"], 7, ["y"])], [])
    goes_on.set()
    await search
    assert [(one.service, one.where) for one in services.every] == [("gone", ["y"]), ("older", ["x"])]


def written(fifo: Path) -> bool:
    """Whether somebody reads it: it has the end of the file then."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
