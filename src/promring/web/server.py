"""The HTTP server: routes, who may write, and its own life as an actor."""

from __future__ import annotations

import asyncio
import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from promring.log import Logger
from promring.model import ListenError
from promring.web.access import Access, WebConfig, guard
from promring.web.api import Api
from promring.web.controller import Controller
from promring.web.envelope import ApiError, errors
from promring.web.events import EventsEndpoint
from promring.web.metrics import LiveGauges
from promring.web.page import Page
from promring.web.sd import SdEndpoint
from promring.web.where import WhereEndpoint

SHUTDOWN_S = 1.0
BODY_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class WebSettings:
    """``token_file`` None: nothing can be written."""

    host: str = "127.0.0.1"
    port: int = 9600
    token_file: Path | None = None
    access: Access = field(default_factory=lambda: Access(WebConfig()))


class WebServer:
    def __init__(self, settings: WebSettings, controller: Controller, log: Logger) -> None:
        self._settings = settings
        self._controller = controller
        self._api = Api(controller)
        self._events = EventsEndpoint(controller)
        self._sd = SdEndpoint(controller)
        self._log = log
        self.bound = asyncio.Event()
        self.port = settings.port
        """The real one once ``bound`` is set; the settings may say 0."""
        controller.metrics.registry.register(LiveGauges(controller))

    async def run(self) -> None:
        """Until cancelled. Raises ``ListenError`` when the address cannot be had."""
        runner = web.AppRunner(
            self._app(),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,  # a long poll ends with its client
            shutdown_timeout=SHUTDOWN_S,
            keepalive_timeout=75.0,
            max_line_size=8190,
        )
        await runner.setup()
        try:
            where, tls = self._settings, self._settings.access.ssl_context
            site = web.TCPSite(runner, where.host, where.port, backlog=1024, ssl_context=tls)
            try:
                await site.start()
            except OSError as error:
                why = os.strerror(error.errno) if error.errno else str(error)
                raise ListenError(f"--web.listen-address {where.host}:{where.port}: {why}") from error
            self.port = runner.addresses[0][1]
            self.bound.set()
            self._log.info("listening", address=f"{self._settings.host}:{self.port}")
            await asyncio.Event().wait()
        finally:
            self._sd.close()
            self._events.closing = True
            await runner.cleanup()

    def _app(self) -> web.Application:
        api, sd, events = self._api, self._sd, self._events
        where = WhereEndpoint(self._controller)
        page = Page(self._controller, api, where)
        first = guard(self._settings.access, self._has_token)
        app = web.Application(middlewares=[first, errors], client_max_size=BODY_BYTES_MAX)
        app.add_routes(
            [
                web.get("/", page.home),
                web.get("/services/{service}", page.home),
                web.get("/where", page.where),
                web.get("/static/{name}", page.file),
                web.get("/-/healthy", self._healthy),
                web.get("/-/ready", self._ready),
                web.post("/-/reload", self._reload),
                web.get("/metrics", self._metrics),
                web.get("/sd/{service}/{scraper}", sd.get),
                web.get("/api/v1/status", api.status),
                web.get("/api/v1/events", events.get),
                web.get("/api/v1/services", api.services),
                web.get("/api/v1/services/{service}", api.service),
                web.get("/api/v1/services/{service}/targets", api.targets),
                web.get("/api/v1/where", where.everywhere),
                web.get("/api/v1/services/{service}/where", where.of_service),
                web.get("/api/v1/services/{service}/plan", api.plan),
                web.get("/api/v1/services/{service}/coverage", api.coverage),
                web.post("/api/v1/services/{service}/release", self._release),
                web.post("/api/v1/services/{service}/scrapers/{scraper}/drain", self._drain),
                web.post("/api/v1/services/{service}/scrapers/{scraper}/undrain", self._undrain),
            ]
        )
        return app

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.Response(text="promring is healthy.\n")

    async def _ready(self, _: web.Request) -> web.Response:
        why = self._controller.unready()
        return web.Response(status=503, text="\n".join(why) + "\n") if why else web.Response(text="promring is ready.\n")

    async def _reload(self, request: web.Request) -> web.Response:
        self._authorize(request)
        problems = self._controller.reload()
        if problems:
            raise ApiError(400, "bad_data", "\n".join(problems))
        return web.Response(text="reloaded\n")

    async def _release(self, request: web.Request) -> web.Response:
        self._authorize(request)
        return self._api.release(request)

    async def _drain(self, request: web.Request) -> web.Response:
        self._authorize(request)
        return self._api.drain(request, back=False)

    async def _undrain(self, request: web.Request) -> web.Response:
        self._authorize(request)
        return self._api.drain(request, back=True)

    async def _metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self._controller.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _authorize(self, request: web.Request) -> None:
        """Every write needs the bearer token; without a configured one there is no writing."""
        if self._settings.token_file is None:
            raise ApiError(403, "forbidden", "writing is off: no --web.token-file is configured")
        if not self._token():
            raise ApiError(403, "forbidden", "the token file cannot be read, or is empty")
        if not self._has_token(request):
            raise ApiError(401, "unauthorized", "a bearer token is needed")

    def _has_token(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        token = self._token()
        if scheme.lower() != "bearer" or not token:
            return False
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())

    def _token(self) -> str:
        """Read for each use, so that it can be changed; empty when there is none."""
        if self._settings.token_file is None:
            return ""
        try:
            return self._settings.token_file.read_text().strip()
        except (OSError, UnicodeError):
            return ""
