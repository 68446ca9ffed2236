"""The scrapers of a fleet, with what each has of some of its services, and what is wrong with it.

Promises: what is said of a scraper is said with what it is known from; trouble of the store that lists the scrapers stands
at the fleet, once, and hides nothing of a scraper.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from promring.core.coverage import ScraperCoverage
from promring.core.placement import capacities
from promring.core.standing import Standing, State
from promring.fleet.fleet import Fleet, Service
from promring.fleet.totals import Total, totals_of
from promring.fleet.visitors import Visits
from promring.model import NEVER_ENDS, NodeState, Reply
from promring.runtime.text import few
from promring.web.answers import parts
from promring.web.answers.parts import Scraper
from promring.web.views.asking import askers_of, asking, untaken

NOBODY = NodeState("", "unknown")
NO_ANSWER = {Reply.REFUSES: "refuses connections", Reply.HANGS: "accepts connections and does not answer"}
LEAVES = "taken out of the list; it leaves"
SILENT = f"{LEAVES}, and does not answer: it counts as dead after a minute"
ERRORS_MOST = 5
SETTLES_S = 15.0
"""So long a list may be new to its scraper."""


def scrapers_of(fleet: Fleet, services: Sequence[Service]) -> list[Scraper]:
    """Every scraper of the fleet. What it has and lacks is of these services, its load is of all."""
    view = _View(fleet, services)
    return [view.scraper(name) for name in sorted({*view.states, *view.targets})]


class _View:
    """What is looked up once for all scrapers, an attribute each."""

    def __init__(self, fleet: Fleet, services: Sequence[Service]) -> None:
        memory, placement = fleet.reconciler.memory, fleet.placement
        self.fleet, self.services, self.reconciler = fleet, services, fleet.reconciler
        self.states = {node.id: node for node in fleet.membership.nodes()}
        self.targets = memory.targets()
        self.loads = placement.carried() if placement else self.targets
        self.limits: dict[str, int] = {}
        if placement and placement.limits is not None:
            self.limits = dict(zip((s.id for s in placement.scrapers), placement.limits.tolist(), strict=True))
        self.zones = {s.id: s.zone for s in (*fleet.facts.listed, *memory.members)}
        self.shares, self.capacities = _shares(fleet)
        self.addresses = {s.id: s.address for s in (*fleet.facts.listed, *memory.members)}
        self.drained = memory.drained | {s.id for s in memory.members if s.draining}
        departures = fleet.reconciler.departures
        self.departing = {s.id: _departing(s.id, silent=s.id in departures.down) for s in departures.scrapers}
        self.sick = fleet.reconciler.opinions.sick(time.monotonic())
        self.idle = _idle(fleet, services)
        self.nameless = self.reconciler.nameless
        self.errors = _errors(services)
        self.totals = _totals(fleet, services)
        self.looked_at = min((one.look.at for one in services if one.look.coverage is not None), default=NEVER_ENDS)
        self.looks, self.visits, self.askers = _looks(services), _visits(services), askers_of(services)

    def scraper(self, name: str) -> Scraper:
        mine, standing = self.totals.get(name), self.reconciler.history.standings.get(name)
        node = self.states.get(name) or self.departing.get(name, NOBODY)
        leaving = name in self.drained or name in self.departing
        leaving = leaving or (standing is not None and standing.state is State.LEAVING)
        seen = _together(self.looks.get(name, []))
        newest = mine.newest if mine else None
        address = self.addresses.get(name)
        found = Scraper(
            id=name,
            state=node.state,
            last_state=node.last or None,
            reason=node.reason,
            standing=standing.state.value if standing else None,
            since=_wall(standing.since) if standing else self.reconciler.memory.timeline.left_at(name),
            joins_at=_wall(self.reconciler.judge.joins_at(standing)) if standing and _joins(standing) else None,
            zone=self.zones.get(name, ""),
            url=str(self.fleet.settings.scraper_api.url(address, "/")) if address else None,
            drained=name in self.drained,
            departing=name in self.departing,
            targets=mine.targets if mine else 0,
            left=self.targets.get(name, 0) if leaving else None,
            no_room=self.reconciler.moves.no_room.get(name, 0),
            load=self.loads.get(name, 0),
            fair=self.shares.get(name),
            limit=self.limits.get(name),
            capacity=self.capacities.get(name),
            scraped=None if seen is None or seen.error else seen.scraped,
            sliced_at=None if newest is None else self.reconciler.memory.timeline.made_at(newest),
            generation=None if newest is None else str(newest),
            sha256=mine.one.sha256 if mine and mine.slices == 1 else None,
            delivery_error=self.errors.get(name),
            cut_off=name in self.reconciler.dispatcher.cut_off,
            sick=self.sick[name].found if name in self.sick else None,
            idle=self.idle.get(name),
            unresponsive=_unresponsive(self.reconciler.health.unresponsive.scrapers, name),
            alias_of=self.nameless.get(name),
            audit_error=(seen.error or None) if seen else None,
            visited=_visited(self.visits.get(name)),
            asking=asking(self.askers.get(name)),
            trouble="",
        )
        flaps = standing.flaps if standing and _joins(standing) else 0
        troubles = _trouble(found, seen, flaps, self.looked_at), self.reconciler.moves.takeover.held_back.why(name)
        return msgspec.structs.replace(found, trouble="; ".join(filter(None, troubles)))


def _unresponsive(found: Mapping[str, Reply | None], name: str) -> str | None:
    if name not in found:
        return None
    said = found[name]
    return "did not answer before the controller started" if said is None else NO_ANSWER.get(said)


def _departing(name: str, *, silent: bool) -> NodeState:
    """Of one that nobody lists any more."""
    return NodeState(name, "down", SILENT) if silent else NodeState(name, "up", LEAVES)


def _joins(standing: Standing) -> bool:
    return standing.state is State.JOINING


def _wall(at: float) -> float | None:
    """A monotonic time as one of the wall clock; None: before this process."""
    return None if math.isinf(at) else round(time.time() - time.monotonic() + at, 1)


def _shares(fleet: Fleet) -> tuple[dict[str, float], dict[str, int]]:
    """By scraper: its fair share of the load, and its hard cap."""
    placement, policy = fleet.placement, fleet.reconciler.planner.policy
    if placement is None:
        return {}, {}
    able = [s for s in placement.scrapers if s.able]
    weight, load = sum(s.weight for s in able), sum(placement.carried().values())
    most = capacities([s.weight for s in able], policy)
    caps = {} if most is None else dict(zip((s.id for s in able), most.tolist(), strict=True))
    return {s.id: round(load * s.weight / weight, 1) for s in able}, caps


def _idle(fleet: Fleet, services: Sequence[Service]) -> dict[str, str]:
    """By scraper: of which of these services it does not have what it was given."""
    found: dict[str, list[str]] = {}
    names = {service.name for service in services}
    for (service, scraper), one in sorted(fleet.reconciler.opinions.jobs.idle.items()):
        if service in names:
            found.setdefault(scraper, []).append(one.found(service))
    return {scraper: few(said, ERRORS_MOST, "; ") for scraper, said in found.items()}


def _totals(fleet: Fleet, services: Sequence[Service]) -> Mapping[str, Total]:
    """By scraper: what it has of these services."""
    memory = fleet.reconciler.memory
    if {service.name for service in services} == memory.services.keys():
        return memory.totals()
    return totals_of(one for service in services for one in service.slices.values())


def _looks(services: Sequence[Service]) -> dict[str, list[ScraperCoverage]]:
    """By scraper: what the audit last saw of it, of each service."""
    found: dict[str, list[ScraperCoverage]] = {}
    for service in services:
        if (coverage := service.look.coverage) is not None:
            for name, one in coverage.scrapers.items():
                found.setdefault(name, []).append(one)
    return found


def _together(seen: Sequence[ScraperCoverage]) -> ScraperCoverage | None:
    """What was seen of one scraper, of all services; None: it was not looked at."""
    if not seen:
        return None
    return ScraperCoverage(
        sum(one.expected for one in seen),
        sum(one.scraped for one in seen),
        sum(one.missing for one in seen),
        sum(one.foreign for one in seen),
        sum(one.down for one in seen),
        next((one.error for one in seen if one.error), ""),
        sum(one.dropped for one in seen),
        next((one.never_asked for one in seen if one.never_asked), ""),
        sum(one.denied for one in seen),
    )


def _visits(services: Sequence[Service]) -> dict[str, Visits]:
    """By scraper: its last visit of all these services."""
    last: dict[str, Visits] = {}
    for service in services:
        for name, one in service.fleet.reconciler.dispatcher.couriers[service.name].visitors.visits.items():
            if name not in last or last[name].at < one.at:
                last[name] = one
    return last


def _visited(last: Visits | None) -> parts.Visits | None:
    if last is None:
        return None
    return parts.Visits(round(time.monotonic() - last.at, 1), round(last.every_s, 1) or None)


def _errors(services: Sequence[Service]) -> Mapping[str, str]:
    """By scraper: what each delivery that failed said at last, with its name before it where there are several, and that of
    the service.
    """
    found: dict[str, list[str]] = {}
    for service in services:
        several = len(service.deliveries) > 1
        of = f"{service.name}: " if len(services) > 1 else ""
        for name, outcomes in service.fleet.reconciler.dispatcher.outcomes(service.name).items():
            for one in outcomes:
                if one.error:
                    found.setdefault(one.scraper, []).append(f"{of}{name}: {one.error}" if several else f"{of}{one.error}")
    return {scraper: few(errors, ERRORS_MOST, "; ") for scraper, errors in found.items()}


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _trouble(scraper: Scraper, seen: ScraperCoverage | None, flaps: int, looked_at: float = NEVER_ENDS) -> str:
    """What is wrong with a scraper, the worst first; empty when nothing is that anybody knows of. ``flaps``: of one
    that is joining, how often it left soon after it had come; ``looked_at``: wall-clock seconds.
    """
    not_taken = untaken(scraper.asking)
    if scraper.cut_off:
        return f"counts as dead, since its slice does not reach it: {not_taken or scraper.delivery_error or 'see the log'}"
    if scraper.unresponsive and scraper.state != "down":
        return f"counts as alive and {scraper.unresponsive}: does its check look at it?"
    if scraper.delivery_error:
        return f"not delivered: {not_taken or scraper.delivery_error}"
    if scraper.state == "down":
        return scraper.reason or "down"
    if not_taken:
        return not_taken
    if flaps and scraper.joins_at is not None:
        left_s = max(0.0, scraper.joins_at - time.time())
        beside = f", and goes on scraping {seen.foreign} targets" if seen and seen.foreign else ""
        return f"waits up to {left_s:.0f} s more for targets: it left {_times(flaps)} soon after it came{beside}"
    if scraper.standing == "joining" and scraper.joins_at is None:
        return "waits for targets until the leader gives it some"
    if scraper.sick:
        return f"sick, gets nothing: {scraper.sick}"
    if scraper.idle:
        return f"idle, others take over: {scraper.idle}"
    if scraper.alias_of:
        return f"the same server as {scraper.alias_of}: it gets nothing under this name; list it once"
    if seen and not scraper.targets:  # that look was at a slice that is empty now; who has none may have no such job, either
        seen = replace(seen, error="", never_asked="", missing=0)
    if seen and seen.error:
        return f"cannot be asked: {seen.error}"
    if scraper.last_state == "down":
        return f"was down when that was last known{': ' if scraper.reason else ''}{scraper.reason}"
    if seen and seen.never_asked:
        return f"targets of its slice are not seen scraped: {seen.never_asked}"
    if seen and seen.denied:
        count = "1 target" if seen.denied == 1 else f"{seen.denied} targets"
        return f"its relabelling drops {count} that another scraper took: are their rules and shard flags the same?"
    if seen and seen.missing:
        count = "1 target of its slice is" if seen.missing == 1 else f"{seen.missing} targets of its slice are"
        new = scraper.sliced_at is not None and looked_at < scraper.sliced_at + SETTLES_S
        return f"{count} not scraped by it{' yet: its list was new when it was last looked at' if new else ''}"
    return scraper.reason if scraper.state == "unknown" and not scraper.last_state else ""
