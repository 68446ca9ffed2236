"""The read side of the API: services, fleets, targets, and what a reload would do."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from promring.config.load import FILE_BYTES_MAX, Loaded
from promring.core.preview import CHANGES_MOST
from promring.core.verdicts import Hold
from promring.fleet.fleet import Service
from promring.model import PromringError
from promring.reload.decisions import Question
from promring.runtime.address import canonical_id
from promring.runtime.near import meant
from promring.web.actions import Actions
from promring.web.alerts.judge import Alerts
from promring.web.answers.plans import Released
from promring.web.answers.status import Alert, EffectiveConfiguration, Status
from promring.web.controller import Controller, fleet_of, placement_of, service_of
from promring.web.envelope import ApiError, number, success
from promring.web.gate import Gate, Shared
from promring.web.history import History
from promring.web.views.configuration import configuration
from promring.web.views.fleets import describe, describe_fleet
from promring.web.views.held import said
from promring.web.views.plans import why_not
from promring.web.views.status import status
from promring.web.views.targets import coverage_of, search
from promring.web.views.timeline import reshards_of

LIMIT = 100
LIMIT_MOST = 10_000
NAME_MOST = 200
BODY_S = 30.0
"""Until the body of a request is whole: 4 MB at 140 kB/s."""


class Api:
    def __init__(self, controller: Controller, actions: Actions, history: History, alerts: Alerts) -> None:
        self._controller, self._actions, self._history, self._alerts = controller, actions, history, alerts
        started_at = time.time()
        self._overview = Shared(lambda: status(controller, started_at))
        self._configuration: tuple[Loaded, EffectiveConfiguration] | None = None
        self._foresights = asyncio.Semaphore(1)
        self.searches = Gate("searches", at_once=2, waiting=32)
        """For all that walks through the targets of a service."""

    async def status(self, _: web.Request) -> web.Response:
        return success(self.overview())

    def overview(self) -> Status:
        """The whole controller, for people and programs."""
        return self._overview.get()

    @property
    def leads(self) -> bool:
        """Whether this is the controller that drains."""
        return self._controller.leadership.leads()

    async def services(self, _: web.Request) -> web.Response:
        return success(self.overview().services)

    async def fleets(self, _: web.Request) -> web.Response:
        return success(self.overview().fleets)

    async def fleet(self, request: web.Request) -> web.Response:
        return success(describe_fleet(fleet_of(self._controller, request.match_info["fleet"])))

    async def reshards(self, request: web.Request) -> web.Response:
        """What became of a fleet's plan lately, the newest first."""
        return success(reshards_of(fleet_of(self._controller, request.match_info["fleet"])))

    async def history(self, request: web.Request) -> web.Response:
        """Coverage, balance and moves of the last hours, the oldest first."""
        return success(self._history.of(fleet_of(self._controller, request.match_info["fleet"]).name))

    async def actions(self, _: web.Request) -> web.Response:
        """Who had promring do what, the newest first."""
        return success(self._actions.of())

    async def alerts(self, _: web.Request) -> web.Response:
        """What is wrong by our own rules, the worst first."""
        return success(self.alarms())

    def alarms(self) -> list[Alert]:
        """The same, for people."""
        return self._alerts.every()

    async def config(self, _: web.Request) -> web.Response:
        """Every value in force, without secrets."""
        return success(await self.configuration())

    async def configuration(self) -> EffectiveConfiguration:
        """The same, for people; made once for each configuration."""
        loaded, known = self._controller.loaded, self._configuration
        if known is None or known[0] is not loaded:
            taken_at, flags = self._controller.reload_state.at, self._controller.flags
            known = loaded, await self.searches.run(lambda: configuration(loaded, taken_at, flags))
            self._configuration = known
        return known[1]

    async def service(self, request: web.Request) -> web.Response:
        return success(describe(self._service(request)))

    async def targets(self, request: web.Request) -> web.Response:
        """``?q=`` a part of the address or labels, ``?scraper=`` an id, ``?limit=``."""
        service = self._service(request)
        placement, ids = placement_of(service), [s.id for s in placement_of(service).scrapers]
        query, scraper, limit = request.query.get("q", ""), request.query.get("scraper"), _limit(request)
        scraper = None if scraper is None else service.fleet.scraper_id(canonical_id(scraper))
        if scraper is not None and scraper not in ids:
            raise ApiError(404, "not_found", f"no scraper {scraper!r} in the plan{meant(scraper, ids)}")
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
            raise ApiError(400, "bad_data", why_not(error)) from error

    async def coverage(self, request: web.Request) -> web.Response:
        """What the scrapers are seen scraping: numbers, each scraper, and the first ``?limit=`` targets of each kind."""
        service, limit = self._service(request), _limit(request)
        found, look = service.look.coverage, service.look
        if found is None:
            raise ApiError(
                503, "unavailable", "the scrapers were not asked yet" if service.settings.audit else "audit is off"
            )
        return success(await self.searches.run(lambda: coverage_of(service.name, found, look, limit)))

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
        released = ", ".join(sorted({one.reason for one in let_go}))
        self._actions.add(request, "release", released, fleet=reconciler.fleet, service=service or "")
        leader = self._controller.leadership.known_leader or None
        waits_for = reconciler.verdict.detail if service and isinstance(reconciler.verdict, Hold) else None
        return success(Released(reconciler.fleet, service, said(let_go), self.leads, leader, waits_for))

    def changed(self) -> None:
        """Somebody who will ask has changed what is shown."""
        self._overview.forget()

    def _service(self, request: web.Request) -> Service:
        return service_of(self._controller, request.match_info["service"])


async def _body(request: web.Request, bytes_max: int) -> bytes:
    """Raises ``ApiError`` for a longer one, for one that is packed, and for one that does not come."""
    if (coding := request.headers.get("Content-Encoding", "identity").strip().lower()) not in ("", "identity"):
        raise ApiError(415, "bad_data", f"a body with Content-Encoding {coding[:20]!r} is not read: send it as it is")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.content.iter_any():
                parts.append(part)
                if (size := size + len(part)) > bytes_max:
                    raise ApiError(413, "too_large", f"larger than {bytes_max} bytes")
    except TimeoutError:
        raise ApiError(408, "timeout", f"the body was not whole within {BODY_S:g} s") from None
    return b"".join(parts)


def _limit(request: web.Request) -> int:
    return min(number(request, "limit", LIMIT), LIMIT_MOST)
