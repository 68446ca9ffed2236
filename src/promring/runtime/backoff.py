"""How often something may be done: a token bucket, and back-off after failures."""

from __future__ import annotations

import asyncio
import random
import time


def backoff_s(failures: int, first_s: float, most_s: float) -> float:
    """Seconds to wait after so many failures in a row (1 or more): ``first_s``, twice as long for each further one, at most
    ``most_s``. Up to half of it is left out at random, so that many do not try again at one moment.
    """
    most = min(most_s, first_s * 2 ** min(failures - 1, 10))
    return random.uniform(most / 2, most)


class Bucket:
    """``burst`` at once, then ``rate_per_s`` a second: ``take`` waits until there is room for one more."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate, self._burst = rate_per_s, float(burst)
        self._tokens, self._at = self._burst, time.monotonic()

    async def take(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)
