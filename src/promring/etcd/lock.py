"""etcd as the store of the lock: a key with a lease, and the note in a second key without one.

Who put the key with its lease holds the lock; the key's create_revision is the token. etcd removes the key when its lease
gets no sign of life for the TTL, and the note stays. The lock key is never put without a lease: such a put succeeds for
anybody, takes the key from its lease, and the key then never ends. One that somebody put so by hand is taken when it has not
changed for twice the TTL.

A read of the holder is a sign of life and then a transaction that the members agreed on, since a leader of etcd that is cut
off takes signs of life for two seconds more. All others only read, every ``POLL_S``: a watch would tell them so much earlier
in a take-over of five seconds, and can be silent for many reasons.

A holder that may not touch the key any more forgets its lease, which then ends: a sign of life needs no right.

A new leader of etcd gives every lease its whole TTL and an election timeout more. So when etcd loses its leader together
with ours, a take-over takes an election, the TTL and 1 to 2 s (decision 60).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated

import msgspec
from pydantic import AfterValidator, Field

from promring.config.kinds import Sections
from promring.config.values import Interval
from promring.election import LockSettings
from promring.election.leadership import boottime
from promring.election.store import LockState, call_s
from promring.etcd.access import EtcdSection
from promring.etcd.client import NOT_FOUND, PERMISSION_DENIED, Client, connected, encoded
from promring.model import EtcdError
from promring.telemetry import log

POLL_S = 0.25
NOTE = "/note"
"""After the lock's key: the key of the note."""
TTL_LEAST_S, TTL_MOST_S = 3.0, 60.0
READS = 2
"""Of the lock's key and of the note's, in one transaction."""


class _Lease(msgspec.Struct, frozen=True):
    id: int = msgspec.field(name="ID", default=0)
    ttl: int = msgspec.field(name="TTL", default=0)


class _Kept(msgspec.Struct, frozen=True):
    """A stream of one answer."""

    result: _Lease = _Lease()


class _Value(msgspec.Struct, frozen=True):
    create_revision: int = 0
    mod_revision: int = 0
    lease: int = 0
    value: str = ""


class _Range(msgspec.Struct, frozen=True):
    kvs: list[_Value] = []


class _Operation(msgspec.Struct, frozen=True):
    response_range: _Range = _Range()


class _Transaction(msgspec.Struct, frozen=True):
    succeeded: bool = False
    responses: list[_Operation] = []


class _Nothing(msgspec.Struct, frozen=True):
    pass


def _ttl(value: float) -> float:
    if not TTL_LEAST_S <= value <= TTL_MOST_S or value != round(value):
        raise ValueError(f"must be whole seconds from {TTL_LEAST_S:g}s to {TTL_MOST_S:g}s")
    return value


class EtcdLockSettings(LockSettings):
    """``key``: who holds it leads, and the key below it with ``/note`` is shared; ``ttl``: a leader that gives no sign of
    life for so long is followed by another.
    """

    kind = "etcd"
    section = EtcdSection

    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9/][A-Za-z0-9/._-]*$", max_length=1024)] = "promring/leader"
    ttl: Annotated[Interval, AfterValidator(_ttl)] = 4.0

    @property
    def ttl_s(self) -> float:
        return self.ttl

    @contextlib.asynccontextmanager
    async def store(self, name: str, sections: Sections) -> AsyncIterator[EtcdLockStore]:
        async with connected(sections, call_s(self.ttl_s)) as client:
            yield EtcdLockStore(client, self.key, name, self.ttl_s)


