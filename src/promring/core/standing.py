"""What is remembered of each scraper of a fleet, and by which rules it joins and leaves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from promring.model import LONG_AGO, Members, Scraper

DELAY_MOST_S = 300.0
FORGIVEN_S = 600.0
NEEDED_FLAPS = 2
"""A scraper that is needed waits no longer than after so many quick leaves."""


class State(Enum):
    JOINING = "joining"
    IN = "in"
    LEAVING = "leaving"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Rules:
    """Seconds; ``panic_threshold`` is a share of the scrapers. ``expected``: ids that are configured by name;
    ``wait_scrapers``: how many to wait for at a cold start, 0: for these.
    """

    join_delay_s: float = 5.0
    leave_delay_s: float = 0.0
    panic_threshold: float = 0.5
    panic_hold_s: float = 60.0
    expected: frozenset[str] = frozenset()
    wait_scrapers: int = 0
    wait_most_s: float = 60.0

    def delay_s(self, flaps: int) -> float:
        """How long a scraper with so many quick leaves must be healthy before it comes in."""
        return min(max(DELAY_MOST_S, self.join_delay_s), self.join_delay_s * 2.0 ** min(flaps, 20))


@dataclass(frozen=True, slots=True)
class Standing:
    """One scraper. ``since``: when its state began; ``joined_at``, ``left_at``: when it came into the plan, and left it;
    ``answered_at``: when it last answered a direct probe although it was said to be gone.
    """

    scraper: Scraper
    state: State
    since: float
    joined_at: float = LONG_AGO
    left_at: float = LONG_AGO
    flaps: int = 0
    answered_at: float = LONG_AGO

    @property
    def planned(self) -> bool:
        return self.state in (State.IN, State.LEAVING)

    def joins_at(self, rules: Rules) -> float:
        """When one that is joining comes in, if it stays."""
        return self.since + rules.delay_s(self.flaps)

    def needed_at(self, rules: Rules) -> float:
        """When a joining scraper comes in where it is needed, if it stays."""
        return self.since + rules.delay_s(min(self.flaps, NEEDED_FLAPS))

    def held_until(self, rules: Rules) -> float:
        """In a panic: before, it does not leave."""
        return max(max(self.since, self.answered_at) + rules.panic_hold_s, self.since + rules.leave_delay_s)

    def to(self, state: State, now: float) -> Standing:
        return replace(self, state=state, since=now)

    def joined(self, now: float) -> Standing:
        return replace(self, state=State.IN, since=now, joined_at=now)

    def left(self, now: float) -> Standing:
        flaps = self.flaps + 1 if now - self.joined_at < FORGIVEN_S else 0
        flaps = self.flaps if self.scraper.draining else flaps  # a planned leave is no flap
        return replace(self, state=State.OUT, since=now, left_at=now, flaps=flaps)

    def later(self, seconds: float) -> Standing:
        """All that counts from a moment counts from so much later, but for one that is in, for which nothing does."""
        if self.state is State.IN:
            return self
        left_at, answered_at = self.left_at + seconds, self.answered_at + seconds
        return replace(self, since=self.since + seconds, left_at=left_at, answered_at=answered_at)


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered from verdict to verdict. Never changed: ``admit`` makes the next. ``silent_since``: since when
    there is no answer, None: there is one.
    """

    standings: Mapping[str, Standing] = field(default_factory=dict)
    panic_since: float | None = None
    silent_since: float | None = None

    @property
    def members(self) -> Members:
        """Who is in the plan."""
        return tuple(sorted(s.scraper for s in self.standings.values() if s.planned))

    def silent(self, now: float) -> History:
        """There is no answer: from the first such moment on time stands still."""
        return self if self.silent_since is not None else replace(self, silent_since=now)

    def heard(self, now: float) -> History:
        """There is an answer, again."""
        if self.silent_since is None:
            return self
        return replace(self.stood_still(now - self.silent_since, always=True), silent_since=None)

    def stood_still(self, seconds: float, *, always: bool = False) -> History:
        """So long nobody looked. Where there is no answer it does not count anyway, unless ``always``."""
        if self.silent_since is not None and not always:
            return self
        panic_since = None if self.panic_since is None else self.panic_since + seconds
        standings = {name: one.later(seconds) for name, one in self.standings.items()}
        return replace(self, standings=standings, panic_since=panic_since)

    @property
    def without_times(self) -> tuple[object, ...]:
        """What tells whether a restart has something new to know."""
        states = tuple((name, one.scraper, one.state, one.flaps) for name, one in self.standings.items())
        return states, self.panic_since is None

    @classmethod
    def of(cls, members: Members) -> History:
        """These are in the plan, since ever."""
        return cls({s.id: Standing(s, State.IN, LONG_AGO) for s in members})
