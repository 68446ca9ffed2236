"""Stores that can lock, each with what a test does to it: a server in memory, and real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import aiohttp
from testbed.consul import ConsulProcess
from testbed.etcd import EtcdProcess
from testbed.kubernetes import ADMIN, ApiServer

from promring.consul.client import Access, Client
from promring.consul.lock import LOCK_DELAY_S, ConsulLockStore
from promring.election.store import LockStore, call_s
from promring.etcd.access import Access as EtcdAccess
from promring.etcd.client import Client as EtcdClient
from promring.etcd.client import encoded
from promring.etcd.lock import EtcdLockStore
from promring.kubernetes.access import Access as KubernetesAccess
from promring.kubernetes.client import Client as KubernetesClient
from promring.kubernetes.lock import KubernetesLockStore
from promring.runtime.http_client import TlsFiles, new_session
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.lock import FakeLockServer
from tests.real.conftest import server


class Ground(Protocol):
    """``ttl_s``: of the candidates; ``free_within_s``: so long after its holder's last sign of life a lock can be taken."""

    ttl_s: float
    free_within_s: float
    asked_s: float
    """So long a call takes at most when the store is down."""

    @property
    def address(self) -> str:
        """``host:port`` of the server."""

    def candidate(self, name: str, key: str = "leader", *, at: str = "") -> LockStore:
        """Another process, with a client of its own. ``at``: the ``host:port`` that leads to the server, if not its own."""

    async def delete(self, key: str) -> None:
        """The lock and what belongs to it, by hand."""

    async def down(self) -> None:
        """kill -9."""

    async def up(self, *, emptied: bool = False) -> None:
        """Again, with its data or without."""


class InMemory:
    ttl_s, free_within_s, asked_s = 0.5, 0.5, 0.1

    def __init__(self) -> None:
        self._servers: dict[str, FakeLockServer] = {}

    def _server(self, key: str) -> FakeLockServer:
        return self._servers.setdefault(key, FakeLockServer())

    @property
    def address(self) -> str:
        raise NotImplementedError

    def candidate(self, name: str, key: str = "leader", *, at: str = "") -> LockStore:
        return self._server(key).candidate(self.ttl_s)

    async def delete(self, key: str) -> None:
        self._server(key).remove()

    async def down(self) -> None:
        for one in self._servers.values():
            one.down = True

    async def up(self, *, emptied: bool = False) -> None:
        for one in self._servers.values():
            one.down = False
            if emptied:
                one.forget()


