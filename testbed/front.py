"""What stands before one HTTP server and answers some paths itself: with a status, or never.

One request a connection: the far side is told to close. So a scraper can be ready while its API hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections import Counter
from types import TracebackType

HANGS = 0
CHUNK_BYTES = 65536


class Front:
    """Listens on ``host:port`` for the server at ``behind``. ``answers``: by the beginning of the path, the status that is
    answered instead, or ``HANGS``. Use as an async context manager.
    """

    def __init__(self, host: str, port: int, behind: str) -> None:
        self.host, self.port = host, port
        self._behind = behind
        self.answers: dict[str, int] = {}
        self.asked: Counter[str] = Counter()
        """Requests by path, without the query."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Front:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer)
            finally:
                writer.close()

    async def _answer(self, head: bytes, reader: StreamReader, writer: StreamWriter) -> None:
        path = head.split(b" ", 2)[1].decode("latin-1")
        self.asked[path.partition("?")[0]] += 1
        status = next((status for start, status in self.answers.items() if path.startswith(start)), None)
        if status is None:
            await self._pass_on(head, writer)
        elif status == HANGS:
            await reader.read()  # until the other side gives up
        else:
            writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
            await writer.drain()

    async def _pass_on(self, head: bytes, writer: StreamWriter) -> None:
        host, _, port = self._behind.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        try:
            line, _, rest = head.partition(b"\r\n")
            kept = [x for x in rest.split(b"\r\n") if x and not x.lower().startswith(b"connection:")]
            far_writer.write(b"\r\n".join([line, b"Connection: close", *kept, b"", b""]))
            while chunk := await far_reader.read(CHUNK_BYTES):
                writer.write(chunk)
                await writer.drain()
        finally:
            far_writer.close()
