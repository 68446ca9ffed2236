"""Two controllers as deploy/kubernetes has them: the lock in a Lease, the scrapers as pods, the rights of rbac.yaml and no
more. Three Prometheus 3.5 are the pods, with one port on addresses of their own.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from testbed.kubernetes import ACCOUNT, manifest

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess
from tests.fakes.kubernetes_pods import a_pod
from tests.real.conftest import server
from tests.real.moving import Job, Kind, Lab, lab
from tests.real.test_membership_kubernetes import Cluster, cluster
from tests.real.test_scraper_lists import JOB, PROBE, settled, slices
from tests.rows import Seen
from tests.waiting import slower, until

GONE_S = 3.0
TAKE_OVER_S = 7.0


class Pods:
    """The scrapers of a lab as pods of a StatefulSet."""

    def __init__(self, made: Cluster, fleet: Lab) -> None:
        self.made, self.scrapers = made, fleet.scrapers

    def name(self, scraper: ScraperProcess) -> str:
        return f"prometheus-{self.scrapers.index(scraper)}"

    async def ready(self, scraper: ScraperProcess) -> None:
        host, _, port = scraper.id.rpartition(":")
        await self.made.api.put_pod(self.made.session, "mon", a_pod(self.name(scraper), host, port=int(port)))

    async def end(self, scraper: ScraperProcess) -> None:
        """It gets its time of deletion."""
        await self.made.api.delete_pod(self.made.session, "mon", self.name(scraper))

    async def gone(self, scraper: ScraperProcess) -> None:
        await self.made.api.delete_pod(self.made.session, "mon", self.name(scraper), grace_s=0)


class Controllers:
    def __init__(self, fleet: Lab, kubeconfig: Path) -> None:
        self.fleet = fleet
        fleet.fleet["scrapers"] = {"kubernetes": {"selector": "app=prometheus", "port": "web", "probe": PROBE}}
        path = str(fleet.folder / "out" / "{service}" / "{host}_{port}.json")
        fleet.fleet["delivery"] = [{"file": {"path": path}}]
        lock = {"kubernetes": {"name": "promring", "lease": "5s"}}
        self.config: dict[str, Any] = {
            **fleet.config(),
            "kubernetes": {"kubeconfig": str(kubeconfig)},
            "controllers": {"lock": lock},
        }
        fleet.controller.configure(self.config)
        self.every = [fleet.controller, Controller(fleet.folder / "second", self.config, port=free_port())]

    async def start(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self.every[1].stop)
        for one in self.every:
            await one.start()
            await one.until(lambda c=one: c.is_ready(self.fleet.session), "promring")  # type: ignore[misc]

    async def leaders(self) -> list[Controller]:
        said = [(one, await one.ask(self.fleet.session, "status")) for one in self.every if one.running]
        return [one for one, status in said if status and status["leader"]]

    async def leader(self) -> Controller:
        found: list[Controller] = []

        async def one_leads() -> bool:
            found[:] = await self.leaders()
            return len(found) == 1

        await until(one_leads, "one leads", 30)
        return found[0]


async def untouched_while_the_api_server_is_frozen(made: Cluster, fleet: Lab, both: Controllers) -> int:
    """How many slices changed until one leads again."""
    before = slices(fleet)
    made.api.signal(signal.SIGSTOP)
    try:
        await until(lambda: any(one.log_lines("lease_over") for one in both.every), "the lease ends", 15)
        assert await both.leaders() == []
        await asyncio.sleep(GONE_S)
    finally:
        made.api.signal(signal.SIGCONT)
    await both.leader()
    return sum(before[name] != now for name, now in slices(fleet).items())


@pytest.mark.row(
    62, "K4", "K13", did="lock and scrapers in Kubernetes: API server frozen, a pod restarts, the leader is killed"
)
async def test_two_controllers_and_a_stateful_set(tmp_path: Path, seen: Seen) -> None:
    three = [Kind(server("prometheus3"))] * 3
    together = {"handover": {"overlap": "3s"}, "audit": {"interval": "2s", "timeout": "2s"}}
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(cluster(tmp_path / "cluster"))
        work = tmp_path / "lab"
        work.mkdir()
        opened = lab(work, three, [Job(JOB)], running=2, together=together, one_port=True, start=False)
        fleet = await stack.enter_async_context(opened)
        first, second, third = fleet.scrapers
        pods = Pods(made, fleet)
        await made.api.namespace(made.session, "mon")
        await made.api.create(made.session, ACCOUNT)
        await made.api.apply(made.session, manifest("rbac"))
        token = tmp_path / "token"
        token.write_text(await made.api.account_token(made.session, "mon", "promring"))
        both = Controllers(fleet, made.api.kubeconfig(tmp_path / "kubeconfig", token, "mon"))
        await asyncio.gather(pods.ready(first), pods.ready(second))
        await both.start(stack)
        await settled(fleet, first, second)

        changed = await untouched_while_the_api_server_is_frozen(made, fleet, both)
        assert not changed

        since = time.monotonic()
        await fleet.start(third)
        await pods.ready(third)
        await pods.end(second)  # at once: one joins, one is told to end
        await settled(fleet, first, third)
        missed = fleet.tally(JOB, since).missed
        assert not missed, "a time of deletion is a planned move"
        await second.stop()
        await pods.gone(second)
        await fleet.start(second)
        await pods.ready(second)
        await settled(fleet, first, second, third)

        leader = await both.leader()
        other = next(one for one in both.every if one is not leader)
        before, killed_at = slices(fleet), time.monotonic()
        await leader.kill()
        assert await both.leader() is other
        took = time.monotonic() - killed_at
        assert took <= TAKE_OVER_S * slower()
        assert slices(fleet) == before, "the next leader decides the same"
        await third.kill()
        await settled(fleet, first, second)
        ids = {s["id"] for s in (await other.ask(fleet.session, "fleets/main"))["scrapers"]}
        assert {f"prometheus-{n}:{first.id.rpartition(':')[2]}" for n in range(3)} <= ids
        seen(f"API server frozen: {changed} slices changed; a pod ends: {missed} scrapes missed; next leads in {took:.1f} s")
