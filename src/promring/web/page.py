"""The page: what ``/api/v1`` says, for people. Rendered here, so it works without script; with it, it keeps itself new.

Everything from outside is escaped by the template engine, and the page may load and run nothing but its own two files.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web

from promring.fleet.fleet import Service
from promring.runtime.text import clean
from promring.telemetry.events import About, Event
from promring.web.api import Api, describe_coverage, search
from promring.web.controller import Controller
from promring.web.describe import describe
from promring.web.envelope import ApiError
from promring.web.events import about_fleet, about_service
from promring.web.gate import Gate
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


class Page:
    def __init__(self, controller: Controller, api: Api, where: WhereEndpoint) -> None:
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
        return await self._home_of(overview, overview["fleets"], SCRAPERS_MOST)

    async def fleet(self, request: web.Request) -> web.Response:
        """One fleet, with all of its scrapers, and its services."""
        name, overview = request.match_info["fleet"], self._api.overview()
        if name not in self._controller.fleets:
            raise ApiError(404, "not_found", f"no fleet {name!r}")
        chosen = [one for one in overview["fleets"] if one["name"] == name]
        return await self._home_of(overview, chosen, None, name, about_fleet(self._controller, name))

    async def service(self, request: web.Request) -> web.Response:
        """One service, with all of its scrapers and what each has of it."""
        name = request.match_info["service"]
        if (service := self._controller.services.get(name)) is None:
            raise ApiError(404, "not_found", f"no service {name!r}")
        overview, described = self._api.overview(), describe(service)
        fleet = next((one for one in overview["fleets"] if one["name"] == described["fleet"] != name), None)
        kept = [*(_held(fleet, "fleets") if fleet else []), *_held_besides(described, fleet)]
        shown = [{"fleet": None, "services": [await self._shown_service(service, described, None, kept)]}]
        return await self._render_home(overview, shown, name, about_service(self._controller, name))

    async def _home_of(
        self,
        overview: dict[str, Any],
        fleets: list[dict[str, Any]],
        most: int | None,
        only: str | None = None,
        about: About | None = None,
    ) -> web.Response:
        services = {one["name"]: one for one in overview["services"]}
        shown = [await self._shown_fleet(one, services, most) for one in fleets]
        return await self._render_home(overview, shown, only, about)

    async def _render_home(
        self, overview: dict[str, Any], shown: list[dict[str, Any]], only: str | None, about: About | None
    ) -> web.Response:
        events = self._controller.events.since(about=about)[-EVENTS_MOST:][::-1]
        return await self._render(self._home, overview=overview, shown=shown, only=only, events=events)

    async def where(self, request: web.Request) -> web.Response:
        """``?target=`` an address, or a part of one or of its labels."""
        asked = request.query.get("target", "").strip()[:1000]
        services = list(self._controller.services.values()) if asked else []
        answer = await self._finds.look(services, asked, LIMIT) if asked else {"targets": [], "near": []}
        exact = [place for place in answer["targets"] if place["match"] != "part"]
        found = [await _found(s, asked, exact, self._api.searches) for s in services]
        return await self._render(self._where, overview=self._api.overview(), asked=asked, found=found, near=answer["near"])

    async def _render(self, template: jinja2.Template, **values: Any) -> web.Response:
        text = await self._renders.run(lambda: template.render(now=time.time(), **values))
        return web.Response(body=clean(text).encode(), content_type="text/html", charset="utf-8", headers=HEADERS)

    async def _shown_fleet(
        self, fleet: dict[str, Any], services: dict[str, dict[str, Any]], most: int | None
    ) -> dict[str, Any]:
        """A fleet and its services; of one that is its service's own only that. Of the scrapers the first ``most``."""
        own, running, found = fleet["services"] == [fleet["name"]], self._controller.services, []
        for one in (services[name] for name in fleet["services"]):
            if (service := running.get(one["name"])) is not None:  # a reload may have taken it away meanwhile
                kept = _held_besides(one, None if own else fleet)
                found.append(await self._shown_service(service, one, most, kept))
        shown = None if own else fleet | self._scrapers(fleet, most) | {"kept": _held(fleet, "fleets")}
        return {"fleet": shown, "services": found}

    async def _shown_service(
        self, service: Service, described: dict[str, Any], most: int | None, kept: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """What the API says, and some targets that the audit did not see scraped. ``kept``: what is held."""
        found, look = service.look.coverage, service.look
        lists: dict[str, Any] = {}
        if found is not None:
            lists = (await self._api.searches.run(lambda: describe_coverage(found, look, UNCOVERED_MOST)))["lists"]
        return described | {
            "uncovered": {name: [one["target"] for one in some] for name, some in lists.items()},
            "kept": kept,
            "own": list(service.fleet.services) == [service.name] == [service.fleet.name],
            **self._scrapers(described, most),
        }

    def _scrapers(self, described: dict[str, Any], most: int | None) -> dict[str, Any]:
        """Of the scrapers the first ``most``, those in trouble first."""
        scrapers = list(described["scrapers"])
        scrapers.sort(key=lambda s: (not s["trouble"], s["id"]))
        widest = max([s["limit"] or s["load"] for s in scrapers], default=0)
        return {
            "up": sum(s["state"] == "up" for s in scrapers) if any(s["state"] != "unknown" for s in scrapers) else None,
            "all": len(scrapers),
            "widest": max(widest, 1),
            "scrapers": scrapers[:most],
            "hidden": scrapers[most:] if most else [],
            "writable": self._api.leads,
        }


def _held(described: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """What is held of a fleet or a service (``kind``, as the paths have it): the whole plan, then parts of the facts."""
    whole = [described["held"] | {"whole": True}] if described["held"] else []
    every = [*whole, *(one | {"whole": False} for one in described["withheld"])]
    return [one | {"kind": kind, "name": described["name"]} for one in every]


def _held_besides(described: dict[str, Any], fleet: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What is held of a service, and not of its whole ``fleet``."""
    known = {one["detail"] for one in _held(fleet, "fleets")} if fleet else ()
    return [one for one in _held(described, "services") if one["detail"] not in known]


async def _found(service: Service, asked: str, exact: list[dict[str, Any]], searches: Gate) -> dict[str, Any]:
    """What is called so in one service: those in ``exact`` of it; where nothing is at all, whatever has ``asked`` in it."""
    placement = service.placement
    if placement is None:
        return {"service": service.name, "why": service.unready() or "no plan yet", "places": [], "targets": [], "total": 0}
    here = [place for place in exact if place["service"] == service.name]
    if exact:
        return {"service": service.name, "why": "", "places": here, "targets": [], "total": len(here)}
    some = await searches.run(lambda: search(placement, asked, None, FOUND_MOST))
    return {"service": service.name, "why": "", "places": [], **some}


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
