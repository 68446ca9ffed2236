"""Scrapers and the lock in a real Kubernetes that is in trouble: it refuses, forgets, cuts, freezes, and lets tokens end.

Each time the scrapers stay what they were, and what changed meanwhile is known soon after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from testbed.etcd import EtcdProcess
from testbed.kubernetes import ACCOUNT, manifest
from testbed.proxy import FaultProxy, Frozen

from promring.kubernetes.access import KubernetesSection
from promring.kubernetes.client import Client
from promring.kubernetes.lock import KubernetesLockStore
from promring.kubernetes.pods import BACKOFF_MOST_S, Pace, PodWatch
from promring.model import KubernetesError
from promring.telemetry import log
from tests.fakes.kubernetes_pods import a_pod
from tests.membership_contract import Machine, machines
from tests.real.test_membership_kubernetes import Cluster, Watched, cluster, watched
from tests.rows import Seen
from tests.unit.test_kubernetes_watch import Heard
from tests.waiting import slower, until

QUICK = Pace(watch_s=1.5, late_s=0.5, list_s=60.0)


class World:
    """A cluster with two scrapers, one who watches them with the rights of the manifest behind ``proxy``, and more pods."""

    def __init__(self, made: Cluster, folder: Path, proxy: FaultProxy) -> None:
        self.made, self.api, self.session, self.folder, self.proxy = made, made.api, made.session, folder, proxy
        self.token = folder / "account-token"
        self._made = 0

    async def prepare(self, hosts: list[Machine]) -> None:
        await self.api.namespace(self.session, "mon")
        await self.api.create(self.session, ACCOUNT)
        await self.api.apply(self.session, manifest("rbac"))
        self.token.write_text(await self.api.account_token(self.session, "mon", "promring"))
        for n, host in enumerate(hosts):
            await self.api.put_pod(self.session, "mon", a_pod(f"p-{n}", host.scraper.host, port=host.scraper.port))

    def section(self) -> KubernetesSection:
        config = self.folder / "kubeconfig"
        return KubernetesSection(kubeconfig=self.api.kubeconfig(config, self.token, "mon", self.proxy.address))

    async def one_more(self) -> str:
        """A pod that is known of, and answers no probe."""
        self._made += 1
        name = f"q-{self._made}"
        await self.api.put_pod(self.session, "mon", a_pod(name, f"127.0.9.{self._made}"))
        return name

    @asynccontextmanager
    async def watch(self, pace: Pace) -> AsyncIterator[Heard]:
        """The pods themselves, through the proxy."""
        heard = Heard()
        async with Client(self.section().access()) as client:
            task = asyncio.create_task(
                PodWatch(client, "mon", "app=prometheus", log.get(), pace).run(heard.hear, heard.failures.append)
            )
            try:
                await until(lambda: bool(heard.lists), "the first list")
                yield heard
                assert not task.done()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def knows(world: World, one: Watched, why: str) -> float:
    """The scrapers live as before, and a pod that is made now is known after so many seconds."""
    assert one.living == "p-0, p-1", why
    name, since = await world.one_more(), time.monotonic()
    await until(lambda: any(node.id.startswith(f"{name}:") for node in one.nodes()), f"a new pod is known: {why}")
    assert one.living == "p-0, p-1", why
    return time.monotonic() - since


def trouble(one: Watched, text: str) -> bool:
    return any(text in node.reason for node in one.nodes())


async def refuses_all(world: World, one: Watched) -> float:
    """429 for each request of our account, of the lock and of who watches."""
    async with Client(world.section().access()) as client:
        lock = KubernetesLockStore(client, "mon/promring", "me", 3.0)
        assert not (await lock.read()).held

        async def refused() -> bool:
            try:
                await lock.read()
            except KubernetesError as error:
                return error.status == 429 and error.retry_after_s >= 1
            return False

        async with world.api.refuses(world.session, "promring"):
            await until(refused, "the lock is refused")
            world.proxy.reset()
            await until(lambda: trouble(one, "status 429"), "it is named")
            assert one.living == "p-0, p-1"
        since = time.monotonic()
        await until(lambda: not trouble(one, "status 429"), "the list again")
        assert time.monotonic() - since <= (BACKOFF_MOST_S + 4) * slower()
        await until(lambda: answers(lock), "the lock answers again")
    return await knows(world, one, "after 429")


async def answers(lock: KubernetesLockStore) -> bool:
    try:
        await lock.read()
    except KubernetesError:
        return False
    return True


async def is_edited_by_hand(world: World) -> None:
    """Somebody writes another holder into the Lease: ours is not renewed over it, and what is taken next is newer."""
    path = "/apis/coordination.k8s.io/v1/namespaces/mon/leases/promring"
    async with Client(world.section().access()) as client:
        lock = KubernetesLockStore(client, "mon/promring", "me", 1.0)
        assert await lock.take(await lock.read()) == ""
        ours = await lock.read()
        assert ours.ours
        lease = await world.api.call(world.session, "GET", path)
        lease["spec"] |= {"holderIdentity": "somebody", "leaseTransitions": 0}
        await world.api.call(world.session, "PUT", path, lease)
        assert not await lock.renew(ours)
        seen = await lock.read()
        assert (seen.held, seen.ours) == (True, False)

        async def free() -> bool:
            nonlocal seen
            seen = await lock.read()
            return not seen.held

        await until(free, "somebody gives no sign of life")
        assert await lock.take(seen) == ""
        assert (await lock.read()).token > ours.token


async def forgets(world: World, etcd: EtcdProcess) -> None:
    """The store is compacted between two watches, with the API's own cache off: the next one is too old."""
    async with world.watch(QUICK) as heard:
        path = "/api/v1/namespaces/mon/pods"
        old = (await world.api.call(world.session, "GET", path))["metadata"]["resourceVersion"]
        for n in range(3):
            await world.api.namespace(world.session, f"other-{n}")
            now = (await world.api.call(world.session, "GET", path))["metadata"]["resourceVersion"]
            await etcd.call(world.session, "kv/compaction", {"revision": now, "physical": True})
            said = await world.api.ask(world.session, "GET", f"{path}?watch=1&resourceVersion={old}&timeoutSeconds=1")
            assert '"code":410' in said.text(2000), "what the server says of a version that is gone"
            lists = len(heard.lists)
            await until(lambda n=lists: len(heard.lists) > n, "a new list")  # type: ignore[misc]
            name = await world.one_more()
            await until(lambda n=name: n in heard.names.split(), "what comes is seen")  # type: ignore[misc]
        assert heard.failures == [], "nobody need be told"


