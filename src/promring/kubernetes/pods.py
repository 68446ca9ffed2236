"""Pods as the API shows them, as far as a membership needs them, and the watch that follows them.

Promises: each list is whole (all pages, one moment of the store); each change after it is handed on one by one. A watch that
ends, is cut or is silent for too long is begun again, and whatever goes wrong with it ends in a new list. So does a minute
without one, since a watch can be silent for reasons that nothing tells: a connection that is half open, a store that was put
back to an earlier state. A list that cannot be had is told, and the next try comes after a back-off, or as late as the
server asks for.

A watch is begun where the list before it ended, never with a resourceVersion that the server must wait for. The server ends
a watch from one that is too old with status 410, at once or in the stream: then there is a new list at once, and from the
second time on after a back-off.

Flow: ``membership/kubernetes.py`` says what a pod means.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import msgspec

from promring.kubernetes.client import Client
from promring.model import KubernetesError
from promring.runtime.backoff import backoff_s
from promring.runtime.unforeseen import Lasting
from promring.telemetry.log import Logger

PAGE = 250
"""Pods in one answer: a pod has about 10 kB, and an answer is read up to 16 MB."""
PODS_MAX, PAGES_MAX = 20_000, 1_000
LIST_S = 10.0
"""For one page."""
DOUBT_S = 1.0
LINE_BYTES_MAX = 2 * 1024 * 1024
WATCH_BYTES_MAX = 1024 * 1024 * 1024
BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.25, 8.0
RETRY_AFTER_MOST_S = 60.0
GONE = 410
JITTER = 0.2


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """``deletion_timestamp``: the pod is being deleted."""

    name: str
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Port(msgspec.Struct, frozen=True, rename="camel"):
    container_port: int
    name: str = ""


class Container(msgspec.Struct, frozen=True):
    ports: list[Port] | None = None


class Spec(msgspec.Struct, frozen=True, rename="camel"):
    """``init_containers``: those that run beside the others have ports, too."""

    containers: list[Container]
    init_containers: list[Container] | None = None
    node_name: str = ""


class Condition(msgspec.Struct, frozen=True):
    type: str
    status: str
    reason: str = ""


class Status(msgspec.Struct, frozen=True):
    """``reason``: of the phase, such as ``Evicted``."""

    phase: str = ""
    reason: str = ""
    conditions: list[Condition] | None = None
    ip: str = msgspec.field(name="podIP", default="")


class Pod(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: Spec
    status: Status = Status()

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def is_leaving(self) -> bool:
        """It is being deleted. It may be Ready meanwhile, and for ever when its node is gone."""
        return self.metadata.deletion_timestamp is not None

    @property
    def unready(self) -> str:
        """Why it is not Ready, in words; empty: it is."""
        if self.status.phase != "Running":
            return " ".join(filter(None, (self.status.phase or "no phase", self.status.reason)))
        ready = next((one for one in self.status.conditions or () if one.type == "Ready"), Condition("Ready", "False"))
        return "" if ready.status == "True" else " ".join(filter(None, ("not Ready", ready.reason)))

    def port(self, wanted: int | str) -> int | None:
        """The number of the port with a name, as a container has it; a number as it is."""
        if isinstance(wanted, int):
            return wanted
        containers = (*self.spec.containers, *(self.spec.init_containers or ()))
        ports = (port for container in containers for port in container.ports or ())
        return next((port.container_port for port in ports if port.name == wanted), None)


class _ListMetadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct, frozen=True):
    metadata: _ListMetadata
    items: list[Pod] | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Failure(msgspec.Struct, frozen=True):
    """The object of an event ERROR."""

    message: str = ""
    code: int = 0


class _Mark(msgspec.Struct, frozen=True):
    """The object of an event BOOKMARK: no pod, but its resourceVersion."""

    metadata: _ListMetadata


Hear = Callable[[Mapping[str, Pod]], Awaitable[None]]
"""All pods, by name."""


class Pace(NamedTuple):
    """Seconds. The server ends a watch after ``watch_s``; ``late_s`` later we do; there is a list each ``list_s``."""

    watch_s: float = 30.0
    late_s: float = 5.0
    list_s: float = 60.0


USUAL = Pace()


class PodWatch:
    """The pods of a namespace that ``selector`` selects. Run once."""

    def __init__(self, client: Client, namespace: str, selector: str, log: Logger, pace: Pace = USUAL) -> None:
        self._client, self._log, self._namespace, self._pace = client, log, namespace, pace
        self._path, self._params = f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector}
        self._pods: dict[str, Pod] = {}
        self._version = ""
        """Where the next watch begins."""
        self._lasting = Lasting()

    async def run(self, hear: Hear, failed: Callable[[str], None]) -> None:
        """For ever. ``hear`` is told all pods after each list and each change; ``failed`` why there is no list now."""
        failures = lost = 0
        while True:
            try:
                await self.read_list()
                await hear(self._pods)
            except KubernetesError as error:
                failures += 1
                if error.status != GONE or failures > 1:  # the moment of the first page is over: from the start
                    failed(self._said(error))
                await self._pause(error, failures)
                continue
            failures, listed_at = 0, time.monotonic()
            error_or_none = await self._follow(hear, listed_at)
            lost = lost + 1 if time.monotonic() - listed_at < self._pace.late_s else 0
            if lost > 1 or (error_or_none is not None and error_or_none.retry_after_s):
                await self._pause(error_or_none, lost)

    async def _follow(self, hear: Hear, listed_at: float) -> KubernetesError | None:
        """Watch until a full list is due; or something is wrong: then what, and the pods must be listed."""
        due = listed_at + self._pace.list_s * random.uniform(1 - JITTER, 1)
        while time.monotonic() < due:
            began, version = time.monotonic(), self._version
            try:
                await self.read_changes(hear)
            except KubernetesError as error:
                if error.status != GONE and self._lasting.is_news("watch", self._said(error), begins=False):
                    note = "the pods are listed instead"
                    self._log.warning("kubernetes_watch_failed", error=self._said(error), note=note)
                return error
            if version == self._version and time.monotonic() - began < self._pace.late_s:
                return None  # it ended at once, without a word
        return None

    async def read_list(self) -> None:
        """Raises ``KubernetesError``. A store that was put back to an earlier state is asked again a moment later."""
        before = self._version
        version, pods = await self._pages()
        if _is_lower(version, before):
            self._log.warning("kubernetes_version_went_back", old=before, new=version, note="was its store restored?")
            await asyncio.sleep(DOUBT_S)
            version, pods = await self._pages()
        self._version, self._pods = version, {name: self._same(pod) for name, pod in pods.items()}

    def _same(self, pod: Pod) -> Pod:
        """The object of before for a pod that did not change. A store that was put back gives a version a second time."""
        known = self._pods.get(pod.name)
        return known if known is not None and known == pod else pod

    async def _pages(self) -> tuple[str, dict[str, Pod]]:
        """Of the moment of the first page, whose resourceVersion all have."""
        pods: dict[str, Pod] = {}
        params = {**self._params, "limit": str(PAGE)}
        for _ in range(PAGES_MAX):
            _, page = await self._client.call("GET", self._path, _Page, deadline_s=LIST_S, params=params)
            assert page is not None  # status 200
            pods |= {pod.name: pod for pod in page.items or ()}
            if len(pods) > PODS_MAX:
                raise KubernetesError(f"more than {PODS_MAX} pods")
            if not page.metadata.continue_:
                return page.metadata.resource_version, pods
            params["continue"] = page.metadata.continue_
        raise KubernetesError(f"a list of more than {PAGES_MAX} pages")

    async def read_changes(self, hear: Hear) -> None:
        """Until the server ends it. Raises ``KubernetesError``."""
        seconds = max(1, round(self._pace.watch_s * random.uniform(1 - JITTER, 1)))
        params = {
            **self._params,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            "resourceVersion": self._version,
        }
        rest = b""

        async def take(piece: bytes) -> None:
            nonlocal rest
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > LINE_BYTES_MAX:
                raise KubernetesError(f"an event of a watch has more than {LINE_BYTES_MAX} bytes")
            for line in filter(None, lines):
                if self._changed(line):
                    await hear(self._pods)

        most = WATCH_BYTES_MAX
        await self._client.stream(
            self._path, take, deadline_s=seconds + self._pace.late_s, params=params, body_bytes_max=most
        )

    def _changed(self, line: bytes) -> bool:
        """Take one event; whether a pod changed. Raises ``KubernetesError``."""
        try:
            event = msgspec.json.decode(line, type=_Event)
            if event.type == "ERROR":
                failure = msgspec.json.decode(event.object, type=_Failure)
                raise KubernetesError(f"the watch was ended: {failure.message[:200]}", failure.code)
            if event.type == "BOOKMARK":
                self._version = msgspec.json.decode(event.object, type=_Mark).metadata.resource_version
                return False
            pod = msgspec.json.decode(event.object, type=Pod)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise KubernetesError(f"a malformed event of a watch: {error}") from error
        self._version = pod.metadata.resource_version
        changed = {**self._pods, pod.name: pod}
        if event.type == "DELETED":
            del changed[pod.name]
        self._pods = changed
        return True

    async def _pause(self, error: KubernetesError | None, failures: int) -> None:
        asked = min(error.retry_after_s, RETRY_AFTER_MOST_S) if error is not None else 0.0
        await asyncio.sleep(max(asked, backoff_s(max(failures, 1), BACKOFF_FIRST_S, BACKOFF_MOST_S)))

    def _said(self, error: KubernetesError) -> str:
        if error.status != 403:
            return str(error)
        return f"{error}; a Role in namespace {self._namespace} must allow list and watch of pods"


def _is_lower(version: str, before: str) -> bool:
    """Comparable by contract since 1.35; etcd's revision before."""
    numbers = [text.lstrip("0") for text in (version, before) if text.isdecimal()]  # of any length
    return len(numbers) == 2 and (len(numbers[0]), numbers[0]) < (len(numbers[1]), numbers[1])
