"""The placement that was in force before, from what is remembered of it: the claims. Pure."""

from __future__ import annotations

import numpy as np

from promring.core.claims import Claims
from promring.model import Placement, Scraper, TargetPool


def recalled(claims: Claims, pool: TargetPool) -> Placement | None:
    """Who owned what of ``pool``, by the ids of its targets; None when nothing is remembered. Its scrapers are names."""
    if not len(claims):
        return None
    owned = ~np.isfinite(claims.until)
    rows, scrapers = claims.rows(pool)[owned], claims.scrapers[owned]
    there = rows < len(pool)
    rows, scrapers = rows[there], scrapers[there]
    order = np.argsort(rows, kind="stable")
    rows, scrapers = rows[order], scrapers[order]
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]][: len(rows)])
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    owners = np.full((len(pool), int(rank.max(initial=0)) + 1), -1, dtype=np.int32)
    owners[rows, rank] = scrapers
    return Placement(tuple(Scraper(name, name, 0) for name in claims.names), pool, owners)
