"""One question to one name server, over UDP or TCP: bytes there, bytes back.

Promises: each ends within ``timeout_s``; over UDP only a datagram from that server that answers this question (its number,
and marked as a response) counts, others are ignored; an answer is at most 64 KiB. Does not look into the answer.
"""

from __future__ import annotations

import asyncio
import contextlib

HEADER_BYTES = 12
RESPONSE = 0x80


class _Answer(asyncio.DatagramProtocol):
    def __init__(self, question: bytes) -> None:
        self._number = question[:2]
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _: object) -> None:
        if _answers(data, self._number) and not self.future.done():
            self.future.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


async def over_udp(question: bytes, server: str, port: int, timeout_s: float) -> bytes:
    """Raises OSError (refused, unreachable), TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        transport, protocol = await loop.create_datagram_endpoint(lambda: _Answer(question), remote_addr=(server, port))
        try:
            transport.sendto(question)
            return await protocol.future
        finally:
            transport.close()


async def over_tcp(question: bytes, server: str, port: int, timeout_s: float) -> bytes:
    """Raises OSError, EOFError (cut), TimeoutError, ValueError (an answer to something else)."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(server, port)
        try:
            writer.write(len(question).to_bytes(2, "big") + question)
            length = int.from_bytes(await reader.readexactly(2), "big")
            data = await reader.readexactly(length)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    if not _answers(data, question[:2]):
        raise ValueError("an answer to another question")
    return data


def _answers(data: bytes, number: bytes) -> bool:
    return len(data) >= HEADER_BYTES and data[:2] == number and bool(data[2] & RESPONSE)
