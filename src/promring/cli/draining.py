"""Waits until drained scrapers hold nothing any more, and says how far they are.

Promises: ``drained`` is said of a scraper only when its slices hold nothing, so that nothing is handed over from it, and, if
it lives, when every service of the fleet has a plan and somebody has looked what it has. An answer that does not come,
another controller that leads or one that was started again is said once and asked again, later and later, until the time is
over. A drain itself goes on without anybody who waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import click

from promring.cli.client import Answered, Controller
from promring.cli.output import until
from promring.runtime.text import few
from promring.web.answers.fleets import Fleet, Service
from promring.web.answers.parts import Scraper
from promring.web.answers.plans import Drained
from promring.web.answers.status import Status

NAMED_MOST = 5
EVERY_S, MOST_S = 1.0, 10.0
"""Between two questions: at first, and of a controller that gives no answer."""


@dataclass
class Drain:
    """Of one scraper of one fleet. ``result``: empty while it goes on; ``left`` targets are in its slices, ``no_room`` of
    them stay, since nobody else has room.
    """

    fleet: str
    scraper: str
    answer: Answered[Drained] | None = None
    result: str = ""
    had: int = 0
    left: int = 0
    no_room: int = 0
    why: str = ""
    _said: str = field(default="", repr=False)

    def news(self) -> str:
        """How far it is, when that is another text than at the last call."""
        text = f"{self.fleet}: draining {self.scraper}: {self.left} of {self.had} targets left"
        text += f"; {self.why}" if self.why else ""
        before, self._said = self._said, text
        return text if text != before else ""

    def look(self, fleet: Fleet, services: Sequence[Service]) -> None:
        """At what the controller says now of the ``fleet``, and of all ``services``."""
        row = next((one for one in fleet.scrapers if one.id == self.scraper), None)
        if row is None:
            self.result, self.why = "gone", "the controller does not know it any more"
            return
        unplanned = [one.name for one in services if _lacks_plan(one, fleet)]
        if not row.targets and row.drained and row.state != "down" and (unplanned or fleet.unlooked):
            of = f"no plan yet of {few(unplanned, NAMED_MOST)}" if unplanned else "nobody has looked yet since a new start"
            self.left, self.why = 0, f"{of}: what it has is not known"
            return
        if not row.targets and row.drained:
            self.left, self.result, self.why = 0, "drained", _undelivered(row) or _not_alive(row)
            return
        if not row.drained:
            self.result, self.why = "undrained", "somebody undrained it meanwhile, or the controller lost its state"
            return
        self.left, self.no_room = row.targets, row.no_room
        self.had = max(self.had, self.left)
        self.why = _held(fleet, services) or _undelivered(row)
        if self.left <= self.no_room:
            self.result, self.why = "no_room", "no room within capacity: they stay with it while it lives"


def wait(
    controller: Controller,
    drains: Sequence[Drain],
    timeout_s: float,
    tell: Callable[[str], None],
    *,
    every_s: float = EVERY_S,
) -> None:
    """Until each has a result, or ``timeout_s`` are over: the result is ``timeout`` then. ``tell`` hears what is new."""
    if all(drain.result for drain in drains):
        return
    ends, pause = time.monotonic() + timeout_s, every_s
    watch = _Watch(controller, tell)
    while True:
        going = [drain for drain in drains if not drain.result]
        trouble = watch.look(going)
        if trouble != watch.told and (trouble or watch.told):
            tell(trouble or f"{controller.url} answers again")
        watch.told = trouble
        for drain in going:
            if not trouble and not drain.result and (news := drain.news()):
                tell(news)
        left_s = ends - time.monotonic()
        if all(drain.result for drain in drains):
            return
        if left_s <= 0:
            break
        pause = min(2 * pause, MOST_S) if trouble else every_s
        time.sleep(min(pause, left_s))
    for drain in drains:
        if not drain.result:
            drain.result, drain.why = "timeout", watch.told or drain.why or "they are still being handed over"


@dataclass
class _Watch:
    controller: Controller
    tell: Callable[[str], None]
    told: str = ""
    started_at: float = 0.0

    def look(self, drains: Sequence[Drain]) -> str:
        """Show each drain what the controller says of it. Why that is not known now, or an empty text."""
        try:
            data = self.controller.get("/api/v1/status", Status).data
        except click.ClickException as error:
            return f"no answer, asked again: {error.message}"
        if not data.leader:
            leader = data.controllers.leader or "nobody"
            kept = all(drain.answer is None or drain.answer.data.kept for drain in drains)
            so = "the drain is kept" if kept else "look whether it knows of the drain"
            return f"{self.controller.url} does not lead any more, {leader} does; {so}"
        known = {fleet.name: fleet for fleet in data.fleets}
        if missing := [drain.fleet for drain in drains if drain.fleet not in known]:
            return f"{self.controller.url} does not run {', '.join(missing)} now"
        if self.started_at and data.started_at != self.started_at:
            self.tell(f"{self.controller.url} was started again meanwhile")
        self.started_at = data.started_at
        for drain in drains:
            drain.look(known[drain.fleet], data.services)
        return ""


def _lacks_plan(service: Service, fleet: Fleet) -> bool:
    """After a start without a state, say: then no slice of it is known, and the scrapers go on with what they have."""
    return service.fleet == fleet.name and service.targets is None


def _held(fleet: Fleet, services: Sequence[Service]) -> str:
    """Why the drain cannot go on now: the whole plan is held, or that of a service."""
    if fleet.held:
        return f"the plan is held{until(fleet.held.until)}: {fleet.held.detail}"
    held = ((one.name, one.held) for one in services if one.fleet == fleet.name and one.held)
    return "; ".join(f"{name} is held{until(why.until)}: {why.detail}" for name, why in held)


def _undelivered(row: Scraper) -> str:
    return f"its slice is not delivered: {row.delivery_error}" if row.delivery_error else ""


def _not_alive(row: Scraper) -> str:
    """Who is not in the plan is given nothing, not even an empty slice."""
    alive = row.standing in ("in", "leaving")
    return "" if alive else "it does not count as alive, and what it has on its disk stays there"
