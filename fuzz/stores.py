"""What Consul, etcd and Kubernetes answer about scrapers and the lock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from fuzz.harness import at, now, result, scraper
from promring.consul.catalogue import Catalogue
from promring.consul.instances import decode_instances
from promring.election import note
from promring.election.store import LockState, LockStore
from promring.etcd.access import Access as EtcdAccess
from promring.etcd.client import Client as EtcdClient
from promring.etcd.client import decoded
from promring.etcd.lock import EtcdLockStore
from promring.kubernetes.access import Access as KubernetesAccess
from promring.kubernetes.client import Client as KubernetesClient
from promring.kubernetes.client import answered
from promring.kubernetes.lock import KubernetesLockStore
from promring.kubernetes.pods import Pod, PodWatch
from promring.membership.kubernetes import PodReader
from promring.model import EtcdError, KubernetesError
from promring.runtime.http_client import Response, TlsFiles
from promring.telemetry import log

END_OF_LIST, PIECE = b"\n\n", 50
T = TypeVar("T")


def consul_instances(data: bytes) -> None:
    found = result(lambda: decode_instances(data), ValueError)
    if found is not None:
        members, _ = Catalogue(lambda node, _: at(*node)).members(found[0])
        assert len({one.id for one in members}) == len(members)


class _Kubernetes(KubernetesClient):
    """Decodes ``body`` as if the API server had sent it."""

    def __init__(self, body: bytes) -> None:
        super().__init__(KubernetesAccess("http://127.0.0.1", "ns", TlsFiles()))
        self._body = body

    async def call(self, method: str, path: str, shape: type[T], **_: object) -> tuple[int, T | None]:
        return 200, answered(Response(200, {}, self._body.partition(END_OF_LIST)[0]), shape, "kubernetes")

    async def stream(self, path: str, consume: Callable[[bytes], Awaitable[None]], **_: object) -> None:
        """What is behind the list, in pieces that end anywhere."""
        events = self._body.partition(END_OF_LIST)[2]
        for begin in range(0, len(events), PIECE):
            await consume(events[begin : begin + PIECE])


class _Etcd(EtcdClient):
    """The same for etcd."""

    def __init__(self, body: bytes) -> None:
        super().__init__(EtcdAccess(("http://127.0.0.1",)))
        self._body = body

    async def call(self, path: str, body: Mapping[str, object], shape: type[T]) -> T:
        return decoded(Response(200, {}, self._body), shape, "etcd")


def kubernetes_lease(data: bytes) -> None:
    store = KubernetesLockStore(_Kubernetes(data), "ns/promring", "me", 5.0)
    store._identity = "a/1"  # the sample's: it is drawn at random
    _use(store, KubernetesError)


def kubernetes_pods(data: bytes) -> None:
    """A list of pods, and behind ``END_OF_LIST`` the lines of a watch."""
    watch = PodWatch(_Kubernetes(data), "ns", "app=prometheus", log.get())
    reader = PodReader("web", scraper, ())

    async def hear(pods: Mapping[str, Pod]) -> None:
        members = reader.read(pods, {}).members
        assert len({one.address for one in members}) == len(members)

    async def run() -> None:
        await watch.read_list()
        await watch.read_list()
        await watch.read_changes(hear)

    result(lambda: now(run()), KubernetesError)


def etcd_answer(data: bytes) -> None:
    store = EtcdLockStore(_Etcd(data), "promring/lock", "me", 5.0)
    _use(store, EtcdError)


def lock_note(data: bytes) -> None:
    found = note.decode(data)
    if found is not None:
        assert note.decode(found.encode()) == found, "a note that is written is another one when it is read"


def _use(store: LockStore, expected: type[Exception]) -> None:
    """All that the election asks of a store, each time answered by the same bytes."""
    for _ in range(2):  # a store that took the lock reads more
        state = result(lambda: now(store.read()), expected)
        assert state is None or state.held or not state.ours
        for work in (store.take, lambda seen: store.renew(seen, b"{}")):
            result(lambda work=work, state=state: now(work(state or LockState())), expected)  # type: ignore[misc]
    result(lambda: now(store.release(b"{}")), expected)
