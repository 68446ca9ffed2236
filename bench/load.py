"""One controller with 1,000 scrapers, 50 services and 100,000 targets, of which 1 % are replaced every ten seconds.

Half of the scrapers have an agent that waits for its slices; the others ask for each of their 50 lists once a minute, as a
Prometheus does by default. All of them answer promring's probes. Measured: from the rename of a service's list to each
changed file of an agent; what promring uses; and how long a page takes that needs nothing but the event loop, which is how a
stall is seen from outside. The yardstick for that is a bare aiohttp server on the same machine at the same moments.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import psutil
from aiohttp import web

from bench.report import console, table
from promring.agent.asking import AgentSettings
from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.demo.controller import Controller
from promring.demo.process import Process, free_port
from promring.runtime.http_client import HttpError, new_session, request
from promring.runtime.threads import favour_the_loop
from promring.telemetry import log

SCRAPERS, AGENTS, SERVICES, TARGETS = 1000, 500, 50, 100_000
EACH, CHURN = TARGETS // SERVICES, TARGETS // SERVICES // 100
ROUNDS, ROUND_S, POLL_S, READY_S = 8, 10.0, 60.0, 300.0
TICK_S = 0.02


def _host(number: int) -> str:
    return f"127.1.{number // 250}.{number % 250 + 1}"


def _service(number: int) -> str:
    return f"s{number:02d}"


def _address(number: int) -> str:
    return f"10.{number // 62500}.{number // 250 % 250}.{number % 250}:9100"


async def run() -> None:
    with tempfile.TemporaryDirectory(prefix="promring-bench-") as name:
        async with AsyncExitStack() as stack:
            folder, port, bare = Path(name), free_port(), free_port()
            session = await stack.enter_async_context(new_session(connections_max=100))
            controller = Controller(folder, _config(folder, port), port=free_port(), level="warn")
            listed = {n: list(range(n * EACH, (n + 1) * EACH)) for n in range(SERVICES)}
            for n, numbers in listed.items():
                _write(folder, n, numbers)
            fleet = await _child(stack, folder, "fleet", str(port), str(bare))
            await fleet.until(lambda: _answers(session, f"http://127.0.0.1:{bare}/-/healthy"), "the fleet", 60)
            stack.push_async_callback(controller.stop)
            began = time.monotonic()
            await controller.start()
            await controller.until(lambda: controller.is_ready(session), "promring", READY_S)
            console.print(f"load: a start to a plan takes {time.monotonic() - began:.1f} s")
            agents = await _child(stack, folder, "agents", str(port), controller.url, str(folder / "sd"))
            while len(_files(folder)) < AGENTS * SERVICES * 0.99:  # noqa: ASYNC110 - files of another process
                await asyncio.sleep(1)
            console.print(
                f"load: {AGENTS} agents have their {AGENTS * SERVICES} files after {time.monotonic() - began:.1f} s"
            )
            await _child(stack, folder, "pollers", str(port), controller.url)
            await asyncio.sleep(10)
            watching = [asyncio.create_task(_watch(url)) for url in (controller.url, f"http://127.0.0.1:{bare}")]
            process = psutil.Process(controller.pid)
            cpu, started = sum(process.cpu_times()[:2]), time.monotonic()
            seconds = [took for _ in range(ROUNDS) for took in await _round(folder, listed)]
            share = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - started)
            for task in watching:
                task.cancel()
            ours, plain = await asyncio.gather(*watching)
            _report(seconds, ours, plain, share, process.memory_info().rss, psutil.Process(agents.pid).memory_info().rss)


def _report(seconds: list[float], ours: list[float], plain: list[float], share: float, memory: int, agents: int) -> None:
    table(
        f"{SCRAPERS} scrapers, {SERVICES} services, {TARGETS} targets, 1 % replaced every {ROUND_S:g} s, {ROUNDS} times",
        [
            ("a list is renamed -> in an agent's file", seconds, ""),
            ("/-/healthy of promring meanwhile", ours, ""),
            ("the same of a bare aiohttp server", plain, ""),
        ],
    )
    console.print(
        f"promring: {share:.0%} of a core, {memory / 1e6:.0f} MB; {len(seconds)} files were written; "
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; all agents: {agents / 1e6:.0f} MB"
    )


async def _child(stack: AsyncExitStack, folder: Path, *arguments: str) -> Process:
    child = Process([sys.executable, "-m", "bench.load", *arguments], folder / f"{arguments[0]}.log")
    await child.start()
    stack.push_async_callback(child.stop)
    return child


async def _round(folder: Path, listed: dict[int, list[int]]) -> list[float]:
    """Replace 1 % of the targets of each service; seconds until each changed file of an agent was there."""
    before = {path: path.stat().st_mtime_ns for path in _files(folder)}
    renamed, ends = {}, time.monotonic() + ROUND_S
    for n, numbers in listed.items():
        for place in random.sample(range(EACH), CHURN):
            numbers[place] += TARGETS  # another address
        renamed[_service(n)] = await asyncio.to_thread(_write, folder, n, numbers)
    await asyncio.sleep(max(0.0, ends - time.monotonic()))
    stats = [(path, path.stat()) for path in _files(folder)]
    return [(s.st_ctime_ns - renamed[path.stem]) / 1e9 for path, s in stats if s.st_mtime_ns != before.get(path)]


async def _watch(url: str) -> list[float]:
    """How long a page takes that needs nothing but the loop, until cancelled."""
    took: list[float] = []
    async with new_session() as own:
        try:
            while True:
                began = time.monotonic()
                if await _answers(own, f"{url}/-/healthy"):
                    took.append(time.monotonic() - began)
                await asyncio.sleep(TICK_S)
        except asyncio.CancelledError:
            return took


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        return (await request(session, "GET", url, timeout_s=30)).status == 200
    except HttpError:
        return False


def _files(folder: Path) -> list[Path]:
    return list((folder / "sd").glob("*/s*.json"))


def _write(folder: Path, service: int, numbers: list[int]) -> int:
    """When it was renamed, in ns of the wall clock."""
    path = folder / f"{_service(service)}.list.json"
    groups = [{"targets": list(map(_address, numbers[i : i + 20])), "labels": {"env": "p"}} for i in range(0, EACH, 20)]
    (folder / "new").write_text(json.dumps(groups))
    (folder / "new").rename(path)
    return path.stat().st_ctime_ns


def _config(folder: Path, port: int) -> dict[str, object]:
    nodes = [f"{_host(n)}:{port}" for n in range(SCRAPERS)]
    fleet: dict[str, object] = {
        "name": "main",
        "scrapers": {"probe": {"nodes": nodes, "interval": "10s", "timeout": "5s"}},
        "handover": {"overlap": "0s", "confirm": False},
        "audit": None,
        "delivery": [{"http_sd": {}}],
    }
    services = [
        {
            "name": _service(n),
            "fleet": "main",
            "targets": [{"file": {"files": [str(folder / f"{_service(n)}.list.json")]}}],
        }
        for n in range(SERVICES)
    ]
    return {"fleets": [fleet], "shard_services": services}


# --- the other processes ---------------------------------------------------------------------------------------------


async def _fleet(port: int, bare: int) -> None:
    """Health pages of all scrapers on one port of many addresses, and a bare server as a yardstick."""

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ready\n")

    app = web.Application()
    app.router.add_get("/-/ready", ready)
    app.router.add_get("/-/healthy", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for at in (port, bare):
        await web.TCPSite(runner, "0.0.0.0", at, backlog=2048).start()
    await asyncio.Event().wait()


async def _agents(port: int, controller: str, folder: Path) -> None:
    log.configure("error")
    favour_the_loop()
    async with asyncio.TaskGroup() as group:
        for n in range(AGENTS):
            settings = AgentSettings([controller], f"{_host(n)}:{port}", folder / str(n))
            group.create_task(Poller(settings, AgentMetrics(), log.get()).run())


async def _pollers(port: int, controller: str) -> None:
    """Each scraper without an agent asks for each list once a minute, at its own moment."""

    async def one(session: aiohttp.ClientSession, scraper: str, service: str, first: float) -> None:
        await asyncio.sleep(first)
        while True:
            began = time.monotonic()
            headers = {"Accept-Encoding": "gzip"}
            await request(session, "GET", f"{controller}/sd/{service}/{scraper}", timeout_s=30, headers=headers)
            await asyncio.sleep(max(0.0, began + POLL_S - time.monotonic()))

    async with new_session(connections_max=SCRAPERS) as session, asyncio.TaskGroup() as group:
        for n in range(AGENTS, SCRAPERS):
            for s in range(SERVICES):
                group.create_task(one(session, f"{_host(n)}:{port}", _service(s), random.uniform(0, POLL_S)))


def _main(kind: str, port: str, *more: str) -> None:
    if kind == "fleet":
        asyncio.run(_fleet(int(port), int(more[0])))
    elif kind == "agents":
        asyncio.run(_agents(int(port), more[0], Path(more[1])))
    else:
        asyncio.run(_pollers(int(port), more[0]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
