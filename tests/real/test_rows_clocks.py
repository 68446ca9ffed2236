"""Wall clocks that are put back or forward while the world runs: row 43 of the failure list. Those of Go programs, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from testbed import vdsoclock
from testbed.vdsoclock import VdsoClock

from tests.real.conftest import server
from tests.real.stage import stage
from tests.rows import Seen
from tests.waiting import until

HOUR_S, DAY_S = 3600, 86400
AUDIT = {"interval": "2s", "timeout": "2s"}


@pytest.fixture(autouse=True)
def _needs() -> None:
    if why_not := vdsoclock.unavailable():
        if os.environ.get("CI"):
            pytest.fail(why_not)
        pytest.skip(why_not)


@pytest.mark.row(43, did="the wall clock of a Prometheus is put back an hour, so that it stores nothing any more")
@pytest.mark.parametrize("name", ["prometheus", "prometheus3"])
async def test_a_prometheus_whose_clock_was_put_back_stores_nothing_and_others_get_its_targets(
    tmp_path: Path, consul_program: Path, name: str, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, server(name), http_sd=0, count=30, audit=AUDIT) as s:
        s.allowed |= {"scraper_clock_put_back", "scraper_sick"}
        await s.taken()
        behind, *left = s.scrapers
        clock = VdsoClock(behind.pid)
        clock.jump(-HOUR_S)
        took = await until(lambda: s.placed_on(*left), "the others have its targets", 90)
        await s.scraped_by_now()
        (said,) = s.controller.log_lines("scraper_clock_put_back")
        assert f"scraper={behind.id} " in said
        clock.jump(HOUR_S)
        await until(lambda: len(s.controller.log_lines("scraper_clock_is_right")) == 1, "its clock has caught up", 30)
        seen(f"its targets are in the slices of the others after {took:.0f} s; that its clock is right again is said")
