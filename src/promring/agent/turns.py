"""Which controller an agent asks next, and whether an answer is wanted at once.

The agent stays with one controller while three things are true: the controller answers, every slice it offers is taken, and
it has a slice for every file of the agent. Else the agent asks the other controllers, without waiting.

- A controller that fails, or that offers a slice which is not taken: the next one is asked.
- A controller that lacks services: all are compared, and the agent goes on with the one that lacks the fewest. It compares
  again after ``COMPARE_S``. When a controller lacks only services that are not in its configuration (their files were left
  behind), each comparison that finds no better controller doubles that wait, up to ``COMPARE_MOST_S``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from promring.runtime.clocks import monotonic

COMPARE_S, COMPARE_MOST_S = 60.0, 3600.0


class Turns:
    """Of so many controllers; they are numbers."""

    def __init__(self, count: int, clock: Callable[[], float] = monotonic) -> None:
        self._count, self._clock = count, clock
        self.now = 0
        """Whose turn it is."""
        self._failures = self._refusals = 0
        self._lacks: dict[int, float] = {}
        """How many services each had nothing for, since ``_compared_at``."""
        self._comparing, self._compared_at, self._compare_s = False, 0.0, COMPARE_S
        self._least = 0.0
        """How many services the controller lacks that the last comparison chose."""

    @property
    def at_once(self) -> bool:
        """Whether the next answer is wanted at once: the last one was of no use, or controllers are being compared."""
        return self._failures > 0 or self._refusals % self._count > 0 or self._comparing

    def cut(self) -> None:
        """A proxy or a balancer ended the long poll."""
        self._next()

    def failed(self) -> int:
        """There was no answer. Returns 0, or when all controllers have failed: how often in a row."""
        self._failures += 1
        if self._comparing:
            self._lacks[self.now] = math.inf
        self._next()
        return 0 if self._failures % self._count else self._failures // self._count

    def answered(self, *, refused: bool, troubled: bool, lacking: int, removed: int = 0) -> int:
        """``refused``: an offered slice was not taken; ``troubled``: some file waits for a better slice; ``lacking``: for
        how many services there was no slice; ``removed``: how many of those are not configured there.

        Returns 0, or when all controllers have offered slices that are not taken: how often in a row.
        """
        self._failures = 0
        if refused or (troubled and self._refusals % self._count):
            self._refusals += 1
            self._next()
            return 0 if self._refusals % self._count else self._refusals // self._count
        if not troubled:
            self._refusals = 0
        self._compare(lacking, removed)
        return 0

    def _compare(self, lacking: int, removed: int) -> None:
        now = self._clock()
        if removed != lacking:
            self._compare_s = COMPARE_S
        if not lacking or now - self._compared_at > self._compare_s:
            self._lacks, self._compared_at, self._comparing = {}, now, False
        if not lacking:
            self._least, self._compare_s = 0.0, COMPARE_S
            return
        self._lacks[self.now] = lacking
        others = ((self.now + n) % self._count for n in range(1, self._count))
        if (unasked := next((one for one in others if one not in self._lacks), None)) is not None:
            self.now, self._comparing = unasked, True
            return
        best = min(range(self._count), key=lambda one: (self._lacks[one], one != self.now))
        if self._comparing:
            in_vain = removed == lacking and self._lacks[best] == self._least
            self._compare_s = min(2 * self._compare_s, COMPARE_MOST_S) if in_vain else COMPARE_S
            self._least = self._lacks[best]
        self.now, self._comparing = best, False

    def _next(self) -> None:
        self.now = (self.now + 1) % self._count
