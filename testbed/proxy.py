"""A TCP proxy in this process that breaks what passes through it, for a while and in one known way.

Owns one listening port and the connections through it. ``FaultProxy.fault`` may be set at any time, and holds for open
connections as for new ones from that moment on; what waits under one fault goes on under the next. A fault only decides what
happens to the next bytes (``Fault.step``), the proxy does it.

Promises: bounded memory a connection, and no task and no descriptor after the exit. Does not promise: the edges of packets,
or a true rate: pauses are timers of the event loop. The far side is connected only after the near side was accepted, so a
target that is down looks like a reset, not like a refusal; that is what ``Down`` is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from promring.demo.process import free_port

CHUNK_BYTES = 16384
CONNECT_S = 5.0
FLUSH_S = 1.0


class Step(NamedTuple):
    """Wait, let ``take`` bytes through, and perhaps end the connection."""

    take: int
    wait_s: float = 0.0
    close: bool = False


class Fault:
    """What happens to bytes that pass. ``breaks_open``: it begins and ends with a reset of all open connections."""

    breaks_open = False

    def step(self, size: int, answered: int | None) -> Step:
        """``size`` bytes are next, 0 at the end. ``answered``: bytes of the answer under this fault, None for a request."""
        return Step(size)


@dataclass(frozen=True)
class Latency(Fault):
    """Each chunk waits, both ways. The next one waits after it, so it slows large answers down, too."""

    each_way_s: float

    def step(self, size: int, answered: int | None) -> Step:
        return Step(size, self.each_way_s)


@dataclass(frozen=True)
class Frozen(Fault):
    """Connections are accepted and kept open, nothing passes; it passes later, when the fault is lifted."""

    def step(self, size: int, answered: int | None) -> Step:
        return Step(0, math.inf)


@dataclass(frozen=True)
class Down(Fault):
    """Connections are refused."""

    breaks_open = True


@dataclass(frozen=True)
class Reset(Fault):
    """Connections are accepted, and reset at once."""

    breaks_open = True


@dataclass(frozen=True)
class Cut(Fault):
    """The connection is closed in good order when so many bytes of its answers have passed."""

    after_bytes: int

    def step(self, size: int, answered: int | None) -> Step:
        if answered is None:
            return Step(size)
        take = min(size, self.after_bytes - answered)
        return Step(take, close=answered + take >= self.after_bytes)


@dataclass(frozen=True)
class Slicer(Fault):
    """Answers pass in pieces of at most ``size_bytes``, each after a pause."""

    size_bytes: int = 1
    pause_s: float = 0.01

    def step(self, size: int, answered: int | None) -> Step:
        return Step(size) if answered is None else Step(min(size, self.size_bytes), self.pause_s)


@dataclass(frozen=True)
class Limit(Fault):
    """So many bytes a second, each way of each connection, in up to twenty pieces a second."""

    bytes_per_s: int

    def step(self, size: int, answered: int | None) -> Step:
        take = min(size, max(1, self.bytes_per_s // 20))
        return Step(take, take / self.bytes_per_s)


@dataclass(frozen=True)
class Replace(Fault):
    """Each HTTP request is answered with these bytes instead of by the target, and then the connection is closed, unless
    ``keep_open``. ``answer`` may be called for a new stream of chunks, which may be endless.
    """

    answer: bytes | Callable[[], Iterable[bytes]]
    keep_open: bool = False
    breaks_open = True


def http_answer(body: bytes, *, status: str = "200 OK", content_type: str = "text/html", **more: object) -> bytes:
    """A whole HTTP answer for ``Replace``. ``X_Consul_Index=7`` is the header ``X-Consul-Index: 7``. The client is told that
    the connection is closed; for one that is kept open say ``Connection="keep-alive"``.
    """
    headers = {"Content_Type": content_type, "Content_Length": len(body), "Connection": "close", **more}
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class FaultProxy:
    """From ``host:port`` to ``target_host:target_port``. Use as an async context manager."""

    def __init__(self, target_host: str, target_port: int, host: str = "127.0.0.1") -> None:
        self.target = (target_host, target_port)
        self.host, self.port = host, free_port(host)
        self.connections = 0
        """Accepted so far, those that were reset at once included."""
        self._open: set[asyncio.Task[None]] = set()
        self._fault: Fault | None = None
        self._changed = asyncio.Event()
        self._listener: socket.socket | None = None
        self._group: asyncio.TaskGroup | None = None

    def __repr__(self) -> str:
        return f"FaultProxy({self.address} -> {self.target[0]}:{self.target[1]}, {self._fault}, {self.open} open)"

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    @property
    def fault(self) -> Fault | None:
        """None: everything passes."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        if any(f is not None and f.breaks_open for f in (self._fault, fault)):
            self.reset()
        self._fault = fault
        self._changed.set()
        self._changed = asyncio.Event()
        if self._group is not None:
            self._close_port() if isinstance(fault, Down) else self._open_port()

    def reset(self) -> None:
        """Reset the connections that are open now; the fault stays."""
        for task in self._open:
            task.cancel()

    async def __aenter__(self) -> FaultProxy:
        self._group = await asyncio.TaskGroup().__aenter__()
        if not isinstance(self._fault, Down):
            self._open_port()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_port()
        self.reset()
        group, self._group = self._group, None
        assert group is not None  # entered
        if not isinstance(error, asyncio.CancelledError):
            kind = error = trace = None  # else the group wraps the error of a test in a group of its own
        await group.__aexit__(kind, error, trace)
        await asyncio.sleep(0)  # the loop closes aborted transports in its next round

    def _open_port(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((self.host, self.port), backlog=1024)
            self._listener.setblocking(False)
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _close_port(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        try:
            near, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        assert self._group is not None  # the port is open
        self.connections += 1
        if isinstance(self._fault, Reset):
            _linger(near, True)
            near.close()
            return
        near.setblocking(False)
        task = self._group.create_task(self._serve(near))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        task.add_done_callback(lambda _: near.close())  # a task that is cancelled before its first step closes nothing

    async def _serve(self, near: socket.socket) -> None:
        """One connection to its end. Cancelled or broken, it ends with a reset on both sides."""
        ends: list[StreamWriter] = []
        try:
            reader, writer = await asyncio.open_connection(sock=near)
            ends.append(writer)
            if isinstance(self._fault, Replace):
                await self._replace(self._fault, reader, writer)
            else:
                await self._join(reader, writer, ends)
            for end in ends:
                await _close(end)
        except* OSError:
            pass  # one side broke it, or is not there: the other one is told, below
        finally:
            for end in ends:
                _reset(end)

    async def _join(self, near_reader: StreamReader, near_writer: StreamWriter, ends: list[StreamWriter]) -> None:
        while isinstance(self._fault, Frozen):
            await self._changed.wait()
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(*self.target)
        ends.append(writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(near_reader, writer, answers=False))
                group.create_task(self._carry(reader, near_writer, answers=True))
        except* _Cut:
            pass

    async def _carry(self, reader: StreamReader, writer: StreamWriter, *, answers: bool) -> None:
        """One direction to its end. Raises ``_Cut`` when the fault ends the connection."""
        since, passed = self._changed, 0
        while True:
            rest = await reader.read(CHUNK_BYTES)
            ended = not rest
            while rest or ended:
                if since is not self._changed:
                    since, passed = self._changed, 0
                step = self._step(len(rest), passed if answers else None)
                if not await self._pause(step.wait_s):
                    continue
                writer.write(rest[: step.take])
                await writer.drain()
                passed += step.take
                rest = rest[step.take :]
                if step.close:
                    raise _Cut
                if ended:
                    writer.write_eof()
                    return

    def _step(self, size: int, answered: int | None) -> Step:
        return Step(size) if self._fault is None else self._fault.step(size, answered)

    async def _pause(self, wait_s: float) -> bool:
        """Whether the time passed; False as soon as the fault changes."""
        if wait_s <= 0:
            return True
        try:
            async with asyncio.timeout(None if math.isinf(wait_s) else wait_s):
                await self._changed.wait()
        except TimeoutError:
            return True
        return False

    async def _replace(self, fault: Replace, reader: StreamReader, writer: StreamWriter) -> None:
        while await _whole_request(reader):
            for chunk in [fault.answer] if isinstance(fault.answer, bytes) else fault.answer():
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0)  # an endless answer to a fast reader leaves time for others
            if not fault.keep_open:
                return


class _Cut(Exception):
    """The fault ended a connection."""


async def _whole_request(reader: StreamReader) -> bool:
    """Read one HTTP request with its body. False when the connection ends before, or it is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    left = int(length[1]) if length else 0
    while left > 0:
        if not (chunk := await reader.read(min(left, CHUNK_BYTES))):
            return False
        left -= len(chunk)
    return True


def _linger(end: socket.socket, on: bool) -> None:
    """With it, closing sends a reset."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0))


async def _close(writer: StreamWriter) -> None:
    """In good order, what is left to send first. Raises OSError when that takes too long."""
    writer.close()
    async with asyncio.timeout(FLUSH_S):
        await writer.wait_closed()


def _reset(writer: StreamWriter) -> None:
    """Unless it is closed already."""
    with contextlib.suppress(OSError):
        _linger(writer.get_extra_info("socket"), True)
    writer.transport.abort()
