"""Notices that this process stood still: it was stopped, or its machine was paused or far too busy.

Nobody looked at anything meanwhile, so that time must not count where something has to be so for some time. Whoever goes by
such times asks ``beat`` first: after a stand-still tasks go on in any order.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from promring.runtime.clocks import monotonic

BEAT_S, STILL_S = 2.0, 5.0
"""A beat that is later than ``STILL_S`` was none."""


class Pulse:
    """``stood_still`` is told for how many seconds."""

    def __init__(
        self, stood_still: Callable[[float], None] = lambda _: None, clock: Callable[[], float] | None = None
    ) -> None:
        self._stood_still, self._clock = stood_still, clock or monotonic
        self._still_s, self._lock = 0.0, threading.Lock()
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
        """From any thread."""
        with self._lock:
            if self._at is None:
                return
            before, self._at = self._at, self._clock()
            seconds = self._at - before
            if seconds <= BEAT_S + STILL_S:
                return
            self._still_s += seconds
        self._stood_still(seconds)

    def awake(self) -> float:
        """Monotonic seconds, without those in which the process stood still."""
        self.beat()
        return self._clock() - self._still_s
