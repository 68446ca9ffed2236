"""A farm of targets: many small exporters in this process, which remember when they were scraped."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import cast

KEPT = 4096
HEAD_BYTES_MAX = 64 * 1024


class Farm:
    """``count`` exporters on free ports of 127.0.0.1. Use as an async context manager. ``series``: by address, so many more
    series than one that it has.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.series: dict[str, int] = {}
        self._hits: dict[str, deque[float]] = {}
        self._open = set[asyncio.Transport]()

    async def __aenter__(self) -> Farm:
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            for _ in range(self._count):
                server = await loop.create_server(lambda: _Exporter(self._open, self._metrics), "127.0.0.1", 0)
                stack.callback(server.close)
                host, port = server.sockets[0].getsockname()
                self._hits[f"{host}:{port}"] = deque(maxlen=KEPT)
            self._running = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()
        for transport in self._open:
            transport.abort()
        await asyncio.sleep(0)  # they are closed in the next round of the loop

    @property
    def addresses(self) -> list[str]:
        return list(self._hits)

    def scrapes(self, address: str) -> list[float]:
        """When ``address`` was scraped: monotonic seconds, oldest first, the last ``KEPT`` of them."""
        return list(self._hits[address])

    def first_after(self, address: str, moment: float) -> float | None:
        """Seconds from ``moment`` to the first scrape after it."""
        return next((at - moment for at in self._hits[address] if at > moment), None)

    async def scraped_since(self, addresses: Iterable[str], moment: float, timeout_s: float) -> dict[str, float | None]:
        """Wait until each address was scraped after ``moment``: seconds it took, None for those that never were."""
        names, deadline = list(addresses), time.monotonic() + timeout_s
        while True:
            found = {name: self.first_after(name, moment) for name in names}
            if None not in found.values() or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.05)

    def _metrics(self, host: str, port: int) -> str:
        address = f"{host}:{port}"
        self._hits[address].append(time.monotonic())
        more = "".join(f'demo_more{{n="{n}"}} 1\n' for n in range(self.series.get(address, 0)))
        return f"# TYPE demo_port gauge\ndemo_port {port}\n{more}"


class _Exporter(asyncio.Protocol):
    """One connection to an exporter. A web framework would cost more than all else that a farm does."""

    def __init__(self, connections: set[asyncio.Transport], metrics: Callable[[str, int], str]) -> None:
        self._open, self._metrics, self._asked = connections, metrics, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._asked = (self._asked + data).split(b"\r\n\r\n")
        for head in heads:
            self._answer(head)
        if len(self._asked) > HEAD_BYTES_MAX:
            self._transport.abort()

    def _answer(self, head: bytes) -> None:
        if self._transport.is_closing():
            return
        asked, said, body = head.split(b"\r\n", 1)[0], "404 Not Found", b""
        if asked.startswith(b"GET /metrics "):
            host, port = self._transport.get_extra_info("sockname")
            said, body = "200 OK", self._metrics(host, port).encode()
        headers = f"HTTP/1.1 {said}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(headers.encode() + body)
        if asked.endswith(b"HTTP/1.0") or b"\r\nconnection: close" in head.lower():
            self._transport.close()
