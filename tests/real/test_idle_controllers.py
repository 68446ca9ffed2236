"""Two controllers with one lock find out who does not have what it was given, and place alike what it had."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from promring.demo.controller import Controller
from promring.demo.scraper import ScraperProcess
from promring.fleet.visitors import PATIENCE_S
from tests.gaps import gaps
from tests.real.conftest import server
from tests.real.stage import SERVICE, Stage, stage
from tests.waiting import slower, until

INTERVAL_S = 3.0
TARGETS, SCRAPERS = 150, 5
"""More for each scraper than an idle one keeps."""
TAKEN_OVER_S = 240.0
"""A list may take 75 s to be applied, then it is looked at some times. Only a hang passes."""


async def test_leader_by_file_and_follower_by_http_sd_place_alike_what_two_without_the_job_had(
    tmp_path: Path, consul_program: Path
) -> None:
    """What one thought to be elsewhere was placed there by the other one alone, so nobody had it. One of those that lose the
    job reads a file, one asks the follower.
    """
    async with stage(
        tmp_path,
        consul_program,
        server("prometheus3"),
        scrapers=SCRAPERS,
        count=TARGETS,
        interval_s=INTERVAL_S,
        http_sd=2,
        lock={},
        audit={"interval": "5s"},
    ) as s:
        s.allowed |= {"scraper_idle", "lock_lost", "register_failed"}
        second, first = await s.join_in("second"), s.controller
        await first.stop()
        await until(lambda: leads(s, second), "the second leads", 60)
        await first.start()
        await first.until(lambda: first.is_ready(s.session), "the first follows, and is asked for lists")
        without = {scraper: scraper.config_file.read_text() for scraper in (s.scrapers[0], s.scrapers[-1])}
        for scraper in without:
            scraper.configure([])
            scraper.signal(signal.SIGHUP)
        await asyncio.sleep(3 * INTERVAL_S)
        await until(lambda: not unscraped(s), "others have all that these two had", TAKEN_OVER_S)
        for controller in (first, second):
            await until(lambda c=controller: idle(s, c, without), "both call both idle", 60)  # type: ignore[misc]
        await until(lambda: alike(s), "both want every scraper to have the same", 60)
        since = time.monotonic()
        await asyncio.sleep(6 * INTERVAL_S)
        assert await s.leaders() == [second], "nothing else has changed"
        assert longest(s, since) < 2 * INTERVAL_S * slower(), "what others have they keep"
        since = time.monotonic()
        for scraper, whole in without.items():
            scraper.config_file.write_text(whole)
            scraper.signal(signal.SIGHUP)
        for controller in (first, second):
            await until(lambda c=controller: idle(s, c, ()), "neither is idle any more", TAKEN_OVER_S)  # type: ignore[misc]
        await until(lambda: alike(s), "both want the same again", 60)
        assert longest(s, since) < 2 * INTERVAL_S * slower(), "the way back costs no scrape"


async def leads(s: Stage, controller: Controller) -> bool:
    return await s.leaders() == [controller]


def unscraped(s: Stage) -> list[str]:
    """What nobody scraped in the last two intervals."""
    since = time.monotonic() - 2 * INTERVAL_S
    return [address for address in s.farm.addresses if (s.farm.scrapes(address)[-1:] or [0.0])[0] < since]


def longest(s: Stage, since: float) -> float:
    now = time.monotonic()
    return max(max(gaps(s.farm.scrapes(address), since, now)) for address in s.farm.addresses)


async def idle(s: Stage, controller: Controller, wanted: Iterable[ScraperProcess]) -> bool:
    """Whether this controller calls these idle, and no others."""
    fleet = await controller.ask(s.session, f"fleets/{SERVICE}")
    return bool(fleet) and {one["id"] for one in fleet["scrapers"] if one["idle"]} == {one.id for one in wanted}


async def alike(s: Stage) -> bool:
    """Whether both controllers serve each scraper the same targets."""
    served = [
        [(await controller.get(s.session, f"/sd/{SERVICE}/{one.id}")).body for one in s.scrapers]
        for controller in s.controllers
    ]
    assert b"targets" in served[0][0], served[0][0][:200]
    return served[0] == served[1]


@pytest.mark.long
async def test_by_http_sd_alone_one_that_lost_the_job_before_the_controllers_restarted_is_found(
    tmp_path: Path, consul_program: Path
) -> None:
    """Without the job it comes to nobody, and after the restart nobody knows that it ever came."""
    async with stage(
        tmp_path,
        consul_program,
        server("prometheus3"),
        scrapers=4,
        count=TARGETS,
        interval_s=INTERVAL_S,
        http_sd=4,
        start=False,
        lock={},
        audit={"interval": "5s"},
        delivery=[{"http_sd": {}}],
    ) as s:
        s.allowed |= {"scraper_idle", "lock_lost", "register_failed", "job_missing"}
        await s.controller.start()
        await s.join_in("second")
        await until(lambda: not unscraped(s), "every target is scraped", 120)
        without = s.scrapers[0]
        without.configure([])
        without.signal(signal.SIGHUP)
        await asyncio.gather(*(controller.stop() for controller in s.controllers))
        await asyncio.sleep(3 * INTERVAL_S)
        assert unscraped(s), "what it had is scraped by nobody"
        for controller in s.controllers:
            await controller.start()
        await until(lambda: not unscraped(s), "others have all that it had", PATIENCE_S + TAKEN_OVER_S)
        for controller in s.controllers:
            await until(lambda c=controller: idle(s, c, [without]), "both call it idle, and no other", 60)  # type: ignore[misc]
