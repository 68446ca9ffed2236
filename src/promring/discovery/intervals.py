"""Intervals that a target must not have: vmagent ends at them.

A list may give a target an interval of its own (``__scrape_interval__``). Prometheus makes no target of one that is not
positive. vmagent divides by it without a look, and the whole program ends with a panic (``tests/differential`` sees it). The
target would move from scraper to scraper and end each of them.
"""

from __future__ import annotations

import re
from functools import lru_cache

INTERVAL = "__scrape_interval__"
_UNITS_MS = {"ms": 1.0, "s": 1e3, "": 1e3, "m": 6e4, "h": 3.6e6, "d": 8.64e7, "w": 6.048e8, "y": 3.1536e10, "i": 0.0}
_PART = re.compile(r"(-?[0-9]+(?:\.[0-9]*)?)([mM][sS]|[smhdwyiSHDWYI]|$)")
_SPAN = re.compile(rf"(?:{_PART.pattern})+")
_LENGTH_MAX = 100
"""A longer text is no interval that anybody writes."""


@lru_cache(maxsize=256)
def ends_vmagent(interval: str) -> bool:
    """Whether vmagent reads it as less than a millisecond. ``i`` is a unit of its own: nothing, outside a query."""
    if len(interval) > _LENGTH_MAX or _SPAN.fullmatch(interval) is None:
        return False
    return sum(float(number) * _UNITS_MS[unit.lower()] for number, unit in _PART.findall(interval)) < 1
