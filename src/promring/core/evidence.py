"""How scrapers hand over targets to each other, and what is known of them when it is decided. Pure.

``core/handover`` decides by it; ``fleet/moves`` asks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from promring.core.claims import APPLIED_S, Taken, Times
from promring.core.coverage import INTERVAL_UNKNOWN_S, Seen
from promring.model import ServiceScraper

INTERVALS = 2.0
"""A scraper that took its slice has scraped all of it after so many intervals, and ``APPLIED_S``; no last scrape of a target
is older than so many intervals.
"""
DATE_S = 5.0
"""An answer is dated to the second, and may be some seconds older than that: it is long, or its server is busy."""


@dataclass(frozen=True, slots=True)
class Handover:
    """``overlap_s``: how long a moved target stays with its old owner when nothing can be seen. ``confirm``: scrapers are
    asked; without it only time counts. 0: there is no hand-over.
    """

    overlap_s: float = 30.0
    confirm: bool = True


@dataclass(frozen=True)
class Evidence:
    """What is known of the scrapers: what they were ``seen`` doing, by id; which slices they have ``taken``, by service and
    id; and who does not answer (``silent``: a time-out, a refusal, a 5xx). ``intervals``: the longest scrape interval of a
    service, by service and id, seconds; where it is not there, that of all that the scraper was seen doing.
    """

    seen: Mapping[str, Seen] = field(default_factory=dict)
    taken: Mapping[ServiceScraper, Taken] = field(default_factory=dict)
    silent: Collection[str] = ()
    answering: Mapping[str, float] = field(default_factory=dict)
    """Since when each answers that is asked, monotonic seconds."""
    pushes: bool = False
    """Whether older slices may still be on their way to somebody: then only a slice that was taken proves anything."""
    intervals: Mapping[ServiceScraper, float] = field(default_factory=dict)
    served: Mapping[str, Taken] = field(default_factory=dict)
    """By service, of those whose scrapers come for their slices: what these could come for, and when."""

    @property
    def sees(self) -> dict[str, Seen]:
        """What those do who answer."""
        return {name: one for name, one in self.seen.items() if name not in self.silent}

    def given_at(self, service: str, begun: Times) -> Times:
        """When what was put in force at these times could be had: from then on nobody can come for an older list."""
        return self.served[service].since(begun) if service in self.served else begun

    def overlap_s(self, policy: Handover, service: str, name: str) -> float:
        """How long after it took its slice of a service this scraper has had every chance to scrape all of it."""
        if not policy.confirm:
            return policy.overlap_s
        interval_s = self._told_s(service, name) or self._longest_s or INTERVAL_UNKNOWN_S
        return max(policy.overlap_s, INTERVALS * interval_s + APPLIED_S)

    def fresh_s(self, service: str, name: str) -> float:
        """How old its last scrape of a target of the service may be where it goes on scraping that."""
        interval_s = self._told_s(service, name) or max(self._longest_s, INTERVAL_UNKNOWN_S)
        return INTERVALS * interval_s + DATE_S

    def _told_s(self, service: str, name: str) -> float:
        """The longest time between two scrapes of one target of the service by this scraper; 0: not known."""
        one = self.seen.get(name)
        return self.intervals.get((service, name), one.interval_s if one else 0.0)

    @cached_property
    def _longest_s(self) -> float:
        """The longest interval of all scrapers, for one whose own is not known; 0: of none."""
        return max((one.interval_s for one in self.seen.values()), default=0.0)
