"""Wall clocks that are put back or forward while the world runs: row 43 of the failure list. Those of Go programs, too."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from testbed import faketime, vdsoclock
from testbed.faketime import WallClock
from testbed.vdsoclock import VdsoClock

from tests.real.conftest import server
from tests.real.stage import stage, write_targets
from tests.real.test_agent import agents
from tests.real.test_rows_controllers import needs
from tests.rows import Seen
from tests.waiting import until

HOUR_S, DAY_S, YEAR_2040_S = 3600, 86400, 2208988800
AUDIT = {"interval": "2s", "timeout": "2s"}


@pytest.fixture(autouse=True)
def _needs() -> None:
    needs(vdsoclock.unavailable())


@pytest.mark.row(43, did="the wall clock of a Prometheus is put back an hour, so that it stores nothing any more")
@pytest.mark.parametrize("name", ["prometheus", "prometheus3"])
async def test_a_prometheus_whose_clock_was_put_back_stores_nothing_and_others_get_its_targets(
    tmp_path: Path, consul_program: Path, name: str, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, server(name), http_sd=0, count=30, audit=AUDIT) as s:
        s.allowed |= {"scraper_clock_put_back", "scraper_sick"}
        await s.taken()
        await s.scraped_by_now()  # what it had never scraped before the step, it stores
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


@pytest.mark.row(43, did="a single controller starts without its state, its clock a day back; agents have newer slices")
async def test_agents_take_a_controller_that_lost_its_state_while_its_clock_went_back(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    needs(faketime.available())
    with WallClock(tmp_path / "clock") as clock:
        options: dict[str, Any] = {"delivery": [{"http_sd": {}}], "agents": True, "start": False, "env": clock.env}
        async with stage(tmp_path, consul_program, None, http_sd=0, count=30, **options) as s, agents(s):
            s.allowed |= {"agents_outrank_us"}
            await s.controller.start()
            await until(lambda: s.placed_on(*s.scrapers), "every slice is in its file")
            await s.quiet()
            await s.controller.kill()
            shutil.rmtree(s.folder / "state")
            clock.jump(-DAY_S)
            fewer = s.farm.addresses[:20]
            write_targets(s.folder, fewer)
            await s.controller.start()

            def taken() -> bool:
                return sorted(a for one in s.slices().values() for a in one) == sorted(fewer)

            took = await until(taken, "the agents take what it says now", 60)
            (said,) = s.controller.log_lines("agents_outrank_us")
            assert "goes_above=" in said
            seen(f"the agents have the new slices {took:.0f} s after its start, and it says why they refused them")


@pytest.mark.row(43, did="the wall clocks of a running controller, an agent and Consul: an hour, a day, to 1970 and to 2040")
async def test_steps_of_the_clocks_of_a_controller_an_agent_and_consul_change_nothing(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    options: dict[str, Any] = {"delivery": [{"http_sd": {}}], "agents": True, "start": False, "audit": AUDIT}
    async with stage(tmp_path, consul_program, None, http_sd=0, count=30, **options) as s, agents(s) as made:
        await s.controller.start()
        await until(lambda: s.placed_on(*s.scrapers), "every slice is in its file")
        await s.quiet()
        clocks = [VdsoClock(one.pid) for one in (s.controller, made[0], s.consul)]
        now = time.time()
        for step in (HOUR_S, -HOUR_S, DAY_S, -DAY_S, DAY_S - int(now), YEAR_2040_S - int(now)):
            stamps, generation = s.stamps(), await s.generation()
            for clock in clocks:
                clock.jump(step - clock.offset_s)
            await asyncio.sleep(3)
            assert (s.stamps(), await s.generation()) == (stamps, generation)
        for clock, addresses in zip(clocks, (s.farm.addresses[:29], s.farm.addresses, s.farm.addresses[:28]), strict=True):
            clock.jump(-DAY_S)
            write_targets(s.folder, addresses)
            placed = sorted(addresses)
            await until(lambda p=placed: sorted(a for x in s.slices().values() for a in x) == p, "a change is taken")  # type: ignore[misc]
        seen("0 files written, the same generation after each of 6 steps; changes are taken after steps back")
