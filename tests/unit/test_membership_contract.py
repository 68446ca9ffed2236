"""What every kind of membership promises, tried on each of them: in the same words, on the store that it has."""

from __future__ import annotations

import asyncio
import json
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from promring.config.node import Node
from promring.consul.catalogue import Catalogue
from promring.consul.client import Access, Client
from promring.consul.watch import HealthWatch
from promring.demo.process import free_port
from promring.membership import Membership, Rostered
from promring.membership.consul import ConsulMembership
from promring.membership.dns import DnsListing, DnsScrapers
from promring.membership.file import FileListing
from promring.membership.listing import ListedMembership
from promring.membership.probing import ProbeKeys, ProbeMembership
from promring.model import Answer, Known, Members, NodeState, Scraper, Unknown, join_host_port
from promring.runtime.dns_client import NameClient
from promring.telemetry import log
from tests.fakes.consul import FakeConsul
from tests.fakes.dns import NameServer
from tests.waiting import until

PROBING = ProbeKeys(interval=0.05, timeout=0.05)
NAME = "prometheus.mon.test."


def scraper(node: Node) -> Scraper:
    return Scraper(join_host_port(node.host, node.port), *node)


class Machine:
    """A scraper on an address of its own, that answers its probe until it is killed."""

    def __init__(self, host: str, port: int) -> None:
        self.scraper = scraper(Node(host, port))
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/-/ready", _ready)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.scraper.host, self.scraper.port).start()

    async def kill(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None


async def _ready(_: web.Request) -> web.Response:
    return web.Response()


class Ground(ABC):
    """A membership of one kind, and the store that it reads."""

    changes_its_list = True
    membership: Membership

    def __init__(self, folder: Path, machines: list[Machine]) -> None:
        self.folder, self.machines = folder, machines

    @abstractmethod
    async def enter(self, stack: AsyncExitStack, last: Members) -> None: ...

    @abstractmethod
    async def list_(self, *machines: Machine) -> None:
        """These are in the store's list from now on."""

    @abstractmethod
    async def lose(self, *, back: bool = False) -> None:
        """The store gives no answer that can be used; ``back``: it does again."""

    async def kill(self, machine: Machine) -> None:
        await machine.kill()


class ProbeGround(Ground):
    changes_its_list = False

    async def enter(self, stack: AsyncExitStack, last: Members) -> None:
        self.membership = ProbeMembership("s", tuple(m.scraper for m in self.machines), PROBING, log.get())

    async def list_(self, *machines: Machine) -> None: ...

    async def lose(self, *, back: bool = False) -> None: ...


class FileGround(Ground):
    async def enter(self, stack: AsyncExitStack, last: Members) -> None:
        self.path = self.folder / "scrapers.json"
        self.membership = ListedMembership("s", FileListing(self.path, scraper), PROBING, log.get(), last=last)

    async def list_(self, *machines: Machine) -> None:
        self.text = json.dumps([m.scraper.id for m in machines])
        self.path.write_text(self.text)

    async def lose(self, *, back: bool = False) -> None:
        self.path.write_text(self.text if back else self.text[:-3])


class DnsGround(Ground):
    async def enter(self, stack: AsyncExitStack, last: Members) -> None:
        self.server = await stack.enter_async_context(NameServer({}))
        conf = self.folder / "resolv.conf"
        conf.write_text(f"nameserver {self.server.host}\n")
        settings = DnsScrapers(
            name=NAME, type="A", port=self.machines[0].scraper.port, refresh_interval=0.1, keep=0.5, probe=PROBING
        )
        listing = DnsListing(settings, scraper, NameClient(conf, self.server.port))
        self.membership = ListedMembership("s", listing, PROBING, log.get(), last=last)

    async def list_(self, *machines: Machine) -> None:
        self.server.zone[f"{NAME} A"] = random.sample([m.scraper.host for m in machines], len(machines))

    async def lose(self, *, back: bool = False) -> None:
        self.server.trouble = {} if back else {NAME: "SERVFAIL"}


class ConsulGround(Ground):
    async def enter(self, stack: AsyncExitStack, last: Members) -> None:
        self.consul = await stack.enter_async_context(FakeConsul())
        self.client = await stack.enter_async_context(Client(Access(self.consul.address)))
        watch = HealthWatch(self.client, "x", Catalogue(lambda node, _: scraper(Node(*node))), log.get())
        self.membership = ConsulMembership(self.client, watch, None, log.get(), last)
        self.there: set[str] = set()

    async def list_(self, *machines: Machine) -> None:
        wanted = {m.scraper.id: m.scraper for m in machines}
        for gone in self.there - wanted.keys():
            await self.consul.remove(gone)
        for name in wanted.keys() - self.there:
            check = {"TTL": "1h", "Status": "passing"}
            one = wanted[name]
            definition = {"ID": name, "Name": "x", "Address": one.host, "Port": one.port, "Check": check}
            await self.client.register(definition)
        self.there = set(wanted)

    async def lose(self, *, back: bool = False) -> None:
        self.consul.fault = None if back else "status 500"
        self.consul.wake()

    async def kill(self, machine: Machine) -> None:
        await machine.kill()
        await self.list_(*(m for m in self.machines if m.scraper.id in self.there and m is not machine))


KINDS: dict[str, type[Ground]] = {"probe": ProbeGround, "file": FileGround, "dns": DnsGround, "consul": ConsulGround}


@asynccontextmanager
async def machines(count: int) -> AsyncIterator[list[Machine]]:
    """On addresses of their own with one port."""
    net, port = f"127.{random.randint(2, 250)}.{random.randint(2, 250)}", free_port()
    made = [Machine(f"{net}.{n + 1}", port) for n in range(count)]
    try:
        for one in made:
            await one.start()
        yield made
    finally:
        for one in made:
            await one.kill()


@asynccontextmanager
async def ground(
    kind: str, folder: Path, made: list[Machine], last: Members = ()
) -> AsyncIterator[tuple[Ground, list[Answer[Members]]]]:
    """Running. What it published is put in the list."""
    async with AsyncExitStack() as stack:
        one = KINDS[kind](folder, made)
        await one.enter(stack, last)
        answers: list[Answer[Members]] = []
        task = asyncio.create_task(one.membership.run(answers.append))
        try:
            yield one, answers
            assert not task.done(), "it ran all the time"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def known(*made: Machine) -> Known[Members]:
    return Known(tuple(sorted(m.scraper for m in made)))


@pytest.mark.parametrize("kind", KINDS)
async def test_the_whole_set_of_the_living_is_said_sorted_and_who_dies_and_returns(kind: str, tmp_path: Path) -> None:
    async with machines(3) as made, ground(kind, tmp_path, made) as (store, answers):
        await store.list_(*made)
        await until(lambda: bool(answers) and answers[-1] == known(*made), "all three")
        before = answers[: answers.index(known(*made))]
        assert all(isinstance(a, Unknown) for a in before) or kind == "consul", "nobody is told of a part of them"
        await store.kill(made[1])
        await until(lambda: answers[-1] == known(made[0], made[2]), "one died")
        assert made[1].scraper in store.membership.listed(), "it is still listed: what it had comes back to it"
        await made[1].start()
        await store.list_(*made)
        await until(lambda: answers[-1] == known(*made), "it is back")
        assert store.membership.silent() == ""


@pytest.mark.parametrize("kind", [name for name, one in KINDS.items() if one.changes_its_list])
async def test_a_store_that_is_lost_changes_nobodys_life(kind: str, tmp_path: Path) -> None:
    async with machines(3) as made, ground(kind, tmp_path, made) as (store, answers):
        await store.list_(*made)
        await until(lambda: bool(answers) and answers[-1] == known(*made), "all three")
        await store.lose()
        seen = len(answers)

        def said(node: NodeState) -> bool:
            return "SERVFAIL" in node.reason or "scrapers.json:1: " in node.reason or node.state == "unknown"

        await until(lambda: all(map(said, store.membership.nodes())), "people are told")
        assert all(a == known(*made) or isinstance(a, Unknown) for a in answers[seen:])
        await store.lose(back=True)
        await until(lambda: answers[-1] == known(*made) and not any(map(said, store.membership.nodes())), "back")


@pytest.mark.parametrize("kind", [name for name, one in KINDS.items() if one.changes_its_list])
async def test_one_that_is_listed_later_joins_and_the_others_do_not_wait_for_it(kind: str, tmp_path: Path) -> None:
    async with machines(3) as made, ground(kind, tmp_path, made) as (store, answers):
        await store.list_(*made[:2])
        await until(lambda: bool(answers) and answers[-1] == known(*made[:2]), "two")
        seen = len(answers)
        await store.list_(*made)
        await until(lambda: answers[-1] == known(*made), "the third")
        assert all(a in (known(*made[:2]), known(*made)) for a in answers[seen:])


@pytest.mark.parametrize("kind", ["file", "dns"])
async def test_one_that_is_taken_out_of_the_list_leaves_by_a_plan(kind: str, tmp_path: Path) -> None:
    async with machines(3) as made, ground(kind, tmp_path, made) as (store, answers):
        await store.list_(*made)
        await until(lambda: bool(answers) and answers[-1] == known(*made), "all three")
        await store.list_(*made[1:])
        assert isinstance(store.membership, Rostered)
        roster = store.membership.roster
        await until(lambda: roster().left == (made[0].scraper,), "it left")
        await until(lambda: answers[-1] == known(*made[1:]), "it is no member")
        assert made[0].scraper not in store.membership.listed()
        await store.list_(*made)
        await until(lambda: answers[-1] == known(*made), "it is back")
        assert roster().left == ()


@pytest.mark.parametrize("kind", ["file", "dns"])
async def test_after_a_start_without_a_list_those_that_lived_before_are_asked(kind: str, tmp_path: Path) -> None:
    async with machines(3) as made:
        last = tuple(m.scraper for m in made)
        async with ground(kind, tmp_path, made, last) as (store, answers):
            await until(lambda: bool(answers) and answers[-1] == known(*made), "those of before")
            await store.kill(made[2])
            await until(lambda: answers[-1] == known(*made[:2]), "its death is seen")
