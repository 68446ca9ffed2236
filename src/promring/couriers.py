"""All deliveries of one shard service together: what they are given, and who cannot be reached.

Who does not lead lets scrapers come for their slices, and pushes nothing. A scraper that no delivery has reached
``UNDELIVERABLE_AFTER`` times in a row counts as dead until one does: the loop asks ``cut_off``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from promring.delivery import Delivery, Outcome
from promring.leadership import Leadership
from promring.log import Logger
from promring.metrics import Metrics
from promring.model import Generation, Slice
from promring.narration import say_failed
from promring.rate import backoff_s

RETRY_FIRST_S = 1.0
RETRY_MOST_S = 30.0
UNDELIVERABLE_AFTER = 3
NOTE = "another controller without a lock wrote here; only one may run, or configure controllers.lock"


class Couriers:
    """``changed`` is called when somebody else can be reached, or cannot be any more."""

    def __init__(
        self,
        service: str,
        deliveries: Sequence[Delivery],
        leadership: Leadership,
        changed: Callable[[], None],
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self._service, self._deliveries, self._leadership = service, deliveries, leadership
        self._changed, self._metrics, self._log = changed, metrics, log
        self.outcomes: Mapping[str, Sequence[Outcome]] = {}
        """Of the last time, by means."""
        self.undelivered: dict[str, int] = {}
        """How often in a row a scraper was not reached; absent when it was the last time."""
        self._failures = 0
        self._locked_out = False
        self._answered = False

    @property
    def cut_off(self) -> set[str]:
        """Scrapers that count as dead, since they cannot be given anything."""
        return {name for name, times in self.undelivered.items() if times >= UNDELIVERABLE_AFTER}

    async def deliver(self, slices: Sequence[Slice], *, remembered: bool, pushes: bool) -> bool:
        """Give every delivery all slices; it leaves alone what is there already. Whether every sink has its slice.

        What one of several controllers only remembers may be older than what the sinks have, and is kept to itself. Without
        ``pushes`` scrapers may come for theirs, no more.
        """
        leads, may = self._leadership.leads, self._leadership.alone or not remembered
        asked = [d for d in self._deliveries if may and (d.pulled or (pushes and leads()))]
        if not leads():
            self._count(())  # who could not be reached then says nothing about when we lead again
        async with asyncio.TaskGroup() as group:  # when cancelled it waits for every one: nobody writes afterwards
            delivering = [group.create_task(delivery.deliver(slices, leads)) for delivery in asked]
        results = [task.result() for task in delivering]
        for delivery, outcomes in zip(asked, results, strict=True):
            for outcome in outcomes:
                if outcome.outcome != "same":
                    self._metrics.deliveries.labels(self._service, delivery.means, outcome.outcome).inc()
        failed = [o for outcomes in results for o in outcomes if o.outcome in ("failed", "refused")]
        say_failed(self._log, self.outcomes.values(), failed)
        self._count(results)
        self._heed([newer for o in failed if (newer := o.fenced_by) is not None])
        self._answered |= any(o.outcome in ("written", "same", "refused") for outcomes in results for o in outcomes)
        self.outcomes = {d.means: outcomes for d, outcomes in zip(asked, results, strict=True)}
        self._failures = self._failures + 1 if failed else 0
        return not failed

    def again_in(self, interval_s: float) -> float:
        """When to try again, in seconds: with every failure in a row later, at most after ``interval_s``."""
        if not self._failures:
            return interval_s
        pause = backoff_s(self._failures, RETRY_FIRST_S, min(RETRY_MOST_S, interval_s))
        ours_in = self._leadership.takes_over_in(self._service)
        return pause if ours_in is None else min(pause, max(ours_in, RETRY_FIRST_S))

    def _heed(self, newer: Sequence[Generation]) -> None:
        """Receivers keep what they have because it is ``newer``."""
        if not newer:
            self._leadership.heard_of_nobody(self._service)
            self._locked_out = False
            return
        newest, term = max(newer), self._leadership
        ours = term.epoch
        if term.outranked(self._service, newest, first=not self._answered):
            self._metrics.takeovers.inc()
            self._log.error("controller_took_over", receivers_had=str(newest), ours=ours, goes_on_as=term.epoch, note=NOTE)
        elif term.locked_out_by is not None and not self._locked_out:
            self._log.error("controller_locked_out", receivers_have=str(newest), ours=ours, note=NOTE)
        self._locked_out = term.locked_out_by is not None

    def _count(self, results: Sequence[Sequence[Outcome]]) -> None:
        """A scraper that none of the deliveries reaches keeps nothing new: its targets stay where they were meanwhile."""
        outcomes = [o for result in results for o in result if o.outcome != "withheld"]
        if not outcomes and self._leadership.leads():
            return
        reached = {o.scraper for o in outcomes if o.outcome in ("written", "same")}
        failed = {o.scraper for o in outcomes} - reached
        before, cut_off = self.undelivered, self.cut_off
        self.undelivered = {name: before.get(name, 0) + 1 for name in failed}
        for name in sorted(self.cut_off - cut_off):
            self._log.error(
                "scraper_undeliverable", scraper=name, tries=UNDELIVERABLE_AFTER, note="treated as dead until it can be"
            )
        for name in sorted((cut_off - self.cut_off) & reached):  # not who left, nor all when we lead no more
            self._log.info("scraper_deliverable_again", scraper=name)
        if self.cut_off != cut_off:
            self._changed()
