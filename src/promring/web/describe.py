"""Fleets and services for people and programs, as plain values: scrapers, sources, what is in force, held and proved.

Promises: what is said of a scraper is said with what it is known from; trouble of the store that lists the scrapers stands
at the service, once, and hides nothing of a scraper. ``summary`` makes the one line of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from promring.config.settings import Fleet as FleetSettings
from promring.core.admission import State
from promring.core.coverage import ScraperCoverage
from promring.core.joined import salted
from promring.core.loss import Loss, worst_scraper, worst_zone
from promring.core.placement import Policy
from promring.core.preview import NAMED_MOST
from promring.core.verdicts import RELEASABLE, Act, Hold, Withheld
from promring.fleet.fleet import Fleet, Service
from promring.fleet.visitors import Visits
from promring.model import Fact, Known, NodeState, Placement, Slice, TargetPool, Unknown
from promring.web.summary import summary

NOBODY = NodeState("", "unknown")
LEAVES = "taken out of the list; it leaves"
COUNTED = ("targets", "covered", "missing", "unproved", "doubled", "dropped", "down")
ERRORS_MOST = 5


def describe_fleet(fleet: Fleet) -> dict[str, Any]:
    """Its scrapers with the load of all services, what is held of them, and what each service has."""
    reconciler, memory = fleet.reconciler, fleet.reconciler.memory
    placement, verdict = reconciler.placement, reconciler.verdict
    described = {
        "name": fleet.name,
        "description": fleet.settings.description if isinstance(fleet.settings, FleetSettings) else "",
        "services": list(fleet.services),
        "generation": str(memory.generation),
        "targets": None if placement is None else len(placement.pool),
        "load": None if placement is None else sum(placement.carried().values()),
        "limit": None if placement is None or placement.limits is None else int(placement.limits.sum()),
        "without_one": _loss(worst_scraper, fleet),
        "without_zone": _loss(worst_zone, fleet),
        "handing_over": memory.claims.held,
        "second_opinions": len(reconciler.opinions.trials),
        "held": said(verdict.withheld)[0] if isinstance(verdict, Hold) else None,
        "withheld": said(verdict.withheld) if isinstance(verdict, Act) else [],
        "membership": _membership(fleet),
        "scrapers": _scrapers(fleet, list(fleet.services.values())),
        "coverage": _coverage_of(list(fleet.services.values())),
        "sources": [],
        "fits": _fits(fleet),
    }
    return described | {"summary": summary(described)}


def describe(service: Service, *, scrapers: bool = True) -> dict[str, Any]:
    """The whole of it. ``scrapers``: also what each scraper of its fleet has of it, and the state of those."""
    fleet, placement = service.fleet, service.placement
    pool = placement.pool if placement else None
    held = fleet.reconciler.verdict if isinstance(fleet.reconciler.verdict, Hold) else service.state.verdict
    withheld = (*fleet.reconciler.verdict.withheld, *service.withheld)
    described = {
        "name": service.name,
        "fleet": fleet.name,
        "job": service.settings.job,
        "description": service.settings.description,
        "generation": str(fleet.reconciler.memory.generation),
        "targets": None if pool is None else len(pool),
        "duplicates": None if pool is None else pool.duplicates,
        "conflicts": None if pool is None else pool.conflicts,
        "conflicts_named": [] if pool is None else list(pool.conflicts_named),
        "fits": service.state.fit or None,
        "handing_over": service.held,
        "second_opinions": _second_opinions(service),
        "held": said(held.withheld)[0] if isinstance(held, Hold) else None,
        "withheld": said(withheld) if not isinstance(held, Hold) else [],
        "membership": _membership(fleet),
        "scrapers": _scrapers(fleet, [service]) if scrapers else [],
        "sources": [{"name": name} | _list(cell.fact.good) | _fact(cell.fact) for name, cell in service.facts.cells.items()],
        "delivery": [d.means for d in service.deliveries],
        "retiring": service.retirement.describe(list(service.slices.values())),
        "coverage": _coverage(service),
    }
    return described | {"summary": summary(described)}


def _loss(worst: Callable[[Placement, Policy], Loss | None], fleet: Fleet) -> dict[str, Any] | None:
    """What the rest would carry without one, the worst to lose; None when that cannot be."""
    placement = fleet.reconciler.placement
    found = worst(placement, fleet.reconciler.planner.policy) if placement is not None else None
    if found is None:
        return None
    return {"lost": found.lost, "each": round(found.each, 1), "room": found.room, "lacking": found.lacking}


def _second_opinions(service: Service) -> int:
    """How many of its targets are tried by another scraper, too."""
    trials, part = service.fleet.reconciler.opinions.trials, service.placement
    if not trials or part is None:
        return 0
    ids = np.array(list(trials), dtype=np.uint64)
    return int(np.isin(ids, salted(part.pool.ids, service.look.salt)).sum())


def _membership(fleet: Fleet) -> dict[str, Any]:
    return _fact(fleet.facts.members.fact, "no scraper is alive") | {"kind": fleet.settings.scrapers.kind}


def _fits(fleet: Fleet) -> dict[str, Any] | None:
    """What has no room, of all services together."""
    every = [service.state.fit for service in fleet.services.values() if service.state.fit]
    if not every:
        return None
    kinds = ("unplaced", "unplaced_load", "too_heavy")
    named = ("unplaced_targets", "too_heavy_targets")
    return (
        {"all": all(fit["all"] for fit in every)}
        | {kind: sum(fit[kind] for fit in every) for kind in kinds}
        | {kind: [target for fit in every for target in fit[kind]][:NAMED_MOST] for kind in named}
    )


def _coverage_of(services: list[Service]) -> dict[str, Any] | None:
    """Of all these together: the numbers of each added up, as old as the oldest."""
    every = [one for service in services if service.placement is not None and (one := _coverage(service)) is not None]
    if not every:
        return None
    looked = [one for one in every if one["at"] is not None]
    if len(looked) < len(every):
        return {"at": None, "age_s": None, "interval_s": every[0]["interval_s"]}
    counts = {kind: sum(one[kind] for one in looked) for kind in COUNTED}
    wanted = counts["targets"] - counts["dropped"]
    return {
        "at": min(one["at"] for one in looked),
        "age_s": max(one["age_s"] for one in looked),
        "interval_s": looked[0]["interval_s"],
        "ratio": 1.0 - (counts["missing"] + counts["unproved"]) / wanted if wanted else 1.0,
        **counts,
    }


def _coverage(service: Service) -> dict[str, Any] | None:
    """What the last look of the audit at all scrapers proved, and how old that is; None where the audit is off."""
    found, look = service.look.coverage, service.look
    if service.settings.audit is None:
        return None
    if found is None:
        return {"at": None, "age_s": None, "interval_s": service.settings.audit.interval}
    return {
        "at": look.at,
        "age_s": round(max(0.0, time.time() - look.at), 1),
        "interval_s": service.settings.audit.interval,
        "ratio": found.ratio,
        "targets": len(found.pool),
        "covered": len(found.pool) - found.uncovered - len(found.dropped),
        "missing": len(found.missing),
        "unproved": len(found.unproved),
        "doubled": len(found.doubled),
        "dropped": len(found.dropped),
        "down": len(found.down),
    }


def _scrapers(fleet: Fleet, services: list[Service]) -> list[dict[str, Any]]:
    """Every scraper of the fleet. What it has and lacks is of these services, its load is of all."""
    reconciler, memory, placement = fleet.reconciler, fleet.reconciler.memory, fleet.reconciler.placement
    states = {node.id: node for node in fleet.membership.nodes()}
    errors = _errors(services)
    slices = _by_scraper(services)
    every = memory.targets()
    loads = placement.carried() if placement else every
    zones = {s.id: s.zone for s in memory.members}
    drained = memory.drained | {s.id for s in memory.members if s.draining}
    departing = {s.id: NodeState(s.id, "up", LEAVES) for s in reconciler.departures.scrapers}
    standings = reconciler.history.standings
    sick = reconciler.opinions.sick(time.monotonic())
    limits: dict[str, int] = {}
    if placement and placement.limits is not None:
        limits = dict(zip((s.id for s in placement.scrapers), placement.limits.tolist(), strict=True))
    scrapers = []
    for name in sorted({*states, *every}):
        mine, node, one = slices.get(name, []), states.get(name, departing.get(name, NOBODY)), standings.get(name)
        leaving = name in drained or name in departing or (one is not None and one.state is State.LEAVING)
        seen = _seen(services, name)
        described = {
            "id": name,
            "state": node.state,
            "last_state": node.last or None,
            "reason": node.reason,
            "targets": sum(s.targets for s in mine),
            "zone": zones.get(name, ""),
            "drained": name in drained,
            "departing": name in departing,
            "left": every.get(name, 0) if leaving else None,
            "no_room": reconciler.moves.no_room.get(name, 0),
            "standing": one.state.value if one else None,
            "load": loads.get(name, 0),
            "limit": limits.get(name),
            "generation": str(max(s.generation for s in mine)) if mine else None,
            "sha256": mine[0].sha256 if len(mine) == 1 else None,
            "delivery_error": errors.get(name),
            "cut_off": name in reconciler.dispatcher.cut_off,
            "sick": sick[name].found if name in sick else None,
            "audit_error": (seen.error or None) if seen else None,
            "visited": _visited(services, name),
        }
        scrapers.append(described | {"trouble": _trouble(described, seen)})
    return scrapers


def _by_scraper(services: list[Service]) -> dict[str, list[Slice]]:
    found: dict[str, list[Slice]] = {}
    for service in services:
        for name, slice_ in service.slices.items():
            found.setdefault(name, []).append(slice_)
    return found


def _seen(services: list[Service], scraper: str) -> ScraperCoverage | None:
    """What the audit last saw of it, of all these services; None: it was not looked at."""
    every = [found.scrapers.get(scraper) for service in services if (found := service.look.coverage) is not None]
    seen = [one for one in every if one is not None]
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
    )


def _visited(services: list[Service], scraper: str) -> dict[str, Any] | None:
    """The last visit of all these services."""
    every = [s.fleet.reconciler.dispatcher.couriers[s.name].visitors.visits.get(scraper) for s in services]
    return _visits(max((one for one in every if one is not None), key=lambda one: one.at, default=None))


def _visits(visits: Visits | None) -> dict[str, Any] | None:
    """Of a scraper that comes for its slices: when it last did, and how often it does."""
    if visits is None:
        return None
    return {"ago_s": round(time.monotonic() - visits.at, 1), "every_s": round(visits.every_s, 1) or None}


def _errors(services: list[Service]) -> dict[str, str]:
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
    return {scraper: _few(errors) for scraper, errors in found.items()}


def _few(errors: list[str]) -> str:
    more = len(errors) - ERRORS_MOST
    return "; ".join(errors[:ERRORS_MOST]) + (f"; and {more} more" if more > 0 else "")


def _trouble(scraper: Mapping[str, Any], seen: ScraperCoverage | None) -> str:
    """What is wrong with a scraper, the worst first; empty when nothing is that anybody knows of."""
    if scraper["cut_off"]:
        return f"counts as dead, since its slice does not reach it: {scraper['delivery_error'] or 'see the log'}"
    if scraper["delivery_error"]:
        return f"not delivered: {scraper['delivery_error']}"
    if scraper["state"] == "down":
        return str(scraper["reason"] or "down")
    if scraper["sick"]:
        return f"sick, gets nothing: {scraper['sick']}"
    if seen and seen.error and (seen.expected or scraper["targets"]):  # who has an empty slice may have no such job
        return f"cannot be asked: {seen.error}"
    if scraper["last_state"] == "down":
        return f"was down when that was last known{': ' if scraper['reason'] else ''}{scraper['reason']}"
    if seen and seen.never_asked:
        return f"it lists targets that it does not ask: {seen.never_asked}"
    if seen and seen.missing:
        return f"{seen.missing} targets of its slice are not scraped"
    return str(scraper["reason"]) if scraper["state"] == "unknown" and not scraper["last_state"] else ""


def said(held: Iterable[Withheld]) -> list[dict[str, Any]]:
    """What is held, for people; ``until``: when that ends by itself, wall-clock seconds, None where nobody knows."""
    ahead_s = time.time() - time.monotonic()
    return [
        {
            "reason": one.reason,
            "detail": one.detail,
            "releasable": one.reason in RELEASABLE,
            "until": None if one.until is None or math.isinf(one.until) else round(one.until + ahead_s, 1),
            "confirmed": one.confirmed[0] if one.confirmed else None,
            "confirmations": one.confirmed[1] if one.confirmed else None,
        }
        for one in held
    ]


def _list(good: Known[TargetPool] | None) -> dict[str, Any]:
    """Of the last good list of a source: its length, how many entries were left out of it, and the first of those."""
    if good is None:
        return {"targets": None, "refused": None, "remarks": []}
    return {"targets": len(good.value), "refused": good.value.refused, "remarks": list(good.value.remarks)}


def _fact(fact: Fact[Any], empty: str = "it answered with an empty list") -> dict[str, Any]:
    match fact.newest:
        case Known():
            state, why = "known", ""
        case Unknown(reason):
            state, why = "unknown", reason
        case _:
            state, why = "empty", empty
    return {
        "state": state,
        "reason": fact.trouble or why,
        "last_success_at": fact.good_at or None,
        "last_answer_at": fact.asked_at or None,
        "stale": fact.stale,
    }
