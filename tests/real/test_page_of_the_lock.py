"""What page and command say of the lock and of Consul, when a right is taken away and when Consul dies: on a real one."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from testbed.consul import ConsulProcess

from promring.demo.controller import Controller
from promring.demo.process import Process, free_port
from tests.real.test_consul_acl import KEY_WRITE, LOCK, NODES_READ, SCRAPERS_WRITE, Case, asked, denying, rules_of, token_of
from tests.rows import Seen
from tests.waiting import until

CASE = Case("lock-page", [SCRAPERS_WRITE, NODES_READ, *LOCK], locks=True)
LESS = Case("lock-page", [rule.replace("write", "read") if rule == KEY_WRITE else rule for rule in CASE.rules], locks=True)


@asynccontextmanager
async def controller(folder: Path, consul: ConsulProcess, token: str) -> AsyncIterator[tuple[Controller, Process]]:
    """One that leads by a lock in that Consul, with one scraper that answers: ``promring`` itself as a web server."""
    (folder / "consul-token").write_text(token)
    (folder / "targets.json").write_text('[{"targets": ["127.0.0.1:1", "127.0.0.1:2"]}]')
    port = free_port()
    scraper = Process(
        [sys.executable, "-m", "promring.demo.stand_in", f"--listen=127.0.0.1:{port}", f"--file={folder / 'none.json'}"],
        folder / "scraper.log",
    )
    check = {"path": "/-/ready", "interval": "1s", "timeout": "1s"}
    register = {"nodes": [f"127.0.0.1:{port}"], "check": check}
    service = {
        "name": "node",
        "scrapers": {"consul": {"service": CASE.name, "register": register}},
        "targets": [{"file": {"files": ["targets.json"]}}],
        "delivery": [{"http_sd": {}}],
    }
    config = {
        "consul": {"address": consul.address, "token_file": str(folder / "consul-token")},
        "controllers": {"lock": {"consul": {"key": f"{CASE.name}/leader"}}},
        "shard_services": [service],
    }
    made = Controller(folder, config, port=free_port())
    await scraper.start()
    try:
        await made.start()
        yield made, scraper
    finally:
        await made.stop()
        await scraper.stop()


@pytest.mark.row(1, did="Consul, which has the lock too, loses a right of the token, then is killed")
async def test_the_page_and_the_command_name_a_lost_right_and_that_no_controller_leads(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    async with denying(consul_program, tmp_path / "consul") as (consul, session):
        token = await token_of(consul, session, CASE)
        async with controller(tmp_path, consul, token) as (one, _):
            await one.until(lambda: one.is_ready(session), "promring")
            page = partial(says, one, session)
            await until(lambda: page("this controller <b>leads</b>", 'scrapers up</dt><dd class="">1 of 1'), "it leads", 60)
            (policy,) = [p for p in await asked(consul, session, "GET", "/v1/acl/policies") if p["Name"] == CASE.name]
            less = {"Name": CASE.name, "Rules": rules_of(LESS)}
            await asked(consul, session, "PUT", f"/v1/acl/policy/{policy['ID']}", less)
            await until(lambda: page("has lost a right", "a right that the lock needs is lost"), "the lost right", 150)
            assert f'key "{CASE.name}/leader" write' in (await command(one)).replace("&#34;", '"')
            await consul.kill()
            heard = await until(lambda: page("the scrapers are not known now"), "Consul is missed", 30)
            alone = await until(lambda: page("No controller leads.", "; no controller leads"), "nobody leads", 60)
            assert "no controller leads, and nothing is pushed" in await command(one)
    seen(f"said after {heard:.1f} s that the scrapers are not known, after {alone:.1f} s more that no controller leads")


async def says(one: Controller, session: aiohttp.ClientSession, *texts: str) -> bool:
    async with session.get(one.url) as answer:
        body = await answer.text()
    return all(text in body for text in texts)


async def command(one: Controller) -> str:
    """What ``promring status`` says."""
    asking = Process([sys.executable, "-m", "promring", "status", f"--url={one.url}"], one.folder / "status.log")
    (one.folder / "status.log").unlink(missing_ok=True)
    await asking.start()
    await asking.wait()
    return (one.folder / "status.log").read_text()
