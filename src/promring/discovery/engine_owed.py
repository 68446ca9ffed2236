"""What a Prometheus discovered before it started, or loaded its configuration, and has not discovered again since.

While a discovery fails, such a target may be one that it cannot find, not one that is gone. Targets are told apart by their
addresses and redirecting labels: another version may give them other labels.
"""

from __future__ import annotations

import numpy as np

from promring.core.fragment import decode
from promring.core.pool import merge, pool_of
from promring.model import TargetGroup, TargetPool
from promring.runtime.threads import computed

NOTHING = pool_of(())


class Owed:
    """Of one scrape pool. Promises: what was listed once since then is not owed any more."""

    def __init__(self) -> None:
        self._loaded = ""
        self.pool = NOTHING

    async def note(self, loaded: str, last: TargetPool, pool: TargetPool) -> None:
        """A list is ``pool``, ``last`` was the one before. ``loaded`` tells one start or configuration from another."""
        before, self._loaded = (self.pool if loaded == self._loaded else last), loaded
        self.pool = await computed(lambda: _without(before, pool)) if len(before) else NOTHING

    async def beside(self, pool: TargetPool) -> TargetPool:
        """``pool``, and what is owed."""
        owed = self.pool
        return await computed(lambda: merge([pool, owed], ranked=False)) if len(owed) else pool

    def forget(self) -> None:
        self.pool = NOTHING


def _without(before: TargetPool, pool: TargetPool) -> TargetPool:
    """The rows of ``before`` whose keys ``pool`` has not."""
    rows = np.flatnonzero(~np.isin(before.keys, pool.keys))
    if len(rows) == len(before):
        return before
    owed = [decode(before.fragment(row)) for row in rows.tolist()]
    return pool_of(TargetGroup((one.address,), tuple(sorted(one.labels.items()))) for one in owed)
