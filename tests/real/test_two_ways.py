"""A fleet whose slices are delivered in two ways at once: files by the leader, lists over http_sd by each controller."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

from promring.demo.controller import Controller
from promring.demo.scraper import ScraperProcess
from tests.gaps import gaps
from tests.real.conftest import server
from tests.real.stage import SERVICE, Stage, stage
from tests.waiting import slower, until

REFRESH_S, INTERVAL_S = 15.0, 1.0
BACK_AFTER_S = (0.5, 2.0)
"""After the scraper fetched its empty list: Prometheus applies that up to 5 s later."""


async def test_a_drain_taken_back_costs_no_scrape_where_the_scraper_asks_the_follower(
    tmp_path: Path, consul_program: Path
) -> None:
    """The leader writes a file for it that nobody reads. Its empty list is fetched and not applied when the drain is taken
    back: it still scrapes, and loses everything a moment later.
    """
    async with stage(
        tmp_path,
        consul_program,
        server("prometheus3"),
        interval_s=INTERVAL_S,
        lock={},
        audit={"interval": "5s"},
    ) as s:
        s.allowed |= {"lock_lost", "register_failed"}
        second, first = await s.join_in("second"), s.controller
        await first.stop()
        await until(lambda: leads(s, second), "the second leads", 60)
        await first.start()
        await first.until(lambda: first.is_ready(s.session), "the first follows, and is asked for lists")
        drained = s.scrapers[-1]
        seldom(drained)
        for after_s in BACK_AFTER_S:
            await until(lambda: has(s, first, drained, targets=True), "the follower gives it targets", 120)
            await until(lambda: calm(s, second, drained), "no hand-over is under way", 120)
            await fetched(s, first, drained)
            await asyncio.sleep(6.0)
            since = time.monotonic()
            await move(s, second, drained, "drain")
            await until(lambda: has(s, first, drained, targets=False), "the follower gives it none", 120)
            await fetched(s, first, drained)
            await asyncio.sleep(after_s)
            await move(s, second, drained, "undrain")
            await asyncio.sleep(REFRESH_S + 5.0)
            worst = max(max(gaps(s.farm.scrapes(address), since, time.monotonic())) for address in s.farm.addresses)
            assert worst < 3 * INTERVAL_S * slower(), f"taken back {after_s:g} s after it fetched its empty list"


async def fetched(s: Stage, controller: Controller, scraper: ScraperProcess) -> None:
    """Wait until it comes for its list once more."""
    since = time.monotonic()
    await until(lambda: asked_since(s, controller, scraper, since), "it comes for its list", 120)


def seldom(scraper: ScraperProcess) -> None:
    """From now on it asks every ``REFRESH_S``."""
    config = scraper.config_file.read_text()
    assert "refresh_interval: 1s" in config
    scraper.config_file.write_text(config.replace("refresh_interval: 1s", f"refresh_interval: {REFRESH_S:g}s"))
    scraper.signal(signal.SIGHUP)


async def leads(s: Stage, controller: Controller) -> bool:
    return await s.leaders() == [controller]


async def move(s: Stage, controller: Controller, scraper: ScraperProcess, action: str) -> None:
    answer = await controller.post(s.session, f"/api/v1/fleets/{SERVICE}/scrapers/{scraper.id}/{action}")
    assert answer.status == 200, answer.text()


async def shown(s: Stage, controller: Controller, scraper: ScraperProcess) -> dict[str, Any]:
    """What a controller says of it. Nobody but the scraper itself may ask for its list here: that would be a visit."""
    fleet = await controller.ask(s.session, f"fleets/{SERVICE}")
    assert fleet is not None
    (found,) = [one for one in fleet["scrapers"] if one["id"] == scraper.id]
    return {**found, "handing_over": fleet["handing_over"]}


async def has(s: Stage, controller: Controller, scraper: ScraperProcess, *, targets: bool) -> bool:
    """Whether its slice there has any."""
    count: int = (await shown(s, controller, scraper))["targets"]
    return (count > 0) is targets


async def calm(s: Stage, controller: Controller, scraper: ScraperProcess) -> bool:
    count: int = (await shown(s, controller, scraper))["handing_over"]
    return count == 0


async def asked_since(s: Stage, controller: Controller, scraper: ScraperProcess, since: float) -> bool:
    """Whether it came for its list since then, monotonic seconds."""
    visited = (await shown(s, controller, scraper))["visited"]
    return visited is not None and visited["ago_s"] < time.monotonic() - since
