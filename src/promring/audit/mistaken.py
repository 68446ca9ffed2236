"""A scraper that reads the slice of another one: its http_sd URL has the id of that one, or it reads that one's file. Pure.

Its own targets are scraped by nobody, and those of the other one twice. That is what a copied configuration comes to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from promring.core.coverage import Coverage, Seen
from promring.core.plan import shares
from promring.model import Keys, Placement

WHOLE = 0.9
"""Who lists such a share of a slice reads it: lists change while scrapers are asked."""


def with_mistaken(found: Coverage, in_force: Placement, seen: Mapping[str, Seen], behind: Collection[str]) -> Coverage:
    """``found``, and for each of ``behind`` that scrapes nothing of its slice whose slice it reads, if it reads one."""
    idle = [
        name for name in behind if name in seen and (one := found.scrapers.get(name)) and one.expected and not one.scraped
    ]
    if not idle:
        return found
    parts, pool, scrapers = shares(in_force), in_force.pool, dict(found.scrapers)
    slices = {one.id: pool.ids[parts.of(number)] for number, one in enumerate(in_force.scrapers)}
    for name in idle:
        whose = max(slices, key=lambda other: (other != name, _read(seen[name], slices[other]), other))
        if whose != name and _read(seen[name], slices[whose]) >= WHOLE:
            why = f"it scrapes the slice of {whose}: is the id in its http_sd URL, or the name of its file, its own?"
            scrapers[name] = replace(scrapers[name], never_asked=why)
    return replace(found, scrapers=scrapers)


def _read(seen: Seen, ids: Keys) -> float:
    """The share of a slice that the scraper lists."""
    return float(np.isin(ids, seen.ids).mean()) if len(ids) else 0.0
