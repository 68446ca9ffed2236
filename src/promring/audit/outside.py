"""What live scrapers do that are not in the plan, as a part of coverage. Pure.

One that came back, or left too often, waits for its share, and may go on scraping what its last list says: beside those who
have these targets now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from promring.core.coverage import Coverage, ScraperCoverage, Seen
from promring.core.plan import rows_of


def with_outside(found: Coverage, outside: Mapping[str, Seen]) -> Coverage:
    """``found``, where a target that one in the plan and one of ``outside`` scrape is doubled. What only those scrape that
    are not in the plan is not covered: their lists say otherwise soon.
    """
    doubled, scrapers, pool = [found.doubled], dict(found.scrapers), found.pool
    for name, one in outside.items():
        if name in scrapers:  # it has its share since it was asked
            continue
        rows = rows_of(pool, one.ids[one.scraped])
        rows = np.unique(rows[rows < len(pool)])
        doubled.append(rows[found.covered[rows]])
        foreign = len(one.ids) + one.foreign_count
        scrapers[name] = ScraperCoverage(expected=0, scraped=0, missing=0, foreign=foreign, down=0)
    return replace(found, doubled=np.unique(np.concatenate(doubled)), scrapers=scrapers)
