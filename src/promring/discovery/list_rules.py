"""What the lists of a source may have: apart from how they are read, which needs numpy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListRules:
    """What a source's lists may have. ``trusted``: labels that redirect a scrape. ``legacy_names``: only label names that
    Prometheus 2 takes; entries with others are left out.
    """

    trusted: bool = True
    legacy_names: bool = False


ANY = ListRules()
