"""One far host of an ssh delivery: what it holds and shall hold, its try, its connection, and why it is left alone.

Owned by ``ssh.SshDelivery``, which decides when something is tried. This has the way over which it is: a kept connection, or
another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from promring.delivery import Outcome
from promring.delivery.ssh_connect import Connector, Step
from promring.delivery.ssh_far import BrokenError, HostError, Work, push
from promring.model import Generation, Slice
from promring.threads import heed

if TYPE_CHECKING:
    import asyncssh

TURN, ASKING, WRITING = Step("waiting for its turn", ours=True), Step("asking"), Step("writing")


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


@dataclass
class Host:
    """One far host: its kept connection, what its files hold and shall hold, its try, and why it is left alone."""

    name: str
    connection: asyncssh.SSHClientConnection | None = None
    held: dict[str, Held] = field(default_factory=dict)
    wanted: Mapping[str, Slice] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    """What the last try made of each path, until it is told."""
    task: asyncio.Task[None] | None = None
    slow: bool = False
    """The last try failed, or was not waited for."""
    told_waiting: bool = False
    """Of the try that is under way."""
    failures: int = 0
    retry_at: float = 0.0
    errors: dict[str, str] = field(default_factory=dict)
    """Of the last try, by path."""
    paused_until: float = 0.0
    trouble: str = ""
    """The key error that was said already; empty: none."""
    step: Step = TURN
    odd: set[tuple[str, str]] = field(default_factory=set)
    """What was found odd at a path, and said."""

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()

    def want(self, slices: Mapping[str, Slice]) -> None:
        self.wanted = slices
        self.results = {path: result for path, result in self.results.items() if path in slices}

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.abort()
            self.connection = None

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
        self.drop()

    async def push(self, work: Work, connector: Connector, timeout_s: float) -> str:
        """A kept connection that broke is replaced once. Where nothing comes over it in half of the time, another one is
        tried beside it, and the first answer counts: a host that is slow is not given up, one whose connection was lost on
        the way is reached in time. Returns as ``ssh_far.push``. Raises FarError, HostError; the caller ends it in time.
        """
        kept = self.connection
        if kept is None or kept.is_closed():
            return await self._push_anew(work, connector, timeout_s)
        self.step = ASKING
        asking = asyncio.create_task(push(kept, work, timeout_s))
        try:
            await asyncio.wait([asking], timeout=timeout_s / 2)
            if not asking.done():
                return await self._whoever_answers(asking, self._push_anew(work, connector, timeout_s))
            if isinstance(asking.exception(), BrokenError):
                return await self._push_anew(work, connector, timeout_s)
            return asking.result()
        finally:
            await _end(asking)
            if kept is not self.connection:
                kept.abort()

    async def _whoever_answers(self, asking: asyncio.Task[str], beside: Coroutine[None, None, str]) -> str:
        anew = asyncio.create_task(beside)
        try:
            await asyncio.wait([asking, anew], return_when=asyncio.FIRST_COMPLETED)
            first, other = (asking, anew) if asking.done() else (anew, asking)
            return await other if isinstance(first.exception(), HostError) else first.result()
        finally:
            await _end(anew)

    async def _push_anew(self, work: Work, connector: Connector, timeout_s: float) -> str:
        def at(step: Step) -> None:
            self.step = step

        self.connection = await connector.connect(self.name, at)
        self.step = WRITING
        return await push(self.connection, work, timeout_s)


async def _end(task: asyncio.Task[str]) -> None:
    """Cancel it, wait until it has ended, and look at how."""
    task.cancel()
    await asyncio.wait([task])
    heed(task)


def are_same(one: Slice, other: Slice) -> bool:
    return (one.generation, one.sha256) == (other.generation, other.sha256)