async def freezes(world: World) -> float:
    """The connection of the watch is half open: nothing comes any more, and nothing says so."""
    async with world.watch(QUICK) as heard:
        connections = world.proxy.connections
        world.proxy.fault = Frozen()
        name, since = await world.one_more(), time.monotonic()
        await until(lambda: world.proxy.connections > connections, "the client gives the watch up")
        assert name not in heard.names.split()
        assert time.monotonic() - since <= (QUICK.watch_s + QUICK.late_s + 1) * slower()
        world.proxy.fault = None
        await until(lambda: name in heard.names.split(), "the new list has it")
        return time.monotonic() - since


async def is_cut_again_and_again(world: World, one: Watched) -> int:
    """Each half second, for a while: everything that comes is seen, with a bounded number of requests."""
    connections, began = world.proxy.connections, time.monotonic()
    async with world.watch(Pace()) as heard:
        for _ in range(12):
            await asyncio.sleep(0.5)
            world.proxy.reset()
        name = await world.one_more()
        await until(lambda: name in heard.names.split(), "what comes is seen")
        assert one.living == "p-0, p-1"
    made = world.proxy.connections - connections
    assert made < 2 * 8 * (time.monotonic() - began), "two who watch, with a list and a watch each time, and back-off"
    return made


async def lets_the_token_end(world: World, one: Watched) -> float:
    """It is not replaced in time; the server forgets only after ten seconds that it was good."""
    world.token.write_text(await world.api.short_token(world.session, "mon", "promring", 8))
    await knows(world, one, "with a token that ends soon")

    async def refused() -> bool:
        world.proxy.reset()
        await asyncio.sleep(0.5)
        return trouble(one, "status 401")

    await until(refused, "it is named")
    assert one.living == "p-0, p-1"
    world.token.write_text(await world.api.account_token(world.session, "mon", "promring"))
    since = time.monotonic()
    await until(lambda: not trouble(one, "status 401"), "the new one is read")
    await knows(world, one, "with a new token")
    return time.monotonic() - since


@pytest.mark.row(
    62,
    "K1",
    "K2",
    "K7",
    "K9",
    "K12",
    did="real kube-apiserver: 429, 410, half-open watch, cut twice a second, a Lease edited by hand, a token that ends",
)
@pytest.mark.timeout(300)
async def test_scrapers_stay_what_they_are_whatever_the_api_server_does(tmp_path: Path, seen: Seen) -> None:
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(cluster(tmp_path, "--watch-cache=false"))
        hosts = await stack.enter_async_context(machines(2))
        proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", made.api.port))
        world = World(made, tmp_path, proxy)
        await world.prepare(hosts)
        one = await stack.enter_async_context(watched(world.section()))
        await until(lambda: one.living == "p-0, p-1", "both live")
        refused = await refuses_all(world, one)
        await is_edited_by_hand(world)
        await forgets(world, made.etcd)
        frozen = await freezes(world)
        cut = await is_cut_again_and_again(world, one)
        ended = await lets_the_token_end(world, one)
        seen(
            f"after 429 a new pod is known in {refused:.1f} s; half-open: {frozen:.1f} s; cut 12 times: {cut} connections; "
            f"after a new token: {ended:.1f} s; nobody dead by any of it"
        )
