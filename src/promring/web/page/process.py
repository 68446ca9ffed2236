"""The pages about the process itself: its alerts, what to do about each, its configuration."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from promring.web.alerts.rules import Rule
from promring.web.api import Api
from promring.web.controller import Controller
from promring.web.page.render import Renderer


class ProcessPages:
    def __init__(self, controller: Controller, api: Api, render: Renderer, rules: Sequence[Rule]) -> None:
        self._controller, self._api, self._render, self._rules = controller, api, render, rules

    async def alerts(self, _: web.Request) -> web.Response:
        """What fires and what waits, then every rule."""
        return await self._render("alerts.html", {"rules": self._rules})

    async def runbooks(self, _: web.Request) -> web.Response:
        """What to do about each alert."""
        return await self._render("runbooks.html", {})
