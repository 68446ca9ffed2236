"""A controller that begins to lead, or knows nothing, looks what the scrapers have before it changes anything.

The leader before it, or itself before its state was lost, may have given targets to scrapers. Until all scrapers were looked
at and have answered it pushes nothing; then what they have counts as given to them. Else a scraper would lose targets before
another one has them. It waits ``SILENT_S`` for those that do not answer, which may still start up, and ``LOOK_MOST_S`` for
the look: of many targets, or on a busy machine, that takes seconds.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from promring.core.claims import NOTHING_TAKEN, Taken
from promring.fleet.held_back import TAKING_S, HeldBack
from promring.model import NEVER_ENDS, ServiceScraper, TargetPool
from promring.telemetry.log import Logger

SILENT_S, LOOK_MOST_S = 3.0, 30.0


class TakeOver:
    """``needed``: a look is needed already at the start, since nobody knows what the scrapers have. ``hands_over``: what
    moves stays with its old owner for a while.
    """

    def __init__(self, log: Logger, *, needed: bool, hands_over: bool = True) -> None:
        self.held_back = HeldBack(log)
        self._holds_back = needed and hands_over
        self._since: float | None = NEVER_ENDS if needed else None
        """Since when a look is waited for; ``NEVER_ENDS``: not yet; None: none is needed."""
        self._pool: TargetPool | None = None
        """What is in force, and since when, monotonic seconds."""
        self._pool_since = 0.0
        self._services: frozenset[str] = frozenset()
        """Those with targets in force."""
        self._judged: frozenset[str] = frozenset()
        """Those of them at which somebody has looked."""
        self._behind: set[str] = set()
        """Services of which the last leader had a list that we lacked, the last time."""
        self.taken: Mapping[ServiceScraper, Taken] = NOTHING_TAKEN
        """By service and scraper: what was taken of the loop before a reload."""

    @property
    def pending(self) -> bool:
        return self._since is not None

    def begin(self) -> None:
        """Another term of ours began: a look is needed, from when we may act."""
        self._since = NEVER_ENDS

    def knows(self, behind: set[str]) -> None:
        """``behind``: services of which the last leader had a list that we lack. When such a list comes, the scrapers may
        have targets of it that a look before did not know: another look is needed.
        """
        if self._behind - behind:
            self.begin()
        self._behind = behind

    def all_taken(self, now: Mapping[ServiceScraper, Taken]) -> Mapping[ServiceScraper, Taken]:
        """What was taken ``now``, of this loop, and before, while a look is needed."""
        if self._since is None:
            return now
        return {pair: one.after(self.taken.get(pair, Taken())) for pair, one in {**self.taken, **now}.items()}

    def go_on_from(self, before: TakeOver) -> None:
        """Of the fleet before a reload: a look that is still to come does not mean that nobody ever looked."""
        self._holds_back, self._judged = before._holds_back, before._judged
        self.held_back.until = before.held_back.until

    def stood_still(self, seconds: float) -> None:
        """So long nobody looked, and nobody came for a list."""
        self._since = None if self._since is None else self._since + seconds
        self.held_back.stood_still(seconds)

    def may_act(self) -> None:
        """The guard lets us act: the time for the look runs."""
        if self._since == NEVER_ENDS:
            self._since = time.monotonic()

    def in_force(self, services: Collection[str], pool: TargetPool) -> None:
        """The targets of these are in force. Of new ones a look that began before does not know who has them."""
        if pool is not self._pool:
            self._pool, self._pool_since = pool, time.monotonic()
        self._services = frozenset(services)

    def held(self) -> None:
        """The guard holds everything: a look begins when we act again."""
        if self._since is not None:
            self._since = NEVER_ENDS

    def has_looked(self, looked_at: float, *, can_look: bool, silent: bool = False) -> bool:
        """Whether it is seen now what the scrapers have: or cannot be. ``looked_at``: when the last look at all began;
        ``silent``: somebody did not answer then.
        """
        if self._since is None:
            return False
        waited_s, looked = time.monotonic() - self._since, looked_at >= max(self._since, self._pool_since)
        return not can_look or waited_s >= LOOK_MOST_S or (looked and (not silent or waited_s >= SILENT_S))

    def done(self, live: Collection[str], shown: Collection[ServiceScraper], overlap_s: float) -> None:
        """The look at these is over. ``shown``: services and scrapers of which something was seen; ``overlap_s``: so long a
        scraper takes at most to scrape what it has taken.
        """
        self._since = None
        if self._holds_back:
            self.held_back.begin(self._services - self._judged, live, shown, time.monotonic() + TAKING_S + overlap_s)
        self._judged = self._services

    @property
    def ends_at(self) -> float:
        """When the wait next ends by itself, monotonic seconds: the one for silent scrapers, then the one for the look."""
        if self._since is None or self._since == NEVER_ENDS:
            return NEVER_ENDS
        for_silent = self._since + SILENT_S
        return for_silent if time.monotonic() < for_silent else self._since + LOOK_MOST_S
