"""The connection to one host of ssh deliveries: kept, shared by all files of the host, and replaced when it breaks or hangs.

Promises: a broken connection is replaced once for everybody who needs it; a host that is slow is not given up.
Flow: ``ssh_host.Host`` has one; ``ssh_connect`` makes the connection, ``ssh_push`` sends a slice over it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from promring.delivery import How
from promring.delivery.ssh_connect import Connector, Step
from promring.delivery.ssh_push import BrokenError, CrowdedError, HostError, Work, push
from promring.runtime.threads import consume_error

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")
TURN, ASKING, WRITING = Step("waiting for its turn", ours=True), Step("asking"), Step("writing")


@dataclass(eq=False)
class Link:
    """To the host of that name."""

    name: str
    connection: asyncssh.SSHClientConnection | None = None
    heard_at: float = 0.0
    """When a connection was made, or the host said something."""
    _step: Step = TURN
    _connect_step: Step = TURN
    _connecting: asyncio.Task[asyncssh.SSHClientConnection] | None = None
    _replaced: list[asyncssh.SSHClientConnection] = field(default_factory=list)
    """Connections that others may still wait for."""

    @property
    def step(self) -> Step:
        """What is being done now."""
        is_connecting = self._connecting is not None and not self._connecting.done()
        return self._connect_step if is_connecting else self._step

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.abort()
            self.connection = None

    async def rest(self) -> None:
        """Nothing that was begun goes on; the connection is kept."""
        self._step = TURN
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            await _end(connecting)
        replaced, self._replaced = self._replaced, []
        for connection in replaced:
            connection.abort()

    async def send(self, work: Work, connector: Connector, timeout_s: float, *, is_shared: Callable[[], bool]) -> How:
        """Make the path of ``work`` hold its slice. ``is_shared``: whether other slices are being written beside it.

        A kept connection that broke is replaced once. Where nothing comes over it in half of the time, another one is tried
        beside it, and the first answer counts: a slow host is not given up, and a host whose connection was lost on the way
        is reached in time. Returns as ``ssh_push.push``. Raises FarError, HostError; the caller ends it in time.
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
            if broke and not (isinstance(asking.exception(), CrowdedError) and is_shared()):
                return await self._send_anew(kept, work, connector, timeout_s)
            return asking.result()
        finally:
            await _end(asking)

    async def _whoever_answers(self, asking: asyncio.Task[How], beside: Coroutine[None, None, How]) -> How:
        anew = asyncio.create_task(beside)
        try:
            await asyncio.wait([asking, anew], return_when=asyncio.FIRST_COMPLETED)
            first, other = (asking, anew) if asking.done() else (anew, asking)
            return await other if isinstance(first.exception(), HostError) else first.result()
        finally:
            await _end(anew)

    async def _send_anew(
        self, instead_of: asyncssh.SSHClientConnection | None, work: Work, connector: Connector, timeout_s: float
    ) -> How:
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
    consume_error(task)
