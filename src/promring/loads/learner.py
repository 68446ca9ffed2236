"""Asks for figures again and again while this controller leads, and learns from them.

Promises: nothing of it holds the event loop; a round that fails costs that round; what is learnt is forgotten when another
controller leads, and begun anew from the book in force. Flow: ``core/learning`` learns, ``receive`` (``fleet/weighing``)
gets what is known after each round.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from promring.core.gain import fullest
from promring.core.joined import FleetPool
from promring.core.learning import Learning
from promring.core.loads import LoadBook
from promring.core.needed import Needed, scrapers_needed
from promring.core.placement import Policy
from promring.loads import Asked, LoadSource
from promring.model import Placement
from promring.runtime.threads import computed
from promring.runtime.unforeseen import Lasting, Unforeseen
from promring.telemetry.log import Logger

JITTER = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """After a round: what is learnt, the ``book`` that may be placed by, and, by the newest figures of the targets of
    ``pool``: what the fullest scraper has of its fair share, and how many scrapers are needed.
    """

    learning: Learning
    book: LoadBook | None
    pool: FleetPool
    spread: float | None = None
    needed: Needed | None = None


class Learner:
    """Of one fleet. ``jobs``: by service. ``told_most``: so many targets a book tells by themselves. ``in_force``: what the
    scrapers have; ``book``: by which loads that is placed. ``count`` gets each name of a scraper or server in trouble.
    """

    def __init__(
        self,
        source: LoadSource,
        jobs: Mapping[str, str],
        told_most: int,
        policy: Policy,
        *,
        leads: Callable[[], bool],
        in_force: Callable[[], Placement | None],
        book: Callable[[], LoadBook | None],
        receive: Callable[[Known], None],
        failed: Callable[[], None],
        log: Logger,
    ) -> None:
        self._source, self._jobs, self._told_most = source, jobs, told_most
        self._leads, self._in_force, self._book, self._receive = leads, in_force, book, receive
        self._failed, self._log, self._policy = failed, log, policy
        self.troubles: Mapping[str, str] = {}
        """By scraper or server: why its figures of the last round are missing or odd."""
        self.asked_at = 0.0
        """When the last round ended, wall-clock seconds; 0: there was none."""
        self._learning = Learning()
        self._lasting, self._faults = Lasting(), Unforeseen("loads", log)

    async def run(self) -> None:
        """For ever."""
        while True:
            placement = self._in_force()
            if not self._leads():
                self._learning, self.troubles, self.asked_at = Learning(), {}, 0.0
            elif placement is not None and isinstance(placement.pool, FleetPool):
                try:
                    await self._round(placement, placement.pool)
                except Exception as error:  # the supervisor of this loop: a round that fails says nothing
                    self._faults.note(error)
                    await asyncio.sleep(self._faults.pause_s())
            await asyncio.sleep(self._source.interval_s * random.uniform(1 - JITTER, 1 + JITTER))

    async def _round(self, placement: Placement, pool: FleetPool) -> None:
        found = await self._source.ask(Asked(placement, self._jobs))
        self._say(found.troubles)
        before, in_force = self._learning, self._book()

        def learnt() -> Known:
            learning = before.reading(pool, found.figures, in_force)
            book = learning.book(self._told_most) if learning.is_ripe else None
            loads = learning.loads(pool)
            if loads is None:
                return Known(learning, book, pool)
            spread = fullest(replace(placement, loads=loads))
            return Known(learning, book, pool, spread, scrapers_needed(placement, self._policy, loads))

        known = await computed(learnt)
        if self._leads():
            self._learning, self.asked_at = known.learning, time.time()
            self._receive(known)

    def _say(self, troubles: Mapping[str, str]) -> None:
        for name, text in troubles.items():
            self._failed()
            if self._lasting.is_news(name, text, begins=name not in self.troubles):
                self._log.warning("loads_incomplete", of=name, error=text, note="the last loads stay")
        self._lasting.keep(troubles.keys())
        self.troubles = troubles
