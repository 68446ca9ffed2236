"""An HTTP proxy, for tests: it answers every host itself, tunnels to one place, and says what it was asked."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass, field

LIST = b'[{"targets":["a:1"]}]'


@dataclass
class FakeProxy:
    """Use as an async context manager. ``behind``: the port on this machine that every CONNECT leads to, 0: CONNECT is
    refused; ``tls``: it is spoken to by https; ``status``: of its answers to all else.
    """

    behind: int = 0
    tls: ssl.SSLContext | None = None
    status: str = "200 OK"
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, target and headers of each request."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def hosts(self) -> set[str]:
        """Which were asked for, with their ports if they were not those of the scheme."""
        return {target.removeprefix("http://").partition("/")[0] for _, target, _ in self.asked}

    async def __aenter__(self) -> FakeProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
            self.asked.append((method, target, headers))
            if method == "CONNECT" and self.behind and self.status == "200 OK":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await _tunnel(reader, writer, self.behind)
            else:
                kind = b"Content-Type: application/json\r\nConnection: close\r\n"
                status = self.status if method != "CONNECT" or self.status != "200 OK" else "403 Forbidden"
                writer.write(b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status.encode(), kind, len(LIST), LIST))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


async def _tunnel(reader: StreamReader, writer: StreamWriter, port: int) -> None:
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)

    async def pass_on(source: StreamReader, to: StreamWriter) -> None:
        while chunk := await source.read(65536):
            to.write(chunk)
            await to.drain()
        to.close()

    try:
        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))
    finally:
        far_writer.close()
