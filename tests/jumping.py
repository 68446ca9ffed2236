"""A loop whose clock jumps to the next timer when nothing is to be read or written: waits cost no time, sockets are real.

For tests whose subject is how long something waits and whose other ends are in the same process: what one end sends has
arrived at the other within ``GRACE_S``. Does not wait for threads and other processes. ``time.monotonic`` does not jump:
what counts seconds by it, as ``until`` does, counts true ones.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

GRACE_S = 0.002
STEP_S = 0.05
"""As far as the clock jumps at once, so that what arrives late on a busy machine is late by little."""


class _Patient(selectors.DefaultSelector):
    """Waits ``GRACE_S`` for the sockets, then jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= GRACE_S:
            return super().select(timeout)
        if ready := super().select(GRACE_S):
            return ready
        self.ahead_s += min(timeout, STEP_S) - GRACE_S
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._patient = _Patient()
        super().__init__(self._patient)

    def stand_still(self, seconds: float) -> None:
        """As a process that is stopped for so long: then every timer of that time is due at once."""
        self._patient.ahead_s += seconds

    def time(self) -> float:
        return super().time() + self._patient.ahead_s


def run(work: Coroutine[Any, Any, T]) -> T:
    """``work`` in a loop of its own, which ends with it."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(work)
