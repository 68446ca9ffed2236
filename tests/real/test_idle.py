"""Real scrapers that answer and do not have what they were given: others take it over by themselves, and give it back."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from promring.demo.scraper import ScraperProcess
from promring.runtime.http_client import request
from tests.real.conftest import server
from tests.real.moving import FLEET, Job, Kind, Lab, Means, lab
from tests.waiting import until

NODE, DB = "node", "db"
INTERVAL_S = 3.0
TAKEN_OVER_S = 180.0
"""A list may take 75 s to be applied, then it is looked at some times. Only a hang passes."""


def jobs(delivery: Means = "file") -> list[Job]:
    return [Job(NODE, delivery, INTERVAL_S, count=30), Job(DB, delivery, INTERVAL_S, count=15)]


def only(fleet: Lab, scraper: ScraperProcess, *names: str, **more: Any) -> None:
    """The configuration of this scraper has these jobs from now on, the first with ``more``."""
    first, *others = (fleet.scrape_job(fleet.jobs[name], scraper) for name in names)
    scraper.configure([{**first, **more}, *others])
    scraper.signal(signal.SIGHUP)


async def idle(fleet: Lab, scraper: ScraperProcess) -> str | None:
    found = await fleet.controller.ask(fleet.session, f"fleets/{FLEET}")
    told: str | None = next(one["idle"] for one in found["scrapers"] if one["id"] == scraper.id)
    return told


async def excluded(fleet: Lab) -> bool:
    url, headers = f"{fleet.controller.url}/metrics", {"Authorization": f"Bearer {fleet.controller.token}"}
    text = (await request(fleet.session, "GET", url, timeout_s=30, headers=headers)).body.decode()
    assert "promring_scrapers_excluded" in text, text[:200]
    return f'promring_scrapers_excluded{{fleet="{FLEET}",reason="idle"}} 1.0' in text


@pytest.mark.parametrize(
    ("name", "delivery"),
    [("prometheus", "file"), ("prometheus3", "file"), ("vmagent", "file"), ("prometheus3", "http_sd")],
)
async def test_what_a_scraper_without_the_job_had_goes_to_others_and_comes_back(
    tmp_path: Path, name: str, delivery: Means
) -> None:
    """It stayed there, with lists that are pushed, scraped by nobody, until a person drained the scraper."""
    async with lab(tmp_path, [Kind(server(name))] * 3, jobs(delivery), together={}) as fleet:
        (without, *_), since = fleet.scrapers, time.monotonic()
        assert fleet.load_of(NODE, without) >= 3, "it has some"
        only(fleet, without, DB)
        await until(lambda: fleet.load_of(NODE, without) == 0, "it scrapes none of them", 60)
        await until(lambda: fleet.settled(NODE), "others have all of them", TAKEN_OVER_S)
        await until(lambda: excluded(fleet), "it counts as idle", 60)
        assert (await idle(fleet, without) or "").startswith("it had none of the ")
        assert fleet.log_has("scraper_idle", without.id, NODE)

        async def owns_none() -> bool:
            found = await fleet.controller.ask(fleet.session, f"services/{NODE}/targets", scraper=without.id)
            return not found["targets"]

        await until(owns_none, "it owns none of them", 60)
        given = fleet.slice_of(NODE, without)
        if delivery == "http_sd":
            answer = await fleet.controller.get(fleet.session, f"/sd/{NODE}/{without.id}")
            given = [address for group in json.loads(answer.body) for address in group["targets"]]
        (place,) = await fleet.controller.ask(fleet.session, f"services/{NODE}/where", target=given[0])
        assert place["scraper"] != without.id
        assert {"scraper": without.id, "why": "idle"} in place["besides"], "to see when it has its list again"
        assert fleet.load_of(DB, without) > 0, "of the other job it keeps its share"
        assert fleet.tally(DB, since).missed == 0
        since = time.monotonic()
        only(fleet, without, NODE, DB)
        await until(
            lambda: fleet.load_of(NODE, without) >= 3 and fleet.settled(NODE), "it has its share again", TAKEN_OVER_S
        )
        assert fleet.tally(NODE, since).missed == 0

        async def is_over() -> bool:
            return await idle(fleet, without) is None and not await excluded(fleet)

        await until(is_over, "it is idle no more", 60)


async def test_what_a_scraper_that_reads_an_old_list_does_not_have_goes_to_others(tmp_path: Path) -> None:
    """It has what it had, and none of what the dead one leaves it."""
    async with lab(tmp_path, [Kind(server("prometheus3"))] * 3, jobs(), together={}) as fleet:
        stale, dead, other = fleet.scrapers
        copy = tmp_path / "old.json"
        shutil.copy(fleet.file_of(NODE, stale), copy)
        only(fleet, stale, NODE, DB, file_sd_configs=[{"files": [str(copy)]}])
        await fleet.quiet()
        had = fleet.load_of(NODE, stale)
        await dead.stop()
        await until(lambda: fleet.load_of(NODE, dead) == 0, "it scrapes nothing any more", 60)
        await until(lambda: fleet.settled(NODE), "others have what it does not", TAKEN_OVER_S)
        assert fleet.load_of(NODE, stale) == had, "and it keeps what it has"
        assert fleet.load_of(NODE, other) == 30 - had
