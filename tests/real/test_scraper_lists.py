"""Scrapers from a watched file and from a name in DNS: three Prometheus 3.5 on addresses of their own with one port."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shlex
import shutil
import time
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from promring.demo.scraper import ScraperProcess
from tests.fakes.dns import NameServer
from tests.real.conftest import server
from tests.real.moving import Job, Kind, Lab, lab
from tests.rows import Seen
from tests.waiting import until

NAME = "prometheus.mon.test."
PROBE = {"interval": "500ms", "timeout": "500ms"}
JOB = "node"
LOST_S = 3.0


class Store(ABC):
    """Where the list of the scrapers is."""

    @abstractmethod
    def scrapers(self, port: int) -> dict[str, Any]:
        """The keys of the configuration."""

    @abstractmethod
    def list_(self, *scrapers: ScraperProcess) -> None: ...

    @abstractmethod
    async def lose(self) -> None: ...

    @abstractmethod
    async def find_again(self) -> None: ...


class File(Store):
    def __init__(self, path: Path) -> None:
        self.path = path

    def scrapers(self, port: int) -> dict[str, Any]:
        return {"file": {"path": str(self.path), "probe": PROBE}}

    def list_(self, *scrapers: ScraperProcess) -> None:
        self.path.write_text(json.dumps([{"address": s.id} for s in scrapers]))

    async def lose(self) -> None:
        self.text = self.path.read_text()
        self.path.write_text(self.text[:20])

    async def find_again(self) -> None:
        self.path.write_text(self.text)


class Name(Store):
    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.server = NameServer({}, host=f"127.{random.randint(2, 250)}.{random.randint(1, 250)}.53", port=53)

    def scrapers(self, port: int) -> dict[str, Any]:
        return {"dns": {"name": NAME, "type": "A", "port": port, "refresh_interval": "500ms", "keep": "1s", "probe": PROBE}}

    def list_(self, *scrapers: ScraperProcess) -> None:
        hosts = [s.id.rpartition(":")[0] for s in scrapers]
        self.server.zone = {f"{NAME} A": random.sample(hosts, len(hosts))}

    async def start(self) -> None:
        self.own = await self.stack.enter_async_context(AsyncExitStack())
        await self.own.enter_async_context(self.server)

    async def lose(self) -> None:
        await self.own.aclose()

    async def find_again(self) -> None:
        await self.start()

    def asked_by(self, fleet: Lab) -> None:
        """promring has a ``resolv.conf`` of its own."""
        conf = fleet.folder / "resolv.conf"
        conf.write_text(f"nameserver {self.server.host}\n")
        command = shlex.join(fleet.controller.arguments)
        script = f"mount --bind {shlex.quote(str(conf))} /etc/resolv.conf && exec {command}"
        fleet.controller.arguments = ["unshare", "-m", "sh", "-c", script]


def load(fleet: Lab, scraper: ScraperProcess) -> int:
    return fleet.load_of(JOB, scraper)


async def settled(fleet: Lab, *scrapers: ScraperProcess) -> None:
    """Wait until these, and they alone, scrape every target."""
    others = [s for s in fleet.scrapers if s not in scrapers]

    def so() -> bool:
        return fleet.settled(JOB) and all(load(fleet, s) for s in scrapers) and not any(load(fleet, s) for s in others)

    await until(so, f"{len(scrapers)} scrape everything", 60)


def slices(fleet: Lab) -> dict[str, tuple[int, bytes]]:
    files = [file for s in fleet.scrapers if (file := fleet.file_of(JOB, s)).exists()]
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


async def untouched_while_lost(fleet: Lab, store: Store) -> int:
    """The store is lost for a while. How many slices changed."""
    before = slices(fleet)
    await store.lose()
    await until(lambda: bool(fleet.log_has(" msg=scraper_list_failed ")), "promring says so")
    await asyncio.sleep(LOST_S)
    changed = sum(before[name] != now for name, now in slices(fleet).items())
    await store.find_again()
    await until(lambda: bool(fleet.log_has(" msg=scraper_list_read_again ")), "promring says so")
    return changed


@pytest.mark.parametrize("kind", ["file", "dns"])
@pytest.mark.row(62, "D1", did="the list of scrapers, a file or a name: lost, one joins, one is taken out, one dies")
async def test_a_list_of_scrapers_is_followed_without_a_missed_scrape(kind: str, tmp_path: Path, seen: Seen) -> None:
    program = server("prometheus3")
    if kind == "dns" and (os.geteuid() or shutil.which("unshare") is None):
        pytest.skip("a resolv.conf of its own needs root and unshare")
    together = {"handover": {"overlap": "3s"}, "audit": {"interval": "2s", "timeout": "2s"}}
    async with AsyncExitStack() as stack:
        store: Store = File(tmp_path / "scrapers.json") if kind == "file" else Name(stack)
        three = [Kind(program)] * 3
        made = lab(tmp_path, three, [Job(JOB)], running=2, together=together, one_port=True, start=False)
        fleet = await stack.enter_async_context(made)
        first, second, third = fleet.scrapers
        if isinstance(store, Name):
            await store.start()
            store.asked_by(fleet)
        fleet.fleet["scrapers"] = store.scrapers(int(first.id.rpartition(":")[2]))
        fleet.controller.configure(fleet.config())
        store.list_(first, second)
        await fleet.controller.start()
        await fleet.controller.until(lambda: fleet.controller.is_ready(fleet.session), "promring")
        await settled(fleet, first, second)
        changed = await untouched_while_lost(fleet, store)
        assert not changed
        since = time.monotonic()
        await fleet.start(third)
        store.list_(first, third)  # at once: one joins, one is taken out
        await settled(fleet, first, third)
        await until(lambda: bool(fleet.log_has(" msg=scraper_departed ", second.id)), "the one that was taken out is done")
        missed = fleet.tally(JOB, since).missed
        assert not missed, "a change of the list is a planned move"
        await fleet.controller.kill()
        await fleet.controller.start()  # it knows all who are listed: they are asked all the same
        await fleet.controller.until(lambda: fleet.controller.is_ready(fleet.session), "promring, again")
        await third.kill()
        await settled(fleet, first)
        seen(f"{kind}: list lost {LOST_S:g} s: {changed} slices changed; one in, one out: {missed} scrapes missed; a death")