class EtcdLockStore:
    """``LockStore`` on ``key``. ``name``: of this controller, for people; ``clock`` in seconds. Raises ``EtcdError``."""

    def __init__(self, client: Client, key: str, name: str, ttl_s: float, *, clock: Callable[[], float] = boottime) -> None:
        self.key = key
        self._client, self._name, self._ttl_s, self._clock = client, name, ttl_s, clock
        self._lease = 0
        """Of this process. 0: none."""
        self._token = 0
        """Of our hold. 0: we do not hold the lock, as far as was read."""
        self._unleased: tuple[int, float] | None = None
        """The mod_revision of a lock key without a lease, and since when it is that one."""

    async def read(self, wait_s: float = 0.0) -> LockState:
        await asyncio.sleep(min(wait_s, POLL_S))
        alive = not self._token or await self._keep_alive()
        lock, note = await self._both()
        held = bool(lock.mod_revision) and not self._is_left_behind(lock)
        ours = held and bool(self._lease) and lock.lease == self._lease
        if ours and not alive:
            self._client.ask_last()  # a leader of etcd that was frozen says so of leases that live
            raise EtcdError("etcd keeps the lock's key and says that its lease has ended")
        self._token = lock.create_revision if ours else 0
        return LockState(held, ours, lock.create_revision if held else 0, _value_of(note), lock.mod_revision)

    async def look(self) -> LockState:
        lock, note = await self._both()
        return LockState(bool(lock.mod_revision), False, lock.create_revision, _value_of(note), lock.mod_revision)

    async def take(self, seen: LockState) -> str:
        if not self._lease:
            body = {"TTL": str(round(self._ttl_s))}
            self._lease = (await self._client.call("lease/grant", body, _Lease)).id
        put = {"key": encoded(self.key), "value": encoded(self._name), "lease": str(self._lease)}
        unchanged = {"key": encoded(self.key), "target": "MOD", "mod_revision": str(seen.version)}  # 0: there is none
        no_lease = {"key": encoded(self.key), "target": "LEASE", "lease": "0"}
        try:
            taken = await self._transaction([unchanged, no_lease], [{"request_put": put}])
        except EtcdError as error:
            if error.code == NOT_FOUND:
                self._lease = 0  # it has ended since the last try
                return "the lease has ended"
            raise
        return "" if taken.succeeded else "another was faster"

    async def renew(self, seen: LockState, note: bytes | None = None) -> bool:
        """The sign of life was in the read."""
        return seen.ours and (note is None or await self._put_note(seen.token, note))

    async def lacks(self, note: bytes | None) -> str:
        """Nothing: each round needs every right."""
        return ""

    async def release(self, note: bytes | None) -> None:
        if note is not None and self._token:
            await self._put_note(self._token, note, {"request_delete_range": {"key": encoded(self.key)}})
        lease, self._lease, self._token = self._lease, 0, 0
        if lease:
            with contextlib.suppress(EtcdError):  # it ends by itself, and the lock is free already
                await self._client.call("lease/revoke", {"ID": str(lease)}, _Nothing)

    async def _both(self) -> tuple[_Value, _Value]:
        """The lock's key and the note's."""
        answer = await self._transaction([], [_range(self.key), _range(self.key + NOTE)])
        if len(answer.responses) != READS:
            raise EtcdError(f"etcd answered {len(answer.responses)} of {READS} reads of {self.key}")
        lock, note = (_first(one.response_range) for one in answer.responses)
        return lock, note

    async def _keep_alive(self) -> bool:
        """A sign of life, one request each: several in one are answered when the last was sent."""
        kept = await self._client.call("lease/keepalive", {"ID": str(self._lease)}, _Kept)
        return kept.result.ttl > 0

    async def _put_note(self, token: int, note: bytes, *more: Mapping[str, object]) -> bool:
        ours = {"key": encoded(self.key), "target": "CREATE", "create_revision": str(token)}
        put = {"request_put": {"key": encoded(self.key + NOTE), "value": encoded(note)}}
        return (await self._transaction([ours], [put, *more])).succeeded

    async def _transaction(self, compare: Sequence[Mapping[str, str]], then: Sequence[Mapping[str, object]]) -> _Transaction:
        try:
            return await self._client.call("kv/txn", {"compare": compare, "success": then}, _Transaction)
        except EtcdError as error:
            if error.code != PERMISSION_DENIED:
                raise
            if self._token:  # a lease lives on without that right, and nobody could lead
                self._lease = self._token = 0
            needs = f"the user's role must have readwrite on {self.key} and {self.key}{NOTE}"
            raise EtcdError(f"{error}; {needs}", error.status, error.code) from error

    def _is_left_behind(self, lock: _Value) -> bool:
        """Whether it is a key without a lease, which never ends, and stands so for twice the TTL."""
        if lock.lease:
            self._unleased = None
            return False
        if self._unleased is None or self._unleased[0] != lock.mod_revision:
            self._unleased = lock.mod_revision, self._clock()
            note = "put by hand? it is taken when it has not changed for twice the ttl"
            log.get().warning("lock_without_lease", key=self.key, note=note)
        return self._clock() - self._unleased[1] > 2 * self._ttl_s


def _range(key: str) -> dict[str, object]:
    return {"request_range": {"key": encoded(key)}}


def _value_of(note: _Value) -> bytes | None:
    """None: there is none. Raises ``EtcdError``."""
    try:
        return base64.b64decode(note.value) or None
    except ValueError as error:
        raise EtcdError(f"the note beside the lock is not base64: {error}") from None


def _first(found: _Range) -> _Value:
    """With revision 0 when there is no such key."""
    return found.kvs[0] if found.kvs else _Value()
