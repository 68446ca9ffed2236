"""One controller with 1,000 scrapers, 50 services and 100,000 or 1,000,000 targets, of which 1 % are replaced in each round.

Half of the scrapers have an agent that waits for its slices; the others ask for each of their 50 lists once a minute, as a
Prometheus does by default. All of them answer promring's probes (``bench.load_parties``). Some of the agents are whole and
write files; the others only ask as an agent asks and note what came, since 500 that write share one disk and these cores
here, and nowhere else. Measured: from the rename of a service's list to each changed slice at an agent, and in the file of
one that writes; what promring uses; and how long an answer takes that needs nothing but the event loop, which is how a stall
is seen from outside. The yardstick for that is a bare aiohttp server on the same machine at the same moments. Then as many
rounds more, while 100 people look at the page, each as the page itself does: a stream of events, and the page anew after an
event and every five seconds.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil

from bench.load_parties import AGENTS, PAGE_EVERY_S, SCRAPERS, SERVICES, WATCHERS, WRITERS, host_of, service_of
from bench.report import console, table
from promring.demo.controller import Controller
from promring.demo.process import Process, free_port
from promring.runtime.http_client import HttpError, new_session, request

ROUNDS, READY_S, TICK_S = 8, 600.0, 0.02


class Size(NamedTuple):
    """``round_s``: from one change of all lists to the next."""

    targets: int
    round_s: float

    @property
    def each(self) -> int:
        """Targets of a service."""
        return self.targets // SERVICES


SMALL, LARGE = Size(100_000, 10.0), Size(1_000_000, 30.0)


def _address(number: int) -> str:
    return f"10.{number // 62500 % 250}.{number // 250 % 250}.{number % 250}:{9100 + number // 15_625_000}"


async def run() -> None:
    await _run(SMALL)


async def run_large() -> None:
    await _run(LARGE)


async def _run(size: Size) -> None:
    with tempfile.TemporaryDirectory(prefix="promring-bench-") as name:
        async with AsyncExitStack() as stack:
            folder, port, bare = Path(name), free_port(), free_port()
            session = await stack.enter_async_context(new_session(connections_max=100))
            controller = Controller(folder, _config(folder, port), port=free_port(), level="warn")
            listed = {n: list(range(n * size.each, (n + 1) * size.each)) for n in range(SERVICES)}
            for n, numbers in listed.items():
                _write(folder, n, numbers)
            fleet = await _child(stack, folder, "fleet", str(port), str(bare))
            await fleet.until(lambda: _answers(session, f"http://127.0.0.1:{bare}/-/healthy"), "the fleet", 60)
            stack.push_async_callback(controller.stop)
            began = time.monotonic()
            await controller.start()
            await controller.until(lambda: controller.is_ready(session), "promring", READY_S)
            console.print(f"load, {size.targets} targets: a start to a plan takes {time.monotonic() - began:.1f} s")
            await _child(stack, folder, "agents", str(port), controller.url, str(folder / "sd"))
            while len(_arrived(folder)) < (AGENTS - WRITERS) * SERVICES or len(_files(folder)) < WRITERS * SERVICES:  # noqa: ASYNC110 - files of another process
                await asyncio.sleep(1)
            console.print(
                f"load: {AGENTS} agents have their {AGENTS * SERVICES} slices after {time.monotonic() - began:.1f} s"
            )
            await _child(stack, folder, "pollers", str(port), controller.url)
            await asyncio.sleep(10)
            urls, process = (controller.url, f"http://127.0.0.1:{bare}"), psutil.Process(controller.pid)
            await _measured(folder, size, listed, urls, process, "nobody looks at the page")
            pages = folder / "pages.json"
            await _child(stack, folder, "watchers", "0", controller.url, str(pages))
            await asyncio.sleep(PAGE_EVERY_S)
            await _measured(folder, size, listed, urls, process, f"{WATCHERS} look at the page")
            table(f"the page for {WATCHERS} watchers", [("asked for -> answered", json.loads(pages.read_text()), "<= 1 s")])


async def _measured(
    folder: Path, size: Size, listed: dict[int, list[int]], urls: Sequence[str], process: psutil.Process, when: str
) -> None:
    """``urls``: of promring, and of a bare server beside it."""
    files = [folder / f"watch-{n}.json" for n in range(len(urls))]
    watching = [multiprocessing.Process(target=_watch_beside, args=one) for one in zip(urls, files, strict=True)]
    for file, one in zip(files, watching, strict=True):
        file.write_text("[]")
        one.start()
    cpu, started = sum(process.cpu_times()[:2]), time.monotonic()
    came, seconds = list[float](), list[float]()
    for _ in range(ROUNDS):
        await _round(folder, size, listed, came, seconds)
    share = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - started)
    ours, plain = (json.loads(file.read_text()) for file in files)
    for one in watching:
        one.kill()
        one.join()
    table(
        f"{SCRAPERS} scrapers, {SERVICES} services, {size.targets} targets, 1 % replaced every {size.round_s:g} s,"
        f" {ROUNDS} times; {when}",
        [
            ("a list is renamed -> its slices are at their agents", came, ""),
            (f"... -> in a file of one of {WRITERS} that write", seconds, ""),
            ("/-/healthy of promring meanwhile", ours, f"no stall above {50 if size is SMALL else 150} ms"),
            ("the same of a bare aiohttp server", plain, ""),
        ],
    )
    console.print(
        f"promring: {share:.0%} of a core, {process.memory_info().rss / 1e6:.0f} MB;"
        f" load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


async def _child(stack: AsyncExitStack, folder: Path, *arguments: str) -> Process:
    child = Process([sys.executable, "-m", "bench.load_parties", *arguments], folder / f"{arguments[0]}.log")
    await child.start()
    stack.push_async_callback(child.stop)
    return child


async def _round(folder: Path, size: Size, listed: dict[int, list[int]], came: list[float], written: list[float]) -> None:
    """Replace 1 % of the targets of each service. Adds the seconds until each changed slice came, and was in a file."""
    before, arrived = await asyncio.to_thread(_stats, folder), len(_arrived(folder))
    renamed, ends = {}, time.monotonic() + size.round_s
    for n, numbers in listed.items():
        for place in random.sample(range(size.each), size.each // 100):
            numbers[place] += size.targets  # another address
        renamed[service_of(n)] = await asyncio.to_thread(_write, folder, n, numbers)
    await asyncio.sleep(max(0.0, ends - time.monotonic()))
    after = await asyncio.to_thread(_stats, folder)
    written += [(at - renamed[path.stem]) / 1e9 for path, at in after.items() if at != before.get(path)]
    for line in _arrived(folder)[arrived:]:
        service, at = line.split()
        came.append((int(at) - renamed[service]) / 1e9)


def _watch_beside(url: str, file: Path) -> None:
    """In a process of its own, which does nothing else: how long an answer takes that needs nothing but the event loop."""
    asyncio.run(_watch(url, file))


async def _watch(url: str, file: Path) -> None:
    took: list[float] = []
    written_at = 0.0
    async with new_session() as own:
        while True:
            began = time.monotonic()
            await _answers(own, f"{url}/-/healthy")  # no answer counts with the time that it was waited for
            took.append(time.monotonic() - began)
            if time.monotonic() - written_at > 1:
                written_at = time.monotonic()
                file.with_suffix(".new").write_text(json.dumps(took))
                file.with_suffix(".new").rename(file)
            await asyncio.sleep(TICK_S)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        return (await request(session, "GET", url, timeout_s=30)).status == 200
    except HttpError:
        return False


def _files(folder: Path) -> list[Path]:
    return list((folder / "sd").glob("*/s*.json"))


def _arrived(folder: Path) -> list[str]:
    """A line for each slice that came to an agent: its service, and when, ns of the wall clock."""
    path = folder / "arrived"
    return path.read_text().splitlines() if path.exists() else []


def _stats(folder: Path) -> dict[Path, int]:
    """When each file was put in its place, ns of the wall clock."""
    return {path: path.stat().st_ctime_ns for path in _files(folder)}


def _write(folder: Path, service: int, numbers: list[int]) -> int:
    """When it was renamed, in ns of the wall clock."""
    path = folder / f"{service_of(service)}.list.json"
    groups = [
        {"targets": list(map(_address, numbers[i : i + 20])), "labels": {"env": "p"}} for i in range(0, len(numbers), 20)
    ]
    (folder / "new").write_text(json.dumps(groups))
    (folder / "new").rename(path)
    return path.stat().st_ctime_ns


def _config(folder: Path, port: int) -> dict[str, object]:
    nodes = [f"{host_of(n)}:{port}" for n in range(SCRAPERS)]
    fleet: dict[str, object] = {
        "name": "main",
        "scrapers": {"probe": {"nodes": nodes, "interval": "10s", "timeout": "5s"}},
        "handover": {"overlap": "0s", "confirm": False},
        "audit": None,
        "delivery": [{"http_sd": {}}],
    }
    services = [
        {
            "name": service_of(n),
            "fleet": "main",
            "targets": [{"file": {"files": [str(folder / f"{service_of(n)}.list.json")]}}],
        }
        for n in range(SERVICES)
    ]
    return {"fleets": [fleet], "shard_services": services}
