"""The page: how soon it shows a death to somebody who looks at it, and what a big fleet costs it.

Real Prometheus servers are killed with -9 while a Chromium has the page open; the time counts from the kill, and from the
event that the controller writes when it knows. The big fleet has 1,000 scrapers, played by one process, and 100,000 targets;
beside it the same page of 10 scrapers and 1,000 targets.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import tempfile
import time
from datetime import datetime
from pathlib import Path

import aiohttp
from tests.browser.chromium import PROGRAM, Tab, tab

from bench.report import console, table
from bench.rest import play_scrapers
from promring.demo.controller import Controller
from promring.demo.fleet import SERVICE, start_fleet
from promring.demo.process import find, free_port
from promring.demo.scraper import ScraperProcess

KILLS, VISITS = 6, 8
WATCH = """id => { window.shown = 0; const row = () => document.querySelector(`[data-key="scraper %s %s ${id}"]`);
  new MutationObserver(() => { if (!window.shown && row()?.innerText.includes("down")) window.shown = Date.now() / 1000; })
    .observe(document.getElementById("live"), { subtree: true, childList: true, characterData: true }); }"""


RENEW = "(async () => { const began = performance.now(); await refresh(); return performance.now() - began; })()"


async def run() -> None:
    if PROGRAM is None or find("prometheus") is None:
        console.print("page: needs chromium and prometheus")
        return
    await _deaths()
    rows = []
    for scrapers, targets in ((10, 1_000), (1_000, 100_000)):
        rows += await _visits(scrapers, targets)
    table("the page of a fleet", rows)


async def _deaths() -> None:
    killed: list[float] = []
    known: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        async with start_fleet(Path(name), 60) as fleet, tab() as t:
            await t.open(fleet.controller.url)
            for n in range(KILLS):
                scraper = fleet.scrapers[n % len(fleet.scrapers)]
                began = await _kill(t, scraper)
                events = await fleet.controller.ask(fleet.session, "events", limit="1000")
                said = [
                    e for e in events if e["msg"].startswith("service_node_change") and e["fields"].get("left") == scraper.id
                ]
                shown = await t.run("window.shown")
                killed.append(shown - began)
                known.append(shown - datetime.fromisoformat(said[-1]["ts"]).timestamp())
                await scraper.start()
                assert await fleet.has_targets(scraper)
    table(
        "a scraper is killed: until an open page shows it",
        [
            ("from the kill (probe every 1 s, two must fail)", killed, "the probe's own 1 to 3 s"),
            ("from the event of the controller", known, "<= 1 s"),
        ],
    )


async def _kill(t: Tab, scraper: ScraperProcess) -> float:
    await t.page.evaluate(WATCH % (SERVICE, SERVICE), scraper.id)
    began = time.time()
    await scraper.kill()
    await t.until("window.shown > 0")
    return began


async def _visits(scrapers: int, targets: int) -> list[tuple[str, list[float], str]]:
    """The home page, asked by a plain client; loaded, and made new, by a browser."""
    port = free_port()
    addresses = [f"127.1.{n // 250}.{n % 250 + 1}:{port}" for n in range(scrapers)]
    played = multiprocessing.Process(target=play_scrapers, args=(port,))
    played.start()
    try:
        with tempfile.TemporaryDirectory() as name:
            daemon = _daemon(Path(name), addresses, targets)
            await daemon.start()
            try:
                return await _measured(daemon, f"{scrapers} scrapers, {targets} targets")
            finally:
                await daemon.stop()
    finally:
        played.kill()
        played.join()


def _daemon(folder: Path, addresses: list[str], targets: int) -> Controller:
    listed = [f"10.{n // 62500}.{n // 250 % 250}.{n % 250}:9100" for n in range(targets)]
    (folder / "targets.json").write_text(json.dumps([{"targets": listed, "labels": {"env": "prod"}}]))
    service = {
        "name": SERVICE,
        "scrapers": {"probe": {"nodes": addresses, "interval": "2s"}},
        "targets": [{"file": {"files": ["targets.json"]}}],
        "delivery": [{"http_sd": {}}],
    }
    return Controller(folder, {"shard_services": [service]}, port=free_port(), level="error")


async def _measured(daemon: Controller, called: str) -> list[tuple[str, list[float], str]]:
    asked: list[float] = []
    loaded: list[float] = []
    renewed: list[float] = []
    async with aiohttp.ClientSession() as session, tab() as t:
        while not await daemon.is_ready(session):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.2)
        for _ in range(VISITS):
            began = time.monotonic()
            async with session.get(daemon.url) as answer:
                size = len(await answer.read())
            asked.append(time.monotonic() - began)
            began = time.monotonic()
            await t.open(daemon.url)
            loaded.append(time.monotonic() - began)
            renewed.append(await t.run(RENEW))
    return [
        (f"{called}: answered, {size // 1024} KiB", asked, ""),
        ("... loaded by a browser", loaded, ""),
        ("... made new in place", [ms / 1000 for ms in renewed], "<= 1 s"),
    ]
