"""The last hours of each fleet: coverage, balance and moves, sampled each ``EVERY_S``; ``KEPT`` samples, in memory."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from promring.fleet.fleet import Fleet
from promring.model import Placement
from promring.web.answers.fleets import Sample
from promring.web.controller import Controller
from promring.web.views.fleets import coverage_of_fleet

EVERY_S, LOOK_S = 15.0, 1.0
KEPT = 1440
"""Six hours."""


class History:
    def __init__(self, controller: Controller, clock: Callable[[], float] = time.time) -> None:
        self._controller, self._clock = controller, clock
        self._samples: dict[str, deque[Sample]] = {}
        self._balances: dict[str, tuple[Placement, int, float | None]] = {}
        """By fleet: of its placement the load and the balance, which are sums over all targets."""
        self._lowest: dict[str, float] = {}
        """By fleet: the lowest coverage since the last sample, so that no dip between two is lost."""

    def of(self, fleet: str) -> list[Sample]:
        """The oldest first."""
        return list(self._samples.get(fleet, ()))

    async def run(self) -> None:
        """For ever."""
        while True:
            self.take()
            for _ in range(round(EVERY_S / LOOK_S)):
                await asyncio.sleep(LOOK_S)
                self._look()

    def _look(self) -> None:
        for name, fleet in self._controller.fleets.items():
            coverage = coverage_of_fleet(fleet)
            if coverage is not None and coverage.ratio is not None:
                self._lowest[name] = min(coverage.ratio, self._lowest.get(name, 1.0))

    def take(self) -> None:
        """One sample of each fleet; what is known of fleets that are gone is forgotten."""
        fleets, at = self._controller.fleets, self._clock()
        for gone in self._samples.keys() - fleets.keys():
            del self._samples[gone]
            self._balances.pop(gone, None)
        self._look()
        for name, fleet in fleets.items():
            kept = self._samples.setdefault(name, deque(maxlen=KEPT))
            kept.append(self._sample(fleet, at, kept[-1].at if kept else at))
        self._lowest.clear()

    def _sample(self, fleet: Fleet, at: float, before: float) -> Sample:
        placement = fleet.placement
        load, balance = self._balance(fleet.name, placement)
        moved = sum(one.moved for one in fleet.reconciler.memory.timeline.reshards if before < one.at <= at)
        able = 0 if placement is None else sum(s.able for s in placement.scrapers)
        return Sample(round(at, 1), self._lowest.get(fleet.name), load, balance, moved, able)

    def _balance(self, fleet: str, placement: Placement | None) -> tuple[int, float | None]:
        if placement is None:
            return 0, None
        known = self._balances.get(fleet)
        if known is None or known[0] is not placement:
            known = self._balances[fleet] = placement, *_balance_of(placement)
        return known[1], known[2]


def _balance_of(placement: Placement) -> tuple[int, float | None]:
    carried = placement.carried()
    load, weight = sum(carried.values()), sum(s.weight for s in placement.scrapers if s.able)
    if not load or not weight:
        return load, None
    return load, round(max(carried[s.id] / s.weight for s in placement.scrapers if s.able) / (load / weight), 4)
