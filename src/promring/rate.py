"""A token bucket: ``burst`` at once, then ``rate_per_s`` a second."""

from __future__ import annotations

import asyncio
import time


class Bucket:
    """``take`` waits until there is room for one more."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate, self._burst = rate_per_s, float(burst)
        self._tokens, self._at = self._burst, time.monotonic()

    async def take(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)
