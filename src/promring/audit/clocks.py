"""Scrapers whose clock was put back: a Prometheus then stores nothing until its clock has caught up.

Each of its targets keeps the time of the last scrape before the step, and gets that time again at every scrape. Samples with
that time are refused as doubles, and those of targets that are new to it as out of order, without an error: ``health`` stays
"up". So what such a server scrapes counts as failed (``Told.behind``), and others get its targets as a second opinion.

Two things are told apart. Where a proxy with another clock answers, last scrapes are ahead of the ``Date``, too, but they
move on. A clock was put back when a last scrape ahead of the ``Date`` has not moved for ``STANDS_INTERVALS`` intervals.

Promises: it is over as soon as the clock has reached the last scrape that was seen ahead of it. Does not promise to know of
a clock that was put back before this process looked, where every target came to that scraper afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from promring.audit.answers import AheadError
from promring.telemetry import log
from promring.telemetry.log import Logger

STANDS_INTERVALS = 3.0
INTERVAL_S = 60.0
"""Of targets that do not say theirs."""
MOVED_S = 1.0
CLOCK_BACK = "the clock of this scraper was put back: it stores nothing until the clock has caught up"


@dataclass(slots=True)
class _Ahead:
    """``at``: the last scrape that is ahead of the ``Date``, epoch seconds; ``since``: when it was first seen, monotonic."""

    at: float
    since: float
    stands: bool = False


class Clocks:
    """Of the scrapers of one fleet."""

    def __init__(self, logger: Logger | None = None) -> None:
        self._log = logger or log.get()
        self._ahead: dict[str, _Ahead] = {}

    def is_behind(self, scraper: str, clock: float) -> bool:
        """Whether it stores nothing, now that its clock says this (epoch seconds)."""
        known = self._ahead.get(scraper)
        if known is None or not known.stands:
            return False
        if clock >= known.at:
            del self._ahead[scraper]
            self._log.info("scraper_clock_is_right", scraper=scraper)
            return False
        return True

    def stands(self, scraper: str, found: AheadError, now: float) -> bool:
        """Whether ``found`` is of a clock that was put back, seen ``now`` (monotonic seconds)."""
        known = self._ahead.get(scraper)
        if known is None or abs(found.at - known.at) > (found.interval_s or INTERVAL_S) + MOVED_S:
            self._ahead[scraper] = known = _Ahead(found.at, now)
        if not known.stands and now - known.since >= STANDS_INTERVALS * (found.interval_s or INTERVAL_S):
            known.stands = True
            note = "what it scrapes counts as failed until its clock has caught up"
            self._log.warning("scraper_clock_put_back", scraper=scraper, error=str(found), note=note)
        return known.stands

    def keep(self, scrapers: frozenset[str]) -> None:
        """Forget all others."""
        self._ahead = {name: one for name, one in self._ahead.items() if name in scrapers}
