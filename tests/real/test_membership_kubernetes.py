"""Scrapers in Kubernetes on a real kube-apiserver: the contract of memberships, the rights of the manifests and no more,
what a pod goes through, a restored store; and all manifests as that server takes them.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from testbed.etcd import EtcdProcess
from testbed.kubernetes import ACCOUNT, ADMIN, ApiServer, manifest
from testbed.proxy import Down, FaultProxy

from promring.config.load import loads
from promring.kubernetes.access import KubernetesSection
from promring.membership.probing import ProbeKeys
from promring.model import Answer, Known, Members, NodeState, Unknown
from promring.runtime.http_client import new_session
from tests.fakes.kubernetes_pods import a_pod, ready
from tests.membership_contract import (
    Machine,
    Open,
    Opened,
    PodGround,
    machines,
    pod_context,
    pod_settings,
    running,
    scenarios,
)
from tests.real.conftest import server
from tests.rows import Seen
from tests.waiting import until

PATIENT = ProbeKeys(interval=0.4, timeout=0.4)
"""Beside servers that need a core."""


class Cluster:
    """A real API server, and its store."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession, extra: Sequence[str]) -> None:
        self.folder, self.session = folder, session
        self.etcd = EtcdProcess(server("etcd"), folder / "etcd")
        self.api = ApiServer(server("kube-apiserver"), folder / "api", self.etcd, extra)

    async def start(self) -> None:
        await self.etcd.start()
        await self.etcd.until(lambda: self.etcd.is_ready(self.session), "etcd")
        await self.api.start()
        await self.api.until(lambda: self.api.is_ready(self.session), "kube-apiserver", 120)

    async def stop(self) -> None:
        await self.api.kill()
        await self.etcd.kill()

    def admin(self, name: str, address: str = "") -> KubernetesSection:
        token = self.folder / "admin-token"
        token.write_text(ADMIN)
        return KubernetesSection(kubeconfig=self.api.kubeconfig(self.folder / name, token, "mon", address))


@asynccontextmanager
async def cluster(folder: Path, *extra: str) -> AsyncIterator[Cluster]:
    """``extra``: more arguments of the API server."""
    async with new_session(keep_alive=False) as session:
        made = Cluster(folder, session, extra)
        try:
            await made.start()
            yield made
        finally:
            await made.stop()


class RealGround(PodGround):
    """In a namespace of its own, behind a proxy of its own. Its pods become Ready one after the other."""

    waits_for_all, probing = False, PATIENT

    def __init__(self, folder: Path, machines: list[Machine], cluster: Cluster, namespace: str) -> None:
        super().__init__(folder, machines)
        self.cluster, self.namespace = cluster, namespace

    async def enter(self, stack: AsyncExitStack, last: Members) -> None:
        self.proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", self.cluster.api.port))
        self.sections = [self.cluster.admin(self.namespace, self.proxy.address)]
        await self.cluster.api.namespace(self.cluster.session, self.namespace)
        await super().enter(stack, last)

    async def list_(self, *machines: Machine) -> None:
        for one in self.machines:
            labels = {"app": "prometheus" if one in machines else "other"}
            pod = a_pod(one.scraper.id.partition(":")[0], one.scraper.host, port=one.scraper.port, labels=labels)
            await self.cluster.api.put_pod(self.cluster.session, self.namespace, pod)

    async def lose(self, *, back: bool = False) -> None:
        self.proxy.fault = None if back else Down()


async def plays_the_contract(cluster: Cluster) -> None:
    """All at once, each in a namespace of its own."""

    async def play(number: int, scenario: Callable[[Open], Awaitable[None]]) -> None:
        def opened(made: list[Machine], last: Members, *, listed: bool = False) -> Opened:
            return running(RealGround(cluster.folder, made, cluster, f"contract-{number}"), last, listed=listed)

        try:
            await scenario(opened)
        except BaseException as error:
            error.add_note(f"in: {scenario.__name__}")
            raise

    async with asyncio.TaskGroup() as group:
        for number, scenario in enumerate(scenarios(RealGround)):
            group.create_task(play(number, scenario))


class Watched:
    """What a membership says that has the service account of the manifest."""

    def __init__(self) -> None:
        self.answers: list[Answer[Members]] = []
        self.nodes: Callable[[], list[NodeState]] = list

    @property
    def living(self) -> str:
        newest = self.answers[-1] if self.answers else Unknown("")
        if isinstance(newest, Unknown):
            return f"unknown: {newest.reason}"
        members = newest.value if isinstance(newest, Known) else ()
        said = (s.id.partition(":")[0] + (s.zone and f" in {s.zone}") + " drained" * s.draining for s in members)
        return ", ".join(said)


