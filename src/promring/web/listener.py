"""Accepts connections, so that whatever clients do the rest of the process keeps its descriptors.

At most ``most`` connections, those in a TLS handshake among them. A new one beyond that takes the place of the one that has
been idle for longest, else of one whose client does not read; when none is either, the new one is closed. ``overdue``
connections end within ``SWEEP_S``. Out of descriptors, accepting goes on as they become free; nothing else ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from promring.model import ListenError, join_host_port
from promring.web.connection import Connection
from promring.web.refusals import Refusals

BACKLOG = 1024
HANDSHAKE_S = 10.0
SWEEP_S = 1.0
PAUSE_S = 0.1
MOST, LEAST = 8192, 16
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)
"""This machine has no IPv6, or no IPv4."""
_OUT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def connections_most() -> int:
    """Half of the descriptors that the process may have: the other half is for probes, sources, deliveries and files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(LEAST, min(MOST, soft // 2))


class Listener:
    """``server`` makes answers. ``tls``: for the next connection, None: without. ``most`` connections at a time."""

    def __init__(
        self, server: web.Server, refusals: Refusals, *, tls: Callable[[], ssl.SSLContext | None], most: int
    ) -> None:
        self.refusals = refusals
        self.most = most
        self._server, self._tls = server, tls
        self._open: dict[Connection, asyncio.Task[None]] = {}
        self._idle: dict[Connection, None] = {}
        """Those that are idle, for longest first."""
        self._sockets: list[socket.socket] = []

    @property
    def connections(self) -> int:
        return len(self._open)

    async def bind(self, host: str, port: int) -> int:
        """Listen on every address of ``host``, empty for all of IPv4 and of IPv6; the port. Raises ``ListenError``."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise ListenError(f"--web.listen-address {join_host_port(host, port)}: {error.strerror}") from error
        lacking: OSError | None = None
        for family, address in dict.fromkeys((f, a) for f, _, _, _, a in found):
            try:
                port = self._listen(family, (address[0], port, *address[2:]))
            except OSError as error:
                lacking = error
                if host or error.errno not in _NO_FAMILY:
                    break
        if lacking is not None and (host or not self._sockets or lacking.errno not in _NO_FAMILY):
            self._close_sockets()
            why = os.strerror(lacking.errno) if lacking.errno else str(lacking)
            raise ListenError(f"--web.listen-address {join_host_port(host, port)}: {why}") from lacking
        return port

    def _listen(self, family: int, address: tuple[object, ...]) -> int:
        """On one address; the port. Raises OSError."""
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(address)
            made.listen(BACKLOG)
        except OSError:
            made.close()
            raise
        self._sockets.append(made)
        return int(made.getsockname()[1])

    async def run(self) -> None:
        """Accept until cancelled; then no connection is accepted any more, and those in a handshake end."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._on_and_on(self._sweep))
                for listening in self._sockets:
                    group.create_task(self._on_and_on(partial(self._accept, listening)))
        finally:
            self._close_sockets()
            for connection, handshake in list(self._open.items()):
                if connection.transport is None:
                    handshake.cancel()

    def gone(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        self._idle.pop(connection, None)

    def became(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        if connection.idle and connection in self._open:
            self._idle[connection] = None

    @property
    def stalled(self) -> int:
        """How many clients do not read what they asked for."""
        return sum(c.stalled for c in self._open)

    @property
    def unsent(self) -> int:
        """Bytes that wait for clients."""
        return sum(c.unsent for c in self._open)

    def sweep(self, now: float) -> None:
        """End what is overdue; ``now`` is of ``time.monotonic``."""
        for connection in list(self._open):
            why = connection.overdue(now)
            if why is not None:
                self._end(connection)
                if why != "idle":  # keep-alive that ends is no refusal
                    self.refusals.add(why)

    async def _on_and_on(self, loop: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await loop()
            except Exception as error:  # whatever a client brings about, the server goes on: counted and logged
                self.refusals.add("error", "the listener", error)
                await asyncio.sleep(PAUSE_S)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as error:  # of one client, unless we are out of something
                if error.errno in _OUT_OF:
                    self.refusals.add("descriptors", os.strerror(error.errno))
                    self._make_room()
                    await asyncio.sleep(PAUSE_S)
                continue
            if len(self._open) >= self.most and not self._make_room():
                self.refusals.add("connections", f"{self.most} are open, all with requests in progress")
                accepted.close()
                continue
            connection = Connection(self._server, self, loop)
            self._open[connection] = loop.create_task(self._begin(connection, accepted))
            self.became(connection)

    async def _begin(self, connection: Connection, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        tls = self._tls()
        limits = {} if tls is None else {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": 1.0}
        try:
            await loop.connect_accepted_socket(lambda: connection, accepted, ssl=tls, **limits)
        except OSError as error:  # TLS errors are, too
            self.refusals.add("tls", getattr(error, "reason", None) or type(error).__name__)
        finally:
            if connection.transport is None:
                accepted.close()
                self.gone(connection)

    def _make_room(self) -> bool:
        """End the connection that can best be spared; whether there was one."""
        spare = next(iter(self._idle), None) or next((c for c in self._open if c.stalled), None)
        if spare is None:
            return False
        self._end(spare)
        self.refusals.add("idle", f"{self.most} connections are open")
        return True

    def _end(self, connection: Connection) -> None:
        if connection.transport is None:
            self._open[connection].cancel()
        connection.abort()
        self.gone(connection)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(time.monotonic())

    def _close_sockets(self) -> None:
        for listening in self._sockets:
            with contextlib.suppress(OSError):
                listening.close()
        self._sockets = []
