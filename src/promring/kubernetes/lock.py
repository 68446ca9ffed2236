"""A Kubernetes Lease as the store of the lock.

Who is named in the Lease holds it: the controller's name and a random part, so that no other process ever has that identity.
The note is an annotation. Each write is a PUT of the whole object with the resourceVersion that was read (a PATCH without it
would succeed whatever happened meanwhile); the resourceVersion is the token.

Nothing ends on the server. A Lease is free when it names nobody, or has not changed for its own duration since *this*
process first saw it so, on our own clock: the times in it are for people and are compared with no clock. So a controller
that has just started waits for a whole duration before it takes a Lease.

A write whose answer was lost may be carried out later, and the next one is refused then (409). The next read tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from pydantic import AfterValidator

from promring.config.kinds import Sections
from promring.config.values import Interval
from promring.election import LockSettings
from promring.election.leadership import boottime
from promring.election.store import LockState, call_s
from promring.kubernetes.access import DnsName, KubernetesSection
from promring.kubernetes.client import Client, connected
from promring.model import KubernetesError

POLL_S = 0.5
SERVER_FIRST_S = 0.3
"""The server gives up so long before we do. Without that a write may be carried out 34 s later."""
NOTE = "promring/note"
NOTE_BYTES_MAX = 200_000
"""All annotations of an object together have at most 262,144 bytes."""
VERSION_DIGITS_MAX = 20
"""Of a resourceVersion, which has 64 bits."""
TTL_LEAST_S, TTL_MOST_S = 3.0, 60.0


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    namespace: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[dict[str, object]] = []
    finalizers: list[str] = []


class _Spec(msgspec.Struct, rename="camel", omit_defaults=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Lease(msgspec.Struct, rename="camel"):
    """All of a Lease that a PUT has to repeat."""

    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"

    @property
    def note(self) -> bytes | None:
        return self.metadata.annotations.get(NOTE, "").encode() or None

    @property
    def version(self) -> int:
        """Comparable by contract since 1.35; it was etcd's revision before."""
        version = self.metadata.resource_version
        if not version.isdecimal() or len(version) > VERSION_DIGITS_MAX:
            raise KubernetesError(f"the resourceVersion {version[:40]!r} of the Lease is not a number")
        return int(version)


def _ttl(value: float) -> float:
    if not TTL_LEAST_S <= value <= TTL_MOST_S or value != round(value):
        raise ValueError(f"must be whole seconds from {TTL_LEAST_S:g}s to {TTL_MOST_S:g}s")
    return value


class KubernetesLockSettings(LockSettings):
    """``namespace`` and ``name``: of the Lease, absent: the pod's own and ``promring``; ``lease``: a leader that gives no
    sign of life for so long is followed by another.
    """

    kind = "kubernetes"
    section = KubernetesSection

    namespace: DnsName | None = None
    name: DnsName = "promring"
    lease: Annotated[Interval, AfterValidator(_ttl)] = 5.0

    @property
    def ttl_s(self) -> float:
        return self.lease

    @contextlib.asynccontextmanager
    async def store(self, name: str, sections: Sections) -> AsyncIterator[KubernetesLockStore]:
        async with connected(sections) as client:
            namespace = self.namespace or client.access.namespace
            yield KubernetesLockStore(client, f"{namespace}/{self.name}", name, self.ttl_s)


