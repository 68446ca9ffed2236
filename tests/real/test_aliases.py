"""One server that is listed under two names: it is known as one, said to be, and no target is left with nobody."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from promring.demo.scraper import ScraperProcess
from promring.runtime.http_client import HttpError, request
from tests.real.conftest import server
from tests.real.stage import SERVICE, Stage, place_of, stage
from tests.rows import Seen
from tests.waiting import until


def listed_twice(s: Stage, times: int = 1) -> list[str]:
    """Configure the fleet by name, with the first server under further names: those."""
    config = yaml.safe_load(s.controller.config_file.read_text())
    service = config["shard_services"][0]
    port = s.scrapers[0].id.rpartition(":")[2]
    others = [f"{host}:{port}" for host in ("localhost", "127.1.2.3", "127.1.2.4")[:times]]
    nodes = [*(x.id for x in s.scrapers), *others]
    service["scrapers"] = {"probe": {"nodes": nodes, "interval": "500ms", "timeout": "500ms"}}
    service |= {"audit": {"interval": "2s", "timeout": "2s"}, "handover": {"overlap": "5s"}}
    s.controller.configure(config)
    return others


async def scraper_of(s: Stage, name: str) -> dict[str, Any]:
    described = await s.controller.ask(s.session, f"services/{SERVICE}")
    return next((x for x in described["scrapers"] if x["id"] == name), {}) if described else {}


async def is_whole(s: Stage) -> bool:
    """Whether the audit sees every target scraped once, by who shall."""
    coverage = await s.controller.ask(s.session, f"services/{SERVICE}/coverage")
    return bool(coverage) and (coverage["ratio"], coverage["targets"], coverage["doubled"]) == (
        1.0,
        len(s.farm.addresses),
        0,
    )


@pytest.mark.row(11, did="one server is listed by its address and by its host name, which nobody reads a file of; a restart")
@pytest.mark.parametrize("program", ["prometheus", "prometheus3"])
async def test_a_server_under_two_names_is_told_and_all_its_targets_are_scraped(
    tmp_path: Path, consul_program: Path, program: str, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, server(program), scrapers=2, http_sd=0, start=False) as s:
        s.allowed |= {"scraper_alias"}
        (other,) = listed_twice(s)
        await s.controller.start()
        await until(lambda: bool(s.controller.log_lines("scraper_alias")), "it is told")
        await until(lambda: s.placed_on(*s.scrapers), "every target is with a name whose file is read")
        await until(lambda: is_whole(s), "all are seen scraped, none twice")

        async def empty() -> bool:
            return bool((await scraper_of(s, other))["targets"] == 0)

        await until(empty, "the other name has handed over what it had")
        one = await scraper_of(s, other)
        assert one["alias_of"] == s.scrapers[0].id
        assert f"the same server as {s.scrapers[0].id}" in one["trouble"]
        page = await request(s.session, "GET", f"{s.controller.url}/services/{SERVICE}", timeout_s=10)
        assert f"the same server as {s.scrapers[0].id}".encode() in page.body
        await s.quiet()
        stamps = s.stamps()
        await s.controller.kill()
        await s.controller.start()
        await s.controller.until(lambda: s.controller.is_ready(s.session), "promring")
        await until(lambda: is_whole(s), "all are seen scraped, none twice")
        assert s.stamps() == stamps, "a restart knows it"
        assert len(s.controller.log_lines("scraper_alias")) == 1
    seen("named in log, status and page; every target is scraped once; a restart changes no file")


@pytest.mark.row(11, did="two of three names are one server, then it dies")
async def test_check_says_which_names_are_one_server_and_its_death_is_one(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, scrapers=2, http_sd=0, start=False) as s:
        s.allowed |= {"scraper_alias"}
        others = listed_twice(s, 1)
        await s.controller.start()
        await until(lambda: len(s.controller.log_lines("scraper_alias")) == len(others), "they are told")
        await until(lambda: s.placed_on(*s.scrapers), "every target is with a name whose file is read")
        check = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "promring", "check", "--online", s.controller.config_file, stdout=-1, stderr=-2
        )
        said = (await check.communicate())[0].decode()
        assert check.returncode == 1
        assert f"{s.scrapers[0].id} and {others[0]} are one server: list it once" in said
        await s.scrapers[0].stop()
        await until(lambda: s.placed_on(s.scrapers[1]), "the server is dead under all its names")
    seen("told of each; check --online exits 1 and names them; its death is one death")


class Liar:
    """A hostile scraper: a real Prometheus behind a proxy, which says that it was born when another one was."""

    def __init__(self, s: Stage, own: ScraperProcess, victim: ScraperProcess) -> None:
        self._session, self._own, self._victim = s.session, own, victim
        self.lies = 0

    async def handle(self, asked: web.Request) -> web.Response:
        is_birth = asked.path == "/api/v1/status/runtimeinfo"
        self.lies += is_birth
        whose = self._victim if is_birth else self._own
        try:
            answer = await request(self._session, "GET", f"{whose.url}{asked.path_qs}", timeout_s=5)
        except HttpError:
            raise web.HTTPBadGateway from None
        kept = {name: value for name, value in answer.headers.items() if name.lower() in ("content-type", "date")}
        return web.Response(status=answer.status, body=answer.body, headers=kept)


@asynccontextmanager
async def lying(s: Stage) -> AsyncIterator[tuple[Liar, str]]:
    """The second server as a liar, and its name; the fleet is the first one and the liar, which gets twice as much."""
    victim, own = s.scrapers
    liar = Liar(s, own, victim)
    app = web.Application()
    app.router.add_get("/{path:.*}", liar.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    name = f"127.0.0.1:{runner.addresses[0][1]}"
    s.path_of(own).symlink_to(place_of(s.folder, name, agents=False))  # what is for the liar, its server reads
    config = yaml.safe_load(s.controller.config_file.read_text())
    nodes = [victim.id, {"address": name, "weight": 2}]
    probe = {"nodes": nodes, "interval": "500ms", "timeout": "500ms", "healthy_after": 1}
    config["shard_services"][0] |= {"scrapers": {"probe": probe}, "audit": {"interval": "1s", "timeout": "1s"}}
    s.controller.configure(config)
    try:
        yield liar, name
    finally:
        await runner.cleanup()


@pytest.mark.row(52, "A12", did="a proxy before a real Prometheus tells the start of another one, which dies and comes back")
async def test_a_scraper_that_says_it_is_another_one_does_not_take_its_place(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with (
        stage(tmp_path, consul_program, prometheus_program, scrapers=2, http_sd=0, start=False) as s,
        lying(s) as told,
    ):
        s.allowed |= {"probe_failed", "service_node_change_by_healthy_check"}
        victim, (liar, name) = s.scrapers[0], told
        await s.controller.start()
        await until(lambda: s.placed_on(*s.scrapers), "every target is with one of the two")
        await until(lambda: is_whole(s), "all are seen scraped, none twice")
        before, slice_before = liar.lies, s.slice_of(victim)
        assert slice_before
        await until(lambda: liar.lies >= before + 6, "it has lied three more times")
        assert s.slice_of(victim) == slice_before
        await victim.kill()
        await until(lambda: s.placed_on(s.scrapers[1]), "the death of the other one counts")
        await victim.start()
        await until(lambda: s.placed_on(*s.scrapers) and s.slice_of(victim) == slice_before, "it has its targets again")
        await until(lambda: is_whole(s), "all are seen scraped, none twice")
        assert s.controller.log_lines("scraper_alias") == []
        described = [await scraper_of(s, one) for one in (victim.id, name)]
        assert [one["alias_of"] for one in described] == [None, None]
    seen(f"{liar.lies} lies believed by nobody: both keep their targets, and the one that restarts gets its own back")
