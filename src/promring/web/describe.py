"""One service for people and programs, as plain values: scrapers, sources, what is in force, what is held, what is proved.

Promises: what is said of a scraper is said with what it is known from; trouble of the store that lists the scrapers stands
at the service, once, and hides nothing of a scraper. ``summary`` makes the one line of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from promring.core.admission import State
from promring.core.coverage import ScraperCoverage
from promring.core.guard import RELEASABLE, Act, Hold, Withheld
from promring.model import Fact, Known, NodeState, Placement, TargetPool, Unknown
from promring.service import Service
from promring.visitors import Visits
from promring.web.summary import summary

NOBODY = NodeState("", "unknown")
LEAVES = "taken out of the list; it leaves"


def describe(service: Service) -> dict[str, Any]:
    """The whole of it."""
    reconciler, memory, placement = service.reconciler, service.reconciler.memory, service.reconciler.placement
    verdict = reconciler.verdict
    pool = placement.pool if placement else None
    described = {
        "name": service.name,
        "description": service.settings.description,
        "generation": str(memory.generation),
        "targets": None if pool is None else len(pool),
        "duplicates": None if pool is None else pool.duplicates,
        "conflicts": None if pool is None else pool.conflicts,
        "conflicts_named": [] if pool is None else list(pool.conflicts_named),
        "fits": reconciler.fit or None,
        "handing_over": memory.claims.held,
        "second_opinions": len(reconciler.opinions.trials),
        "held": said(verdict.withheld)[0] if isinstance(verdict, Hold) else None,
        "withheld": said(verdict.withheld) if isinstance(verdict, Act) else [],
        "membership": _fact(service.facts.members.fact, "no scraper is alive") | {"kind": service.settings.scrapers.kind},
        "scrapers": _scrapers(service, placement),
        "sources": [
            {"name": name} | _list(cell.fact.good) | _fact(cell.fact) for name, cell in service.facts.sources.items()
        ],
        "delivery": [d.means for d in service.deliveries],
        "retiring": reconciler.retirement.describe(list(memory.slices.values())),
        "coverage": _coverage(service),
    }
    return described | {"summary": summary(described)}


def _coverage(service: Service) -> dict[str, Any] | None:
    """What the last look of the audit at all scrapers proved, and how old that is; None where the audit is off."""
    found, audit = service.audit.coverage, service.audit
    if service.settings.audit is None:
        return None
    if found is None:
        return {"at": None, "age_s": None, "interval_s": service.settings.audit.interval}
    return {
        "at": audit.at,
        "age_s": round(max(0.0, time.time() - audit.at), 1),
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


def _scrapers(service: Service, placement: Placement | None) -> list[dict[str, Any]]:
    reconciler, memory = service.reconciler, service.reconciler.memory
    states = {node.id: node for node in service.membership.nodes()}
    errors = _errors(service)
    loads = placement.carried() if placement else {name: s.targets for name, s in memory.slices.items()}
    zones = {s.id: s.zone for s in memory.members}
    drained = memory.drained | {s.id for s in memory.members if s.draining}
    departing = {s.id: NodeState(s.id, "up", LEAVES) for s in reconciler.departures.scrapers}
    standings = reconciler.history.standings
    seen: Mapping[str, ScraperCoverage] = service.audit.coverage.scrapers if service.audit.coverage else {}
    sick = reconciler.opinions.sick(time.monotonic())
    limits: dict[str, int] = {}
    if placement and placement.limits is not None:
        limits = dict(zip((s.id for s in placement.scrapers), placement.limits.tolist(), strict=True))
    scrapers = []
    for name in sorted({*states, *memory.slices}):
        slice_, node, one = memory.slices.get(name), states.get(name, departing.get(name, NOBODY)), standings.get(name)
        leaving = name in drained or name in departing or (one is not None and one.state is State.LEAVING)
        described = {
            "id": name,
            "state": node.state,
            "last_state": node.last or None,
            "reason": node.reason,
            "targets": slice_.targets if slice_ else 0,
            "zone": zones.get(name, ""),
            "drained": name in drained,
            "departing": name in departing,
            "left": (slice_.targets if slice_ else 0) if leaving else None,
            "no_room": reconciler.no_room.get(name, 0),
            "standing": one.state.value if one else None,
            "load": loads.get(name, 0),
            "limit": limits.get(name),
            "generation": str(slice_.generation) if slice_ else None,
            "sha256": slice_.sha256 if slice_ else None,
            "delivery_error": errors.get(name),
            "cut_off": name in reconciler.couriers.cut_off,
            "sick": sick[name].found if name in sick else None,
            "audit_error": seen[name].error or None if name in seen else None,
            "visited": _visits(reconciler.couriers.visitors.visits.get(name)),
        }
        scrapers.append(described | {"trouble": _trouble(described, seen.get(name))})
    return scrapers


def _visits(visits: Visits | None) -> dict[str, Any] | None:
    """Of a scraper that comes for its slices: when it last did, and how often it does."""
    if visits is None:
        return None
    return {"ago_s": round(time.monotonic() - visits.at, 1), "every_s": round(visits.every_s, 1) or None}


def _errors(service: Service) -> dict[str, str]:
    """By scraper: what each delivery that failed said at last, with its name before it where there are several."""
    found: dict[str, list[str]] = {}
    several = len(service.deliveries) > 1
    for name, outcomes in service.reconciler.couriers.outcomes.items():
        for one in outcomes:
            if one.error:
                found.setdefault(one.scraper, []).append(f"{name}: {one.error}" if several else one.error)
    return {scraper: "; ".join(errors) for scraper, errors in found.items()}


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
