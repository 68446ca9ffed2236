"""After a start without a state, and where a service is new: scrapers that get no new list yet, because nobody has seen
which targets they have.

A state that was lost may have given a scraper targets that the new plan gives to another scraper. The targets that a
scraper shows count as given to it (``takeover``). A scraper that does not answer in time, or does not show the job of a
service, shows none: a new list would take these targets away before their new owners scrape them.

Such a scraper is held back: it gets no new list of that service, and goes on with the list that it has. That ends when the
scraper shows the job (its targets count as given then), or when the other scrapers have had the time of a hand-over. Where
no scraper shows a service, as at the very first start, no scraper is held back.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from promring.model import LONG_AGO, NEVER_ENDS, ServiceScraper
from promring.runtime.text import few
from promring.telemetry.log import Logger

NAMED_MOST = 5
TAKING_S = 30.0
"""So long the others may take to come for what they own now, before they scrape it."""
NOTE = "nobody has seen yet what they have: they get no new list of it until that is seen, or others scrape theirs"


class HeldBack:
    """Services and scrapers, by name."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self.until: Mapping[ServiceScraper, float] = {}
        """Monotonic seconds."""

    def begin(
        self, services: Collection[str], live: Collection[str], shown: Collection[ServiceScraper], until: float
    ) -> None:
        """After the look at these ``services``. ``shown``: services and scrapers of which something was seen."""
        known = {service for service, name in shown if name in live}
        every = ((service, name) for service in services if service in known for name in live)
        new = {pair: until for pair in every if pair not in shown}
        self.until = {**self.until, **new}
        if new:
            scrapers, services = {name for _, name in new}, {service for service, _ in new}
            said = {"scrapers": ",".join(sorted(scrapers)), "services": ",".join(sorted(services))}
            self._log.warning("scrapers_held_back", **said, note=NOTE)

    def stood_still(self, seconds: float) -> None:
        """So long nobody could come for a list."""
        self.until = {pair: until + seconds for pair, until in self.until.items()}

    def ended(self, shown: Collection[ServiceScraper], now: float) -> set[ServiceScraper]:
        """Those that are seen at last, or whose time is over."""
        return {pair for pair, until in self.until.items() if pair in shown or until <= now}

    def end(self, pairs: Collection[ServiceScraper]) -> None:
        """These may have what is in force."""
        if pairs:
            before = {name for _, name in self.until}
            self.until = {pair: until for pair, until in self.until.items() if pair not in pairs}
            if gone := before - {name for _, name in self.until}:
                self._log.info("scrapers_let_go", scrapers=",".join(sorted(gone)))

    def why(self, name: str, service: str = "") -> str:
        """Why this scraper gets nothing of a service, or of any; empty: it is not held back."""
        ends = {one: until for (one, who), until in self.until.items() if who == name and service in ("", one)}
        if not ends:
            return ""
        left_s, services = max(0.0, max(ends.values()) - time.monotonic()), few(sorted(ends), NAMED_MOST)
        return f"nobody has seen yet what {name} has of {services}: nothing new of that for up to {left_s:.0f} s more"

    def waits(self, service: str, name: str) -> bool:
        """Whether it gets nothing of the service now."""
        return self.until.get((service, name), LONG_AGO) > time.monotonic()

    def ends_next(self, now: float) -> float:
        """When the next time is over, monotonic seconds."""
        return min((until for until in self.until.values() if until > now), default=NEVER_ENDS)
