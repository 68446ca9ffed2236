"""The page: what ``/api/v1`` says, for people. Rendered here, so it works without script; with it, it keeps itself new.

Everything from outside is escaped by the template engine, and the page may load and run nothing but its own two files.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web

from promring.events import Event
from promring.service import Service
from promring.text import clean
from promring.web.api import Api, describe_coverage, search
from promring.web.controller import Controller
from promring.web.envelope import ApiError
from promring.web.gate import Gate
from promring.web.where import LIMIT, WhereEndpoint

SCRAPERS_MOST = 50
"""So many scrapers of a service stand on the page of all services, those in trouble first."""
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

    async def home(self, request: web.Request) -> web.Response:
        """Every service; or the one of the path, with all of its scrapers."""
        services, only = self._controller.services, request.match_info.get("service")
        if only is not None and only not in services:
            raise ApiError(404, "not_found", f"no service {only!r}")
        overview = self._api.overview()
        most = None if only else SCRAPERS_MOST
        described = [d for d in overview["services"] if only in (None, d["name"])]
        shown = [await self._shown(services[d["name"]], d, most) for d in described]
        events = self._controller.events.since(service=only)[-EVENTS_MOST:][::-1]
        return await self._render(self._home, overview=overview, services=shown, only=only, events=events)

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

    async def _shown(self, service: Service, described: dict[str, Any], most: int | None) -> dict[str, Any]:
        """What the API says, and some targets that the audit did not see scraped; of the scrapers the first ``most``, those
        in trouble first.
        """
        found, audit = service.audit.coverage, service.audit
        lists: dict[str, Any] = {}
        if found is not None:
            lists = (await self._api.searches.run(lambda: describe_coverage(found, audit, UNCOVERED_MOST)))["lists"]
        scrapers = list(described["scrapers"])
        scrapers.sort(key=lambda s: (not s["trouble"], s["id"]))
        widest = max([s["limit"] or s["load"] for s in scrapers], default=0)
        return described | {
            "uncovered": {name: [one["target"] for one in some] for name, some in lists.items()},
            "up": sum(s["state"] == "up" for s in scrapers) if any(s["state"] != "unknown" for s in scrapers) else None,
            "all": len(scrapers),
            "widest": max(widest, 1),
            "scrapers": scrapers[:most],
            "hidden": scrapers[most:] if most else [],
            "writable": self._api.leads,
        }


async def _found(service: Service, asked: str, exact: list[dict[str, Any]], searches: Gate) -> dict[str, Any]:
    """What is called so in one service: those in ``exact`` of it; where nothing is at all, whatever has ``asked`` in it."""
    placement = service.reconciler.placement
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
