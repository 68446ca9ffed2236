"""Sources whose DNS name is gone: an http list, a Prometheus that discovers, services of Consul. What stays, what is said,
how soon they are back. promring has its own ``resolv.conf``, as in ``test_rows_names``.
"""

from __future__ import annotations

import contextlib
import json
import random
import shlex
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from testbed import netns
from testbed.consul import ConsulProcess

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.runtime.http_client import new_session, request
from tests.fakes.dns import NameServer
from tests.fakes.slices import serving
from tests.real.test_rows_controllers import needs
from tests.rows import Seen
from tests.waiting import until

NAMES = {"lists": "list.test", "engine": "engine.test", "consul": "consul.test"}
"""By service: the name of what says its targets."""


class Place:
    """``last``: the number of the newest target of each service. The engine has the older ones, too: while it is young, a
    list of it that lacks something is not believed.
    """

    def __init__(self, folder: Path, session: aiohttp.ClientSession, names: NameServer) -> None:
        self.folder, self.session, self.names = folder, session, names
        self.last = 0
        self.consul: ConsulProcess
        self.engine: ScraperProcess
        self.controller: Controller

    async def list(self, _: web.Request) -> web.Response:
        return web.json_response([{"targets": [f"lists.{self.last}:1"]}])

    async def change(self) -> None:
        self.last += 1
        new = self.folder / "engine.new"
        new.write_text(json.dumps([{"targets": [f"engine.{n}:1" for n in range(self.last + 1)]}]))
        new.rename(self.folder / "engine.json")
        there = {"ID": "one", "Name": "node", "Address": f"consul.{self.last}", "Port": 1}
        url = f"{self.consul.url}/v1/agent/service/register"
        assert (await request(self.session, "PUT", url, timeout_s=5, json=there)).status == 200

    def placed(self) -> dict[str, set[str]]:
        """The targets of each service."""
        files = {path.parent.name: json.loads(path.read_bytes()) for path in self.folder.glob("out/*/*.json")}
        return {service: {one for group in found for one in group["targets"]} for service, found in files.items()}

    async def said(self) -> dict[str, str]:
        """Why the source of each service gives no answer, as status has it."""
        found = await self.controller.ask(self.session, "services") or []
        return {one["name"]: source["reason"] for one in found for source in one["sources"]}

    def logged(self, event: str, words: str) -> bool:
        return any(words in line for line in self.controller.log_lines(event))

    def all_are_new(self) -> bool:
        placed = self.placed()
        return all(f"{service}.{self.last}:1" in placed.get(service, ()) for service in NAMES)

    def forget(self) -> None:
        self.names.zone.clear()

    def know(self) -> None:
        self.names.zone.update({f"{name}. A": ["127.0.0.1"] for name in NAMES.values()})


@contextlib.asynccontextmanager
async def place(folder: Path, consul_program: Path, prometheus_program: Path) -> AsyncIterator[Place]:
    async with contextlib.AsyncExitStack() as stack:
        host = f"127.{random.randint(64, 250)}.{random.randint(1, 250)}.53"
        names = await stack.enter_async_context(NameServer({}, host=host, port=53))
        (folder / "resolv.conf").write_text(f"nameserver {host}\n")
        session = await stack.enter_async_context(new_session(keep_alive=False))
        made = Place(folder, session, names)
        app = web.Application()
        app.router.add_get("/list", made.list)
        lists = (await stack.enter_async_context(serving(app))).rpartition(":")[2]
        made.consul = ConsulProcess(consul_program, folder / "consul")
        await made.consul.start()
        stack.push_async_callback(made.consul.stop)
        await made.consul.until(lambda: made.consul.is_ready(session), "Consul")
        sd = SdConfig(file=folder / "engine.json")
        made.engine = ScraperProcess(prometheus_program, folder / "engine", sd, port=free_port(), job="engine")
        scraper = ScraperProcess(None, folder / "scraper", SdConfig(file=folder / "out/lists/x.json"), port=free_port())
        for one in (made.engine, scraper):
            await one.start()
            stack.push_async_callback(one.stop)
        sources: dict[str, Any] = {
            "lists": {"http": {"url": f"http://list.test:{lists}/list", "refresh_interval": "2s"}},
            "engine": {
                "prometheus": {
                    "url": f"http://engine.test:{made.engine.id.rpartition(':')[2]}",
                    "scrape_pool": "engine",
                    "interval": "2s",
                }
            },
            "consul": {"consul": {"services": ["node"], "address": f"consul.test:{made.consul.port}"}},
        }
        config = {
            "consul": {"address": sources["consul"]["consul"].pop("address")},
            "fleets": [
                {
                    "name": "main",
                    "scrapers": {"probe": {"nodes": [scraper.id], "interval": "1s"}},
                    "audit": None,
                    "join_delay": "500ms",
                    "delivery": [{"file": {"path": str(folder / "out/{service}/{scraper}.json")}}],
                }
            ],
            "shard_services": [
                {"name": name, "fleet": "main", "guard": {"shrink_threshold": 0}, "targets": [source]}
                for name, source in sources.items()
            ],
        }
        made.controller = controller = Controller(folder / "promring", config, port=free_port())
        mount = f"mount --bind {shlex.quote(str(folder / 'resolv.conf'))} /etc/resolv.conf"
        controller.arguments = ["unshare", "--mount", "sh", "-c", f"{mount} && exec {shlex.join(controller.arguments)}"]
        made.know()
        await made.change()
        await controller.start()
        stack.push_async_callback(controller.stop)
        await until(made.all_are_new, "all is placed", 60)
        yield made


@pytest.mark.row(53, did="the names of an http list, of a Prometheus that discovers and of Consul are gone (NXDOMAIN)")
async def test_a_source_whose_name_is_gone_keeps_its_list_says_so_and_is_back_at_once(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    needs(netns.available())
    async with place(tmp_path, consul_program, prometheus_program) as p:
        p.forget()
        for name in ("list.test", "engine.test"):  # a question that waits at Consul needs no name yet
            await until(partial(p.logged, "name_not_resolved", f"name={name} "), f"{name} is said to be gone", 60)
        await p.change()
        await until(p.all_are_new, "each is asked at its last address", 60)

        await p.controller.stop()
        before = p.placed()
        await p.change()
        await p.controller.start()
        for service, name in NAMES.items():
            why = f"the name {name} cannot be resolved"

            async def is_said(service: str = service, why: str = why) -> bool:
                return why in (await p.said()).get(service, "") and p.logged("discovery_failed", why)

            await until(is_said, f"status and log name the source of {service} and why", 60)
        assert p.placed() == before, "the last lists stay, over a restart too"

        p.know()
        took = await until(p.all_are_new, "the lists are read again", 60)
        assert set((await p.said()).values()) == {""}
        seen(f"the lists stay, over a restart too; log and status name source and reason; read {took:.1f} s after")


async def test_a_source_that_is_dead_while_its_name_is_gone_says_both(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    needs(netns.available())
    async with place(tmp_path, consul_program, prometheus_program) as p:
        p.forget()
        await p.engine.stop()
        why = "(its last address: the name is not resolved any more): Connection refused"

        async def is_said() -> bool:
            return why in (await p.said())["engine"]

        await until(is_said, "status says that the address may be an old one", 60)
