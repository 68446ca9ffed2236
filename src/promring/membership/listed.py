"""Who is listed, alive or not: a placement is made over these (decision 31)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from promring.model import Members, Scraper
from promring.runtime.clocks import monotonic

LISTED_STILL_S = 600.0
"""So long one that left the catalogue counts as listed: what it had comes back to it when it returns. A new leader places as
long over those that the leader before it knew to be listed.
"""


class Listed:
    """Who is in the catalogue, and who was a moment ago: a scraper that restarts may leave it and come back. Who is
    dismissed is not listed any more when it leaves.
    """

    def __init__(self, members: Iterable[Scraper], clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._members = {s.id: s for s in members}
        self._gone: dict[str, tuple[Scraper, float]] = {}

    def go_on_from(self, before: Listed) -> None:
        """Who had left at the time of ``before`` left then."""
        for name, gone in before._gone.items():
            if self._members.pop(name, None) is not None:
                self._gone[name] = gone

    def heard(self, members: Members, dismissed: Collection[str]) -> None:
        """The catalogue has these now."""
        now, there = self._clock(), {s.id for s in members}
        left = {name: (s, now) for name, s in self._members.items() if name not in there and name not in dismissed}
        kept = {name: one for name, one in (left | self._gone).items() if name not in there and name not in dismissed}
        self._gone = {name: one for name, one in kept.items() if now - one[1] < LISTED_STILL_S}
        self._members = {s.id: s for s in members}

    @property
    def members(self) -> Members:
        now = self._clock()
        still = (s for s, since in self._gone.values() if now - since < LISTED_STILL_S)
        return tuple(sorted((*self._members.values(), *still)))
