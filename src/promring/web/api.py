"""The read side of the API, as plain values: services, scrapers, targets, where a target is."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

from aiohttp import web

from promring import __version__
from promring.core.guard import Hold
from promring.core.placement import first_tokens
from promring.core.preview import PreviewError, preview
from promring.core.ring import Ring
from promring.model import Fact, Known, Placement, TargetPool, Unknown
from promring.service import Service
from promring.settings import parse_host_port
from promring.threads import beside
from promring.web.controller import Controller
from promring.web.envelope import ApiError, success

LIMIT = 100
LIMIT_MOST = 10_000
WHERE_MOST = 100


class Api:
    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._started = time.time()

    async def status(self, _: web.Request) -> web.Response:
        controller = self._controller
        unready = controller.unready()
        return success(
            {
                "version": __version__,
                "started_at": self._started,
                "ready": not unready,
                "unready": unready,
                "leader": True,
                "config": {
                    "last_reload_successful": controller.reload_state.successful,
                    "last_reload_success_at": controller.reload_state.at,
                    "problems": controller.reload_state.problems,
                },
                "services": [describe(s) for s in controller.services.values()],
            }
        )

    async def services(self, _: web.Request) -> web.Response:
        return success([describe(s) for s in self._controller.services.values()])

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
        return success(await beside(lambda: _search(placement, query, scraper, limit)))

    async def where(self, request: web.Request) -> web.Response:
        """``?target=`` an address: every target with it, its owner, the ring's order of preference."""
        service = self._service(request)
        placement = self._placement(service)
        target = request.query.get("target", "")
        if not target:
            raise ApiError(400, "bad_data", "target: which address?")
        pool, ring = placement.pool, service.reconciler.ring
        assert ring is not None  # there is a placement, so there was a ring

        def look() -> list[dict[str, Any]]:
            rows = [i for i, name in enumerate(pool.identities) if name == target or name.startswith(target + "\0")]
            return [_place(placement, ring, row) for row in rows[:WHERE_MOST]]

        found = await beside(look)
        if not found:
            raise ApiError(404, "not_found", f"no target {target!r} in {service.name}")
        return success(found)

    async def plan(self, request: web.Request) -> web.Response:
        """``?without=`` ids and ``?with=`` addresses, each repeatable: what would happen then."""
        service = self._service(request)
        placement, policy = self._placement(service), service.reconciler.policy
        without = request.query.getall("without", [])
        try:
            joining = [service.settings.scraper(parse_host_port(text)) for text in request.query.getall("with", [])]
            work = partial(preview, placement.pool, placement.scrapers, policy, without=without, joining=joining)
            described = await beside(lambda: work().describe())
        except (PreviewError, ValueError) as error:
            raise ApiError(400, "bad_data", str(error)) from error
        return success({"service": service.name, **described})

    def _service(self, request: web.Request) -> Service:
        name = request.match_info["service"]
        service = self._controller.services.get(name)
        if service is None:
            raise ApiError(404, "not_found", f"no service {name!r}")
        return service

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
    errors = {o.scraper: o.error for outcomes in reconciler.outcomes.values() for o in outcomes if o.error}
    scrapers = []
    for name in sorted({*states, *memory.slices}):
        slice_, node = memory.slices.get(name), states.get(name)
        scrapers.append(
            {
                "id": name,
                "state": node.state if node else "unknown",
                "reason": node.reason if node else "",
                "targets": slice_.targets if slice_ else 0,
                "load": slice_.targets if slice_ else 0,
                "generation": str(slice_.generation) if slice_ else None,
                "sha256": slice_.sha256 if slice_ else None,
                "delivery_error": errors.get(name),
            }
        )
    return {
        "name": service.name,
        "description": service.settings.description,
        "generation": str(memory.generation),
        "targets": len(reconciler.placement.pool) if reconciler.placement else None,
        "held": {"reason": verdict.reason, "detail": verdict.detail} if isinstance(verdict, Hold) else None,
        "membership": _fact(service.facts.members.fact) | {"kind": service.settings.scrapers.kind},
        "scrapers": scrapers,
        "sources": [
            {"name": name, "targets": sum(len(g.targets) for g in cell.fact.good.value) if cell.fact.good else None}
            | _fact(cell.fact)
            for name, cell in service.facts.sources.items()
        ],
        "delivery": [d.means for d in service.deliveries],
    }


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
    group = json.loads(pool.fragments[row])
    return {"target": group["targets"][0], "labels": group.get("labels", {})}


def _search(placement: Placement, query: str, scraper: str | None, limit: int) -> dict[str, Any]:
    needle = json.dumps(query, ensure_ascii=False)[1:-1].encode()  # as it stands in the fragments
    ids = [s.id for s in placement.scrapers]
    found: list[dict[str, Any]] = []
    total = 0
    for row, fragment in enumerate(placement.pool.fragments):
        owner = ids[placement.owners[row]]
        if (scraper is None or owner == scraper) and needle in fragment:
            total += 1
            if len(found) < limit:
                found.append(_row(placement.pool, row) | {"scraper": owner})
    return {"targets": found, "total": total, "truncated": total > len(found)}


def _place(placement: Placement, ring: Ring, row: int) -> dict[str, Any]:
    key = placement.pool.keys[row]
    natural = ring.scrapers[ring.holders[first_tokens(placement.pool.keys[row : row + 1], ring)[0]]]
    owner = placement.scrapers[placement.owners[row]]
    return _row(placement.pool, row) | {
        "scraper": owner.id,
        "key": f"{int(key):016x}",
        "preference": [s.id for s in ring.preference(int(key))],
        "reason": "ring" if natural.id == owner.id else "load_factor",
    }


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(LIMIT))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ApiError(400, "bad_data", f"limit: {text[:20]!r} is not a number")
    return min(int(text), LIMIT_MOST)
