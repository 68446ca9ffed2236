"""The pages about the process itself: its alerts, what to do about each, its configuration."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from promring.web.alerts.rules import Rule
from promring.web.api import Api
from promring.web.page.render import Renderer
from promring.web.page.scrapers import SEARCH_MOST, page_of

SETTINGS_MOST = 200
"""On a page."""


class ProcessPages:
    def __init__(self, api: Api, render: Renderer, rules: Sequence[Rule]) -> None:
        self._api, self._render, self._rules = api, render, rules

    async def alerts(self, _: web.Request) -> web.Response:
        """What fires and what waits, then every rule."""
        return await self._render("alerts.html", {"rules": self._rules})

    async def runbooks(self, _: web.Request) -> web.Response:
        """What to do about each alert."""
        return await self._render("runbooks.html", {})

    async def config(self, request: web.Request) -> web.Response:
        """Every value in force: ``?q=`` a part of key or value, ``?said=1``: no defaults, ``?page=``."""
        asked, said = request.query.get("q", "").strip()[:SEARCH_MOST], request.query.get("said", "") == "1"
        page, all_of = page_of(request.query), await self._api.configuration()
        found = [
            one
            for one in (*all_of.flags, *all_of.settings)
            if (asked in one.key or asked in one.value) and not (said and one.origin == "default")
        ]
        begin = (page - 1) * SETTINGS_MOST
        shown = {"rows": found[begin : begin + SETTINGS_MOST], "total": len(found), "size": SETTINGS_MOST}
        return await self._render("config.html", shown | {"file": all_of.file, "q": asked, "said": said, "page": page})
