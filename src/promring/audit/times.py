"""How long ago a scrape was, by what a scraper says and its own clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

from promring.audit.answers import (
    NEVER_BEFORE,
    AheadError,
    OddError,
)
from promring.runtime.duration import DURATION_MOST_S, parse_duration

DATE_STEP_S = 1.0
"""An answer's ``Date`` is whole seconds."""
AHEAD_MOST_S = 5.0
"""Clocks of one machine, or of two that are kept in step, differ less."""
GO_LONGEST = 40
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
_PART_OF_GO = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|µs|ns)", re.ASCII)
_OF_GO = re.compile(rf"(?:{_PART_OF_GO.pattern})+", re.ASCII)


def clock_of(headers: Mapping[str, str]) -> float:
    """Epoch seconds of an answer's ``Date``. Raises ``AuditError``: our own clock may be another one."""
    try:
        return _epoch(headers.get("date", ""))
    except (ValueError, OverflowError) as error:
        raise OddError("/api/v1/targets: no Date in the answer: nothing tells how long ago a scrape was") from error


@lru_cache(16)
def _epoch(date: str) -> float:
    """Many scrapers answer in the same second. Raises ValueError."""
    return parsedate_to_datetime(date).timestamp()


def age_s(last_scrape: str, clock: float) -> float | None:
    """Seconds since then, or a little more; None for never. Raises ``AheadError`` where that is yet to come: the ``Date`` is
    of another clock (a proxy before the scraper), or the clock went back after the scrape.
    """
    try:
        at = datetime.fromisoformat(last_scrape).timestamp()
    except (ValueError, OverflowError):
        return None
    if at - clock > DATE_STEP_S + AHEAD_MOST_S:
        ahead = f"a last scrape is {at - clock:.0f} s later than the Date of the answer"
        raise AheadError(f"/api/v1/targets: {ahead}: is there a proxy with another clock, or was the clock put back?", at)
    return None if at < NEVER_BEFORE else max(0.0, clock + DATE_STEP_S - at)


def interval_s(text: str) -> float | None:
    """Seconds of an interval as Prometheus says it (``1h30m``), or vmagent, as Go writes it (``1m1.5s``); None: of none."""
    try:
        return parse_duration(text) or None
    except ValueError:
        if len(text) > GO_LONGEST or not _OF_GO.fullmatch(text):
            return None
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART_OF_GO.findall(text))
    return seconds if 0 < seconds <= DURATION_MOST_S else None
