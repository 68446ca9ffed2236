"""Whether an address accepts connections, whatever answers there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from promring.runtime.resolver import Resolver

if TYPE_CHECKING:
    from yarl import URL


async def accepts(url: URL, timeout_s: float) -> bool:
    """Whether an address of the host of ``url`` accepts a connection to its port, all of them within ``timeout_s``."""
    host, port = url.host or "", url.port or 0
    try:
        async with asyncio.timeout(timeout_s):
            for found in await Resolver().resolve(host, port):
                try:
                    _, writer = await asyncio.open_connection(found["host"], port)
                except OSError:
                    continue
                writer.close()
                return True
    except (OSError, TimeoutError):
        return False
    return False
