"""The read side of the API, as plain values: services, scrapers, targets, where a target is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from aiohttp import web

from promring import __version__
from promring.address import canonical_id
from promring.audit.watch import Audit
from promring.config import FILE_BYTES_MAX
from promring.core.coverage import Coverage
from promring.core.guard import RELEASABLE, Act, Hold, Withheld
from promring.core.plan import shares
from promring.core.pool import decode, fragments, listed_part, target
from promring.core.preview import CHANGES_MOST, preview
from promring.core.ring import Ring
from promring.decisions import Question
from promring.model import Fact, Known, Placement, PromringError, TargetPool, Unknown
from promring.service import Service
from promring.text import clean
from promring.web.controller import Controller, service_of
from promring.web.envelope import ApiError, number, success
from promring.web.gate import Gate, Shared

LIMIT = 100
LIMIT_MOST = 10_000
ANSWER_BYTES_MOST = 8 * 1024 * 1024
"""Of the targets in one answer, whatever the limit."""
WHERE_MOST = 100
NAME_MOST = 200


class Api:
    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._started = time.time()
        self._overview = Shared(self._look)
        self._foresights = asyncio.Semaphore(1)
        self._previews = Gate("previews", at_once=1, waiting=4)
        self.searches = Gate("searches", at_once=2, waiting=32)
        """For all that walks through the targets of a service."""

    async def status(self, _: web.Request) -> web.Response:
        return success(self.overview())

    def overview(self) -> dict[str, Any]:
        """The whole controller, for people and programs."""
        return self._overview.get()

    def _look(self) -> dict[str, Any]:
        controller = self._controller
        unready = controller.unready()
        return {
            "version": __version__,
            "started_at": self._started,
            "ready": not unready,
            "unready": unready,
            "leader": controller.leadership.leads(),
            "controllers": {
                "lock": not controller.leadership.alone,
                "leader": controller.leadership.leader or None,
                "epoch": controller.leadership.epoch or None,
            },
            "config": {
                "last_reload_successful": controller.reload_state.successful,
                "last_reload_success_at": controller.reload_state.at,
                "problems": controller.reload_state.problems,
            },
            "services": [describe(s) for s in controller.services.values()],
            "left_behind": [one.describe() for one in controller.left_behind],
            "renamed": dict(controller.renamed),
        }

    @property
    def leads(self) -> bool:
        """Whether this is the controller that drains."""
        return self._controller.leadership.leads()

    async def services(self, _: web.Request) -> web.Response:
        return success(self.overview()["services"])

    async def service(self, request: web.Request) -> web.Response:
        return success(describe(self._service(request)))

    async def targets(self, request: web.Request) -> web.Response:
        """``?q=`` a part of the address or labels, ``?scraper=`` an id, ``?limit=``."""
        placement = self._placement(self._service(request))
        query, scraper = request.query.get("q", ""), request.query.get("scraper")
        limit = _limit(request)
        ids = [s.id for s in placement.scrapers]
        if scraper is not None and scraper not in ids:
            raise ApiError(404, "not_found", f"no scraper {scraper!r} in the plan")
        return success(await self.searches.run(lambda: search(placement, query, scraper, limit)))

    async def plan(self, request: web.Request) -> web.Response:
        """``?without=`` ids and ``?with=`` addresses, each repeatable: what would happen then."""
        service = self._service(request)
        placement, policy = self._placement(service), service.reconciler.policy
        without = request.query.getall("without", [])
        try:
            joining = [service.settings.joining(text) for text in request.query.getall("with", [])]
            work = partial(preview, placement.pool, placement.scrapers, policy, without=without, joining=joining)
            described = await self._previews.run(lambda: work().describe())
        except (PromringError, ValueError) as error:
            raise ApiError(400, "bad_data", str(error)) from error
        return success({"service": service.name, **described})

    async def foresee(self, request: web.Request) -> web.Response:
        """The body is a configuration: what a reload with it would do. ``?service=``, ``?without=``, ``?with=`` as for a
        plan; ``?name=`` of its file. Who may is settled by the server.
        """
        query = request.query
        question = Question(
            query.get("name", "<sent>")[:NAME_MOST],
            query.get("service"),
            tuple(query.getall("without", [])[:CHANGES_MOST]),
            tuple(query.getall("with", [])[:CHANGES_MOST]),
        )
        text = await _body(request, FILE_BYTES_MAX)
        try:
            async with self._foresights:
                return success(await self._controller.foresee(text, question))
        except (PromringError, ValueError) as error:
            raise ApiError(400, "bad_data", str(error)) from error

    async def coverage(self, request: web.Request) -> web.Response:
        """What the scrapers are seen scraping: numbers, each scraper, and the first ``?limit=`` targets of each kind."""
        service, limit = self._service(request), _limit(request)
        found, audit = service.audit.coverage, service.audit
        if found is None:
            raise ApiError(
                503, "unavailable", "the scrapers were not asked yet" if service.settings.audit else "audit is off"
            )
        described = await self.searches.run(lambda: describe_coverage(found, audit, limit))
        return success({"service": service.name, "at": audit.at, **described})

    def drain(self, request: web.Request, *, back: bool) -> web.Response:
        """Who may is settled by the server."""
        service = self._service(request)
        name = service.scraper_id(canonical_id(request.match_info["scraper"]))
        known = {node.id for node in service.membership.nodes()} | set(service.reconciler.memory.slices)
        if name not in known | service.reconciler.memory.drained:
            raise ApiError(404, "not_found", f"no scraper {name!r} in {service.name}; there is {', '.join(sorted(known))}")
        leadership = self._controller.leadership
        if not leadership.leads():
            raise ApiError(
                409, "conflict", f"this controller follows; ask the one that leads: {leadership.leader or 'none'}"
            )
        service.reconciler.drain(name, back=back)
        self._overview.forget()
        return success({"service": service.name, "scraper": name, "drained": not back})

    def release(self, request: web.Request) -> web.Response:
        """Who may is settled by the server. 409 when nothing is held that a person could let go."""
        service = self._service(request)
        let_go = service.reconciler.release()
        self._overview.forget()
        if not let_go:
            held = "; ".join(one.detail for one in service.reconciler.verdict.withheld) or "nothing is held"
            raise ApiError(409, "conflict", f"{service.name}: nothing to release: {held}")
        return success({"service": service.name, "released": _said(let_go)})

    def _service(self, request: web.Request) -> Service:
        return service_of(self._controller, request.match_info["service"])

    @staticmethod
    def _placement(service: Service) -> Placement:
        placement = service.reconciler.placement
        if placement is None:
            raise ApiError(503, "unavailable", service.unready() or "no plan yet")
        return placement


def describe(service: Service) -> dict[str, Any]:
    """One service for people and programs: scrapers, sources, what is in force, what is held."""
    reconciler, memory = service.reconciler, service.reconciler.memory
    verdict = reconciler.verdict
    states = {node.id: node for node in service.membership.nodes()}
    errors = {o.scraper: o.error for outcomes in reconciler.couriers.outcomes.values() for o in outcomes if o.error}
    placement = reconciler.placement
    loads = placement.carried() if placement else {name: s.targets for name, s in memory.slices.items()}
    zones = {s.id: s.zone for s in memory.members}
    drained = memory.drained | {s.id for s in memory.members if s.draining}
    departing = {s.id for s in reconciler.departures.scrapers}
    standings = reconciler.history.standings
    limits: dict[str, int] = {}
    if placement and placement.limits is not None:
        limits = dict(zip((s.id for s in placement.scrapers), placement.limits.tolist(), strict=True))
    scrapers = []
    for name in sorted({*states, *memory.slices}):
        slice_, node = memory.slices.get(name), states.get(name)
        scrapers.append(
            {
                "id": name,
                "state": node.state if node else "up" if name in departing else "unknown",
                "reason": node.reason if node else "taken out of the list; it leaves" if name in departing else "",
                "targets": slice_.targets if slice_ else 0,
                "zone": zones.get(name, ""),
                "drained": name in drained,
                "departing": name in departing,
                "standing": standings[name].state.value if name in standings else None,
                "load": loads.get(name, 0),
                "limit": limits.get(name),
                "generation": str(slice_.generation) if slice_ else None,
                "sha256": slice_.sha256 if slice_ else None,
                "delivery_error": errors.get(name),
            }
        )
    return {
        "name": service.name,
        "description": service.settings.description,
        "generation": str(memory.generation),
        "targets": len(placement.pool) if placement else None,
        "duplicates": placement.pool.duplicates if placement else None,
        "conflicts": placement.pool.conflicts if placement else None,
        "conflicts_named": list(placement.pool.conflicts_named) if placement else [],
        "fits": reconciler.fit or None,
        "handing_over": memory.claims.held,
        "second_opinions": len(reconciler.opinions.trials),
        "held": _said(verdict.withheld)[0] if isinstance(verdict, Hold) else None,
        "withheld": _said(verdict.withheld) if isinstance(verdict, Act) else [],
        "membership": _fact(service.facts.members.fact) | {"kind": service.settings.scrapers.kind},
        "scrapers": scrapers,
        "sources": [
            {"name": name} | _list(cell.fact.good) | _fact(cell.fact) for name, cell in service.facts.sources.items()
        ],
        "delivery": [d.means for d in service.deliveries],
        "retiring": reconciler.retirement.describe(list(memory.slices.values())),
    }


async def _body(request: web.Request, bytes_max: int) -> bytes:
    """Raises ``ApiError`` for a longer one."""
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        parts.append(part)
        if (size := size + len(part)) > bytes_max:
            raise ApiError(413, "too_large", f"larger than {bytes_max} bytes")
    return b"".join(parts)


def places(service: Service, placement: Placement, rows: list[int]) -> list[dict[str, Any]]:
    """Each of these targets: its owners, why these, and the ring's order of preference."""
    if not rows:
        return []
    ring = Ring(placement.scrapers, service.reconciler.policy.virtual_nodes)  # the loop may have a newer one already
    return [_place(placement, ring, row) for row in rows]


