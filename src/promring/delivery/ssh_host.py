"""One host of the ssh deliveries of a fleet, and the files on it.

A host has one connection for all services (``ssh_link``): its channels run beside each other. A file belongs to the delivery
of one service. It knows the slice that it holds, the slice that it shall hold, and how its last push ended.
Flow: ``ssh_hosts.SshHosts`` owns hosts and decides when something is tried; ``ssh.SshDelivery`` owns its files.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from promring.delivery import How, Outcome
from promring.delivery.ssh_connect import Connector
from promring.delivery.ssh_link import Link
from promring.delivery.ssh_push import Work
from promring.model import Generation, Slice
from promring.telemetry.log import Logger

CHANNELS = 4
"""Files of one host that are written at a moment; sshd allows 10 unless its MaxSessions says less."""


class Held(NamedTuple):
    generation: Generation
    sha256: str
    verified_at: float


class Failed(NamedTuple):
    outcome: How
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

    def wake(self) -> None:
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
            self.error = result.outcome.error if result.outcome.was_not_brought else ""
            self.slow = bool(self.error) or (self.told_waiting and time.monotonic() - self.asked_at > slow_after_s)
        if self.ends is not None and not self.ends.done():
            self.ends.set_result(None)
        if self.told_waiting:
            self.told_waiting = False
            self.owner.wake()


@dataclass(eq=False)
class Host:
    """One far host: its kept connection, its files, its try, and why it is left alone."""

    name: str
    files: list[File] = field(default_factory=list)
    link: Link = field(init=False)
    task: asyncio.Task[None] | None = None
    """The try that is under way."""
    is_open: bool = False
    """The try has its turn: files may be pushed."""
    began_at: float = 0.0
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

    def __post_init__(self) -> None:
        self.link = Link(self.name)

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()

    @property
    def answered(self) -> bool:
        """In this try."""
        return self.link.heard_at >= self.began_at > 0

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
        self.is_open = False
        for file in self.files:
            file.tried = None
        await self.link.rest()

    async def send(self, work: Work, connector: Connector, timeout_s: float) -> How:
        """As ``Link.send``."""
        return await self.link.send(work, connector, timeout_s, is_shared=lambda: len(self.pushed) > 1)


def are_same(one: Slice, other: Slice) -> bool:
    return (one.generation, one.sha256) == (other.generation, other.sha256)
