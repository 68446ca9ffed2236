"""A thousand scrapers: polling promring's http_sd every second, and being audited.

http_sd: one promring process, 10,000 targets, 1,000 clients that each ask every second as Prometheus does (gzip, no ETag).
Audit: one process answers for 1,000 scrapers with 100 targets each; a full look asks all, decodes and compares.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import psutil
from aiohttp import web

from bench.report import console, table
from bench.stall import lateness
from promring.audit.look import Look
from promring.audit.settings import AuditKeys
from promring.audit.watch import Audit
from promring.config.scraper_api import PLAIN
from promring.core.fragment import ID_LABEL, target
from promring.core.joined import FleetPool, Part
from promring.core.placement import Policy, place
from promring.core.plan import shares
from promring.core.pool import build_pool
from promring.core.ring import Ring
from promring.core.sight import Sight
from promring.demo.controller import Controller
from promring.demo.process import Process, free_port
from promring.model import Members, Placement, Scraper, TargetGroup
from promring.runtime.http_client import HttpError, new_session, request
from promring.telemetry import log

SCRAPERS, SERVICE, SECONDS = 1000, "scale", 20
SD_TARGETS, AUDIT_TARGETS, LOOKS = 10_000, 100_000, 6


def members(port: int) -> Members:
    hosts = (f"127.1.{i // 250}.{i % 250 + 1}" for i in range(SCRAPERS))
    return tuple(sorted(Scraper(f"{host}:{port}", host, port) for host in hosts))


def placed(port: int, targets: int) -> Placement:
    names = [f"10.{i // 62500}.{i // 250 % 250}.{i % 250}:9100" for i in range(targets)]
    pool = build_pool([(TargetGroup.of(names, {"env": "production"}),)])
    return place(FleetPool.of({SERVICE: Part(pool)}), Ring(members(port), 512), Policy())


async def run() -> None:
    with tempfile.TemporaryDirectory() as name:
        async with AsyncExitStack() as stack:
            folder, port = Path(name), free_port()
            fleet = Process([sys.executable, "-m", "bench.scale", "fleet", str(port)], folder / "fleet.log")
            await fleet.start()
            stack.push_async_callback(fleet.stop)
            session = await stack.enter_async_context(new_session())
            await fleet.until(lambda: _answers(session, f"http://127.1.0.1:{port}/-/ready"), "the fleet", 60)
            await _audit(port)
            await _http_sd(folder, port, session)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        return (await request(session, "GET", url, timeout_s=2)).status == 200
    except HttpError:
        return False


async def _audit(port: int) -> None:
    placement = placed(port, AUDIT_TARGETS)
    looked: list[float] = []
    enough = asyncio.Event()

    async def look_at(_: Mapping[str, object]) -> None:
        looked.append(time.monotonic())
        if len(looked) == LOOKS:
            enough.set()

    look = Look(SERVICE, SERVICE, 0, log.get())
    audit = Audit(
        AuditKeys(interval=0.1),
        PLAIN,
        {SERVICE: look},
        in_force=lambda: placement,
        waiting=lambda: (),
        receive=_nothing,
        wanted=asyncio.Event(),
        look_at=look_at,
        log=log.get(),
    )
    cpu, started = psutil.Process().cpu_times(), time.monotonic()
    task, late = asyncio.create_task(audit.run()), asyncio.create_task(lateness())
    await enough.wait()
    late.cancel()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    used = psutil.Process().cpu_times()
    took = [b - a for a, b in zip([started, *looked], looked, strict=False)]
    assert look.coverage is not None
    assert look.coverage.ratio == 1.0, f"everything is scraped: {look.failed}"
    table(
        f"a full audit of {SCRAPERS} scrapers, {AUDIT_TARGETS} targets",
        [("the first builds the index", took[:1], ""), ("further", took[1:], "")],
    )
    console.print(f"the event loop is late by at most {max(await late) * 1000:.0f} ms (asked: <= 50)")
    console.print(f"promring's own CPU: {(used.user + used.system - cpu.user - cpu.system) / len(looked):.2f} s a look")


def _nothing(_: Sight) -> None:
    """Nobody waits."""


async def _http_sd(folder: Path, port: int, session: aiohttp.ClientSession) -> None:
    names = [f"10.{i // 62500}.{i // 250 % 250}.{i % 250}:9100" for i in range(SD_TARGETS)]
    (folder / "targets.json").write_text(json.dumps([{"targets": names, "labels": {"env": "production"}}]))
    service: dict[str, object] = {
        "name": SERVICE,
        "scrapers": {"probe": {"nodes": [s.id for s in members(port)], "interval": "10s", "timeout": "5s"}},
        "targets": [{"file": {"files": [str(folder / "targets.json")]}}],
        "audit": None,
        "delivery": [{"http_sd": {}}],
    }
    controller = Controller(folder / "promring", {"shard_services": [service]}, port=free_port(), level="warn")
    await controller.start()
    try:
        await controller.until(lambda: controller.is_ready(session), "promring", 120)
        process = psutil.Process(controller.pid)
        clients = Process(
            [sys.executable, "-m", "bench.scale", "clients", str(port), controller.url], folder / "clients.log"
        )
        await asyncio.sleep(2)
        before = process.cpu_times()
        started = time.monotonic()
        await clients.start()
        await clients.wait()
        elapsed = time.monotonic() - started
        used = process.cpu_times()
        answered = json.loads((folder / "clients.log").read_text().splitlines()[-1])
        table(f"{SCRAPERS} scrapers poll http_sd every second", [("an answer", [s * 1000 for s in answered], "")], "ms", 1)
        share = (used.user + used.system - before.user - before.system) / elapsed
        console.print(
            f"promring: {share:.0%} of a core, {process.memory_info().rss / 1e6:.0f} MB; {len(answered)} answers, all 200"
        )
    finally:
        await controller.stop()


async def _clients(port: int, url: str) -> None:
    took: list[float] = []
    ends = time.monotonic() + SECONDS

    async def one(session: aiohttp.ClientSession, scraper: Scraper, first: float) -> None:
        await asyncio.sleep(first)
        while (began := time.monotonic()) < ends:
            answer = await request(
                session, "GET", f"{url}/sd/{SERVICE}/{scraper.id}", timeout_s=10, headers={"Accept-Encoding": "gzip"}
            )
            assert answer.status == 200, answer.text()
            took.append(time.monotonic() - began)
            await asyncio.sleep(max(0.0, began + 1.0 - time.monotonic()))

    async with new_session(connections_max=SCRAPERS) as session, asyncio.TaskGroup() as group:
        for i, scraper in enumerate(members(port)):
            group.create_task(one(session, scraper, i / SCRAPERS))
    print(json.dumps(took))


async def _fleet(port: int) -> None:
    placement = placed(port, AUDIT_TARGETS)
    assert isinstance(placement.pool, FleetPool)
    found, pool = shares(placement), placement.pool.parts[SERVICE].pool
    bodies = {}
    for i, scraper in enumerate(placement.scrapers):
        active = [_active(target(pool, row).address, int(pool.ids[row])) for row in found.of(i).tolist()]
        bodies[scraper.id] = json.dumps({"status": "success", "data": {"activeTargets": active}}).encode()

    async def targets(request: web.Request) -> web.Response:
        return web.Response(body=bodies[request.host], content_type="application/json")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ready\n")

    app = web.Application()
    app.router.add_get("/api/v1/targets", targets)
    app.router.add_get("/-/ready", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port, backlog=2048).start()
    await asyncio.Event().wait()


def _active(address: str, known_as: int) -> dict[str, object]:
    return {
        "discoveredLabels": {
            "__address__": address,
            "__scheme__": "http",
            "__metrics_path__": "/metrics",
            "env": "production",
            ID_LABEL: f"{known_as:016x}",
        },
        "labels": {"instance": address, "env": "production", "job": SERVICE},
        "scrapePool": SERVICE,
        "scrapeUrl": f"http://{address}/metrics",
        "lastScrape": datetime.now(UTC).isoformat(),
        "health": "up",
    }


if __name__ == "__main__":
    if sys.argv[1] == "fleet":
        asyncio.run(_fleet(int(sys.argv[2])))
    else:
        asyncio.run(_clients(int(sys.argv[2]), sys.argv[3]))
