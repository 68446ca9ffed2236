"""Names that hang, are refused, are gone or lead to a wrong address: of scrapers, lists and Consul. Rows 1, 25 and 53.

promring has a mount namespace with its own ``resolv.conf``, which names a name server of the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import shlex
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from testbed import netns
from testbed.consul import ConsulProcess

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.runtime.http_client import new_session
from tests.fakes.dns import NameServer
from tests.real.stage import SERVICE
from tests.real.test_rows_controllers import needs
from tests.rows import Seen
from tests.waiting import until

LISTS = [f"list{n}" for n in range(12)]
SCRAPERS = ["s1", "s2", "s3"]
ADDRESSES = [f"10.8.8.{n}:9100" for n in range(30)]
HUNG_S = 15.0
"""Longer than a look-up takes that no name server answers (5 s, twice), and than what is known of a name is fresh."""
AROUND = 12
"""Threads of promring when no name hangs, and a few for what it does beside."""


class Town:
    """A controller that knows everything by name. ``more``: what the good list has beside ``ADDRESSES``."""

    def __init__(self, folder: Path, names: NameServer, session: Any) -> None:
        self.folder, self.names, self.session = folder, names, session
        self.good = list(ADDRESSES)
        self.scrapers: list[ScraperProcess] = []
        self.controller: Controller

    def trouble(self, what: str, *names: str) -> None:
        self.names.trouble = {f"{name}.test.": what for name in names}

    def files(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in sorted(self.folder.glob("out/*/*.json"))}

    def placed(self, addresses: Sequence[str], *, without: str = "-") -> bool:
        there = [p for p in (self.folder / "out" / "good").glob("*.json") if not p.name.startswith(without)]
        found = {a for p in there for group in json.loads(p.read_bytes()) for a in group["targets"]}
        return found == set(addresses)

    def threads(self) -> int:
        status = Path("/proc", str(self.controller.pid), "status").read_text()
        return int(re.findall(r"Threads:\s+(\d+)", status)[0])

    async def serve(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Any list: the name in its path says which."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await _.readuntil(b"\r\n\r\n")).decode()
            name = head.split()[1].strip("/")
            addresses = self.good if name == "good" else [f"10.9.9.{LISTS.index(name)}:9100"]
            body = json.dumps([{"targets": addresses}]).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def town(folder: Path, consul_program: Path) -> AsyncIterator[Town]:
    async with contextlib.AsyncExitStack() as stack:
        host = f"127.{random.randint(64, 250)}.{random.randint(1, 250)}.53"
        zone = {f"{name}.test. A": ["127.0.0.1"] for name in ("consul", "good", *SCRAPERS, *LISTS)}
        names = await stack.enter_async_context(NameServer(zone, host=host, port=53))
        (folder / "resolv.conf").write_text(f"nameserver {host}\n")
        session = await stack.enter_async_context(new_session(keep_alive=False))
        made = Town(folder, names, session)
        consul = ConsulProcess(consul_program, folder / "consul")
        await consul.start()
        stack.push_async_callback(consul.stop)
        await consul.until(lambda: consul.is_ready(session), "Consul")
        lists = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        stack.push_async_callback(lists.wait_closed)
        stack.callback(lists.close)
        at = lists.sockets[0].getsockname()[1]
        for name in SCRAPERS:
            port = free_port()
            sd = SdConfig(file=folder / "out" / "good" / f"{name}.test_{port}.json")
            made.scrapers.append(ScraperProcess(None, folder / name, sd, port=port, job=SERVICE))
            await made.scrapers[-1].start()
            stack.push_async_callback(made.scrapers[-1].stop)
        nodes = [f"{name}.test:{s.id.split(':')[1]}" for name, s in zip(SCRAPERS, made.scrapers, strict=True)]
        config = {
            "consul": {"address": f"consul.test:{consul.port}"},
            "controllers": {"lock": {"consul": {}}},
            "fleets": [
                {
                    "name": "main",
                    "scrapers": {"probe": {"nodes": nodes, "interval": "1s", "timeout": "1s"}},
                    "audit": None,
                    "join_delay": "500ms",
                    "delivery": [{"file": {"path": str(folder / "out/{service}/{scraper}.json")}}],
                }
            ],
            "shard_services": [
                {
                    "name": service,
                    "fleet": "main",
                    "guard": {"shrink_threshold": 0, "growth_threshold": None},
                    "targets": [{"http": {"url": f"http://{n}.test:{at}/{n}", "refresh_interval": "2s"}} for n in its],
                }
                for service, its in (("good", ["good"]), ("many", LISTS))
            ],
        }
        made.controller = controller = Controller(folder / "promring", config, port=free_port())
        mount = f"mount --bind {shlex.quote(str(folder / 'resolv.conf'))} /etc/resolv.conf"
        script = f"{mount} && exec {shlex.join(controller.arguments)}"
        controller.arguments = ["unshare", "--mount", "sh", "-c", script]
        await controller.start()
        stack.push_async_callback(controller.stop)
        await controller.until(lambda: controller.is_ready(session), "promring", 120)
        await until(lambda: made.placed(ADDRESSES) and len(made.files()) == 2 * len(SCRAPERS), "all is placed")
        await asyncio.sleep(3)  # hand-overs of the first scraper to the others are over
        yield made


@pytest.mark.row(25, did="the names of 12 of 13 lists, of Consul and of all scrapers hang, or get SERVFAIL, 15 s each")
async def test_names_that_hang_cost_their_own_hosts_only(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    needs(netns.available())
    async with town(tmp_path, consul_program) as t:
        most = 0
        for what in ("silent", "SERVFAIL"):
            before = t.files()
            t.trouble(what, *LISTS, *SCRAPERS, "consul")
            for _ in range(int(HUNG_S)):
                await asyncio.sleep(1)
                most = max(most, t.threads())
                assert await t.controller.ask(t.session, "status"), "it answers all the time"
            assert t.files() == before
            t.good = ADDRESSES[:-1] if what == "silent" else list(ADDRESSES)
            await until(lambda: t.placed(t.good), "what the other list says is taken")
            t.trouble("")
        assert most <= len(LISTS) + len(SCRAPERS) + 1 + AROUND, "a thread for each name that hangs"
        t.trouble("silent", *SCRAPERS)
        await asyncio.sleep(HUNG_S)
        await t.scrapers[0].kill()
        took = await until(lambda: t.placed(t.good, without="s1."), "a death is seen by the address that was known last")
        seen(f"0 slices changed; at most {most} threads; the other list was read; a death in the slices after {took:.1f} s")


@pytest.mark.row(53, did="the names of lists, of Consul, of a scraper are gone (NXDOMAIN) or lead elsewhere, then are right")
async def test_names_that_are_gone_or_lead_elsewhere_change_nothing_and_heal(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    needs(netns.available())
    async with town(tmp_path, consul_program) as t:
        before, zone = t.files(), dict(t.names.zone)
        for address in ([], ["127.99.0.9"]):
            for name in (*LISTS, "consul"):
                del t.names.zone[f"{name}.test. A"]
                if address:
                    t.names.zone[f"{name}.test. A"] = address
            await asyncio.sleep(HUNG_S)
            assert t.files() == before
            t.names.zone = dict(zone)
            await asyncio.sleep(2)
        del t.names.zone["s1.test. A"]
        await asyncio.sleep(HUNG_S)
        assert t.files() == before, "it is asked at its last address"
        t.names.zone = dict(zone)
        t.good = ADDRESSES[:-1]
        await until(lambda: t.placed(t.good), "a change is taken")
        seen("0 slices changed; a change is taken afterwards")
