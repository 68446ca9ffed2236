"""Reads the body of an answer, within bounds: its own, and one for all that the process is receiving."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from promring.runtime.http_errors import NotAskedError, TooLargeError

if TYPE_CHECKING:
    import aiohttp

ALL_BODIES_BYTES_MAX = 768 * 1024 * 1024
"""Of all answers that are being received at one moment by this process."""


class _InFlight:
    """Bytes of bodies that are being received now, by all requests of the process."""

    size = 0


async def read_body(
    response: aiohttp.ClientResponse, most: int, consume: Callable[[bytes], Awaitable[None]] | None = None
) -> bytes:
    """Counted as it is unpacked. Raises ``TooLargeError`` as soon as it is longer than ``most`` bytes, or says it will
    be. With ``consume`` nothing is kept.
    """
    too_large = f"body larger than {most} bytes"
    if (response.content_length or 0) > most:
        response.close()
        raise TooLargeError(too_large)
    chunks: list[bytes] = []
    size = consumed = 0
    try:
        async for chunk in response.content.iter_chunked(65536):
            if consume is not None:
                consumed += len(chunk)
                if consumed > most:
                    response.close()
                    raise TooLargeError(too_large)
                await consume(chunk)
                continue
            size += len(chunk)
            _InFlight.size += len(chunk)
            if size > most or _InFlight.size > ALL_BODIES_BYTES_MAX:
                response.close()
                if size > most:
                    raise TooLargeError(too_large)
                raise NotAskedError(f"more than {ALL_BODIES_BYTES_MAX} bytes of answers at one moment")
            chunks.append(chunk)
            await asyncio.sleep(0)  # a bomb unpacks without a wait: 512 MB of it would hold the event loop for a second
        return b"".join(chunks)
    finally:
        _InFlight.size -= size
        chunks.clear()  # an error keeps this frame, and what it names, until the garbage collector comes