def _said(held: Iterable[Withheld]) -> list[dict[str, Any]]:
    return [{"reason": one.reason, "detail": one.detail, "releasable": one.reason in RELEASABLE} for one in held]


def _list(good: Known[TargetPool] | None) -> dict[str, Any]:
    """Of the last good list of a source: its length, how many entries were left out of it, and the first of those."""
    if good is None:
        return {"targets": None, "refused": None, "remarks": []}
    return {"targets": len(good.value), "refused": good.value.refused, "remarks": list(good.value.remarks)}


def _fact(fact: Fact[Any]) -> dict[str, Any]:
    match fact.newest:
        case Known():
            state, why = "known", ""
        case Unknown(reason):
            state, why = "unknown", reason
        case _:
            state, why = "empty", "it answered with an empty list"
    return {
        "state": state,
        "reason": fact.trouble or why,
        "last_success_at": fact.good_at or None,
        "last_answer_at": fact.asked_at or None,
        "stale": fact.stale,
    }


def _row(pool: TargetPool, row: int) -> dict[str, Any]:
    one = target(pool, row)
    return {"target": one.address, "labels": one.labels}


def rows_at(pool: TargetPool, address: str) -> list[int]:
    """Rows of the targets with this address, the first ``WHERE_MOST``. Found in the blob: a pool has no index by address."""
    start = b'{"targets":[' + _json(address) + b"]"
    rows: list[int] = []
    at = pool.blob.find(start)
    while at >= 0 and len(rows) < WHERE_MOST:
        row = int(np.searchsorted(pool.bounds, at, side="right")) - 1
        if pool.bounds[row] == at:
            rows.append(row)
        at = pool.blob.find(start, at + 1)
    return rows


