"""A long poll that ends early when there is a reason to ask anew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless(asked: Coroutine[Any, Any, T], changed: Callable[[], Awaitable[bool]], every_s: float) -> T | None:
    """What ``asked`` brings; None, and it is cancelled, when something is ``changed`` first, looked at ``every_s``."""
    asking = asyncio.ensure_future(asked)
    try:
        while not (await asyncio.wait({asking}, timeout=every_s))[0]:
            if await changed() and not asking.done():
                return None
        return asking.result()
    finally:
        asking.cancel()
        await asyncio.wait({asking})
        if not asking.cancelled():
            asking.exception()  # it was seen, or nobody waits for it any more
