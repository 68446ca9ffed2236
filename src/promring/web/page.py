"""The page: what ``/api/v1`` says, for people. Rendered here, so it works without script; with it, it keeps itself new.

Everything from outside is escaped by the template engine, and the page may load and run nothing but its own two files.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from aiohttp import web

from promring.fleet.fleet import Service
from promring.runtime.text import clean
from promring.telemetry.events import About, Event
from promring.web.answers.fleets import Fleet as FleetAnswer
from promring.web.answers.fleets import Service as ServiceAnswer
from promring.web.answers.parts import Held, Scraper
from promring.web.answers.status import Status
from promring.web.answers.targets import OwnedTarget, Place, Uncovered, Where
from promring.web.api import Api
from promring.web.controller import Controller
from promring.web.envelope import ApiError
from promring.web.events import about_fleet, about_service
from promring.web.gate import Gate
from promring.web.paths import Paths
from promring.web.views.fleets import describe
from promring.web.views.targets import search, uncovered
from promring.web.where import LIMIT, WhereEndpoint

SCRAPERS_MOST = 50
"""So many scrapers of a fleet stand on the page of all fleets, those in trouble first."""
EVENTS_MOST = 50
FOUND_MOST = 100
UNCOVERED_MOST = 10
TEXT_MOST, NAMES_MOST = 300, 6
"""Of a field of an event: longer texts are cut, lists to so many names."""
WHOLE_SETS = frozenset({"oldnodes", "newnodes", "detail"})
"""Fields with a whole set, beside ``joined`` and ``left``."""
FILES = {"page.css": "text/css", "page.js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class ShownHeld:
    """``kind`` and ``name``: of which fleet or service, as the paths have it; ``whole``: it is the whole plan."""

    held: Held
    kind: str
    name: str
    whole: bool


@dataclass(frozen=True, slots=True)
class ShownScrapers:
    """``up``: None when nobody knows; ``widest``: the load that is a whole bar; ``writable``: this controller drains."""

    up: int | None
    all: int
    widest: int
    rows: Sequence[Scraper]
    hidden: Sequence[Scraper]
    writable: bool


@dataclass(frozen=True, slots=True)
class ShownFleet:
    """A fleet of several services."""

    said: FleetAnswer
    scrapers: ShownScrapers
    kept: Sequence[ShownHeld]


@dataclass(frozen=True, slots=True)
class ShownService:
    """``fleet``: its fleet where that is its own; ``uncovered``: some targets that are not proved to be scraped."""

    said: ServiceAnswer
    fleet: FleetAnswer | None
    scrapers: ShownScrapers
    kept: Sequence[ShownHeld]
    uncovered: Uncovered | None


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """``fleet`` None: the services have their scrapers with them."""

    fleet: ShownFleet | None
    services: Sequence[ShownService]


@dataclass(frozen=True, slots=True)
class ShownFinds:
    """Of one service. ``why``: it was not searched."""

    service: str
    why: str = ""
    places: Sequence[Place] = ()
    targets: Sequence[OwnedTarget] = ()
    total: int = 0


class Page:
    def __init__(self, controller: Controller, api: Api, where: WhereEndpoint, paths: Paths) -> None:
        self._controller = controller
        self._api = api
        self._finds = where
        self._renders = Gate("pages", at_once=2, waiting=64)
        folder = Path(__file__).parent / "pages"
        self._files = {name: (folder / name).read_bytes() for name in FILES}
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "ago": _ago,
            "clock": _clock,
            "until": _until,
            "count": _count,
            "brief": _brief,
        }
        environment.globals["base"] = paths.links
        self._home = environment.get_template("home.html")
        self._where = environment.get_template("where.html")

    async def file(self, request: web.Request) -> web.Response:
        """Its style and its script."""
        name = request.match_info["name"]
        if name not in FILES:
            raise ApiError(404, "not_found", f"no file {name!r}")
        return web.Response(body=self._files[name], content_type=FILES[name], charset="utf-8", headers=HEADERS)

    async def home(self, _: web.Request) -> web.Response:
        """Every fleet and its services."""
        overview = self._api.overview()
        return await self._home_of(overview, overview.fleets, SCRAPERS_MOST)

    async def fleet(self, request: web.Request) -> web.Response:
        """One fleet, with all of its scrapers, and its services."""
        name, overview = request.match_info["fleet"], self._api.overview()
        if name not in self._controller.fleets:
            raise ApiError(404, "not_found", f"no fleet {name!r}")
        chosen = [one for one in overview.fleets if one.name == name]
        return await self._home_of(overview, chosen, None, name, about_fleet(self._controller, name))

    async def service(self, request: web.Request) -> web.Response:
        """One service, with all of its scrapers and what each has of it."""
        name = request.match_info["service"]
        if (service := self._controller.services.get(name)) is None:
            raise ApiError(404, "not_found", f"no service {name!r}")
        overview, described = self._api.overview(), describe(service)
        own = next((one for one in overview.fleets if one.name == described.fleet), None)
        fleet = None if own is None or own.name == name else own
        kept = [*(_held(fleet, "fleets") if fleet else []), *_held_besides(described, fleet)]
        shown = await self._shown_service(service, described, own, None, kept)
        return await self._render_home(overview, [ShownGroup(None, [shown])], name, about_service(self._controller, name))

    async def _home_of(
        self,
        overview: Status,
        fleets: Sequence[FleetAnswer],
        most: int | None,
        only: str | None = None,
        about: About | None = None,
    ) -> web.Response:
        services = {one.name: one for one in overview.services}
        shown = [await self._shown_fleet(one, services, most) for one in fleets]
        return await self._render_home(overview, shown, only, about)

    async def _render_home(
        self, overview: Status, shown: Sequence[ShownGroup], only: str | None, about: About | None
    ) -> web.Response:
        events = self._controller.events.since(about=about)[-EVENTS_MOST:][::-1]
        return await self._render(self._home, overview=overview, shown=shown, only=only, events=events)

    async def where(self, request: web.Request) -> web.Response:
        """``?target=`` an address, or a part of one or of its labels."""
        asked = request.query.get("target", "").strip()[:1000]
        services = list(self._controller.services.values()) if asked else []
        answer = await self._finds.look(services, asked, LIMIT) if asked else Where([], 0, False, [], [])
        exact = [place for place in answer.targets if place.match != "part"]
        found = [await _found(s, asked, exact, self._api.searches) for s in services]
        return await self._render(self._where, overview=self._api.overview(), asked=asked, found=found, near=answer.near)

    async def _render(self, template: jinja2.Template, **values: object) -> web.Response:
        text = await self._renders.run(lambda: template.render(now=time.time(), **values))
        return web.Response(body=clean(text).encode(), content_type="text/html", charset="utf-8", headers=HEADERS)

    async def _shown_fleet(self, fleet: FleetAnswer, services: Mapping[str, ServiceAnswer], most: int | None) -> ShownGroup:
        """A fleet and its services; of one that is its service's own only that. Of the scrapers the first ``most``."""
        running, found = self._controller.services, []
        for one in (services[name] for name in fleet.services):
            if (service := running.get(one.name)) is not None:  # a reload may have taken it away meanwhile
                kept = _held_besides(one, None if fleet.is_own else fleet)
                found.append(await self._shown_service(service, one, fleet, most, kept))
        if fleet.is_own:
            return ShownGroup(None, found)
        return ShownGroup(ShownFleet(fleet, self._rows(fleet.scrapers, most), _held(fleet, "fleets")), found)

    async def _shown_service(
        self,
        service: Service,
        described: ServiceAnswer,
        fleet: FleetAnswer | None,
        most: int | None,
        kept: Sequence[ShownHeld],
    ) -> ShownService:
        """What the API says, and some targets that the audit did not see scraped. ``kept``: what is held."""
        found, lists = service.look.coverage, None
        if found is not None:
            lists = await self._api.searches.run(lambda: uncovered(found, UNCOVERED_MOST))
        own = list(service.fleet.services) == [service.name] == [service.fleet.name]
        rows = self._rows(described.scrapers, most)
        return ShownService(described, fleet if own else None, rows, kept, lists)

    def _rows(self, scrapers: Sequence[Scraper], most: int | None) -> ShownScrapers:
        """Of the scrapers the first ``most``, those in trouble first."""
        rows = sorted(scrapers, key=lambda s: (not s.trouble, s.id))
        known = any(s.state != "unknown" for s in rows)
        return ShownScrapers(
            up=sum(s.state == "up" for s in rows) if known else None,
            all=len(rows),
            widest=max([1, *(s.limit or s.load for s in rows)]),
            rows=rows[:most],
            hidden=rows[most:] if most else [],
            writable=self._api.leads,
        )


