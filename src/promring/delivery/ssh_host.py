"""One far host of the ssh deliveries of a fleet, and the files on it.

A host has one connection for all services: its channels run beside each other. When the connection breaks or hangs, it is
replaced once for everybody who needs it. A file belongs to the delivery of one service: what it holds and shall hold, and
how its last push ended.
Flow: ``ssh_hosts.SshHosts`` owns hosts and decides when something is tried; ``ssh.SshDelivery`` owns its files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from promring.delivery import Outcome
from promring.delivery.ssh_connect import Connector, Step
from promring.delivery.ssh_push import BrokenError, CrowdedError, HostError, Work, push
from promring.model import Generation, Slice
from promring.runtime.threads import heed
from promring.telemetry.log import Logger

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")
TURN, ASKING, WRITING = Step("waiting for its turn", ours=True), Step("asking"), Step("writing")
CHANNELS = 4
"""Files of one host that are written at a moment; sshd allows 10 unless its MaxSessions says less."""


class Held(NamedTuple):
    generation: Generation
    sha256: str
    verified_at: float


class Failed(NamedTuple):
    outcome: str
    error: str


class Result(NamedTuple):
    of: Slice
    outcome: Outcome


class Owner(Protocol):
    """The delivery of one service, as its files see it."""

    log: Logger
    own: int
    """How many of the last folders of a path may not be symlinks."""

    def leads(self) -> bool:
        """Whether this controller leads now."""

    def ring(self) -> None:
        """What was told to be waiting has ended."""


@dataclass(eq=False)
class File:
    """``wanted`` None: nobody wants it any more."""

    owner: Owner
    path: str
    wanted: Slice | None = None
    held: Held | None = None
    result: Result | None = None
    """What the last push made of it, until it is told."""
    tried: Slice | None = None
    """By the try that is under way."""
    push: asyncio.Task[None] | None = None
    ends: asyncio.Future[None] | None = None
    """Done when its push has ended; None: none is asked for."""
    asked_at: float = 0.0
    slow: bool = False
    """The last push failed, or was not waited for."""
    told_waiting: bool = False
    failures: int = 0
    """Of this file alone, in a row."""
    retry_at: float = 0.0
    error: str = ""
    """Of the last push."""
    odd: set[str] = field(default_factory=set)
    """What was found odd, and said."""

    @property
    def is_awaited(self) -> bool:
        return self.ends is not None and not self.ends.done()

    @property
    def is_pushed(self) -> bool:
        return self.push is not None and not self.push.done()

    def want(self, slice_: Slice) -> None:
        self.wanted = slice_

    def await_end(self) -> None:
        if not self.is_awaited:
            self.ends, self.asked_at = asyncio.get_running_loop().create_future(), time.monotonic()

    def settle(self, result: Result | None, slow_after_s: float = 0.0) -> None:
        """Its push has ended; None: with nothing to tell."""
        if result is not None:
            self.result = result
            self.error = result.outcome.error if result.outcome.outcome in ("failed", "unsent") else ""
            self.slow = bool(self.error) or (self.told_waiting and time.monotonic() - self.asked_at > slow_after_s)
        if self.ends is not None and not self.ends.done():
            self.ends.set_result(None)
        if self.told_waiting:
            self.told_waiting = False
            self.owner.ring()


@dataclass(eq=False)
class Host:
    """One far host: its kept connection, its files, its try, and why it is left alone."""

    name: str
    files: list[File] = field(default_factory=list)
    connection: asyncssh.SSHClientConnection | None = None
    task: asyncio.Task[None] | None = None
    """The try that is under way."""
    is_open: bool = False
    """The try has its turn: files may be pushed."""
    began_at: float = 0.0
    heard_at: float = 0.0
    """When a connection was made, or the far side said something."""
    failed: Failed | None = None
    """Why this try ends for all its files."""
    channels: int = CHANNELS
    slow: bool = False
    """The last try failed, or was not waited for."""
    told_waiting: bool = False
    """Of this try."""
    failures: int = 0
    retry_at: float = 0.0
    error: str = ""
    """Of the last try, when it failed for all files."""
    paused_until: float = 0.0
    trouble: str = ""
    """The key error that was said already; empty: none."""
    _step: Step = TURN
    _connect_step: Step = TURN
    _connecting: asyncio.Task[asyncssh.SSHClientConnection] | None = None
    _replaced: list[asyncssh.SSHClientConnection] = field(default_factory=list)
    """Connections that others may still wait for."""

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()

    @property
    def answered(self) -> bool:
        """In this try."""
        return self.heard_at >= self.began_at > 0

    @property
    def is_connecting(self) -> bool:
        return self._connecting is not None and not self._connecting.done()

    @property
    def step(self) -> Step:
        return self._connect_step if self.is_connecting else self._step

    @property
    def pushed(self) -> list[File]:
        return [file for file in self.files if file.is_pushed]

    def is_left_alone(self, now: float) -> bool:
        return self.paused_until > now or self.retry_at > now

    # --- one try -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.is_open, self.began_at, self.failed = True, time.monotonic(), None

    async def end(self) -> None:
        """Nothing that this try began goes on."""
        self.is_open, self._step = False, TURN
        for file in self.files:
            file.tried = None
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            await _end(connecting)
        replaced, self._replaced = self._replaced, []
        for connection in replaced:
            connection.abort()

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.abort()
            self.connection = None

    # --- the connection ----------------------------------------------------------------------------------------------

    async def send(self, work: Work, connector: Connector, timeout_s: float) -> str:
        """A kept connection that broke is replaced once. Where nothing comes over it in half of the time, another one is
        tried beside it, and the first answer counts: a host that is slow is not given up, one whose connection was lost on
        the way is reached in time. Returns as ``ssh_push.push``. Raises FarError, HostError; the caller ends it in time.
        """
        kept = self.connection
        if kept is None or kept.is_closed():
            return await self._send_anew(kept, work, connector, timeout_s)
        self._step = ASKING
        asking = asyncio.create_task(push(kept, work, timeout_s))
        try:
            await asyncio.wait([asking], timeout=timeout_s / 2)
            if not asking.done():
                return await self._whoever_answers(asking, self._send_anew(kept, work, connector, timeout_s))
            broke = isinstance(asking.exception(), BrokenError)
            if broke and not (isinstance(asking.exception(), CrowdedError) and len(self.pushed) > 1):
                return await self._send_anew(kept, work, connector, timeout_s)
            return asking.result()
        finally:
            await _end(asking)

    async def _whoever_answers(self, asking: asyncio.Task[str], beside: Coroutine[None, None, str]) -> str:
        anew = asyncio.create_task(beside)
        try:
            await asyncio.wait([asking, anew], return_when=asyncio.FIRST_COMPLETED)
            first, other = (asking, anew) if asking.done() else (anew, asking)
            return await other if isinstance(first.exception(), HostError) else first.result()
        finally:
            await _end(anew)

    async def _send_anew(
        self, instead_of: asyncssh.SSHClientConnection | None, work: Work, connector: Connector, timeout_s: float
    ) -> str:
        connection = await self._another(instead_of, connector)
        self._step = WRITING
        return await push(connection, work, timeout_s)

    async def _another(
        self, instead_of: asyncssh.SSHClientConnection | None, connector: Connector
    ) -> asyncssh.SSHClientConnection:
        """A connection that is not that one: made once for all that need it. Where it cannot be made, that is so for the
        whole try. Raises HostError.
        """
        now = self.connection
        if now is not None and now is not instead_of and not now.is_closed():
            return now
        made = self._connecting
        if made is None or (made.done() and not made.cancelled() and made.exception() is None):
            made = self._connecting = asyncio.create_task(self._connect(connector))
        return await asyncio.shield(made)

    async def _connect(self, connector: Connector) -> asyncssh.SSHClientConnection:
        def at(step: Step) -> None:
            self._connect_step = step

        made = await connector.connect(self.name, at)
        if self.connection is not None:
            self._replaced.append(self.connection)
        self.connection, self.heard_at = made, time.monotonic()
        return made


async def _end(task: asyncio.Task[T]) -> None:
    """Cancel it, wait until it has ended, and look at how."""
    task.cancel()
    await asyncio.wait([task])
    heed(task)


def are_same(one: Slice, other: Slice) -> bool:
    return (one.generation, one.sha256) == (other.generation, other.sha256)
