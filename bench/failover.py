"""kill -9 of one of three scrapers: how long until its targets are scraped elsewhere, and which part of it is ours.

Real Consul (HTTP check every 1 s), three stock Prometheus (scrape interval 5 s, file_sd), 60 targets. For each kill:

  detected   Consul has the scraper critical (a blocking read of this program, beside promring's)
  delivered  the last changed slice is on disk (its ctime: the rename)
  applied    every orphan is in some living server's /api/v1/targets
  first/last the first and the last orphan is scraped again (seen by the targets themselves)

The yardstick is the platform's own floor, from ``facts``: detection plus Prometheus' 5 s throttle plus the new server's
offset in its interval; promring's own part is detected -> delivered.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

from tests.real.stage import CONSUL_SERVICE, Stage, stage
from tests.waiting import until

from bench.report import console, table
from promring.demo.process import find
from promring.demo.scraper import ScraperProcess
from promring.runtime.http_client import request

KILLS = 12
INTERVAL_S = 5.0


async def run(kills: int = KILLS) -> None:
    consul, prometheus = find("consul"), find("prometheus")
    if consul is None or prometheus is None:
        console.print("failover: needs consul and prometheus; scripts/fetch-servers gets them")
        return
    seconds: dict[str, list[float]] = {n: [] for n in ("detected", "delivered", "applied", "first", "last", "ours")}
    with tempfile.TemporaryDirectory(prefix="promring-bench-") as folder:
        async with stage(Path(folder), consul, prometheus, interval_s=INTERVAL_S, http_sd=0) as s:
            await s.scraped_by_now()
            for turn in range(kills):
                found = await _kill(s, s.scrapers[turn % len(s.scrapers)])
                for name, value in found.items():
                    seconds[name].append(value)
                shown = "  ".join(f"{name} {value:.2f}" for name, value in found.items())
                console.print(f"failover: kill {turn + 1} of {kills}: {shown}")
    table(
        "kill -9 of one of three Prometheus (Consul HTTP check 1 s, scrape interval 5 s, file_sd)",
        [
            ("detected: critical in Consul", seconds["detected"], "platform: median 0.3, max 1.0"),
            ("delivered: slices on disk", seconds["delivered"], ""),
            ("applied: in /api/v1/targets", seconds["applied"], ""),
            ("first orphan scraped again", seconds["first"], ""),
            ("last orphan scraped again", seconds["last"], "median <= 9, max <= 12 (original: 10.6, 20.2)"),
            ("ours: detected -> delivered", seconds["ours"], "p99 <= 0.5"),
        ],
        digits=2,
    )


async def _kill(s: Stage, scraper: ScraperProcess) -> dict[str, float]:
    left = [x for x in s.scrapers if x is not scraper]
    orphans = s.slice_of(scraper)
    before = {x.id: s.path_of(x).stat().st_ino for x in left}
    watching = asyncio.create_task(_critical(s, scraper.id))
    await asyncio.sleep(0.2)
    killed, killed_wall = time.monotonic(), time.time()
    await scraper.kill()
    applying = asyncio.create_task(_applied(s, left, set(orphans)))
    detected = await watching - killed_wall
    await until(lambda: set(orphans) <= {a for x in left for a in s.slice_of(x)}, "the orphans in other slices", 30)
    changed = [s.path_of(x).stat() for x in left if s.path_of(x).stat().st_ino != before[x.id]]
    delivered = max(stat.st_ctime_ns for stat in changed) / 1e9 - killed_wall
    took = await s.farm.scraped_since(orphans, killed, 60)
    scraped = [t for t in took.values() if t is not None]
    assert len(scraped) == len(orphans), "an orphan was never scraped again"
    applied = await applying - killed
    await scraper.start()
    await until(lambda: s.placed_on(*s.scrapers), "the scraper back", 30)
    await asyncio.sleep(2 * INTERVAL_S)
    assert None not in (await s.farm.scraped_since(s.farm.addresses, time.monotonic(), 60)).values()
    return {
        "detected": detected,
        "delivered": delivered,
        "applied": applied,
        "first": min(scraped),
        "last": max(scraped),
        "ours": delivered - detected,
    }


async def _critical(s: Stage, scraper_id: str) -> float:
    """When (wall clock) Consul says that the scraper is not passing."""
    index = "0"
    while True:
        url = f"{s.consul.url}/v1/health/service/{CONSUL_SERVICE}?passing=1&wait=60s&index={index}"
        answer = await request(s.session, "GET", url, timeout_s=70)
        now, index = time.time(), answer.headers["x-consul-index"]
        if scraper_id not in {f"{e['Service']['Address']}:{e['Service']['Port']}" for e in json.loads(answer.body)}:
            return now


async def _applied(s: Stage, left: list[ScraperProcess], orphans: set[str]) -> float:
    while True:
        active: set[str] = set()
        for scraper in left:
            answer = await request(s.session, "GET", f"{scraper.url}/api/v1/targets?state=active", timeout_s=5)
            active |= {t["discoveredLabels"]["__address__"] for t in json.loads(answer.body)["data"]["activeTargets"]}
        if orphans <= active:
            return time.monotonic()
        await asyncio.sleep(0.1)
