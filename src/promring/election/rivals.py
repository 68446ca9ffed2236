"""Other controllers without a lock, whose slices receivers have instead of ours: which, and for how long they are silent."""

from __future__ import annotations

from collections.abc import Collection

from promring.model import LONG_AGO, Generation

SILENT_S = 10.0
"""Who wrote what locks us out and has written nothing for so long is gone, at the first time."""
SILENT_MOST_S = 3600.0


class Rivals:
    """By shard service: the newest generation that refuses us, and since when it is that one. Times in seconds, of one
    clock.
    """

    def __init__(self) -> None:
        self._above: dict[str, tuple[Generation, float]] = {}
        self._patience_s = SILENT_S
        self.taken_over_at = LONG_AGO
        """When one was gone, and we went above it."""

    @property
    def newest(self) -> Generation | None:
        return max((newest for newest, _ in self._above.values()), default=None)

    def forget(self, service: str) -> None:
        """No receiver of ``service`` refuses us."""
        self._above.pop(service, None)

    def keep_only(self, services: Collection[str]) -> None:
        """Nothing is delivered of any others."""
        self._above = {name: above for name, above in self._above.items() if name in services}

    def gone_in(self, service: str, now: float) -> float | None:
        """The seconds until whoever locks us out of ``service`` counts as gone, if it is silent; None: nobody does."""
        if service not in self._above:
            return None
        return max(0.0, self._above[service][1] + self._patience_s - now)

    def is_gone(self, service: str, newest: Generation, now: float) -> bool:
        """Receivers of ``service`` have ``newest``: whether nothing newer came for so long that we go above it. The next
        time that takes twice as long.
        """
        known, since = self._above.get(service, (None, now))
        if newest != known:
            self._above[service] = newest, now
            return False
        if now - since < self._patience_s:
            return False
        again = now - self.taken_over_at < 2 * SILENT_MOST_S
        self._patience_s = min(SILENT_MOST_S, 2 * self._patience_s) if again else 2 * SILENT_S
        self.taken_over_at = now
        self._above.clear()
        return True