def _json(text: str) -> bytes:
    """As it stands in the fragments of a pool."""
    return json.dumps(clean(text), ensure_ascii=False).encode()


def _first(pool: TargetPool, rows: npt.NDArray[Any], limit: int) -> list[int]:
    """The first ``limit`` of ``rows``, fewer when their fragments have more than ``ANSWER_BYTES_MOST``."""
    some = rows[:limit]
    sizes = np.cumsum(pool.bounds[some + 1] - pool.bounds[some])
    return list(map(int, some[: np.searchsorted(sizes, ANSWER_BYTES_MOST, side="right")]))


def search(placement: Placement, query: str, scraper: str | None, limit: int) -> dict[str, Any]:
    """Targets with ``query`` in their address or labels, the first ``limit``, of ``scraper`` or all, and how many."""
    needle = _json(query)[1:-1]  # as it stands in the fragments
    pool, ids = placement.pool, [s.id for s in placement.scrapers]
    rows = range(len(pool)) if scraper is None else shares(placement).of(ids.index(scraper)).tolist()
    listed = fragments(pool) if scraper is None else map(pool.fragment, rows)
    found: list[dict[str, Any]] = []
    total = size = 0
    for row, fragment in zip(rows, listed, strict=True):
        if needle in listed_part(fragment):
            total += 1
            if len(found) < limit and (size := size + len(fragment)) <= ANSWER_BYTES_MOST:
                one = decode(fragment)
                found.append({"target": one.address, "labels": one.labels, **_owners(placement, row)})
    return {"targets": found, "total": total, "truncated": total > len(found)}


