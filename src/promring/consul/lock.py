"""Consul as the store of the lock: a key, a session, a TTL check.

Each controller registers itself as the service ``promring`` with a TTL check that only it can keep passing, and has a
session bound to that check. Who has locked the key with its session holds the lock. The key's value is the note, its
ModifyIndex the token: unlike LockIndex it goes on climbing when the key is deleted. Consul frees the key one TTL after the
last sign of life, or at once when the agent that has the check leaves or dies. After ``LOCK_DELAY_S`` another may have it.
The servers hear of the check from that agent only. One that cannot ask them any more, and that they still hear by gossip
(a firewall, a certificate that has expired), leaves it passing for ever: so the session also ends when nobody renews it.

A read is a sign of life to the agent, and then a read that all servers agree on: an agent that is cut off from its servers
would take signs of life, and they would have given the lock away. A session is ended before it is forgotten, and its check
is never used again: else it could hold the key for ever. A session that ends releases the key and leaves the note.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Annotated

from pydantic import AfterValidator, Field

from promring.config.kinds import Sections
from promring.config.values import Interval
from promring.consul.access import ConsulSection
from promring.consul.answers import Key
from promring.consul.client import LOCK_DEADLINE_S, Client, connected
from promring.consul.rights import key_write
from promring.election import LockSettings
from promring.election.leadership import boottime
from promring.election.store import LockState
from promring.model import ConsulError

SERVICE = "promring"
LOCK_DELAY_S = 1.0
LEASE_MOST_S = 4.0
AGAIN_S = 0.25
SYNC_S = 3.0
GONE_AFTER = "1m"
SESSION_LEAST_S = 10.0
"""Consul takes no shorter TTL of a session. It ends one after twice its TTL."""


LOCK_TTL_LEAST_S, LOCK_TTL_MOST_S = 2.0, 60.0


def _lock_ttl(value: float) -> float:
    if not LOCK_TTL_LEAST_S <= value <= LOCK_TTL_MOST_S:
        raise ValueError(f"must be from {LOCK_TTL_LEAST_S:g}s to {LOCK_TTL_MOST_S:g}s")
    return value


class ConsulLockSettings(LockSettings):
    """``key``: who holds it leads; ``check_ttl``: a leader that gives no sign of life for so long is followed by another."""

    kind = "consul"
    section = ConsulSection

    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")] = "promring/leader"
    check_ttl: Annotated[Interval, AfterValidator(_lock_ttl)] = 5.0

    @property
    def ttl_s(self) -> float:
        return self.check_ttl

    @property
    def lease_most_s(self) -> float:
        """An agent that is stopped, or whose node fails, frees the lock long before a long TTL."""
        return LEASE_MOST_S

    @contextlib.asynccontextmanager
    async def store(self, name: str, sections: Sections) -> AsyncIterator[ConsulLockStore]:
        async with connected(sections) as client:
            yield ConsulLockStore(client, self.key, name, self.ttl_s)


class ConsulLockStore:
    """``LockStore`` on the key ``key``. ``name``: of this controller, for people. Raises ``ConsulError``."""

    def __init__(self, client: Client, key: str, name: str, ttl_s: float) -> None:
        self.key = key
        self._client, self._name, self._ttl_s = client, name, ttl_s
        self._id = self._session = ""
        self._session_s = max(SESSION_LEAST_S, ttl_s)
        self._barred = False
        """Whether the key was refused to us. Then there is no new session before it can be read."""
        self._index: int | None = None
        """To wait for the next change with. None: nothing is known for sure, so the next read waits for nothing."""

    async def read(self, wait_s: float = 0.0) -> LockState:
        index, self._index = self._index if wait_s else None, None
        if not self._barred:
            await self._live()
        async with self._leaving_when_barred():
            key = await self._client.key(self.key, index=index, wait_s=wait_s)
        if self._barred:
            self._barred = False
            await self._live()
        ours = bool(key.session) and key.session == self._session
        self._index = None if ours else key.index
        return LockState(bool(key.session), ours, key.modify_index, key.value or None, key.modify_index)

    async def look(self) -> LockState:
        key = await self._client.key(self.key)
        return LockState(bool(key.session), False, key.modify_index, key.value or None, key.modify_index)

    async def take(self, seen: LockState) -> str:
        self._index = None
        unchanged = Key(modify_index=seen.version)
        why_not = await self._client.acquire(self.key, unchanged, self._session, seen.note or b"")
        if "session" in why_not:
            await self._end_session()
            raise ConsulError("the session is no more: another one is made")
        return why_not and f"{why_not}; the token must have: {key_write(self.key)}"

    async def renew(self, seen: LockState, note: bytes | None = None) -> bool:
        """The sign of life was in the read. A session holds the key or not, so ``seen`` is not compared."""
        async with self._leaving_when_barred():
            return bool(self._session) and (note is None or await self._client.change(self.key, self._session, note))

    async def lacks(self, note: bytes | None) -> str:
        """A session goes on for a while without the right to renew it, and a key stays locked without the right to write
        it. So both are asked for: the session is renewed, and our own note is put again, which Consul does not count as a
        change.
        """
        asked = [self._client.renew_session(self._session)] if self._session else []
        if self._session and note is not None:
            asked.append(self._client.change(self.key, self._session, note))
        said = await asyncio.gather(*asked, return_exceptions=True)
        return "; ".join(str(one) for one in said if isinstance(one, ConsulError) and one.status == 403)

    async def release(self, note: bytes | None) -> None:
        if note is not None:
            await self._client.release(self.key, self._session, note)
        await self._end_session()

    @contextlib.asynccontextmanager
    async def _leaving_when_barred(self) -> AsyncIterator[None]:
        """Who may not touch the key any more ends its session: it could go on for ever, and nobody would lead."""
        try:
            yield
        except ConsulError as error:
            if error.status == 403:
                self._barred = True
                with contextlib.suppress(ConsulError):
                    await self._end_session()
            raise

    async def _live(self) -> None:
        """A sign of life. A session that cannot get one any more is replaced."""
        if self._session and await self._client.check_passes(self._id, SERVICE) and await self._renewed():
            return
        await self._end_session()
        name = f"{SERVICE}-{secrets.token_hex(8)}"  # never one again: a session that was not ended ends with its check
        check = {
            "TTL": f"{round(self._ttl_s * 1000)}ms",
            "Status": "passing",
            "DeregisterCriticalServiceAfter": GONE_AFTER,
        }
        definition = {"ID": name, "Name": SERVICE, "Meta": {"controller": self._name}, "Check": check}
        await self._client.register(definition, deadline_s=LOCK_DEADLINE_S)
        self._id = name
        await self._client.check_passes(self._id, SERVICE)
        deadline = boottime() + SYNC_S
        while not self._session:
            try:
                self._session = await self._client.create_session(self._name, self._id, LOCK_DELAY_S, self._session_s)
            except ConsulError as error:
                if boottime() > deadline or error.status == 403:
                    raise
                await asyncio.sleep(AGAIN_S)  # the agent has not told the servers about the check yet

    async def _renewed(self) -> bool:
        """False: the session is no more. Who may not renew it any more goes on until it ends; ``lacks`` names the right."""
        try:
            return await self._client.renew_session(self._session)
        except ConsulError as error:
            if error.status != 403:
                raise
            return True

    async def _end_session(self) -> None:
        """Raises ``ConsulError``; then it ends with its check, which nobody keeps passing any more."""
        session, service_id = self._session, self._id
        self._session = self._id = ""
        if session:
            await self._client.destroy_session(session)
        if service_id:
            await self._client.deregister(service_id, SERVICE)
