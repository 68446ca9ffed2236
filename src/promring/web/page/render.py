"""A template and its values become a page; what every page says is added here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jinja2
from aiohttp import web

from promring.runtime.text import clean
from promring.web.answers.status import Status
from promring.web.api import Api
from promring.web.gate import Gate
from promring.web.page import words
from promring.web.page.ring import colour
from promring.web.page.shown import verdict
from promring.web.paths import Paths

FOLDER = Path(__file__).parent / "files"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Renderer:
    """Two pages at a time, beside the event loop."""

    def __init__(self, api: Api, paths: Paths) -> None:
        self._api, self._templates = api, _environment(FOLDER, paths)
        self._renders = Gate("pages", at_once=2, waiting=64)

    async def __call__(self, template: str, values: Mapping[str, object], overview: Status | None = None) -> web.Response:
        """Raises ``ApiError`` 503 when too many ask."""
        return page_answer(await self.body(template, values, overview))

    async def body(self, template: str, values: Mapping[str, object], overview: Status | None = None) -> bytes:
        """The page itself. Raises as ``__call__``."""
        overview, alarms, now = overview or self._api.overview(), self._api.alarms(), time.time()
        every: dict[str, object] = {"overview": overview, "alarms": alarms, "verdict": verdict(overview, alarms, now)}
        work = partial(self._templates.get_template(template).render, every | dict(values), now=now)
        return clean(await self._renders.run(work)).encode()


def page_answer(body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """``headers``: besides those that every page has."""
    return web.Response(body=body, content_type="text/html", charset="utf-8", headers=HEADERS | dict(headers or {}))


def _environment(folder: Path, paths: Paths) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    names = ("ago", "clock", "until", "count", "brief", "hour", "percent", "span", "still", "visible")
    made.filters |= {name: getattr(words, name) for name in names} | {"colour": colour}
    made.globals["base"] = paths.links
    return made
