"""Scrapers that flap, vanish together, or are said to be gone while they live: rows 12 to 16, and 26 of the failure list."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from promring.demo.scraper import ScraperProcess
from tests.fakes.source import TargetSource
from tests.real.conftest import server
from tests.real.stage import SERVICE, Stage, stage
from tests.rows import Seen
from tests.waiting import slower, until


def reshards(s: Stage) -> int:
    return len(s.controller.log_lines("node_update_reshard"))


async def withheld(s: Stage) -> dict[str, str]:
    described = await s.controller.ask(s.session, f"services/{SERVICE}")
    held = [described["held"]] if described["held"] else []
    return {one["reason"]: one["detail"] for one in held + described["withheld"]}


async def gauge(s: Stage, reason: str) -> float:
    """``promring_plan_held`` with this reason; 0 when it is not there."""
    text = (await s.controller.get(s.session, "/metrics")).body.decode()
    found = re.search(rf'^promring_plan_held{{fleet="{SERVICE}",reason="{reason}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def release(s: Stage) -> subprocess.CompletedProcess[str]:
    """As a person does it, by command."""
    token = f"--token-file={s.controller.folder / 'token'}"
    command = [sys.executable, "-m", "promring", "release", SERVICE, f"--url={s.controller.url}", token]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.row(13, 15, did="6 Prometheus, 4 frozen at once, panic_hold 10 s")
@pytest.mark.parametrize(
    ("version", "leave_delay"),
    [("prometheus", "0s"), pytest.param("prometheus3", "0s", marks=pytest.mark.long), ("prometheus", "2s")],
)
async def test_when_most_hang_at_once_the_plan_is_held_for_its_time(
    tmp_path: Path, consul_program: Path, version: str, leave_delay: str, seen: Seen
) -> None:
    options: dict[str, Any] = {"scrapers": 6, "http_sd": 0, "guard": {"panic_hold": "10s"}, "leave_delay": leave_delay}
    async with stage(tmp_path, consul_program, server(version), **options) as s:
        await s.scraped_by_now()
        stamps, orphans, moment = s.stamps(), [a for x in s.scrapers[2:] for a in s.slice_of(x)], time.monotonic()
        for scraper in s.scrapers[2:]:
            scraper.signal(signal.SIGSTOP)

        async def panic() -> bool:
            return await s.held() == "panic"

        await until(panic, "held")
        held_since = time.monotonic()
        assert await gauge(s, "panic") == 1
        early = reshards(s)
        while time.monotonic() - held_since < 8:
            assert await s.held() == "panic"
            await asyncio.sleep(0.5)
        written = sum(stamp != stamps[name] for name, stamp in s.stamps().items())
        assert reshards(s) == early, "held: nothing more is decided"
        assert written == 0 or leave_delay == "0s", "with a delay they are seen together"
        assert "0 refuse the connection, 4 are silent, 0 answer" in (await withheld(s))["panic"]
        await until(lambda: s.placed_on(*s.scrapers[:2]), "acted on when the time is over", 20)
        found = await s.farm.scraped_since(orphans, moment, 30)
        assert None not in found.values()
        assert await s.held() == ""
        assert await gauge(s, "panic") == 0
        last = max(x for x in found.values() if x is not None)
        seen(f"{version}, leave_delay {leave_delay}: {written} slices changed before all 4 were seen gone, then held")
        seen(f"every target scraped {last:.0f} s after the freeze")
        for scraper in s.scrapers[2:]:
            scraper.signal(signal.SIGCONT)


async def called_dead(s: Stage, count: int) -> bool:
    return len(await s.members()) == len(s.scrapers) - count


@pytest.mark.row(15, 18, did="the checks of 4 of 6 fail while they live: Consul's view is cut, panic_hold 5 s")
@pytest.mark.parametrize("leave_delay", ["0s", "5s"], ids=["at once", "one by one, leave_delay 5 s"])
async def test_when_most_are_said_to_be_gone_but_live_nothing_changes(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, leave_delay: str, seen: Seen
) -> None:
    options: dict[str, Any] = {"scrapers": 6, "http_sd": 0, "guard": {"panic_hold": "5s"}, "leave_delay": leave_delay}
    async with stage(tmp_path, consul_program, prometheus_program, **options) as s:
        await s.scraped_by_now()
        stamps = s.stamps()
        at_once = leave_delay == "0s"  # seen one by one, the first would be believed without a delay
        if at_once:
            s.controller.signal(signal.SIGSTOP)
            await s.answer_watches(s.scrapers[0])  # what it waits for: else it would read first that the first one is dead
        for x in s.scrapers[2:]:
            await s.call_dead(x)
            await asyncio.sleep(0 if at_once else 0.4)
        await until(lambda: called_dead(s, 4), "Consul says so of all four")
        s.controller.signal(signal.SIGCONT)

        async def panic() -> bool:
            return "panic" in await withheld(s)

        async def over() -> bool:
            return "these answer a direct probe and stay" in (await withheld(s)).get("panic", "") and await s.held() == ""

        await until(panic, "held")
        await until(over, "the hold is over, but they count as alive")
        await asyncio.sleep(3)
        assert s.stamps() == stamps
        assert await s.scraped_by_now() < 15 * slower()
        for x in s.scrapers[2:]:
            await s.call_dead(x, back=True)

        async def calm() -> bool:
            return not await withheld(s)

        await until(calm, "all back")
        assert s.stamps() == stamps
        how = "at once" if at_once else "one by one, leave_delay 5 s"
        seen(f"{how}: 0 slices changed in 8 s, 4 named as answering a direct probe; over when Consul shows them again")


@pytest.mark.row(15, did="the checks of 4 of 6 fail while they live, for good: a person releases the plan")
async def test_a_person_releases_a_held_plan(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    async with stage(tmp_path, consul_program, None, scrapers=6, http_sd=0) as s:
        s.allowed |= {"release"}
        refused = await release(s)
        assert refused.returncode == 1
        assert "nothing is held" in refused.stderr
        s.controller.signal(signal.SIGSTOP)
        for x in s.scrapers[2:]:
            await s.call_dead(x)
        await until(lambda: called_dead(s, 4), "Consul says so of all four")
        s.controller.signal(signal.SIGCONT)

        async def panic() -> bool:
            return await s.held() == "panic"

        await until(panic, "held")
        stamps = s.stamps()
        done = await release(s)
        assert done.returncode == 0, done.stderr
        assert "released panic: 4 of 6 scrapers are gone at once" in done.stdout
        await until(lambda: s.placed_on(*s.scrapers[:2]), "the two have all")
        left = {s.path_of(x).name for x in s.scrapers[2:]}
        assert {n: x for n, x in s.stamps().items() if n in left} == {n: x for n, x in stamps.items() if n in left}
        assert await s.held() == ""
        seen("held, released by command, the two left have all at once; what the four have is not touched")


async def toggled(s: Stage, scraper: ScraperProcess, turns: int) -> None:
    for _ in range(turns):
        scraper.signal(signal.SIGSTOP)
        await asyncio.sleep(3)
        scraper.signal(signal.SIGCONT)
        await asyncio.sleep(3)


async def flapped(folder: Path, consul_program: Path, seen: Seen, turns: int) -> None:
    async with stage(folder, consul_program, None, scrapers=4, http_sd=0, join_delay="5s") as s:
        before = reshards(s)
        await toggled(s, s.scrapers[0], turns)
        moves = reshards(s) - before
        assert moves == 1, "it left once and did not come in again"
        back = await until(lambda: s.placed_on(*s.scrapers), "in again when it is calm", 20)
        assert back > 1
        seen(f"{moves} change of the ring in {6 * turns} s; in again {back + 3:.0f} s after the last freeze")


@pytest.mark.row(13, 14, did="a scraper frozen for 3 s and thawed for 3 s, in turn for 30 s, join_delay 5 s")
async def test_a_flapping_scraper_is_moved_once(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    await flapped(tmp_path, consul_program, seen, 5)


@pytest.mark.long
@pytest.mark.timeout(420)
@pytest.mark.row(14, did="a scraper frozen for 3 s and thawed for 3 s, in turn for 5 minutes, join_delay 5 s")
async def test_a_scraper_that_flaps_for_five_minutes_is_moved_once(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    await flapped(tmp_path, consul_program, seen, 50)


@pytest.mark.row(26, did="an http source says half, then nothing, then half again, then 30 times as much")
async def test_a_source_that_shrinks_empties_or_explodes_is_held_until_confirmed_or_released(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    async with TargetSource([]) as source:
        http = {"http": {"url": source.url, "refresh_interval": "1200ms", "timeout": "1s"}}
        options: dict[str, Any] = {"start": False, "http_sd": 0, "targets": [http], "guard": {"shrink_hold": "5s"}}
        async with stage(tmp_path, consul_program, None, count=40, **options) as s:
            s.allowed |= {"discovery_empty", "discovery_failed", "release"}  # a busy machine may need more than a second
            everything = s.farm.addresses
            source.groups = [{"targets": everything}]
            await s.controller.start()
            await until(lambda: s.placed_on(*s.scrapers), "every target placed")
            await s.quiet()

            def placed() -> list[str]:
                return sorted(a for x in s.slices().values() for a in x)

            async def says(addresses: list[str], reason: str) -> None:
                source.groups = [{"targets": addresses}]

                async def doubted() -> bool:
                    return reason in await withheld(s)

                await until(doubted, reason)
                assert await gauge(s, reason) == 1

            stamps = s.stamps()
            since = time.monotonic()
            await says(everything[:20], "source_shrank")
            assert s.stamps() == stamps
            await until(lambda: placed() == sorted(everything[:20]), "believed after its time", 20)
            shrank = time.monotonic() - since
            assert shrank > 5
            assert await withheld(s) == {}
            source.groups = [{"targets": everything}]
            await until(lambda: placed() == sorted(everything), "whole again, at once")

            await s.quiet()
            stamps = s.stamps()
            await says([], "source_empty")
            await asyncio.sleep(1.5)
            assert s.stamps() == stamps
            source.groups = [{"targets": everything}]

            async def calm() -> bool:
                return not await withheld(s)

            await until(calm, "it was a slip")
            assert s.stamps() == stamps

            await says(everything[:10], "source_shrank")
            answer = await s.controller.post(s.session, f"/api/v1/services/{SERVICE}/release")
            assert answer.status == 200, answer.text()
            await until(lambda: placed() == sorted(everything[:10]), "released at once", 3)

            await says([f"127.0.3.{i % 200}:{1000 + i}" for i in range(1200)], "source_grew")
            await s.scrapers[0].kill()  # a doubted source stops nobody from taking over
            await until(lambda: placed_on(s, everything[:10], *s.scrapers[1:]), "a death while the source is doubted")
            seen(f"0 slices changed while doubted; believed after {shrank:.1f} s (shrink_hold 5 s); released at once")
            seen("a death meanwhile is acted on")


def placed_on(s: Stage, addresses: list[str], *scrapers: ScraperProcess) -> bool:
    return sorted(a for x in scrapers for a in s.slice_of(x)) == sorted(addresses)
