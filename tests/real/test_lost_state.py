"""A controller that lost its state, on real servers: what it cannot see it takes from nobody before others have it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from pathlib import Path

import pytest
from testbed.front import HANGS

from tests.real.moving import lab
from tests.real.test_moves import INTERVAL_S, JOB, job, of
from tests.waiting import until

HOWS = ["its API hangs", "its API hangs for a moment", pytest.param("its job has another name", marks=pytest.mark.long)]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.row(43, did="a controller loses its state, and who was drained, and does not see what one of the others has")
async def test_who_shows_nothing_keeps_its_list_until_others_scrape_what_it_may_have(tmp_path: Path, how: str) -> None:
    async with lab(tmp_path, of("prometheus3"), [job(count=30)], fronted=[1]) as fleet:
        drained, unseen, _ = fleet.scrapers
        await fleet.drain(drained, [JOB])
        await until(lambda: fleet.load_of(JOB, drained) == 0 and fleet.settled(JOB), "drained", 80)
        had = set(fleet.slice_of(JOB, unseen))
        await fleet.controller.stop()
        if "API" in how:
            fleet.fronts[unseen.id].answers["/api/"] = HANGS
        else:
            unseen.configure([{**fleet.scrape_job(fleet.jobs[JOB], unseen), "job_name": "another"}])
            unseen.signal(signal.SIGHUP)
            await asyncio.sleep(4 * INTERVAL_S)
        since = time.monotonic()
        shutil.rmtree(tmp_path / "state")
        await fleet.controller.start()
        await until(lambda: bool(fleet.log_has(" msg=scrapers_held_back ", unseen.id)), "it is held back", 40)
        if "moment" in how:
            fleet.fronts[unseen.id].answers.clear()
        back = "what was drained has its share"
        await until(lambda: fleet.load_of(JOB, drained) > 0 and fleet.settled(JOB), back, 120)
        assert set(fleet.slice_of(JOB, unseen)) < had, "some of it went back"
        assert fleet.log_has(" msg=scrapers_let_go ", unseen.id)
        found = fleet.tally(JOB, since)
        assert found.missed == 0, found
