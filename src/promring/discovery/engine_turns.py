"""Which scrape pools of an engine are read for an answer, and when it is looked whether one has to be.

A Prometheus applies all pools whenever a discovery of one has news, so nearly always any pool may have changed, and reading
all takes seconds: most of that is the engine's own time. So a pool in which a number of targets changed is read at once.
Another one that may have changed is read when it was last read nearly an ``interval`` ago, and not together with all others.
Then a change is known within the interval, as long as reading all takes no more than half of it.

Pure: the caller says what time it is (monotonic seconds).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from promring.discovery.engine_applied import Applied

READ_EVERY_S = 600.0
"""What nothing was applied to is read that often anyway."""
SHARE = 16
"""An answer reads pools with about one target in so many, where none is known to have changed."""
LOOKS, LOOKS_LEAST, LOOK_LEAST_S, LOOK_SHARE = 10, 3, 1.0, 20
"""So often in an interval the engine's metrics are looked at, and for at most that share of the time, but ``LOOKS_LEAST``
times in any case: on a busy machine a look takes long by the clock, and no more of the processor.
"""


class Open(NamedTuple):
    """Scrape pools that are to be read. ``news``: in which a number of targets changed; ``unsure``: which may have changed,
    those first that were read longest ago.
    """

    news: Sequence[str]
    unsure: Sequence[str]

    def first(self, size: Callable[[Collection[str]], int], most: float) -> list[str]:
        """What is read for one answer: the news and one more, or some with ``most`` targets of which none is known to have
        changed. ``size``: how many targets pools have.
        """
        chosen = [*self.news, *self.unsure[:1]]
        if not self.news:
            pools = iter(self.unsure[1:])
            while size(chosen) < most and (name := next(pools, None)) is not None:
                chosen.append(name)
        return chosen

    def __bool__(self) -> bool:
        return bool(self.news or self.unsure)


@dataclass(slots=True)
class Turns:
    """What was read of one ``life`` of an engine: of each pool the number of syncs, its sizes, when, and how long it took.
    ``filters``: whether the engine answers for one scrape pool, as Prometheus does since 2.42.
    """

    life: Hashable
    filters: bool = True
    syncs: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, Sequence[bytes]] = field(default_factory=dict)
    at: dict[str, float] = field(default_factory=dict)
    took_s: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, applied: Applied, at: float, took_s: float, listed: int) -> None:
        """It was read, from ``at`` on, after ``applied`` was heard, and listed so many targets. Where ``applied`` says
        another number, something was applied between the two, or a proxy answered for the engine: then it is read again at
        its next turn.
        """
        agrees = applied.listed.get(name, listed) == listed
        self.syncs[name], self.sizes[name] = applied.syncs[name] if agrees else b"", applied.sizes.get(name, ())
        self.at[name], self.took_s[name] = at, took_s

    def open(self, intervals: Mapping[str, float], applied: Applied, now: float) -> Open:
        """Of the pools that sources take, by name, each with the shortest ``interval`` (seconds) of a source."""
        there = [name for name in intervals if name in applied.syncs]
        stale = [n for n in there if self.syncs.get(n) != applied.syncs[n] or self.at.get(n, now) < now - READ_EVERY_S]
        news = [name for name in stale if self.sizes.get(name) != applied.sizes.get(name, ())]
        if not stale:
            return Open([], [])
        early_s = look_every_s(min(intervals.values())) + sum(self.took_s.get(name, 0.0) for name in intervals)
        due = [n for n in stale if n not in news and now - self.at.get(n, 0.0) >= _after_s(intervals[n], early_s)]
        return Open(news, sorted(due, key=lambda name: self.at.get(name, 0.0)))


@dataclass(slots=True)
class Looks:
    """``at``: when the last one ended; ``took_s``: how long it took."""

    at: float = 0.0
    took_s: float = 0.0


def look_every_s(interval_s: float, took_s: float = 0.0) -> float:
    """Seconds from one look to the next. ``took_s``: how long one takes."""
    return max(interval_s / LOOKS, LOOK_LEAST_S, min(took_s * LOOK_SHARE, interval_s / LOOKS_LEAST))


def _after_s(interval_s: float, early_s: float) -> float:
    """How old what was read of a pool may be: so that it is read again within ``interval_s``, and not all the time."""
    return max(interval_s / 2, interval_s - early_s)
