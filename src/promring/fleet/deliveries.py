"""All deliveries of one shard service together: what they are given, and who cannot be reached.

A controller that does not lead lets scrapers come for their slices, and pushes nothing. ``receipts`` has who has taken
what. Failed deliveries in a row are counted for each scraper (``fleet.dispatcher`` says what follows); trouble of this
machine or on the way, and a push that has not ended, do not count. A scraper that comes for its slices is reached when it
has come, or is seen to run its slice (``visitors``).
"""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from promring.core.claims import Taken
from promring.core.sight import Sight
from promring.delivery import Background, Delivery, Outcome, Visited
from promring.election.leadership import Leadership
from promring.fleet.decision_log import say_failed
from promring.fleet.receipts import Receipts
from promring.fleet.visitors import Visitors
from promring.model import LONG_AGO, NEVER_ENDS, Generation, Slice
from promring.runtime.backoff import backoff_s
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics

RETRY_FIRST_S = 1.0
RETRY_MOST_S = 30.0
NOTE = "another controller without a lock wrote here; only one may run, or configure controllers.lock"
DECLINES_APART_S = 1.0
"""The loop is woken by declined slices at most so often."""
MANY, COUNTED_AGAIN_S = 100, 5.0
"""While the slices of a service stay the same ones, and are so many, it is counted so often which scrapers came for theirs.
With a thousand scrapers and fifty services that count was most of what the change of one service cost.
"""


class _Given(NamedTuple):
    """``how``: whether we led, might give anything, and were to push. ``again_at``: when it is counted again which scrapers
    came, monotonic seconds. ``done``: whether no delivery failed, and every sink that is pushed its slice has it.
    """

    slices: Sequence[Slice]
    how: tuple[bool, bool, bool]
    again_at: float
    done: bool


