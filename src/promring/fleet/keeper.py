"""Saves what is in force before it is delivered, so that a restart does not go back."""

from __future__ import annotations

from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics


class Keeper:
    """``saved``: what is on disk, None: something else than the loop begins with."""

    def __init__(self, fleet: str, store: Store, saved: Memory | None, metrics: Metrics, log: Logger) -> None:
        self._store, self._saved = store, saved
        self._failures, self._log = metrics.state_failures.labels(fleet), log

    def has(self, memory: Memory) -> bool:
        """Whether ``memory`` survives a restart."""
        return memory is self._saved

    async def save(self, memory: Memory, *, look: bool = False) -> None:
        """Failures are logged and tried again with the next: the sinks matter more than the memory. ``look``: also when it
        is saved and its file is gone, or is another one.
        """
        if self.has(memory) and not (look and await self._store.is_lost()):
            return
        try:
            await self._store.save(memory)
            self._saved = memory
        except OSError as error:
            self._failures.inc()
            self._log.error("state_not_saved", error=str(error))
