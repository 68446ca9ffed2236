"""A lock's store in memory. It is honest because ``tests/real/test_lock_contract.py`` runs on it and on the real ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from promring.election.store import LockState
from promring.model import StoreError

POLL_S = 0.05


class FakeLockServer:
    """What the candidates share. ``clock`` in seconds. Beyond the contract it can fail: ``down`` answers nothing; ``lost``
    is how many of the next writes are carried out and not answered; ``denied`` refuses to be taken, ``takes_nothing`` to be
    renewed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.down = self.denied = False
        self.why: Callable[[], str] = lambda: "the store is down"
        self.lost = 0
        self.takes_nothing, self.reads = False, 0
        self.lacking, self.rights_take_s, self.answers_take_s = "", 0.0, 0.0
        self.note: bytes | None = None
        self.token = 0
        self.version = 0
        self._holder: FakeLockStore | None = None
        self._ends_at = 0.0

    def candidate(self, ttl_s: float) -> FakeLockStore:
        return FakeLockStore(self, ttl_s)

    def put(self, note: bytes) -> None:
        """By hand, whoever holds the lock."""
        self.note, self.version = note, self.version + 1

    def forget(self) -> None:
        """All data is lost."""
        self.remove()
        self.note, self.token = None, 0

    def remove(self) -> None:
        """By hand: the lock, not the note."""
        self._holder, self.version = None, self.version + 1

    @property
    def holder(self) -> FakeLockStore | None:
        return self._holder if self.clock() < self._ends_at else None

    def hold(self, holder: FakeLockStore, ttl_s: float) -> None:
        self._holder, self._ends_at = holder, self.clock() + ttl_s

    def answer(self) -> None:
        if self.down:
            raise StoreError(self.why())

    def wrote(self) -> None:
        self.version += 1
        if self.lost:
            self.lost -= 1
            raise StoreError("no whole answer within 2 s")


class FakeLockStore:
    """``LockStore`` of one candidate."""

    key = "fake/leader"

    def __init__(self, server: FakeLockServer, ttl_s: float) -> None:
        self._server, self._ttl_s = server, ttl_s

    async def read(self, wait_s: float = 0.0) -> LockState:
        server = self._server
        before, until = server.version, server.clock() + wait_s
        # The lock ends by the clock, which no event tells.
        while server.clock() < until and server.version == before and server.holder is not None:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        server.answer()
        server.reads += 1
        await asyncio.sleep(server.answers_take_s)
        ours = server.holder is self
        if ours:
            server.hold(self, self._ttl_s)
        held = server.holder is not None
        return LockState(held, ours, server.token if held else 0, server.note or None, server.version)

    async def look(self) -> LockState:
        server = self._server
        server.answer()
        held = server.holder is not None
        return LockState(held, False, server.token if held else 0, server.note or None, server.version)

    async def take(self, seen: LockState) -> str:
        server = self._server
        server.answer()
        await asyncio.sleep(server.answers_take_s)
        if server.denied:
            return "permission denied"
        if server.holder is not None or server.version != seen.version:
            return "somebody was faster"
        server.hold(self, self._ttl_s)
        server.token += 1
        server.wrote()
        return ""

    async def renew(self, seen: LockState, note: bytes | None = None) -> bool:
        server = self._server
        server.answer()
        await asyncio.sleep(server.answers_take_s)
        if server.holder is not self or server.takes_nothing:
            return False
        server.hold(self, self._ttl_s)
        if note is not None:
            server.note = note
            server.wrote()
        return True

    async def lacks(self, note: bytes | None) -> str:
        await asyncio.sleep(self._server.rights_take_s)
        return self._server.lacking

    async def release(self, note: bytes | None) -> None:
        server = self._server
        server.answer()
        if note is not None and server.holder is self:
            server.note, server._holder = note, None
            server.wrote()
