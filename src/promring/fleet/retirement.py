"""Deliveries that a reload replaced: they go on beside the new ones until those are used.

Promises: what reads at the old place gets every new slice, as before. When the new way is http_sd, an old one ends when each
scraper of the plan has asked for its slice since the reload. Nobody can tell who reads a file: when the new way is a pushed
one, and for an old http_sd, the old one goes on until the next restart. A failure at the old place is said, and is nobody's
death. Does not promise to remove what is at the old place: that is for a person, when nothing reads it.
Flow: built by ``build`` from the settings before, called by ``reconcile`` beside its deliveries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from promring.delivery import Closing, Delivery, Leads, Outcome
from promring.fleet.asks import Asks
from promring.fleet.ways import OldWay
from promring.model import Scraper, Slice
from promring.runtime.wording import wording
from promring.telemetry.log import Logger

NAMED_MOST = 100
RETIRED = "not written any more; remove them, unless an agent keeps its files there now"


@dataclass(frozen=True, slots=True)
class Retiring:
    """A delivery that is replaced, and what it was for."""

    way: OldWay
    delivery: Delivery

    def before(self, slice_: Slice) -> Slice:
        """As it was called there: the place of a file may have the names of service and scraper in it."""
        if self.delivery.pulled:
            return slice_  # its readers may use any name
        then = self.way.service
        return replace(slice_, service=then.name, scraper=replace(slice_.scraper, id=then.id_of(slice_.scraper)))


@dataclass(frozen=True, slots=True)
class GoingOn:
    """An old delivery, for people: ``service`` is the name that the service had there, ``until`` says when it ends."""

    kind: str
    service: str
    places: Sequence[str]
    until: str
    waiting_for: Sequence[str]


class Retirement:
    """Of one shard service. ``service``: its name; ``asked_for``: the new way is fetched, so it is seen who uses it."""

    def __init__(
        self,
        ways: Sequence[Retiring],
        *,
        service: str = "",
        asked_for: bool = False,
        asks: Asks | None = None,
        log: Logger,
    ) -> None:
        self.ways = list(ways)
        self._service, self._asked_for, self._asks, self._log = service, asked_for, asks or Asks(), log
        self._failed: set[tuple[str, str]] = set()
        self._scrapers: dict[str, Scraper] = {}

    async def deliver(self, slices: Sequence[Slice], leads: Leads, *, pushes: bool) -> None:
        """Give the old places what is in force. Never raises for what a place brings about."""
        if not self.ways:
            return
        self._scrapers = {s.scraper.id: s.scraper for s in slices}
        waiting = self.waiting_for(slices)
        if self._asked_for and slices and not waiting:
            await self._end([w for w in self.ways if not w.delivery.pulled])
        async with asyncio.TaskGroup() as group:
            asked = [w for w in self.ways if w.delivery.pulled or (pushes and leads())]
            tasks = [group.create_task(w.delivery.deliver([w.before(s) for s in slices], leads)) for w in asked]
        self._say_failed([outcome for task in tasks for outcome in task.result()])

    async def withdraw(self) -> None:
        """Serve no slice at the old places: who asks there gets 503."""
        for way in self.ways:
            if way.delivery.pulled:
                await way.delivery.deliver(())

    def waiting_for(self, slices: Collection[Slice]) -> list[str]:
        """Who has not asked yet at the new place."""
        return sorted(s.scraper.id for s in slices if not self._asks.uses(self._service, s.scraper.id))

    def going_on(self, slices: Collection[Slice]) -> list[GoingOn]:
        """The old places, until when they go on, and who has not asked at the new one."""
        if not self.ways:
            return []
        nodes = [(s.scraper.host, s.scraper.port) for s in slices]
        return [
            GoingOn(
                kind=w.way.delivery.kind,
                service=w.way.service.name,
                places=w.way.where(nodes)[:NAMED_MOST],
                until="every scraper has asked for its slice" if self._sees(w) else "the next restart",
                waiting_for=self.waiting_for(slices)[:NAMED_MOST] if self._sees(w) else [],
            )
            for w in self.ways
        ]

    async def close(self) -> None:
        for way in self.ways:
            if isinstance(way.delivery, Closing):
                await way.delivery.close()

    def _sees(self, way: Retiring) -> bool:
        return self._asked_for and not way.delivery.pulled

    async def _end(self, ways: Sequence[Retiring]) -> None:
        nodes = [(s.host, s.port) for s in self._scrapers.values()]
        for way in ways:
            self.ways.remove(way)
            places = ",".join(way.way.where(nodes)[:NAMED_MOST])
            self._log.info("delivery_retired", kind=way.way.delivery.kind, places=places, note=RETIRED)
            if isinstance(way.delivery, Closing):
                await way.delivery.close()

    def _say_failed(self, outcomes: Sequence[Outcome]) -> None:
        """Each once while it is for the same reason: until the scraper has its slice, or is gone. One that waits for its
        next try has failed no less.
        """
        failed = {(o.scraper, wording(o.error)): o.error for o in outcomes if o.is_theirs}
        for scraper, words in sorted(failed.keys() - self._failed):
            self._log.warning("old_delivery_failed", scraper=scraper, error=failed[scraper, words])
        still = {o.scraper for o in outcomes if not o.is_there}
        self._failed = {one for one in self._failed | failed.keys() if one[0] in still}