class KubernetesLockStore:
    """``LockStore`` on the Lease ``key``, which is ``namespace/name``. ``name``: of this controller, for people; ``clock``
    in seconds. Raises ``KubernetesError``.
    """

    def __init__(self, client: Client, key: str, name: str, ttl_s: float, *, clock: Callable[[], float] = boottime) -> None:
        self.key = key
        self._client, self._ttl_s, self._clock = client, ttl_s, clock
        self._identity = f"{name}/{secrets.token_hex(8)}"
        self._lease: _Lease | None = None
        """As read or written last. None: there is none."""
        self._unchanged: tuple[int, float] = 0, 0.0
        """The version that was read last, and when it was seen first."""

    async def read(self, wait_s: float = 0.0) -> LockState:
        await asyncio.sleep(min(wait_s, POLL_S))
        asked_at = self._clock()
        lease = self._lease = await self._ask("GET", None, (200, 404))
        if lease is None:
            return LockState()
        version, spec = lease.version, lease.spec
        if version != self._unchanged[0]:
            self._unchanged = version, self._clock()
        ours = spec.holder_identity == self._identity
        lasts_s = min(spec.lease_duration_seconds or 0, TTL_MOST_S)  # no controller says more: somebody else wrote it
        expired = asked_at - self._unchanged[1] > lasts_s
        held = bool(spec.holder_identity) and (ours or not expired)
        return LockState(held, ours, version, lease.note, version)

    async def look(self) -> LockState:
        """Whoever is named holds it: whether its time is over is known only to one who reads again and again."""
        lease = await self._ask("GET", None, (200, 404))
        if lease is None:
            return LockState()
        return LockState(bool(lease.spec.holder_identity), False, lease.version, lease.note, lease.version)

    async def take(self, seen: LockState) -> str:
        """The first one makes the Lease, which needs a right of its own; else it comes with the manifest."""
        if seen.held:
            return "another holds it"  # the server would let us have it
        lease, now = self._as_seen(seen), _now()
        if lease is None and seen.version:
            return "the Lease was not read so"
        made = lease or _Lease(_Metadata(self.key.partition("/")[2]))
        transitions = 0 if lease is None else (lease.spec.lease_transitions or 0) + 1
        made.spec = _Spec(self._identity, round(self._ttl_s), now, now, transitions)
        taken = await self._ask("PUT" if lease else "POST", made, (200, 201, 404, 409))
        return "" if taken is not None else "another was faster"

    async def renew(self, seen: LockState, note: bytes | None = None) -> bool:
        """The sign of life: a time that moves, since a PUT that changes nothing keeps the resourceVersion."""
        lease = self._as_seen(seen)
        if lease is None or not seen.ours:
            return False
        lease.spec.renew_time, lease.spec.lease_duration_seconds = _now(), round(self._ttl_s)
        self._annotate(lease, note)
        written = await self._ask("PUT", lease, (200, 404, 409))
        self._lease = written
        return written is not None

    async def lacks(self, note: bytes | None) -> str:
        """Nothing: a leader needs every right in each round."""
        return ""

    async def release(self, note: bytes | None) -> None:
        lease = self._lease
        if note is None or lease is None or lease.spec.holder_identity != self._identity:
            return
        lease.spec.holder_identity, lease.spec.lease_duration_seconds = "", 1
        self._annotate(lease, note)
        self._lease = await self._ask("PUT", lease, (200, 404, 409))

    def _as_seen(self, seen: LockState) -> _Lease | None:
        """The Lease that ``seen`` tells of, if it still is the last one that we know."""
        lease = self._lease
        return lease if lease is not None and lease.version == seen.version else None

    def _annotate(self, lease: _Lease, note: bytes | None) -> None:
        if note is None:
            return
        if len(note) > NOTE_BYTES_MAX:
            raise KubernetesError(f"the note has {len(note)} bytes, and a Lease holds {NOTE_BYTES_MAX}: use etcd or Consul")
        lease.metadata.annotations[NOTE] = note.decode()

    async def _ask(self, method: str, lease: _Lease | None, fine: tuple[int, ...]) -> _Lease | None:
        """The Lease as the server has it now. None: there is none, or it was not written."""
        namespace, _, name = self.key.partition("/")
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases" + ("" if method == "POST" else f"/{name}")
        body = None if lease is None else msgspec.to_builtins(lease)
        most_s = call_s(self._ttl_s)
        params = {"timeout": f"{most_s - SERVER_FIRST_S:.1f}s"}
        _, found = await self._client.call(method, path, _Lease, deadline_s=most_s, params=params, body=body, fine=fine)
        return found


def _now() -> str:
    """The wall clock, for people, as the server wants it: with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
