"""Scrapers that come for their slices (http_sd, agents): who does, how often, and who stays away.

Who has come twice comes; a person who looks at a URL once is no scraper. One is *away* when it has not come, and was not
seen to run what it shall, for ``PATIENCE_S``, three times as long as between its visits, or as long as it said itself. One
that was away has to come twice again: how long it was away is not how often it comes. Only a single controller calls it
failed for that: of several, nobody knows who comes to whom, and all of them must make one plan.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import NamedTuple

from promring.delivery.askers import ONE_LOOK_S

PATIENCE_S, PATIENCE_VISITS = 180.0, 3.0
SAYS_MOST_S = 3 * 3600.0
"""What anybody says of itself is believed so far."""


class Visits(NamedTuple):
    """``at``: the last one; ``every_s``: since the one before, 0 while there was one only; ``says_s``: so long it may stay
    away until the next, as it said. Monotonic seconds.
    """

    at: float
    every_s: float = 0.0
    says_s: float = 0.0

    def and_then(self, now: float, says_s: float = 0.0) -> Visits:
        if self.every_s > 0 and not self.go_on(now):
            return Visits(now, 0.0, says_s)
        gap = now - self.at
        return Visits(now, self.every_s if gap < ONE_LOOK_S else gap, says_s)

    def go_on(self, now: float) -> bool:
        """Whether the scraper still comes: it came twice, and not too long ago."""
        away_s = now - self.at
        return self.every_s > 0 and (away_s < PATIENCE_S or away_s < self.patience_s)

    @property
    def patience_s(self) -> float:
        return max(PATIENCE_S, PATIENCE_VISITS * self.every_s, min(self.says_s, SAYS_MOST_S))


NO_VISITS = Visits(0.0)


class Visitors:
    def __init__(self) -> None:
        self.visits: dict[str, Visits] = {}
        self._served_since: dict[str, float] = {}
        self._ran_at: dict[str, float] = {}
        """When each was last seen to run what it shall."""
        self._runs: frozenset[str] = frozenset()

    def came(self, scraper: str, says_s: float = 0.0) -> bool:
        """It has the slice that is served. Whether that is believed: it comes again and again."""
        now = time.monotonic()
        before = self.visits.get(scraper)
        self.visits[scraper] = after = Visits(now, 0.0, says_s) if before is None else before.and_then(now, says_s)
        return after.every_s > 0

    def saw(self, asked: Collection[str], running: Collection[str]) -> None:
        """Which of those ``asked`` were seen to run what they shall."""
        self._runs = (self._runs - frozenset(asked)) | frozenset(running)
        self._ran_at |= dict.fromkeys(running, time.monotonic())

    def serve(self, names: Collection[str]) -> None:
        """From now on, or still, there are slices for these and no others."""
        now = time.monotonic()
        if self._served_since.keys() != set(names):
            self._served_since = {name: self._served_since.get(name, now) for name in names}
        for known in (self.visits, self._ran_at):
            for name in known.keys() - set(names):
                del known[name]
        self._runs &= self._served_since.keys()

    def stood_still(self, seconds: float) -> None:
        """So long nobody could come."""
        self.visits = {name: visits._replace(at=visits.at + seconds) for name, visits in self.visits.items()}
        for times in (self._served_since, self._ran_at):
            times.update({name: at + seconds for name, at in times.items()})

    def comes(self, scraper: str) -> Visits | None:
        """The visits of one that comes; None for one that does not, or does no more."""
        found = self.visits.get(scraper)
        return found if found is not None and found.go_on(time.monotonic()) else None

    def present(self) -> set[str]:
        """Who comes, or was seen to run what it shall when it was last looked at."""
        now = time.monotonic()
        return {name for name, visits in self.visits.items() if visits.go_on(now)} | self._runs

    def runs(self, scraper: str) -> bool:
        """Whether it was seen to run what it shall when it was last looked at."""
        return scraper in self._runs

    def ran_since(self, scraper: str, since: float) -> bool:
        """The same of what was looked at after that, monotonic seconds."""
        return scraper in self._runs and self._ran_at.get(scraper, 0.0) > since

    def away_for(self, scraper: str) -> float | None:
        """The seconds for which it was waited in vain; None: it is not away."""
        if self.runs(scraper):
            return None
        visits = self.visits.get(scraper, NO_VISITS)
        waited_s = time.monotonic() - max(visits.at, self._served_since.get(scraper, 0.0), self._ran_at.get(scraper, 0.0))
        return visits.patience_s if waited_s >= visits.patience_s else None

    def away(self) -> dict[str, float]:
        """Who is away, and for how long each was waited for, in seconds."""
        waited = ((name, self.away_for(name)) for name in self._served_since.keys() - self.present())
        return {name: waited_s for name, waited_s in waited if waited_s is not None}
