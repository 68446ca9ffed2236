"""Death is not doubt: scrapers that refuse connections, among others that hang, or are not ready. Rows 69 and 47."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess
from tests.real.conftest import server
from tests.real.stage import Stage, stage
from tests.real.test_rows_scrapers import withheld
from tests.rows import Seen
from tests.waiting import slower, until

HOLD_S = 300.0
"""Of a panic: longer than any of these tests, so that who waits for it is seen."""
GUARD: dict[str, Any] = {"guard": {"panic_hold": f"{HOLD_S:g}s"}, "http_sd": 0}
SINGLE_S = 11.0
"""From a death to the last orphan scraped elsewhere, at most, with a check each second (docs/benchmarks.md)."""


def slices(s: Stage, scrapers: list[ScraperProcess]) -> list[list[str]]:
    return [sorted(s.slice_of(x)) for x in scrapers]


async def scraped_again(s: Stage, dead: list[ScraperProcess], orphans: list[str], began: float) -> float:
    """Seconds from ``began`` until the last orphan is scraped by who is left."""
    left = [x for x in s.scrapers if x not in dead]
    await until(lambda: s.placed_on(*left), "all on those that are left", HOLD_S / 5)
    found = await s.farm.scraped_since(orphans, began, 60)
    assert None not in found.values()
    return max(x for x in found.values() if x is not None)


@pytest.mark.row(12, 15, 69, did="6 Prometheus, kill -9 of 4 at once, panic_hold 5 min")
@pytest.mark.parametrize("version", ["prometheus", pytest.param("prometheus3", marks=pytest.mark.long)])
async def test_when_most_are_killed_at_once_they_are_replaced_at_once(
    tmp_path: Path, consul_program: Path, version: str, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, server(version), scrapers=6, **GUARD) as s:
        await s.scraped_by_now()
        dead, began = s.scrapers[2:], time.monotonic()
        orphans = [a for x in dead for a in s.slice_of(x)]
        for x in dead:
            x.signal(signal.SIGKILL)
        took = await scraped_again(s, dead, orphans, began)
        assert took < (SINGLE_S + 5) * slower()
        assert await withheld(s) == {}
        seen(f"{version}: the last of {len(orphans)} targets scraped {took:.1f} s after the kill")


@pytest.mark.row(69, did="7 of 10 scrapers stopped in a row, 1 s apart, panic_hold 5 min")
async def test_a_fleet_that_is_scaled_in_is_followed_step_by_step(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    async with stage(tmp_path, consul_program, None, scrapers=10, **GUARD) as s:
        dead, began = s.scrapers[3:], time.monotonic()
        for x in dead:
            x.signal(signal.SIGTERM)
            await asyncio.sleep(1.0)
        last = time.monotonic()
        took = await scraped_again(s, dead, s.farm.addresses, last)
        assert took < 15 * slower()
        lines = [line for line in s.controller.log_lines("plan_held") if "reason=panic" in line]  # not that of the start
        assert not lines or " of 10 scrapers are gone at once: " in lines[-1]
        assert not lines or all(x.id in lines[-1] for x in dead[:6]), "all are named"
        seen(f"all scraped by the three left {took:.1f} s after the last stop, {time.monotonic() - began:.0f} s in all")


@pytest.mark.row(69, did="3 of 4 Prometheus die while promring is down, panic_hold 5 min")
async def test_those_that_died_while_promring_was_down_are_replaced_at_its_start(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, scrapers=4, **GUARD) as s:
        await s.scraped_by_now()
        await s.controller.stop()
        dead = s.scrapers[1:]
        orphans = [a for x in dead for a in s.slice_of(x)]
        for x in dead:
            await x.kill()

        async def known() -> bool:
            return await s.members() == [s.scrapers[0].id]

        await until(known, "Consul knows")
        began = time.monotonic()
        await s.controller.start()
        took = await scraped_again(s, dead, orphans, began)
        assert took < (SINGLE_S + 5) * slower()
        seen(f"the last of {len(orphans)} targets scraped {took:.1f} s after promring was started")


@pytest.mark.row(15, 69, did="of 6 scrapers 2 are killed and 2 frozen at once, panic_hold 5 min")
async def test_the_dead_are_replaced_while_those_that_hang_are_held_and_get_nothing_new(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    # Without a delay the first that Consul names is believed, before there is a panic.
    async with stage(tmp_path, consul_program, None, scrapers=6, count=90, leave_delay="3s", **GUARD) as s:
        live, frozen, dead = s.scrapers[:2], s.scrapers[2:4], s.scrapers[4:]
        before = slices(s, frozen)
        orphans = {a for x in dead for a in s.slice_of(x)}
        for x in frozen:
            x.signal(signal.SIGSTOP)
        for x in dead:
            x.signal(signal.SIGKILL)
        began = time.monotonic()
        await until(lambda: orphans <= {a for x in live for a in s.slice_of(x)}, "on those that live", HOLD_S / 5)
        took = time.monotonic() - began

        async def told() -> bool:
            return "2 refuse the connection, 2 are silent" in (await withheld(s)).get("panic", "")

        await until(told, "those that hang are held")

        def nothing_new() -> bool:
            return all(set(now) <= set(had) for now, had in zip(slices(s, frozen), before, strict=True))

        await until(nothing_new, "they get nothing new")
        await until(lambda: {a for x in (*live, *frozen) for a in s.slice_of(x)} == set(s.farm.addresses), "all are placed")
        kept = slices(s, frozen)
        assert sum(map(len, kept)) > sum(map(len, before)) / 2, "they keep what they had when they were known to hang"
        for x in frozen:
            x.signal(signal.SIGCONT)

        async def calm() -> bool:
            return await withheld(s) == {}

        await until(calm, "they are back")
        await until(lambda: s.placed_on(*live, *frozen), "and take their share")
        seen(f"{len(orphans)} targets of the dead are on those that live after {took:.1f} s")
        seen(f"the frozen get nothing and keep {sum(map(len, kept))} of {sum(map(len, before))}")


class NotReady:
    """A scraper that replays its WAL: ``/-/healthy`` is 200, everything else 503 until ``ready``."""

    def __init__(self, port: int) -> None:
        self.port, self.ready = port, False

    async def __aenter__(self) -> NotReady:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.ready or request.path == "/-/healthy" else 503)


@pytest.mark.row(47, did="a scraper is healthy, but not ready (it replays its WAL); the check has its default path")
async def test_a_scraper_that_is_not_ready_is_not_alive(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    port = free_port()
    async with NotReady(port) as replaying, stage(tmp_path, consul_program, None, start=False, http_sd=0) as s:
        config = yaml.safe_load(s.controller.config_file.read_text())
        register = config["shard_services"][0]["scrapers"]["consul"]["register"]
        register["nodes"].append(f"127.0.0.1:{port}")
        del register["check"]["path"]
        s.controller.configure(config)
        await s.controller.start()
        await until(lambda: s.placed_on(*s.scrapers), "on those that are ready")
        await s.quiet()
        assert f"127.0.0.1:{port}" not in await s.members()
        file = s.path_of(s.scrapers[0]).with_name(f"127.0.0.1_{port}.json")
        assert not file.exists()
        replaying.ready = True
        await until(lambda: file.exists() and len(file.read_bytes()) > 3, "it gets its share when it is ready")
        seen("healthy and not ready: no targets, the others have all; ready: it gets its share")


@pytest.mark.row(15, did="a controller that is stopped for 25 s in a panic of 15 s")
async def test_a_controller_that_stood_still_buries_nobody(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    guard = GUARD | {"guard": {"panic_hold": "15s"}}
    async with stage(tmp_path, consul_program, None, scrapers=6, leave_delay="3s", **guard) as s:
        stopped, before = s.scrapers[2:], slices(s, s.scrapers)
        changed = len(s.controller.log_lines("node_update_reshard"))
        for x in stopped:
            x.signal(signal.SIGSTOP)
        await until(lambda: any("reason=panic" in line for line in s.controller.log_lines("plan_held")), "a panic", 60)
        await asyncio.sleep(7.0)  # all were asked, and are silent
        s.allowed |= {"direct_probe_not_made", "audit_not_made"}
        s.controller.signal(signal.SIGSTOP)
        await asyncio.sleep(25.0)
        s.controller.signal(signal.SIGCONT)
        await until(lambda: bool(s.controller.log_lines("stood_still")), "it says so", 60)
        for x in stopped:
            x.signal(signal.SIGCONT)
        await until(lambda: any("panic" in line for line in s.controller.log_lines("plan_released")), "they are back", 60)
        assert (slices(s, s.scrapers), len(s.controller.log_lines("node_update_reshard"))) == (before, changed)
        seen("zero slices changed")
