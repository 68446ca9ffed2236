"""Notices that this process stood still: it was stopped, or its machine was paused or far too busy.

Nobody looked at anything meanwhile, so that time must not count where something has to be so for some time. Whoever goes by
such times asks ``beat`` first: after a stand-still tasks go on in any order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

BEAT_S, STILL_S = 2.0, 5.0
"""A beat that is later than ``STILL_S`` was none."""


class Pulse:
    """``stood_still`` is told for how many seconds."""

    def __init__(self, stood_still: Callable[[float], None], clock: Callable[[], float] | None = None) -> None:
        self._stood_still, self._clock = stood_still, clock or (lambda: time.monotonic())  # noqa: PLW0108 - of the call
        self._at: float | None = None
        """Of the last beat; None: nobody runs it."""

    async def run(self) -> None:
        """For ever."""
        self._at = self._clock()
        try:
            while True:
                await asyncio.sleep(BEAT_S)
                self.beat()
        finally:
            self._at = None

    def beat(self) -> None:
        if self._at is None:
            return
        before, self._at = self._at, self._clock()
        if self._at - before > BEAT_S + STILL_S:
            self._stood_still(self._at - before)
