"""``promring agent`` beside real Prometheus servers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from testbed.agent import AgentProcess

from promring.delivery.bundle import CONTENT_TYPE, DECLINED, HAVE, Listed, Listing, line_of, mark, marks_in
from promring.demo.process import free_port
from tests.real.conftest import server
from tests.real.moving import Job, Kind, lab
from tests.real.stage import SERVICE, Stage, stage, write_targets
from tests.rows import Seen
from tests.waiting import slower, until

AT_ONCE_S = 0.1


@asynccontextmanager
async def agents(
    s: Stage, controllers: list[str] | None = None, more: tuple[str, ...] = ()
) -> AsyncIterator[list[AgentProcess]]:
    """One beside each scraper, started; stopped at the end."""
    made = [
        AgentProcess(
            s.folder / f"agent-{i}",
            controllers or [s.controller.url],
            scraper.id,
            s.path_of(scraper).parent,
            port=free_port(),
            more=more,
        )
        for i, scraper in enumerate(s.scrapers)
    ]
    for agent in made:
        await agent.start()
    try:
        yield made
    finally:
        for agent in made:
            await agent.stop()


async def is_ready(s: Stage, agent: AgentProcess) -> bool:
    return (await agent.page(s.session, "/-/ready"))[0] == 200


@pytest.mark.row(39, did="every controller gone, the agent killed and started")
async def test_agents_write_their_slices_at_once_and_keep_them_when_every_controller_is_gone(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(
        tmp_path, consul_program, prometheus_program, http_sd=0, start=False, delivery=[{"http_sd": {}}], agents=True
    ) as s:
        async with agents(s) as made:
            await until(lambda: all(a.log_lines("controller_gives_no_slice") for a in made), "nobody answers yet", 20)
            assert not await is_ready(s, made[0])
            await s.controller.start()
            await until(lambda: s.placed_on(*s.scrapers), "every slice is written", 20)
            await until(lambda: is_ready(s, made[0]), "ready")
            await s.scraped_by_now()

            killed, *left = s.scrapers
            await killed.kill()
            await until(lambda: s.placed_on(*left), "the others have its targets")
            await s.scraped_by_now()

            stamps = s.stamps()
            await s.controller.kill()
            await asyncio.sleep(2)
            await made[1].kill()
            await made[1].start()
            await until(lambda: is_ready(s, made[1]), "ready from what it has, although no controller answers", 20)
            assert s.stamps() == stamps
            await s.scraped_by_now()
            s.path_of(left[0]).write_text("[]")  # by hand, while nobody could put it back
            await killed.start()
            await s.controller.start()
            await until(lambda: s.placed_on(*s.scrapers), "all as the controller says", 40)
            await s.scraped_by_now()


@pytest.mark.row(42, did="SIGSTOP of the leader of two, which agents wait at; a target leaves the list meanwhile")
async def test_agents_leave_a_leader_that_is_frozen(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    async with stage(
        tmp_path, consul_program, None, http_sd=0, lock={}, delivery=[{"http_sd": {}}], agents=True, start=False
    ) as s:
        s.allowed |= {"lock_lost", "lease_over", "lease_lapsed", "lock_gives_no_answer"}
        await s.controller.start()

        async def leads() -> bool:
            return await s.leaders() == [s.controller]

        await until(leads, "the first one leads")
        second = await s.join_in("second")
        async with agents(s, [s.controller.url, second.url]) as made:
            await until(lambda: s.placed_on(*s.scrapers), "every slice is written", 20)
            began = time.monotonic()
            s.controller.signal(signal.SIGSTOP)
            try:
                write_targets(s.folder, s.farm.addresses[:-1])
                gone = s.farm.addresses[-1]
                await until(lambda: all(gone not in some for some in s.slices().values()), "the newest list", 60)
                took_s = time.monotonic() - began
                await until(
                    lambda: all("whether it lives" in str(one.log_lines("controller_gives_no_slice")) for one in made),
                    "all say why",
                )
            finally:
                s.controller.signal(signal.SIGCONT)
        seen(f"agents have what the next leader says {took_s:.0f} s after the freeze")


async def test_a_slice_that_was_changed_by_hand_is_put_back_and_the_scraper_is_reloaded(
    tmp_path: Path, consul_program: Path
) -> None:
    reloads = []

    async def reload(_: web.Request) -> web.Response:
        reloads.append(time.monotonic())
        return web.Response(status=200 if len(reloads) > 2 else 503)

    app = web.Application()
    app.router.add_post("/-/reload", reload)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/-/reload"
    async with stage(
        tmp_path, consul_program, None, http_sd=0, start=False, scrapers=1, delivery=[{"http_sd": {}}], agents=True
    ) as s:
        async with agents(s, more=(f"--reload-url={url}", "--wait=1")) as (agent,):
            await s.controller.start()
            await until(lambda: s.placed_on(*s.scrapers), "written", 20)
            await until(lambda: len(reloads) == 3, "reloaded until it worked", 15)
            s.path_of(s.scrapers[0]).write_text("[]")
            await until(lambda: s.placed_on(*s.scrapers), "put back", 5)
            await until(lambda: len(reloads) == 4, "reloaded", 5)
            _, metrics = await agent.page(s.session, "/metrics")
            assert f'promring_agent_slices_total{{outcome="written",service="{SERVICE}"}} 2.0' in metrics
            assert 'promring_agent_reloads_total{outcome="failed"} 2.0' in metrics
            assert len(agent.log_lines("scraper_reload_failed")) == 1
    await runner.cleanup()


class Rogue:
    """A controller that offers whatever it is told to."""

    def __init__(self) -> None:
        self.body, self.listed = b"", Listed("x", "1.1", "")
        self.asked = 0

    def offer(self, body: bytes, generation: str, sha256: str | None = None) -> None:
        self.body, self.listed = body, Listed("x", generation, sha256 or hashlib.sha256(body).hexdigest())

    async def get(self, request: web.Request) -> web.Response:
        self.asked += 1
        marks = [request.headers.get(name, "") for name in (HAVE, DECLINED)]
        body, listing = self.body, Listing([self.listed], named=sum(map(len, map(marks_in, marks))))
        if mark("x", self.listed.sha256) in "".join(marks):
            await asyncio.sleep(0.2)
            body, listing.slices = b"", [self.listed]
        else:
            listing.slices = [Listed("x", self.listed.generation, self.listed.sha256, sent=len(body))]
        return web.Response(body=line_of(listing) + body, content_type=CONTENT_TYPE)


@asynccontextmanager
async def rogue() -> AsyncIterator[tuple[Rogue, str]]:
    made, app = Rogue(), web.Application()
    app.router.add_get("/sd/{scraper}", made.get)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield made, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def body(*addresses: str) -> bytes:
    return json.dumps([{"targets": list(addresses)}]).encode()


@pytest.mark.row(39, 41, did="a controller with an older generation, over restarts of the agent")
async def test_an_older_generation_is_refused_over_restarts_and_without_a_storm(tmp_path: Path) -> None:
    async with rogue() as (one, url), rogue() as (other, other_url):
        file = tmp_path / "sd" / "x.json"
        one.offer(body("a:1"), "7.5")
        other.offer(body("old:1"), "7.4")
        agent = AgentProcess(tmp_path / "agent", [url, other_url], "s:1", file.parent, port=free_port(), more=("--wait=1",))
        await agent.start()
        try:
            await until(lambda: file.exists() and file.read_bytes() == body("a:1"), "the first", 20)
            one.offer(body("rogue:1"), "6.999")
            await until(lambda: bool(agent.log_lines("slice_not_taken")), "refused and said")
            await agent.stop()
            await agent.start()
            before = one.asked + other.asked
            await until(lambda: one.asked + other.asked > before, "asked again after the restart")
            began = time.monotonic()
            await asyncio.sleep(6)
            assert file.read_bytes() == body("a:1")
            await until(lambda: one.asked + other.asked > before + 1, "asked more than once")
            assert one.asked + other.asked - before < 40 / 6 * (time.monotonic() - began), "asked with pauses"
            text = agent.log_file.read_text()
            assert "refuses the older 6.999" in text
            assert "refuses the older 7.4" in text
            for bad in (
                (b"<html>", "9.1", None),
                (body("cut:1"), "9.1", "0" * 64),
                (body("x:1"), "nonsense", None),
            ):
                one.offer(*bad)
                await asyncio.sleep(1.5)
                assert file.read_bytes() == body("a:1")
            other.offer(body("b:1"), "8.1")
            await until(lambda: file.read_bytes() == body("b:1"), "the other controller leads now", 15)
        finally:
            assert await agent.stop() == 0


async def test_a_token_and_bad_options_are_said(tmp_path: Path) -> None:
    async def ended(*more: str) -> tuple[int, str]:
        agent = AgentProcess(tmp_path / "a", ["127.0.0.1:1"], "s:1", tmp_path / "sd", port=free_port(), more=more)
        agent.log_file.write_text("")
        await agent.start()
        return await agent.wait(), agent.log_file.read_text()

    for more, said in (
        (("--token-file=/nowhere",), "does not exist"),
        (("--controller=ftp://x",), "is not host:port"),
        ((f"--dir={__file__}",), "is a file"),
        ((f"--tls.ca-file={__file__}",), "--tls"),
    ):
        code, text = await ended(*more)
        assert (code, said in text) == (2, True), text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_change_reaches_the_file_at_once(tmp_path: Path, consul_program: Path, number: int) -> None:
    """Not a promise of time (``bench agent`` measures that), but no poll interval is waited for."""
    async with stage(tmp_path, consul_program, None, http_sd=0, start=False, delivery=[{"http_sd": {}}], agents=True) as s:
        async with agents(s) as made:
            await s.controller.start()
            await until(lambda: s.placed_on(*s.scrapers), "written", 20)
            for agent in made:
                agent.signal(number)
                await agent.wait()
                await agent.start()
            await until(lambda: is_ready(s, made[0]), "back", 20)
            write_targets(s.folder, s.farm.addresses[:-1])
            gone = s.farm.addresses[-1]
            took = await until(lambda: gone not in [a for x in s.scrapers for a in s.slice_of(x)], "gone")
            assert took < 5 * slower()


JOBS = ("one", "two", "three")
SCRAPE_S = 1.0


async def test_one_agent_a_scraper_keeps_the_lists_of_three_jobs_of_a_fleet(tmp_path: Path) -> None:
    """Real Prometheus servers with three jobs each: one list changes, a job comes, a job goes."""
    jobs = [Job(name, "agent", SCRAPE_S, count=6) for name in (*JOBS, "late")]
    async with lab(
        tmp_path,
        [Kind(server("prometheus3"))] * 2,
        jobs,
        together={"handover": {"overlap": "3s"}, "placement": {"load_factor": None}},
        start=False,
    ) as fleet:
        late, late_service = fleet.jobs.pop("late"), fleet.services.pop("late")
        fleet.controller.configure(fleet.config())
        await fleet.controller.start()
        await until(lambda: all(map(fleet.settled, JOBS)), "each target of each job is scraped by one", 60)
        folder = fleet.folder_of(fleet.scrapers[0])
        assert {path.stem for path in folder.glob("[a-z]*.json")} == set(JOBS)

        def stamps() -> dict[Path, int]:
            return {
                path: path.stat().st_mtime_ns for one in fleet.scrapers for path in fleet.folder_of(one).glob("[a-z]*.json")
            }

        before = stamps()
        less = fleet.targets["two"][1:]
        fleet.write_targets("two", less)
        await until(lambda: sorted(a for s in fleet.scrapers for a in fleet.slice_of("two", s)) == sorted(less), "one less")
        after = stamps()
        changed = {path.name for path in before if before[path] != after[path]}
        assert changed == {"two.json"}, "the other files are left alone"
        fleet.write_targets("two")
        await fleet.quiet()
        since = time.monotonic()

        fleet.jobs["late"], fleet.services["late"] = late, late_service
        assert (await fleet.reload()).status == 200
        await fleet.quiet()

        del fleet.jobs["one"], fleet.services["one"]
        held = {one.id: (fleet.folder_of(one) / "one.json").read_bytes() for one in fleet.scrapers}
        assert (await fleet.reload()).status == 200
        logs = [tmp_path / f"agent-{one.id.replace(':', '_')}" / "agent.log" for one in fleet.scrapers]
        await until(lambda: all("msg=slice_of_no_service" in log.read_text() for log in logs), "it is said to be gone", 60)
        assert {one.id: (fleet.folder_of(one) / "one.json").read_bytes() for one in fleet.scrapers} == held, "its files stay"
        lost = {name: fleet.tally(name, since).missed for name in ("two", "three")}
        assert not any(lost.values()), lost
