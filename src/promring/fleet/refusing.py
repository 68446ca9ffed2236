"""Which scrapers refuse which services, over time.

One that takes a service again gets its share of it back at once. One that then refuses it again takes the list that it has
and not the one with what is new, such as a target that its receiver finds bad: it waits for its share longer each time, else
targets would go to and fro for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from promring.model import ServiceScraper
from promring.runtime.clocks import monotonic

AGAIN_FIRST_S, AGAIN_MOST_S = 60.0, 3600.0


@dataclass(slots=True)
class _One:
    """``taken_since``: None while it refuses. ``over``: it counts as refusing no more."""

    patience_s: float = 0.0
    taken_since: float | None = None
    over: bool = False


class Refusing:
    """Of one fleet. ``clock`` in seconds; ``before``: those that refused when the run before this one ended."""

    def __init__(
        self,
        before: Collection[ServiceScraper] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._clock = clock
        self._known = {pair: _One() for pair in before}

    def go_on_from(self, before: Refusing) -> None:
        """Of the fleet before a reload: who refuses here, or refused there, waits as long as it would have."""
        self._known |= {pair: replace(one) for pair, one in before._known.items()}

    @property
    def nobody(self) -> bool:
        """Whether nobody has refused anything for long."""
        return not self._known

    def now(
        self, failing: Collection[ServiceScraper], asked: Collection[ServiceScraper], unsure: Collection[ServiceScraper] = ()
    ) -> frozenset[ServiceScraper]:
        """Those that count as refusing. ``failing``: those that do now; ``asked``: all that were given a slice lately;
        ``unsure``: who has not taken it the last time, and may be about to fail: that is no taking.
        """
        at = self._clock()
        for pair in failing:
            one = self._known.setdefault(pair, _One())
            if one.over:
                one.patience_s = min(AGAIN_MOST_S, max(AGAIN_FIRST_S, 2 * one.patience_s))
            one.taken_since, one.over = None, False
        for pair in self._known.keys() - failing - {*unsure}:
            one = self._known[pair]
            one.taken_since = at if one.taken_since is None else one.taken_since
            taken_s = at - one.taken_since
            one.over |= taken_s >= one.patience_s or pair not in asked
            if taken_s >= one.patience_s + AGAIN_MOST_S:
                del self._known[pair]
        return frozenset(pair for pair, one in self._known.items() if not one.over)
