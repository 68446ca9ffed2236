"""What every kind of membership promises, tried on each of them: in the same words, on the store that it has."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from promring.config.node import Node
from promring.consul.catalogue import Catalogue
from promring.consul.client import Access, Client
from promring.consul.watch import HealthWatch
from promring.kubernetes.access import KubernetesSection
from promring.membership.consul import ConsulMembership
from promring.membership.dns import DnsListing, DnsScrapers
from promring.membership.file import FileListing
from promring.membership.listing import ListedMembership
from promring.membership.probing import ProbeMembership
from promring.model import Members
from promring.runtime.dns_client import NameClient
from promring.telemetry import log
from tests.fakes.consul import FakeConsul
from tests.fakes.dns import NameServer
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.kubernetes_pods import a_pod
from tests.membership_contract import PROBING, Ground, Machine, Open, Opened, PodGround, running, scenarios, scraper

NAME = "prometheus.mon.test."


class ProbeGround(Ground):
    changes_its_list = leaves_by_plan = False

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
    leaves_by_plan = waits_for_all = False

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


class KubernetesGround(PodGround):
    async def enter(self, stack: AsyncExitStack, last: Members) -> None:
        self.api = await stack.enter_async_context(FakeKubernetes())
        self.sections = [KubernetesSection(kubeconfig=self.api.kubeconfig(self.folder))]
        await super().enter(stack, last)

    async def list_(self, *machines: Machine) -> None:
        wanted = {m.scraper.id.partition(":")[0]: m.scraper for m in machines}
        for name in self.api.pods.there.keys() - wanted.keys():
            self.api.pods.remove(name)
        for name in wanted.keys() - self.api.pods.there.keys():
            self.api.pods.put(a_pod(name, wanted[name].host, port=wanted[name].port))

    async def lose(self, *, back: bool = False) -> None:
        if back:
            self.api.said = None
        else:
            self.api.lose()


KINDS: dict[str, type[Ground]] = {
    "probe": ProbeGround,
    "file": FileGround,
    "dns": DnsGround,
    "consul": ConsulGround,
    "kubernetes": KubernetesGround,
}
PLAYED = [pytest.param(kind, one, id=f"{kind}: {one.__name__}") for kind in KINDS for one in scenarios(KINDS[kind])]


@pytest.mark.parametrize(("kind", "scenario"), PLAYED)
async def test_the_membership_keeps_the_contract(
    kind: str, scenario: Callable[[Open], Awaitable[None]], tmp_path: Path
) -> None:
    def opened(made: list[Machine], last: Members, *, listed: bool = False) -> Opened:
        return running(KINDS[kind](tmp_path, made), last, listed=listed)

    await scenario(opened)
