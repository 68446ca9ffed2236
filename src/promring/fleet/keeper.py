"""Saves what is in force before it is delivered, so that a restart does not go back; and sees to it that it stays saved.

Promises: a save that fails, or a state file that is removed, moved or changed by somebody else, is made up for within
seconds, not with the next change. A failure that lasts is logged when it begins, when its reason changes, and once in
``REMINDER_S``; every failure is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.runtime.clocks import monotonic
from promring.runtime.threads import BusyError, Single
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics

LOOK_S, ANSWER_S = 5.0, 30.0
REMINDER_S = 600.0


class Keeper:
    """``saved``: what is on disk, None: something else than the loop begins with. ``clock``: seconds."""

    def __init__(
        self,
        fleet: str,
        store: Store,
        saved: Memory | None,
        metrics: Metrics,
        log: Logger,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store, self._saved, self._clock = store, saved, clock
        self._failures, self._log = metrics.state_failures.labels(fleet), log
        self.why, self._said_at = "", 0.0
        """Why the last save failed, and when that was logged; empty: it did not fail."""

    def has(self, memory: Memory) -> bool:
        """Whether ``memory`` survives a restart."""
        return memory is self._saved

    def forget(self) -> None:
        """What was saved may be gone."""
        self._saved = None

    async def save(self, memory: Memory) -> None:
        """Failures are logged and tried again with the next: the sinks matter more than the memory."""
        if self.has(memory):
            return
        try:
            await self._store.save(memory)
        except OSError as error:
            self._failures.inc()
            self._say(error)
        else:
            self._saved = memory
            if self.why:
                self._log.info("state_saved_again", after=self.why)
            self.why = ""

    def _say(self, error: OSError) -> None:
        why, now = error.strerror or str(error), self._clock()
        if why != self.why or now - self._said_at >= REMINDER_S:
            self._log.error("state_not_saved", error=str(error))
            self._said_at = now
        self.why = why

    async def keep(self, save_again: Callable[[], None], every_s: float = LOOK_S) -> None:
        """For ever: ``save_again`` is called when the last save failed, and when what it wrote is not there any more."""
        single = Single()
        while True:
            await asyncio.sleep(every_s)
            if self.why:
                save_again()
            elif self._saved is not None and await self._is_gone(single):
                self._log.warning("state_file_gone", path=str(self._store.path))
                self.forget()
                save_again()

    async def _is_gone(self, single: Single) -> bool:
        try:
            return not await single.run(self._store.stands, ANSWER_S)
        except (TimeoutError, BusyError, OSError):  # a disk that hangs, or no thread: nobody knows
            return False