class OnConsul:
    ttl_s, free_within_s, asked_s = 2.0, 2.0 + LOCK_DELAY_S + 1.0, 3.0

    def __init__(self, process: ConsulProcess, session: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        self.process, self._session, self._stack = process, session, stack

    @property
    def address(self) -> str:
        return self.process.address

    def candidate(self, name: str, key: str = "leader", *, at: str = "") -> LockStore:
        client = Client(Access(at or self.address))
        client._session = new_session(connections_max=10)
        self._stack.push_async_exit(client)
        return ConsulLockStore(client, key, name, self.ttl_s)

    async def delete(self, key: str) -> None:
        await self._asked("DELETE", key)

    async def _asked(self, method: str, key: str, body: bytes | None = None) -> None:
        async with self._session.request(method, f"{self.process.url}/v1/kv/{key}", data=body) as response:
            assert response.status == 200

    async def down(self) -> None:
        await self.process.kill()

    async def up(self, *, emptied: bool = False) -> None:
        if emptied:
            self.process.forget()
        await self.process.start()
        await self.process.until(lambda: self.process.is_ready(self._session), "Consul")


class OnEtcd:
    ttl_s, free_within_s, asked_s = 2.0, 3.0, 1.5

    def __init__(self, process: EtcdProcess, session: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        self.process, self._session, self._stack = process, session, stack

    @property
    def address(self) -> str:
        return self.process.url.removeprefix("http://")

    def candidate(self, name: str, key: str = "leader", *, at: str = "") -> LockStore:
        client = EtcdClient(EtcdAccess((f"http://{at or self.address}",)), call_s(self.ttl_s))
        client._session = new_session(connections_max=10)
        self._stack.push_async_exit(client)
        return EtcdLockStore(client, key, name, self.ttl_s)

    async def delete(self, key: str) -> None:
        await self.process.call(self._session, "kv/deleterange", {"key": encoded(key)})

    async def down(self) -> None:
        await self.process.kill()

    async def up(self, *, emptied: bool = False) -> None:
        if emptied:
            self.process.forget()
        await self.process.start()
        await self.process.until(lambda: self.process.is_ready(self._session), "etcd")


class OnFakeKubernetes:
    ttl_s, free_within_s, asked_s = 1.0, 2.0, 1.5

    def __init__(self, fake: FakeKubernetes, stack: AsyncExitStack) -> None:
        self._fake, self._stack = fake, stack

    @property
    def address(self) -> str:
        return self._fake.url.removeprefix("http://")

    def candidate(self, name: str, key: str = "leader", *, at: str = "") -> LockStore:
        return lease_store(self._stack, KubernetesAccess(self._fake.url, "default", TlsFiles()), key, name, self.ttl_s)

    async def delete(self, key: str) -> None:
        del self._fake.leases["default", key]

    async def down(self) -> None:
        await self._fake.down()

    async def up(self, *, emptied: bool = False) -> None:
        if emptied:
            self._fake.forget()
        await self._fake.up()


class OnKubernetes:
    ttl_s, free_within_s, asked_s = 1.0, 2.0, 1.5

    def __init__(self, api: ApiServer, etcd: EtcdProcess, session: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        self._api, self._etcd, self._session, self._stack = api, etcd, session, stack

    @property
    def address(self) -> str:
        return self._api.url.removeprefix("https://")

    def candidate(self, name: str, key: str = "leader", *, at: str = "") -> LockStore:
        access = KubernetesAccess(f"https://{at or self.address}", "default", self._api.tls, token=ADMIN)
        return lease_store(self._stack, access, key, name, self.ttl_s)

    async def delete(self, key: str) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{key}"
        await self._api.call(self._session, "DELETE", path)

    async def down(self) -> None:
        await self._api.kill()
        await self._etcd.kill()

    async def up(self, *, emptied: bool = False) -> None:
        if emptied:
            self._etcd.forget()
        await self._etcd.start()
        await self._etcd.until(lambda: self._etcd.is_ready(self._session), "etcd")
        await self._api.start()
        await self._api.until(lambda: self._api.is_ready(self._session), "kube-apiserver", 120)


def lease_store(stack: AsyncExitStack, access: KubernetesAccess, key: str, name: str, ttl_s: float) -> LockStore:
    client = KubernetesClient(access)
    client._session = new_session(connections_max=10)
    stack.push_async_exit(client)
    return KubernetesLockStore(client, f"default/{key}", name, ttl_s)


@asynccontextmanager
async def in_memory(_: Path) -> AsyncIterator[Ground]:
    yield InMemory()


def on_consul(name: str) -> Callable[[Path], AsyncIterator[Ground]]:
    async def on(folder: Path) -> AsyncIterator[Ground]:
        process = ConsulProcess(server(name), folder / name)
        async with new_session(keep_alive=False) as session, AsyncExitStack() as stack:
            ground = OnConsul(process, session, stack)
            await ground.up()
            stack.push_async_callback(process.stop)
            yield ground

    return on


@asynccontextmanager
async def on_etcd(folder: Path) -> AsyncIterator[Ground]:
    process = EtcdProcess(server("etcd"), folder / "etcd")
    async with new_session(keep_alive=False) as session, AsyncExitStack() as stack:
        ground = OnEtcd(process, session, stack)
        await ground.up()
        stack.push_async_callback(process.stop)
        yield ground


@asynccontextmanager
async def on_fake_kubernetes(_: Path) -> AsyncIterator[Ground]:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeKubernetes())
        yield OnFakeKubernetes(fake, stack)


@asynccontextmanager
async def on_kubernetes(folder: Path) -> AsyncIterator[Ground]:
    program, etcd = server("kube-apiserver"), EtcdProcess(server("etcd"), folder / "etcd")
    api = ApiServer(program, folder / "api", etcd)
    async with new_session(keep_alive=False) as session, AsyncExitStack() as stack:
        ground = OnKubernetes(api, etcd, session, stack)
        stack.push_async_callback(etcd.stop)
        stack.push_async_callback(api.kill)
        await ground.up()
        yield ground


GROUNDS = {
    "fake": in_memory,
    "consul": asynccontextmanager(on_consul("consul")),
    "consul14": asynccontextmanager(on_consul("consul14")),
    "etcd": on_etcd,
    "kubernetes in memory": on_fake_kubernetes,
    "kubernetes": on_kubernetes,
}
