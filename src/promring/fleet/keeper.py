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

    def forget(self) -> None:
        """What was saved may be gone."""
        self._saved = None

    async def save(self, memory: Memory) -> None:
        """Failures are logged and tried again with the next: the sinks matter more than the memory."""
        if self.has(memory):
            return
        try:
            await self._store.save(memory)
            self._saved = memory
        except OSError as error:
            self._failures.inc()
            self._log.error("state_not_saved", error=str(error))
