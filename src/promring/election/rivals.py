"""Others whose slices receivers or agents have instead of ours: which, and for how long they have written nothing newer."""

from __future__ import annotations

from collections.abc import Collection

from promring.model import LONG_AGO, Generation

SILENT_S = 10.0
"""Who wrote what locks us out and has written nothing for so long is gone, at the first time."""
SILENT_MOST_S = 3600.0
EPOCH_OF_AGENTS_MOST = 10**10
"""No epoch that an agent says is heeded from here on: whoever reaches the API may say one. Most are seconds since 1970."""
HEARD_S = 60.0
"""What no agent has said for so long is over."""
CALM_S = 7200.0
"""So long after we went above what an agent has we go above the next such slice as soon as at first."""


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


class AgentsAhead:
    """Agents that refuse us, as they have a newer slice. Times in seconds, of one clock."""

    def __init__(self) -> None:
        self.newest = Generation(0, 0)
        """Of those that agents have said lately."""
        self._since, self._heard_at = 0.0, LONG_AGO
        self._patience_s = SILENT_S
        self._climbed_at = LONG_AGO
        """When we last went above what an agent has."""

    def is_gone(self, newest: Generation, now: float) -> bool:
        """An agent has ``newest``: whether that was the newest that agents have for ``SILENT_S``, then twice that each time,
        so that we go above it.
        """
        if newest.epoch >= EPOCH_OF_AGENTS_MOST:
            return False
        if now - self._climbed_at > CALM_S:
            self._patience_s = SILENT_S
        if newest > self.newest or now - self._heard_at > HEARD_S:
            self.newest, self._since = newest, now
        self._heard_at = now
        if now - self._since < self._patience_s:
            return False
        self._heard_at, self._climbed_at = LONG_AGO, now
        self._patience_s = min(SILENT_MOST_S, 2 * self._patience_s)
        return True
