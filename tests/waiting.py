"""Waiting for something to become true, bounded."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, timeout_s: float = 30.0) -> float:
    """Wait until ``condition``; the seconds it took. Fails with ``what`` after ``timeout_s``."""
    started = time.monotonic()
    while True:
        result = condition()
        if await result if inspect.isawaitable(result) else result:
            return time.monotonic() - started
        if time.monotonic() - started > timeout_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(0.02)
