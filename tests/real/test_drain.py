"""``promring drain`` with real servers: it says how far it is, and "drained" only when nothing is left."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from promring.demo.scraper import ScraperProcess
from tests.real.stage import SERVICE, Stage, stage
from tests.waiting import slower, until


class Command:
    """A ``promring`` that runs beside the test."""

    def __init__(self, s: Stage, *arguments: str) -> None:
        command = [sys.executable, "-m", "promring", *arguments, "--url", s.controller.url]
        self._process = subprocess.Popen(
            [*command, "--token-file", str(s.folder / "token")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reading = asyncio.create_task(asyncio.to_thread(self._read))

    def _read(self) -> int:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                self.lines.append(line.rstrip("\n"))
        return self._process.wait()

    async def ended(self) -> int:
        async with asyncio.timeout(120 * slower()):
            return await self._reading


def left_in(lines: list[str]) -> list[int]:
    return [int(m[1]) for line in lines if (m := re.search(r": (\d+) of \d+ targets left", line))]


async def row(s: Stage, scraper: ScraperProcess) -> dict[str, Any]:
    described = await s.controller.ask(s.session, f"services/{SERVICE}")
    found: dict[str, Any] = next(x for x in described["scrapers"] if x["id"] == scraper.id)
    return found


@pytest.mark.row(22, did="`promring drain` of a Prometheus waits, says how many are left, and ends when none is")
async def test_a_drain_waits_until_nothing_is_left_and_says_how_far_it_is(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, handover={"overlap": "60s"}) as s:
        drained = s.scrapers[0]
        had = len(s.slice_of(drained))
        drain = Command(s, "drain", drained.id)
        await until(lambda: bool(left_in(drain.lines)), "how many are left")
        assert f"{had} of {had} go to 2 others, which then carry at most " in drain.lines[0]
        assert left_in(drain.lines)[0] > 0, "they are held until others scrape them"
        assert await drain.ended() == 0
        assert s.slice_of(drained) == []
        assert drain.lines[-1] == f"{SERVICE}: {drained.id} drained: it holds nothing"
        assert left_in(drain.lines) == sorted(set(left_in(drain.lines)), reverse=True)

        again = Command(s, "undrain", drained.id)
        assert await again.ended() == 0
        assert again.lines == [f"{SERVICE}: {drained.id} undrained: {had} targets come back, make before break"]


async def test_a_drain_that_is_not_waited_for_or_not_done_in_time_is_not_called_drained(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    changes: dict[str, Any] = {"handover": {"overlap": "1h", "confirm": False}, "wait_for": {"scrapers": 3}}
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, **changes) as s:
        first, second, last = s.scrapers
        had = len(s.slice_of(first))
        begun = Command(s, "drain", first.id, "--no-wait")
        assert await begun.ended() == 0
        assert begun.lines[-1] == f"{SERVICE}: {first.id}: the drain has begun, {had} targets left"
        late = Command(s, "drain", second.id, "--timeout", "2s")
        assert await late.ended() == 1
        assert re.search(
            rf"{second.id} not drained: \d+ of \d+ targets left; they are still being handed over", late.lines[-1]
        )
        refused = Command(s, "drain", last.id)
        assert await refused.ended() == 1
        assert f"{last.id} is the last scraper that lives" in refused.lines[-1]
        assert not (await row(s, last))["drained"]
        forced = Command(s, "drain", last.id, "--force", "--output=json")
        assert await forced.ended() == 3
        (one,) = json.loads("\n".join(forced.lines))
        assert (one["result"], one["left"]) == ("keeps_all", len(s.slice_of(last)))


async def test_a_drain_goes_on_over_a_restart_of_the_controller(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    handover = {"overlap": "15s", "confirm": False}
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, handover=handover) as s:
        drained = s.scrapers[0]
        drain = Command(s, "drain", drained.id)
        await until(lambda: bool(left_in(drain.lines)), "how many are left")
        await s.controller.kill()
        await until(lambda: any("no answer, asked again" in line for line in drain.lines), "that is said")
        await s.controller.start()
        assert await drain.ended() == 0, drain.lines
        assert f"{s.controller.url} was started again meanwhile" in drain.lines
        assert s.slice_of(drained) == []


async def test_what_has_no_room_elsewhere_is_said_before_and_stays(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    placement = {"capacity": 18}
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, count=45, placement=placement) as s:
        s.allowed |= {"targets_unplaced"}
        drained = s.scrapers[0]
        had = len(s.slice_of(drained))
        plan = await s.controller.ask(s.session, f"fleets/{SERVICE}/plan", without=drained.id)
        assert (plan["no_room"], plan["fits"]["unplaced"]) == (9, 9)
        drain = Command(s, "drain", drained.id)
        assert await drain.ended() == 3, drain.lines
        assert f"{SERVICE}: 9 of {had} cannot move: no room within capacity" in drain.lines
        assert re.search(r"which then carry at most 18 of 18 \(", drain.lines[0])
        assert f"{drained.id} not drained: 9 of {had} cannot move: no room within capacity" in drain.lines[-1]
        await until(
            lambda: len(s.slice_of(drained)) == 9, "its file has what it keeps"
        )  # written a moment after it is decided
        assert (await row(s, drained))["no_room"] == 9
        described = await s.controller.ask(s.session, f"services/{SERVICE}")
        assert "targets stay where they shall not be: no room elsewhere" in described["summary"]["text"]