class ServiceDeliveries:
    """Its attributes are what is known of the sinks, a thing each.

    ``wake`` wakes the loop: a push that it did not wait for has ended.
    """

    def __init__(
        self,
        fleet: str,
        service: str,
        deliveries: Sequence[Delivery],
        leadership: Leadership,
        wake: Callable[[], None],
        metrics: Metrics,
        log: Logger,
        heard: Collection[str] = (),
    ) -> None:
        """``heard``: whom the audit saw before the start or the reload."""
        self._fleet, self._service, self.deliveries, self._leadership = fleet, service, deliveries, leadership
        self._metrics, self._log = metrics, log
        self.outcomes: Mapping[str, Sequence[Outcome]] = {}
        """Of the last time, by delivery: its means, with its number where a service has several of one kind."""
        self._names = _distinct([delivery.means for delivery in deliveries])
        self.undelivered: dict[str, int] = {}
        """How often in a row a scraper was not reached; absent when it was the last time. What waits, or fails on our own
        side, has not been reached either, and is no failure of the scraper: its number stays.
        """
        self.elsewhere: set[str] = set()
        """Who may have come to another controller: nothing is known of them, and their number is 0."""
        self.reached: set[str] = set()
        """Who was reached the last time."""
        self.visitors = Visitors()
        self.receipts = Receipts(self.visitors, [delivery.pulled for delivery in deliveries], heard)
        self.served = Taken() if any(delivery.pulled for delivery in deliveries) else None
        """What scrapers could come for here, and when; None: they come for nothing."""
        self._empty: frozenset[str] = frozenset()
        """Whose slice has no target."""
        self._wake = wake
        self._told_at = LONG_AGO
        """When the loop was woken by declined slices, monotonic seconds; ``_tells`` is the next time."""
        self._tells: asyncio.TimerHandle | None = None
        self._offered_at: dict[str, float] = {}
        """Since when what is served to each is what it is now, monotonic seconds."""
        self._given: _Given | None = None
        """What was given the last time, when every sink that it is pushed to has it; None: some may not."""
        self._failures = 0
        self._locked_out = False
        self.answered = False
        """Whether some receiver ever said what it has, also before a reload."""
        for delivery in deliveries:
            if isinstance(delivery, Visited):
                delivery.taken, delivery.declined = self.receipts.came, self._declined
            if isinstance(delivery, Background):
                delivery.when_done(wake)

    async def deliver(self, slices: Sequence[Slice], *, remembered: bool, pushes: bool, whole: bool = True) -> bool:
        """Give every delivery all slices; it leaves alone what is there already. Whether every sink has its slice.

        What one of several controllers only remembers may be older than what the sinks have, and is kept to itself. One that
        leads gives nothing without ``pushes``: who comes has what was served before. Without ``whole`` no sink is looked at
        that was given the very same slices and had them. Which scrapers came for ``MANY`` or more is then counted every
        ``COUNTED_AGAIN_S`` seconds.
        """
        leads, may = self._leadership.leads, self._leadership.alone or not remembered
        upto, how = time.monotonic(), (leads(), may, pushes)
        serves = self.served is not None and may and (pushes or not leads())
        if not whole and (known := self._known(slices, how, upto)) is not None:
            self.receipts.still_there(upto)
            self._have_served(serves, upto)
            return known
        chosen = zip(self._names, self.deliveries, strict=True)
        named = {name: d for name, d in chosen if may and (pushes if leads() else d.pulled)}
        asked = list(named.values())
        if not leads():
            self._count(())  # who could not be reached then says nothing about when we lead again
        async with asyncio.TaskGroup() as group:  # when cancelled it waits for every one: nobody writes afterwards
            delivering = [group.create_task(delivery.deliver(slices, leads)) for delivery in asked]
            await asyncio.sleep(0)  # what is served is in memory at once, whatever a push takes
            self._have_served(serves, upto)
        results = [task.result() for task in delivering]
        for delivery, outcomes in zip(asked, results, strict=True):
            for outcome in outcomes:
                if outcome.outcome not in ("same", "waiting"):
                    self._metrics.deliveries.labels(self._fleet, delivery.means, outcome.outcome).inc()
        names = self._serve(slices)
        pushed = [o for d, outcomes in zip(asked, results, strict=True) if not d.pulled for o in outcomes]
        there, present = self.receipts.pushed(pushed, upto), self.visitors.present()
        results = [
            self._fetched(found, present, there, declining(d)) if d.pulled else found
            for d, found in zip(asked, results, strict=True)
        ]
        failed = [o for outcomes in results for o in outcomes if o.is_trouble]
        say_failed(self._log, self.outcomes.values(), failed)
        self._note_elsewhere([o for d, found in zip(asked, results, strict=True) if d.pulled for o in found], pushed)
        self._count(results)
        self._heed([newer for o in failed if (newer := o.fenced_by) is not None])
        self.answered |= any(o.is_there or o.outcome == "refused" for outcomes in results for o in outcomes)
        self.outcomes = dict(zip(named, results, strict=True))
        self._failures = self._failures + 1 if failed else 0
        done = not failed and not any(o.outcome == "waiting" for o in pushed)
        pushed_all = all(o.is_there for o in pushed)
        settled = all(o.is_there for outcomes in results for o in outcomes)
        again_at = NEVER_ENDS if settled else upto + (COUNTED_AGAIN_S if len(names) >= MANY else 0.0)
        self._given = _Given(slices, how, again_at, done) if pushed_all else None
        return done

    def _note_elsewhere(self, fetched: Iterable[Outcome], pushed: Iterable[Outcome]) -> None:
        waits = {o.scraper for o in fetched if o.outcome == "waiting"}
        self.elsewhere = set() if self._leadership.alone else waits - {o.scraper for o in pushed}

    def _have_served(self, serves: bool, upto: float) -> None:
        if self.served is not None and serves:
            self.served = self.served.and_then(upto, time.monotonic())

    def _serve(self, slices: Sequence[Slice]) -> set[str]:
        """The names of their scrapers."""
        names = {s.scraper.id for s in slices}
        self.receipts.keep_only(names)
        self.visitors.serve(names)
        self._offered_at = {name: at for name, at in self._offered_at.items() if name in names}
        self._empty = frozenset(s.scraper.id for s in slices if not s.targets)
        return names

    async def withdraw(self) -> None:
        """Serve no slice: scrapers and agents that ask get 503, and keep the slice that they have."""
        for delivery in self.deliveries:
            if delivery.pulled:
                await delivery.deliver(())

    def _known(self, slices: Sequence[Slice], how: tuple[bool, bool, bool], now: float) -> bool | None:
        """What ``deliver`` answers without giving these slices again; None: they are to be given."""
        given = self._given
        if given is None or given.how != how or now >= given.again_at or len(given.slices) != len(slices):
            return None
        return given.done if all(map(operator.is_, slices, given.slices)) else None

    def saw(self, sight: Sight, upto: float) -> None:
        """``sight`` tells which of the asked scrapers run what was put in force until ``upto``. A scraper that has no
        targets, and does not come for its empty slice, does not count as back by that.
        """
        running = sight.running.get(self._service, {})
        self.receipts.sees(name for service, name in sight.intervals if service == self._service)
        self.visitors.saw(sight.asked, running.keys() - (self._empty & self.undelivered.keys()))
        self.receipts.run(running, upto, self.served)

    @property
    def pushes(self) -> bool:
        """Whether older slices may still be on their way to somebody."""
        return self._leadership.leads() and any(
            isinstance(d, Background) if self.receipts.two_ways else not d.pulled for d in self.deliveries
        )

    def _declined(self) -> None:
        """A scraper cannot take what is served, or can again: that is counted soon. Anybody may say so, again and again."""
        self._given = None
        if self._tells is None:
            in_s = self._told_at + DECLINES_APART_S - time.monotonic()
            if in_s <= 0:
                self._tell()
            else:
                self._tells = asyncio.get_running_loop().call_later(in_s, self._tell)

    def _tell(self) -> None:
        self._tells, self._told_at = None, time.monotonic()
        self._wake()

    def _fetched(
        self, served: Sequence[Outcome], present: Collection[str], there: Collection[str], declined: Mapping[str, str]
    ) -> list[Outcome]:
        """What serving the slices came to. A scraper that was seen to run its slice since it is served has taken it,
        whatever its agent says.
        """
        now = time.monotonic()
        self._offered_at |= {o.scraper: now for o in served if o.outcome == "written"}
        failed = {
            name: Outcome(name, "failed", why or "its agent does not take its slice")
            for name, why in declined.items()
            if not self.visitors.ran_since(name, self._offered_at.get(name, 0.0))
        }
        return [failed.get(o.scraper) or (o if o.scraper in present else self._awaited(o.scraper, there)) for o in served]

    def _awaited(self, name: str, pushed: Collection[str]) -> Outcome:
        """What serving a slice came to where its scraper does not come, nor is seen to run it: nothing is delivered before.
        Who was ``pushed`` its slice need not come.
        """
        away_s = self.visitors.away_for(name) if self._leadership.alone and name not in pushed else None
        if away_s is None:
            return Outcome(name, "waiting")
        return Outcome(name, "failed", f"has not taken its list for {away_s:.0f} s")

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
            self._leadership.rivals.forget(self._service)
            self._locked_out = False
            return
        newest, term = max(newer), self._leadership
        ours = term.epoch
        if term.outranked(self._service, newest, first=not self.answered):
            self._metrics.takeovers.inc()
            self._log.error("controller_took_over", receivers_had=str(newest), ours=ours, goes_on_as=term.epoch, note=NOTE)
        elif term.locked_out_by is not None and not self._locked_out:
            self._log.error("controller_locked_out", receivers_have=str(newest), ours=ours, note=NOTE)
        self._locked_out = term.locked_out_by is not None

    def _count(self, results: Sequence[Sequence[Outcome]]) -> None:
        outcomes = [o for result in results for o in result if o.outcome != "withheld"]
        if not outcomes and self._leadership.leads():
            return
        self.reached = {o.scraper for o in outcomes if o.is_there}
        failed = {o.scraper for o in outcomes if o.is_theirs}
        before = {name: times for name, times in self.undelivered.items() if name not in self.elsewhere}
        asked = {o.scraper for o in outcomes} - self.reached
        self.undelivered = {name: before.get(name, 0) + (name in failed) for name in asked}


def declining(delivery: Delivery) -> Mapping[str, str]:
    """By scraper that cannot take what this delivery serves: why."""
    return delivery.declining() if isinstance(delivery, Visited) else {}


def _distinct(means: Sequence[str]) -> list[str]:
    """``ssh``, ``ssh 2``: each delivery has a name of its own."""
    return [one if (n := means[:i].count(one) + 1) == 1 else f"{one} {n}" for i, one in enumerate(means)]