@asynccontextmanager
async def watched(section: KubernetesSection) -> AsyncIterator[Watched]:
    membership = pod_settings(namespace="mon", node_zone_label="zone", probe=PATIENT).membership(
        pod_context([section], zone_label="zone")
    )
    one = Watched()
    one.nodes = membership.nodes
    task = asyncio.create_task(membership.run(one.answers.append))
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def needs_the_rights_of_the_manifests(made: Cluster, one: Watched, section: KubernetesSection) -> None:
    """Before any right, with that of pods, with that of nodes."""
    api, session = made.api, made.session
    refused = 'cannot list resource "pods" in API group "" in the namespace "mon"'
    await until(lambda: refused in one.living and "a Role in namespace mon" in one.living, "what is missing is named")
    await api.apply(session, manifest("rbac"))
    await until(lambda: one.living == "p-0, p-1", "with the right on pods, without zones")
    await api.apply(session, manifest("zones"))
    async with watched(section) as again:
        await until(lambda: again.living == "p-0 in east, p-1 in east", "with that on nodes")


async def reads_a_token_that_was_replaced(made: Cluster, one: Watched, token: Path, proxy: FaultProxy) -> None:
    """The one in the file is refused for a while, and changes nothing."""
    living = one.living
    token.write_text("another's")
    proxy.reset()
    await until(lambda: any("status 401" in node.reason for node in one.nodes()), "people are told")
    assert one.living == living
    token.write_text(await made.api.account_token(made.session, "mon", "promring"))
    await until(lambda: not any(node.reason for node in one.nodes()), "it is read again")
    assert one.living == living


async def follows_a_pod_through_its_end_and_back(made: Cluster, one: Watched, host: Iterator[Machine]) -> None:
    api, session = made.api, made.session
    await api.delete_pod(session, "mon", "p-1")
    await until(lambda: one.living == "p-0, p-1 drained", "a time of deletion drains")
    await api.delete_pod(session, "mon", "p-1", grace_s=0)
    await until(lambda: one.living == "p-0", "it is gone, and dead although its address answers")
    back = next(host).scraper
    pod = a_pod("p-1", back.host, port=back.port, conditions=ready(False))
    await api.put_pod(session, "mon", pod)
    await until(lambda: any(n.reason.startswith("not Ready") for n in one.nodes()), "it is back, not Ready")
    assert one.living == "p-0"
    await api.put_pod(session, "mon", a_pod("p-1", back.host, port=back.port))
    await until(lambda: one.living == "p-0, p-1", "it is Ready at another address, and the same scraper")
    evicted = a_pod("p-1", back.host, port=back.port, phase="Failed", reason="Evicted", conditions=ready(False))
    await api.put_pod(session, "mon", evicted)
    await until(lambda: one.living == "p-0", "evicted")


async def believes_a_restored_store(made: Cluster, one: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    """The store is put back to a moment before the last pod came, and the watch does not wait for its future."""
    copied, living = made.folder / "backup", one.living
    await made.stop()
    shutil.copytree(made.etcd.data, copied)
    await made.start()
    await made.api.put_pod(made.session, "mon", a_pod("p-9", "127.0.0.9"))
    await until(lambda: any(n.id.startswith("p-9") for n in one.nodes()), "one more")
    await made.stop()
    shutil.rmtree(made.etcd.data)
    copied.rename(made.etcd.data)
    await made.start()
    await until(lambda: "kubernetes_version_went_back" in capsys.readouterr().out, "it is said")
    assert one.living == living
    await made.api.put_pod(made.session, "mon", a_pod("p-8", "127.0.0.8", conditions=ready(True)))
    await until(lambda: any(n.id.startswith("p-8") for n in one.nodes()), "what comes is seen")


async def takes_every_manifest(made: Cluster) -> None:
    for name in ("controllers", "scrapers"):
        await made.api.apply(made.session, manifest(name), dry_run=True)


@pytest.mark.row(
    "K3", "K5", "K7", "K8", did="real kube-apiserver: rights, token, drain, eviction, return of a name, restored store"
)
async def test_scrapers_in_kubernetes(tmp_path: Path, seen: Seen, capsys: pytest.CaptureFixture[str]) -> None:
    async with cluster(tmp_path) as made, machines(3) as hosts:
        api, session = made.api, made.session
        await api.namespace(session, "mon")
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": {"zone": "east"}}}
        await api.create(session, node)
        await takes_every_manifest(made)
        await api.create(session, ACCOUNT)
        token = tmp_path / "account-token"
        token.write_text(await api.account_token(session, "mon", "promring"))
        for n in range(2):
            await api.put_pod(session, "mon", a_pod(f"p-{n}", hosts[n].scraper.host, port=hosts[n].scraper.port))
        async with FaultProxy("127.0.0.1", api.port) as proxy, asyncio.TaskGroup() as group:
            section = KubernetesSection(kubeconfig=api.kubeconfig(tmp_path / "kubeconfig", token, "mon", proxy.address))
            contract = group.create_task(plays_the_contract(made))
            async with watched(section) as one:
                await needs_the_rights_of_the_manifests(made, one, section)
                await reads_a_token_that_was_replaced(made, one, token, proxy)
                await follows_a_pod_through_its_end_and_back(made, one, iter(hosts[2:]))
                await contract
                await believes_a_restored_store(made, one, capsys)
        seen("a time of deletion drains, eviction is death, the same name at another address is the same scraper")


def test_the_configuration_in_the_manifest_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    first = next(yaml.safe_load_all(manifest("controllers")))
    settings = loads(first["data"]["promring.yml"], base=tmp_path)
    assert settings.fleets[0].scrapers.kind == "kubernetes"
    assert settings.controllers.lock is not None
