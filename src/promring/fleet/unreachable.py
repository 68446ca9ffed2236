"""Targets that their owners cannot reach, and scrapers that reach nothing: what the loop remembers of them.

``core/second_opinion`` decides, from what the scrapers were seen doing at each look at all of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from promring.core.coverage import Seen
from promring.core.ring import Ring
from promring.core.second_opinion import SecondOpinions
from promring.fleet.decision_log import say_opinions
from promring.model import Placement
from promring.runtime.threads import computed
from promring.telemetry.log import Logger


class Unreachable:
    """Of one fleet. Of several controllers the leader says who is sick: ``Term.failing``."""

    def __init__(self, opinions: SecondOpinions, *, log: Logger) -> None:
        """``opinions``: as the run before this one left them."""
        self.opinions = opinions
        """Targets that are tried elsewhere besides, and which scrapers are sick."""
        self._log = log
        self._used: frozenset[str] = frozenset()

    def sick(self) -> frozenset[str]:
        """Scrapers that get nothing now. What a plan is made with: ``look`` then says when another one is due."""
        self._used = frozenset(self.opinions.sick(time.monotonic()))
        return self._used

    @property
    def ends_next(self) -> float:
        """When the next scraper is not sick any more, monotonic seconds."""
        return min((one.until for one in self.opinions.sick(time.monotonic()).values()), default=float("inf"))

    async def look(self, placement: Placement, ring: Ring, seen: Mapping[str, Seen]) -> bool:
        """All scrapers were looked at. Whether a plan would be another one by that."""
        before = self.opinions
        self.opinions = await computed(lambda: before.judged(placement, ring, seen, time.monotonic()))
        now = time.monotonic()
        say_opinions(self._log, before, self.opinions, now)
        return self.opinions.trials.keys() != before.trials.keys() or self._used != frozenset(self.opinions.sick(now))
