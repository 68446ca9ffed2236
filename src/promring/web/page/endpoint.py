"""The requests for pages: what is asked for, from the API's views, into a template."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from aiohttp import web

from promring.core.joined import part_of
from promring.fleet.fleet import Fleet, Service
from promring.runtime.address import canonical_id
from promring.runtime.threads import computed
from promring.telemetry.events import About
from promring.web.actions import Actions
from promring.web.answers.fleets import Fleet as FleetAnswer
from promring.web.answers.fleets import Service as ServiceAnswer
from promring.web.answers.parts import Scraper
from promring.web.answers.status import Status
from promring.web.answers.targets import Place, Where
from promring.web.api import Api
from promring.web.controller import Controller, fleet_of, placement_of, service_of
from promring.web.envelope import ApiError
from promring.web.events import about_fleet, about_service
from promring.web.forecasts import Forecasts
from promring.web.gate import Gate
from promring.web.history import History
from promring.web.negotiation import chosen_coding
from promring.web.page.alike import Alike
from promring.web.page.charts import charts_of
from promring.web.page.explain import explained
from promring.web.page.previews import shown as shown_preview
from promring.web.page.render import FOLDER, HEADERS, Renderer, page_answer
from promring.web.page.ring import load_arcs, ring_arcs
from promring.web.page.scrapers import Asked, Rows, page_of, rows_of
from promring.web.page.shown import (
    Pictures,
    ShownFinds,
    ShownFleet,
    ShownService,
    alarms_of,
    elsewhere,
    held,
    held_besides,
    troubled_first,
)
from promring.web.page.words import natural
from promring.web.paths import Paths
from promring.web.sd import header
from promring.web.views.fleets import describe
from promring.web.views.summary import LEVELS
from promring.web.views.targets import KINDS, listed, search, uncovered
from promring.web.views.timeline import reshards_of
from promring.web.where import LIMIT, WhereEndpoint

SCRAPERS_MOST = 20
"""So many scrapers of a fleet stand on the page of several fleets, those in trouble first."""
SERVICES_MOST = 8
"""So many services of a fleet stand in full; of more each is a row, as many as scrapers on the page of several fleets."""
EVENTS_MOST, EVENTS_ALL, ACTIONS_MOST, RESHARDS_MOST = 20, 500, 20, 20
FOUND_MOST = TARGETS_MOST = 100
UNCOVERED_MOST = 10
PACKING = 3
"""Of gzip: nine tenths of the page of a big fleet for the least work."""
FILES = {"page.css": "text/css", "page.js": "text/javascript"}


class Page:
    def __init__(
        self,
        controller: Controller,
        api: Api,
        *,
        where: WhereEndpoint,
        forecasts: Forecasts,
        history: History,
        actions: Actions,
        paths: Paths,
    ) -> None:
        self._controller, self._api = controller, api
        self._finds, self._forecasts = where, forecasts
        self._history, self._actions = history, actions
        self._files = {name: (FOLDER / name).read_bytes() for name in FILES}
        self.render, self._pages = Renderer(api, paths), Alike()

    async def file(self, request: web.Request) -> web.Response:
        """Its style and its script."""
        name = request.match_info["name"]
        if name not in FILES:
            raise ApiError(404, "not_found", f"no file {name!r}")
        return web.Response(body=self._files[name], content_type=FILES[name], charset="utf-8", headers=HEADERS)

    # --- fleets and services -----------------------------------------------------------------------------------------

    async def home(self, request: web.Request) -> web.Response:
        """Every fleet and its services, those with trouble first; of a single one all that its own page has."""
        overview = self._api.overview()
        return await self._alike(request, overview, lambda: self._home(request.query, overview))

    async def _home(self, query: Mapping[str, str], overview: Status) -> bytes:
        only = overview.fleets[0] if len(overview.fleets) == 1 else None
        asked, most = Asked.of(query) if only else Asked(), None if only else SCRAPERS_MOST
        fleets = [await self._shown(one, overview, asked, most) for one in troubled_first(overview.fleets)]
        return await self.render.body("home.html", {"fleets": fleets, "only": "", **self._past(None)}, overview)

    async def fleet(self, request: web.Request) -> web.Response:
        """One fleet, with all of its scrapers, and its services."""
        name, overview = fleet_of(self._controller, request.match_info["fleet"]).name, self._api.overview()
        return await self._alike(request, overview, lambda: self._fleet(name, request.query, overview))

    async def _fleet(self, name: str, query: Mapping[str, str], overview: Status) -> bytes:
        said = _said_of(overview, name)
        shown = await self._shown(said, overview, Asked.of(query), None)
        past = self._past(about_fleet(self._controller, name), name)
        past["of_fleet"] = alarms_of(self._api.alarms(), name, said.services)
        return await self.render.body("home.html", {"fleets": [shown], "only": name, **past}, overview)

    async def service(self, request: web.Request) -> web.Response:
        """One service, with all of its scrapers and what each has of it."""
        service, overview = service_of(self._controller, request.match_info["service"]), self._api.overview()
        return await self._alike(request, overview, lambda: self._service(service, request.query, overview))

    async def _service(self, service: Service, query: Mapping[str, str], overview: Status) -> bytes:
        fleet = _said_of(overview, service.fleet.name)
        own = fleet.is_own
        said = next((one for one in overview.services if own and one.name == service.name), None) or describe(service)
        shown = await self._shown_service(service, said, fleet)
        had = self._actions.had(fleet.name)
        rows = rows_of(said.scrapers, Asked.of(query), writable=self._api.leads, had=had)
        kept = [*held(fleet, "fleets"), *shown.kept]
        past = self._past(about_service(self._controller, service.name), service.fleet.name)
        values: dict[str, object] = {"shown": shown, "rows": rows, "kept": kept, "fleet": fleet, "only": service.name}
        return await self.render.body("service.html", values | past, overview)

    async def _alike(self, request: web.Request, overview: Status, make: Callable[[], Awaitable[bytes]]) -> web.Response:
        """One page for all who ask for it, as long as nothing happens and the ``overview`` is shared; packed once, too."""
        happened, url = self._controller.events.last, request.path_qs
        plain = partial(self._pages.get, overview, happened, url, make)
        if chosen_coding(header(request, "Accept-Encoding")) != "gzip":
            return page_answer(await plain(), {"Vary": "Accept-Encoding"})

        async def pack() -> bytes:
            body = await plain()
            return await computed(lambda: gzip.compress(body, PACKING))

        packed = await self._pages.get(overview, happened, f"gzip {url}", pack)
        return page_answer(packed, {"Vary": "Accept-Encoding", "Content-Encoding": "gzip"})

    async def _shown(self, said: FleetAnswer, overview: Status, asked: Asked, most: int | None) -> ShownFleet:
        running = self._controller.services
        services = {one.name: one for one in overview.services}
        there = [services[name] for name in said.services if name in running and name in services]
        if listed := len(there) > SERVICES_MOST:
            there.sort(key=lambda one: (-LEVELS.index(one.summary.level), natural(one.name)))
        shown = [
            ShownService(one, held_besides(one, said), None)
            if listed
            else await self._shown_service(running[one.name], one, said)
            for one in there[: most if listed else None]
        ]
        had = self._actions.had(said.name)
        rows = rows_of(said.scrapers, asked, writable=self._api.leads, had=had, most=most)
        fleet = self._controller.fleets.get(said.name)
        return ShownFleet(
            said,
            rows,
            held(said, "fleets"),
            shown,
            None if most or fleet is None else self._pictures(fleet, said, rows),
            listed,
            len(there) - len(shown),
        )

    async def _shown_service(self, service: Service, said: ServiceAnswer, fleet: FleetAnswer) -> ShownService:
        """What the API says, and some targets that the audit did not see scraped."""
        found, lists = service.look.coverage, None
        if found is not None:
            lists = await self._api.searches.run(lambda: uncovered(found, UNCOVERED_MOST))
        return ShownService(said, held_besides(said, fleet), lists)

    def _pictures(self, fleet: Fleet, said: FleetAnswer, rows: Rows) -> Pictures:
        ring = fleet.reconciler.planner.ring
        return Pictures(
            ring_arcs(ring, rows.numbers) if ring is not None else [],
            load_arcs(said.scrapers, rows.numbers),
            charts_of(self._history.of(fleet.name)),
            reshards_of(fleet)[:RESHARDS_MOST],
        )

    def _past(self, about: About | None, fleet: str | None = None) -> dict[str, object]:
        """What happened lately, and who pressed what."""
        events = self._controller.events.since(about=about)[-EVENTS_MOST:][::-1]
        return {"events": events, "actions": self._actions.of(fleet)[:ACTIONS_MOST]}

    # --- a scraper ---------------------------------------------------------------------------------------------------

    async def scraper(self, request: web.Request) -> web.Response:
        """One scraper, and its targets: ``?service=``, ``?q=`` a part of address or labels, ``?page=``."""
        fleet, said = self._scraper(request)
        services = [describe_scraper(service, said.id) for service in fleet.services.values()]
        query, asked = request.query, request.query.get("q", "").strip()
        service = fleet.services.get(query.get("service", "")) or next(iter(fleet.services.values()))
        in_force, page, targets = fleet.reconciler.in_force, page_of(query), None
        placement = part_of(in_force, service.name) if in_force is not None else None
        if placement is not None and said.id in {s.id for s in placement.scrapers}:
            begin = (page - 1) * TARGETS_MOST
            work = partial(search, placement, asked, said.id, TARGETS_MOST, begin=begin)
            targets = await self._api.searches.run(work)
        values: dict[str, object] = {
            "fleet": fleet.name,
            "x": said,
            "services": services,
            "service": service.name,
            "targets": targets,
        }
        past = self._past(about_fleet(self._controller, fleet.name), fleet.name)
        values["elsewhere"] = elsewhere(self._api.overview(), fleet.name, said.id)
        values |= {"q": asked, "page": page, "size": TARGETS_MOST, "had": self._actions.had(fleet.name)}
        return await self.render("scraper.html", values | past)

    def _scraper(self, request: web.Request) -> tuple[Fleet, Scraper]:
        fleet = fleet_of(self._controller, request.match_info["fleet"])
        name = fleet.scraper_id(canonical_id(request.match_info["scraper"]))
        said = next((one for one in _said_of(self._api.overview(), fleet.name).scrapers if one.id == name), None)
        if said is None:
            raise ApiError(404, "not_found", f"no scraper {name!r} in {fleet.name}")
        return fleet, said

    async def plan(self, request: web.Request) -> web.Response:
        """``?without=`` a scraper: what would move; ``?with=`` a drained one: what would come back."""
        fleet = fleet_of(self._controller, request.match_info["fleet"])
        name, back = request.query.get("without", ""), False
        if not name and (name := request.query.get("with", "")):
            back = True
        name, why, preview = fleet.scraper_id(canonical_id(name)), "", None
        try:
            preview = shown_preview(await self._forecasts.of_one(fleet, name, back=back))
        except ApiError as error:
            if error.status not in (400, 503):
                raise
            why = str(error)
        said = next((one for one in _said_of(self._api.overview(), fleet.name).scrapers if one.id == name), None)
        values: dict[str, object] = {
            "fleet": fleet.name,
            "name": name,
            "back": back,
            "why": why,
            "preview": preview,
            "x": said,
        }
        return await self.render("plan.html", values | {"writable": self._api.leads})

    # --- targets -----------------------------------------------------------------------------------------------------

    async def where(self, request: web.Request) -> web.Response:
        """``?target=`` an address, ``label=value``, or a part of an address or a label."""
        asked = request.query.get("target", "").strip()[:1000]
        services = list(self._controller.services.values()) if asked else []
        answer = await self._finds.look(services, asked, LIMIT) if asked else Where([], 0, False, [], [])
        exact = [place for place in answer.targets if place.match != "part"]
        found = [await _found(s, asked, exact, self._api.searches) for s in services]
        values = {"asked": asked, "found": found, "near": answer.near, "shown": len(exact)}
        return await self.render("where.html", values | {"total": answer.total if exact else 0})

    async def target(self, request: web.Request) -> web.Response:
        """One target, by its id: who has it and why, when it was scraped, where it was before."""
        service = service_of(self._controller, request.match_info["service"])
        placement, text = placement_of(service), request.match_info["target"]
        try:
            ident = int(text, 16) if len(text) == 16 else -1
        except ValueError:
            ident = -1
        scrapers = _said_of(self._api.overview(), service.fleet.name).scrapers
        found = None
        if 0 <= ident < 2**64:
            found = await self._api.searches.run(lambda: explained(service, placement, ident, scrapers))
        if found is None:
            raise ApiError(404, "not_found", f"no target {text!r} in {service.name}")
        urls = {one.id: one.url for one in scrapers}
        return await self.render("target.html", {"service": service, "one": found, "urls": urls})

    async def targets(self, request: web.Request) -> web.Response:
        """The targets of a service that are missing, unproved, doubled, dropped or down: ``?page=``."""
        service, kind = service_of(self._controller, request.match_info["service"]), request.match_info["kind"]
        if kind not in KINDS:
            raise ApiError(404, "not_found", f"no list {kind!r}; there is {', '.join(KINDS)}")
        coverage, placement, page = service.look.coverage, service.placement, page_of(request.query)
        found = None
        if coverage is not None and placement is not None:
            begin = (page - 1) * TARGETS_MOST
            found = await self._api.searches.run(lambda: listed(coverage, placement, kind, begin, TARGETS_MOST))
        values: dict[str, object] = {"service": service.name, "kind": kind, "kinds": KINDS, "targets": found, "page": page}
        return await self.render("list.html", values | {"size": TARGETS_MOST, "look": service.look})

    # --- what happened -----------------------------------------------------------------------------------------------

    async def events(self, request: web.Request) -> web.Response:
        """``?level=warn``: those and worse; ``?fleet=``, ``?service=``."""
        level = request.query.get("level", "")
        worth = {"error": ("error",), "warn": ("warn", "error")}.get(level, ("info", "warn", "error"))
        fleet, service = request.query.get("fleet", ""), request.query.get("service", "")
        about = None
        if service in self._controller.services:
            about = about_service(self._controller, service)
        elif fleet in self._controller.fleets:
            about = about_fleet(self._controller, fleet)
        every = [one for one in self._controller.events.since(about=about) if one.level in worth][-EVENTS_ALL:][::-1]
        values: dict[str, object] = {
            "level": level,
            "fleet": fleet,
            "service": service,
            "fleets": list(self._controller.fleets),
        }
        return await self.render("events.html", values | {"events": every, "actions": self._actions.of()})


def _said_of(overview: Status, fleet: str) -> FleetAnswer:
    """Of a fleet that runs. The overview may be a moment older than it: then 503."""
    found = next((one for one in overview.fleets if one.name == fleet), None)
    if found is None:
        raise ApiError(503, "unavailable", f"fleet {fleet!r} is being started", retry_after_s=1)
    return found


async def _found(service: Service, asked: str, exact: Sequence[Place], searches: Gate) -> ShownFinds:
    """What is called so in one service: those in ``exact`` of it; where nothing is at all, whatever has ``asked`` in it."""
    placement = service.placement
    if placement is None:
        return ShownFinds(service.name, service.unready() or "no plan yet")
    if exact:
        here = [place for place in exact if place.service == service.name]
        return ShownFinds(service.name, places=here, total=len(here))
    some = await searches.run(lambda: search(placement, asked, None, FOUND_MOST))
    return ShownFinds(service.name, targets=some.targets, total=some.total)


def describe_scraper(service: Service, scraper: str) -> Mapping[str, object]:
    """What one scraper has of one service: its slice, and what the audit saw of it."""
    coverage = service.look.coverage
    seen = coverage.scrapers.get(scraper) if coverage is not None else None
    return {"name": service.name, "job": service.settings.job, "slice": service.slices.get(scraper), "seen": seen}