def _owners(placement: Placement, row: int) -> dict[str, Any]:
    """``scraper``: the first owner, None when it has no room; ``scrapers``: all of them."""
    names = [placement.scrapers[i].id for i in placement.owners[row].tolist() if i >= 0]
    return {"scraper": names[0] if names else None, "scrapers": names}


def _place(placement: Placement, ring: Ring, row: int) -> dict[str, Any]:
    key = int(placement.pool.keys[row])
    preference = [s.id for s in ring.preference(key)]
    owners = _owners(placement, row)
    return {
        **_row(placement.pool, row),
        **owners,
        "key": f"{key:016x}",
        "preference": preference,
        "reason": _reason(placement, ring, row, owners["scrapers"], preference),
    }


def _reason(placement: Placement, ring: Ring, row: int, owners: list[str], preference: list[str]) -> str:
    """Why these: ``ring`` as it prefers, ``zone`` because of zones, ``load_factor`` because others are full, ``no_room``."""
    if len(owners) < placement.owners.shape[1]:
        return "no_room"
    if owners == preference[: len(owners)]:
        return "ring"
    pool = placement.pool
    asked = pool.zone_names[pool.zones[row]] if pool.zones is not None else ""
    zones = {s.id: s.zone for s in ring.scrapers}
    there = [name for name in preference if asked and zones[name] == asked]
    if there and owners[0] == there[0]:
        return "zone"
    different = len({zones[name] for name in owners}) == len(owners) > 1
    return "zone" if owners[0] == preference[0] and different else "load_factor"


def describe_coverage(found: Coverage, audit: Audit, limit: int) -> dict[str, Any]:
    """A look of the audit, with the first ``limit`` targets of each kind."""
    now, seen, behind = time.monotonic(), audit.seen, dict(audit.behind_since)  # they go on changing
    rows = {"missing": found.missing, "unproved": found.unproved, "doubled": found.doubled, "down": found.down}
    return {
        "ratio": found.ratio,
        "targets": len(found.pool),
        "uncovered": found.uncovered,
        **{name: len(some) for name, some in rows.items()},
        "lists": {name: [_row(found.pool, row) for row in _first(found.pool, some, limit)] for name, some in rows.items()},
        "scrapers": [
            {
                "id": name,
                "expected": one.expected,
                "scraped": one.scraped,
                "missing": one.missing,
                "foreign": one.foreign,
                "foreign_targets": list(one_seen.foreign[:limit]) if (one_seen := seen.get(name)) else [],
                "down": one.down,
                "behind_s": round(now - behind[name], 1) if name in behind else 0.0,
                "error": one.error,
            }
            for name, one in sorted(found.scrapers.items())
        ],
    }


def _limit(request: web.Request) -> int:
    return min(number(request, "limit", LIMIT), LIMIT_MOST)
