"""Whether an address accepts connections: without a word about what answers there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yarl import URL


async def accepts(url: URL, timeout_s: float) -> bool:
    """Whether the host and port of ``url`` accept a connection within ``timeout_s``."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(url.host, url.port)
    except (OSError, TimeoutError, ValueError):
        return False
    writer.close()
    return True
