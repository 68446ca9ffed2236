"""A thousand agents on one controller: from a changed target list to the agents' files, memory and CPU.

Everything on loopback: Consul, one promring, one process with the agents' pollers, each with its own file and fsync. The
debounce is 0, so the time is from the rename of the target list to the rename of the slice: reading, placing, saving the
state, the long poll, writing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import aiohttp
import psutil
from testbed.consul import ConsulProcess

from bench.report import console, table
from promring.agent.asking import AgentSettings
from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.demo.controller import Controller
from promring.demo.process import Process, find, free_port
from promring.runtime.http_client import new_session
from promring.runtime.threads import favour_the_loop
from promring.telemetry import log

AGENTS, TARGETS, CHANGES, SERVICE = 1000, 10_000, 100, "agents"
ALL_CHANGES = 3
IDLE_S = 20.0


async def run() -> None:
    consul_program = find("consul")
    if consul_program is None:
        console.print("agents: consul is not here; scripts/fetch-servers gets it")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(new_session(keep_alive=False))
            consul = ConsulProcess(consul_program, folder / "consul")
            await consul.start()
            stack.push_async_callback(consul.stop)
            await consul.until(lambda: consul.is_ready(session), "Consul")
            for i in range(AGENTS):
                await _register(consul, session, i)
            (folder / "sd").mkdir()
            _write(folder, {})
            controller = Controller(folder / "promring", _config(folder, consul.address), port=free_port())
            await controller.start()
            stack.push_async_callback(controller.stop)
            await _until((folder / "promring" / "state").exists, 30)
            child = Process([sys.executable, "-m", "bench.agents", controller.url, str(folder / "sd")], folder / "child.log")
            await child.start()
            stack.push_async_callback(child.stop)
            await _until(lambda: len(_files(folder)) == AGENTS, 120)
            await asyncio.sleep(3)
            await _measure(folder, psutil.Process(controller.pid), psutil.Process(child.pid))


async def _measure(folder: Path, controller: psutil.Process, agents: psutil.Process) -> None:
    cpu = sum(controller.cpu_times()[:2])
    await asyncio.sleep(IDLE_S)
    idle = (sum(controller.cpu_times()[:2]) - cpu) / IDLE_S
    one = [await _change(folder, {TARGETS // 2: str(n)}, 1) for n in range(CHANGES)]
    every = [await _change(folder, dict.fromkeys(range(TARGETS), f"all{n}"), AGENTS) for n in range(ALL_CHANGES)]
    rows = [
        (f"one slice of {AGENTS}: list renamed -> in the agent's file", [whole * 1000 for whole, _ in one], ""),
        ("... decided -> in the agent's file", [decided * 1000 for _, decided in one], "p99 <= 100"),
        (f"every slice: list renamed -> in the last of {AGENTS} files", [whole * 1000 for whole, _ in every], ""),
    ]
    table(f"{AGENTS} agents on one controller, {TARGETS} targets", rows, "ms", 0)
    console.print(
        f"controller: {controller.memory_info().rss / 1e6:.0f} MB resident, {idle:.1%} of a core while nothing changes"
        f" ({AGENTS} long polls of 30 s); the process with all agents: {agents.memory_info().rss / 1e6:.0f} MB"
    )


async def _change(folder: Path, changed: dict[int, str], files: int) -> tuple[float, float]:
    """Until as many files are new: seconds from the rename of the list, and from the decision in the controller's log."""
    before = {path: path.stat().st_mtime_ns for path in _files(folder)}
    _write(folder, changed)
    started = (folder / "targets.json").stat().st_ctime_ns
    newer: list[int] = []

    def look() -> bool:
        nonlocal newer
        stats = [(path, path.stat()) for path in _files(folder)]
        newer = [stat.st_ctime_ns for path, stat in stats if stat.st_mtime_ns != before.get(path)]
        return len(newer) >= files

    await asyncio.sleep(0.6)  # looking takes time from the two cores that are measured
    await _until(look, 60)
    log_lines = (folder / "promring" / "promring.log").read_text().splitlines()
    decided = next(line for line in reversed(log_lines) if " msg=reshard " in line).split("ts=")[1].split(" ")[0]
    return (max(newer) - started) / 1e9, max(newer) / 1e9 - datetime.fromisoformat(decided).timestamp()


def _files(folder: Path) -> list[Path]:
    """What the agents have written."""
    return list((folder / "sd").glob(f"*/{SERVICE}.json"))


async def _until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s")
        await asyncio.sleep(0.2)


def _id(i: int) -> str:
    return f"10.{i // 250}.0.{i % 250}:9090"


async def _register(consul: ConsulProcess, session: aiohttp.ClientSession, i: int) -> None:
    check = {"TTL": "1h", "Status": "passing"}
    host = _id(i).partition(":")[0]
    definition = {"ID": _id(i), "Name": SERVICE, "Address": host, "Port": 9090, "Check": check}
    await consul.put(session, "/v1/agent/service/register", definition)


def _config(folder: Path, consul: str) -> dict[str, object]:
    service: dict[str, object] = {
        "name": SERVICE,
        "scrapers": {"consul": {"service": SERVICE}},
        "targets": [{"file": {"files": [str(folder / "targets.json")]}}],
        "handover": {"overlap": "0s"},
        "audit": None,
        "delivery": [{"http_sd": {}}],
    }
    return {"global": {"debounce": "0s"}, "consul": {"address": consul}, "shard_services": [service]}


def _write(folder: Path, changed: dict[int, str]) -> None:
    groups = [
        {"targets": [f"10.200.{i // 250}.{i % 250}:9100"], "labels": {"env": "production", "n": changed.get(i, "")}}
        for i in range(TARGETS)
    ]
    (folder / "new").write_text(json.dumps(groups))
    (folder / "new").rename(folder / "targets.json")


async def _agents(controller: str, folder: Path) -> None:
    """The child: all pollers in one process."""
    log.configure("error")
    favour_the_loop()  # a thousand in one process: a full collection would be nobody's in life
    async with asyncio.TaskGroup() as group:
        for i in range(AGENTS):
            settings = AgentSettings([controller], _id(i), folder / str(i))
            group.create_task(Poller(settings, AgentMetrics(), log.get()).run())


if __name__ == "__main__":
    asyncio.run(_agents(sys.argv[1], Path(sys.argv[2])))
