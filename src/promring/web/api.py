"""The read side of the API, as plain values: services, scrapers, targets, where a target is."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from aiohttp import web

from promring import __version__
from promring.audit.watch import Look
from promring.config.load import FILE_BYTES_MAX
from promring.core.coverage import Coverage
from promring.core.fragment import decode, fragments, listed_part, target
from promring.core.plan import shares
from promring.core.preview import CHANGES_MOST
from promring.core.ring import Ring
from promring.election.leadership import Leadership
from promring.fleet.fleet import Service
from promring.model import Placement, PromringError, TargetPool
from promring.reload.decisions import Question
from promring.runtime.text import clean
from promring.web.controller import Controller, fleet_of, placement_of, service_of
from promring.web.describe import describe, describe_fleet, said
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
                **_without_a_lock(controller.leadership),
            },
            "config": {
                "last_reload_successful": controller.reload_state.successful,
                "last_reload_success_at": controller.reload_state.at,
                "problems": controller.reload_state.problems,
            },
            "fleets": [describe_fleet(fleet) for fleet in controller.fleets.values()],
            "services": [describe(s, scrapers=s.fleet.name == s.name) for s in controller.services.values()],
            "left_behind": [one.describe() for one in controller.left_behind],
            "renamed": dict(controller.renamed),
        }

    @property
    def leads(self) -> bool:
        """Whether this is the controller that drains."""
        return self._controller.leadership.leads()

    async def services(self, _: web.Request) -> web.Response:
        return success(self.overview()["services"])

    async def fleets(self, _: web.Request) -> web.Response:
        return success(self.overview()["fleets"])

    async def fleet(self, request: web.Request) -> web.Response:
        return success(describe_fleet(fleet_of(self._controller, request.match_info["fleet"])))

    async def service(self, request: web.Request) -> web.Response:
        return success(describe(self._service(request)))

    async def targets(self, request: web.Request) -> web.Response:
        """``?q=`` a part of the address or labels, ``?scraper=`` an id, ``?limit=``."""
        placement = placement_of(self._service(request))
        query, scraper = request.query.get("q", ""), request.query.get("scraper")
        limit = _limit(request)
        ids = [s.id for s in placement.scrapers]
        if scraper is not None and scraper not in ids:
            raise ApiError(404, "not_found", f"no scraper {scraper!r} in the plan")
        return success(await self.searches.run(lambda: search(placement, query, scraper, limit)))

    async def foresee(self, request: web.Request) -> web.Response:
        """The body is a configuration: what a reload with it would do. ``?fleet=`` for one fleet, by its name or that of one
        of its services; ``?without=``, ``?with=`` as for a plan; ``?name=`` of its file. Who may is settled by the server.
        """
        query = request.query
        question = Question(
            query.get("name", "<sent>")[:NAME_MOST],
            query.get("fleet"),
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
        found, look = service.look.coverage, service.look
        if found is None:
            raise ApiError(
                503, "unavailable", "the scrapers were not asked yet" if service.settings.audit else "audit is off"
            )
        described = await self.searches.run(lambda: describe_coverage(found, look, limit))
        return success({"service": service.name, "at": look.at, **described})

    def release(self, request: web.Request) -> web.Response:
        """Of a fleet, or of a service. Who may is settled by the server. 409 when nothing is held that a person could let
        go.
        """
        if (name := request.match_info.get("fleet")) is not None:
            reconciler, service = fleet_of(self._controller, name).reconciler, None
            held = reconciler.verdict.withheld
        else:
            found = self._service(request)
            reconciler, service, name = found.fleet.reconciler, found.name, found.name
            held = (*reconciler.verdict.withheld, *found.withheld)
        let_go = reconciler.release(service)
        self.changed()
        if not let_go:
            why = "; ".join(one.detail for one in held) or "nothing is held"
            raise ApiError(409, "conflict", f"{name}: nothing to release: {why}")
        return success({"fleet": reconciler.fleet, "service": service, "released": said(let_go)})

    def changed(self) -> None:
        """Somebody who will ask has changed what is shown."""
        self._overview.forget()

    def _service(self, request: web.Request) -> Service:
        return service_of(self._controller, request.match_info["service"])


def _without_a_lock(leadership: Leadership) -> dict[str, Any]:
    """``locked_out_by``: the generation of another controller that receivers keep; ``took_over_at``: when this one went
    above another one, wall-clock seconds.
    """
    newer, ago_s = leadership.locked_out_by, leadership.clock() - leadership.taken_over_at
    took_over_at = round(time.time() - ago_s, 3) if ago_s < float("inf") else None
    return {"locked_out_by": str(newer) if newer else None, "took_over_at": took_over_at}


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
    ring = Ring(
        placement.scrapers, service.fleet.reconciler.planner.policy.virtual_nodes
    )  # the loop may have a newer one already
    return [_place(placement, ring, row) for row in rows]


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
    if len(owners) < _replicas(placement, row):
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


def _replicas(placement: Placement, row: int) -> int:
    """How many owners a target shall have."""
    return placement.owners.shape[1] if placement.wanted is None else int(placement.wanted[row])


def describe_coverage(found: Coverage, look: Look, limit: int) -> dict[str, Any]:
    """A look of the audit, with the first ``limit`` targets of each kind."""
    now, seen, behind = time.monotonic(), look.seen, dict(look.behind_since)  # they go on changing
    rows = {
        "missing": found.missing,
        "unproved": found.unproved,
        "doubled": found.doubled,
        "dropped": found.dropped,
        "down": found.down,
    }
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
                "dropped": one.dropped,
                "never_asked": one.never_asked or None,
                "behind_s": round(now - behind[name], 1) if name in behind else 0.0,
                "error": one.error,
            }
            for name, one in sorted(found.scrapers.items())
        ],
    }


def _limit(request: web.Request) -> int:
    return min(number(request, "limit", LIMIT), LIMIT_MOST)
