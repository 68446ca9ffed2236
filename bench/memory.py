"""The memory of a running daemon with 1,000,000 targets of six labels, in ten files, on 20 scrapers that are probed: at
rest, and the most while one target of one file gets another label; and how long that takes to its slice on disk.
"""

from __future__ import annotations

import asyncio
import functools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from bench.report import console, table
from promring.demo.controller import Controller
from promring.demo.process import free_port

TARGETS, FILES, SCRAPERS, CHANGES = 1_000_000, 10, 20, 3
FIRST_S, CHANGE_S, REST_S = 600.0, 120.0, 10.0
LABELS = {"env": "production", "region": "eu-west-1", "team": "platform", "dc": "dc1", "role": "node"}


async def run() -> None:
    app, port = web.Application(), free_port()
    app.router.add_get("/-/ready", _ready)
    scrapers = web.AppRunner(app)
    await scrapers.setup()
    hosts = [f"127.1.0.{n + 1}" for n in range(SCRAPERS)]
    try:
        for host in hosts:
            await web.TCPSite(scrapers, host, port).start()
        with tempfile.TemporaryDirectory() as folder:
            await _run(Path(folder), [f"{host}:{port}" for host in hosts])
    finally:
        await scrapers.cleanup()


async def _ready(_: web.Request) -> web.Response:
    return web.Response(text="Prometheus Server is Ready.\n")


async def _run(folder: Path, nodes: list[str]) -> None:
    for number in range(FILES):
        _write(folder, number, 0)
    service = {
        "name": "node",
        "scrapers": {"probe": {"nodes": nodes}},
        "audit": None,
        "handover": {"confirm": False, "overlap": "0s"},
        "delivery": [{"file": {"path": "out/{service}/{scraper}.json"}}],
        "targets": [{"file": {"files": ["t*.json"]}}],
    }
    daemon = Controller(folder, {"shard_services": [service]}, port=free_port(), level="error")
    await daemon.start()
    try:
        first_s = await _until(lambda: len(list(folder.glob("out/node/*.json"))) == SCRAPERS, FIRST_S)
        await asyncio.sleep(REST_S)
        pid, rests, peaks, took = daemon.pid, list[float](), list[float](), list[float]()
        rests.append(_status(pid, "VmRSS"))
        for change in range(1, CHANGES + 1):
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            await asyncio.to_thread(_write, folder, 0, change)
            took.append(await _until(functools.partial(_delivered, folder, change), CHANGE_S))
            peaks.append(_status(pid, "VmHWM"))
            await asyncio.sleep(REST_S)
            rests.append(_status(pid, "VmRSS"))
    finally:
        await daemon.stop()
    table(
        f"memory of a daemon with {TARGETS:,} targets, bytes a target",
        [("at rest", rests, "<= 1000"), ("the most during a change", peaks, "")],
        "B",
        0,
    )
    console.print(f"all on disk {first_s:.0f} s after the start, a change after {max(took):.1f} s at most")


def _write(folder: Path, number: int, change: int) -> None:
    """The first target of the first file has another label at each change."""
    each = TARGETS // FILES
    listed = [
        {
            "targets": [f"10.{i // 62500}.{i // 250 % 250}.{i % 250}:9100"],
            "labels": {**LABELS, "host": f"h{i}" if i else f"change-{change}"},
        }
        for i in range(number * each, (number + 1) * each)
    ]
    new = folder / "new"
    new.write_text(json.dumps(listed))
    new.rename(folder / f"t{number}.json")


def _delivered(folder: Path, change: int) -> bool:
    return any(f'"change-{change}"'.encode() in path.read_bytes() for path in folder.glob("out/node/*.json"))


async def _until(condition: Callable[[], bool], most_s: float) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < most_s, "it took too long"
        await asyncio.sleep(0.1)
    return time.monotonic() - started


def _status(pid: int, name: str) -> float:
    """Bytes a target."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / TARGETS for line in lines if line.startswith(f"{name}:"))