def _held(of: FleetAnswer | ServiceAnswer, kind: str) -> list[ShownHeld]:
    """What is held of a fleet or a service (``kind``, as the paths have it): the whole plan, then parts of the facts."""
    whole = [ShownHeld(of.held, kind, of.name, whole=True)] if of.held else []
    return [*whole, *(ShownHeld(one, kind, of.name, whole=False) for one in of.withheld)]


def _held_besides(service: ServiceAnswer, fleet: FleetAnswer | None) -> list[ShownHeld]:
    """What is held of a service, and not of its whole ``fleet``."""
    known = {one.held.detail for one in _held(fleet, "fleets")} if fleet else ()
    return [one for one in _held(service, "services") if one.held.detail not in known]


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


def _ago(then: float | None, now: float) -> str:
    """A span of time for people: ``3 s``, ``12 min``."""
    if not then:
        return "never"
    seconds = max(0.0, now - then)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _count(number: int) -> str:
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _brief(event: Event) -> dict[str, str]:
    """The fields of an event for people: what a set lost and gained instead of all that is in it, and long lists cut."""
    whole = WHOLE_SETS if {"joined", "left"} <= event.fields.keys() else frozenset()
    return {name: _cut(str(value)) for name, value in event.fields.items() if name not in whole and value != ""}


def _cut(text: str) -> str:
    """Of a list of names the first ones, and how many more there are; any other text up to ``TEXT_MOST`` characters."""
    names = text.split(",")
    if len(names) > NAMES_MOST and " " not in text:
        more = "others" if names[-1].endswith("\N{HORIZONTAL ELLIPSIS}") else f"{len(names) - NAMES_MOST} more"
        return f"{', '.join(names[:NAMES_MOST])} and {more}"
    return text if len(text) <= TEXT_MOST else f"{text[:TEXT_MOST]}\N{HORIZONTAL ELLIPSIS}"


def _clock(stamp: str) -> str:
    """The time of day of a time stamp of the log."""
    return stamp[11:19]


def _until(then: float | None) -> str:
    """When something ends by itself, as a time of day; empty when nobody knows."""
    return time.strftime(" until %H:%M:%S", time.localtime(then)) if then else ""
