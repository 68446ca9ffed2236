"""What the notes of the targets say about a move: scrapes that are missing or extra, and when it was over. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from promring.demo.exporter import Hit

LATE = 1.5
"""A gap of more than so many intervals has a missed scrape in it."""
RECENT = 1.25
"""Who scraped a target within so many intervals scrapes it now."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Of some targets in one window. Seconds; ``missed`` counts whole intervals in which nobody scraped a live target,
    ``late`` the targets that this happened to, ``extra`` good scrapes beyond one an interval and copy; ``handover_s`` is
    when an old owner scraped for the last time, from the beginning of the window on.
    """

    expected: int
    missed: int
    late: int
    longest_s: float
    extra: int
    handover_s: float


def missed_in(gap_s: float, interval_s: float) -> int:
    """How many whole intervals in this gap had no scrape."""
    return math.floor(gap_s / interval_s - 0.5) if gap_s > LATE * interval_s else 0


def gaps(times: Sequence[float], since: float, until: float) -> list[float]:
    """Between scrapes; the first one counts from the last scrape before ``since``, the last one ends at ``until``."""
    before = [at for at in times if at <= since]
    inside = [at for at in times if since < at <= until]
    return [b - a for a, b in pairwise([before[-1] if before else since, *inside, until])]


def scrapers_now(hits: Sequence[Hit], now: float, interval_s: float) -> set[str]:
    """Who scrapes it at ``now``, with success."""
    return {hit.scraper for hit in hits if hit.good and now - RECENT * interval_s < hit.at <= now}


def tally(hits: Mapping[str, Sequence[Hit]], interval_s: float, since: float, until: float, *, copies: int = 1) -> Tally:
    """Over all these targets; a scrape that was refused is none. Monotonic seconds."""
    missed = late = extra = 0
    longest = handover = 0.0
    whole = round((until - since) / interval_s) * copies
    for each in hits.values():
        good = [hit.at for hit in each if hit.good]
        found = gaps(good, since, until)
        lost = sum(missed_in(gap, interval_s) for gap in found)
        missed, late = missed + lost, late + bool(lost)
        longest = max(longest, *found)
        extra += max(0, sum(since < at <= until for at in good) - whole)
        final = scrapers_now(each, until, interval_s)
        left = [hit.at - since for hit in each if since < hit.at <= until and hit.scraper not in final]
        handover = max(handover, *left, 0.0)
    return Tally(whole * len(hits), missed, late, longest, extra, handover)
