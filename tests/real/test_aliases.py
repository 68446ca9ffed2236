"""One server that is listed under two names: it is known as one, said to be, and no target is left with nobody."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from promring.runtime.http_client import request
from tests.real.conftest import server
from tests.real.stage import SERVICE, Stage, stage
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
