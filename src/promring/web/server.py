"""The HTTP server: routes, who may write, and its own life as an actor."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import ProcessCollector

from promring.model import join_host_port
from promring.runtime.text import clean
from promring.runtime.threads import in_thread
from promring.telemetry.certificates import CertificateTimes
from promring.telemetry.log import Logger
from promring.web.access import Access, guard
from promring.web.actions import Actions
from promring.web.alerts.judge import Alerts
from promring.web.answers.plans import Reloaded
from promring.web.api import Api
from promring.web.connection import mark
from promring.web.controller import Controller
from promring.web.envelope import ApiError, Handler, encode, errors, expected, success
from promring.web.events import STREAMS_MOST, EventsEndpoint
from promring.web.exposition import OPEN_METRICS, PLAIN, Rendered
from promring.web.forecasts import Forecasts
from promring.web.history import History
from promring.web.hosts import Hosts, check_host, check_origin
from promring.web.listener import Listener, connections_most
from promring.web.metrics import LiveGauges
from promring.web.negotiation import prefers_openmetrics
from promring.web.openapi import document
from promring.web.page.endpoint import Page
from promring.web.page.process import ProcessPages
from promring.web.paths import Paths
from promring.web.refusals import Refusals
from promring.web.requests import counted
from promring.web.sd import SdEndpoint, header
from promring.web.sending import Sending
from promring.web.slices import SlicesEndpoint
from promring.web.token import Token, bearer
from promring.web.views.plans import decision
from promring.web.where import WhereEndpoint

SHUTDOWN_S = 1.0
OWN_NAME_S = 10.0
BODY_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class WebSettings:
    """``token_file`` None: nothing can be written. ``connections_most`` None: half of the descriptors."""

    host: str = "127.0.0.1"
    port: int = 9600
    token_file: Path | None = None
    access: Access = field(default_factory=Access)
    allowed_hosts: tuple[str, ...] = ()
    connections_most: int | None = None
    paths: Paths = field(default_factory=Paths)


class WebServer:
    """Its attributes are the parts that answer, one for each group of routes."""

    def __init__(self, settings: WebSettings, controller: Controller, log: Logger) -> None:
        self._settings = settings
        self._controller = controller
        self._refusals = Refusals(controller.metrics.http_refused, log)
        self._token = Token(settings.token_file)
        self._hosts = Hosts((*settings.allowed_hosts, settings.host, settings.paths.host))
        most = settings.connections_most or connections_most()
        self._most = most
        self._actions, self._history = Actions(log), History(controller)
        self._rendered = Rendered(controller.metrics.registry)
        self._alerts = Alerts(self._rendered.families.get, lambda: join_host_port(socket.gethostname(), self.port))
        self._api = Api(controller, self._actions, self._history, self._alerts)
        self._forecasts = Forecasts(controller, self._api, self._actions)
        self._events = EventsEndpoint(controller, streams_most=min(STREAMS_MOST, max(1, most // 4)))
        self.sd = SdEndpoint(controller, polls_most=max(1, most // 2))
        self._slices = SlicesEndpoint(controller, self.sd.polls)
        self._log = log
        self.bound = asyncio.Event()
        self.port = settings.port
        """The real one once ``bound`` is set; the settings may say 0."""
        ProcessCollector(registry=controller.metrics.registry)
        own = CertificateTimes(lambda: {**controller.loaded.certificates, **settings.access.certificates})
        controller.metrics.registry.register(own)
        controller.metrics.registry.register(
            LiveGauges(
                controller,
                lambda: self.listener.connections if self.listener else 0,
                most,
                lambda: len(asyncio.all_tasks()),
            )
        )
        self.listener: Listener | None = None
        """Once it listens."""

    async def run(self) -> None:
        """Until cancelled. Raises ``ListenError`` when the address cannot be had."""
        runner = web.AppRunner(
            self._app(),
            handle_signals=False,
            handler_cancellation=True,  # a long poll ends with its client
            shutdown_timeout=SHUTDOWN_S,
        )
        await runner.setup()
        try:
            server, where = runner.server, self._settings
            assert server is not None  # set up
            listener = Listener(server, self._refusals, tls=lambda: where.access.ssl_context, most=self._most)
            self.listener = listener
            self.port = await listener.bind(where.host, where.port)
            self.bound.set()
            self._log.info("listening", address=join_host_port(where.host, self.port))
            if why := await self._token.trouble():
                note = "nothing can be written until it holds a token: it is read again for each use"
                self._log.warning("web_token_unusable", error=why, note=note)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._learn_own_name())
                group.create_task(listener.run())
                group.create_task(self._history.run())
                group.create_task(self._alerts.run())
        finally:
            self.sd.close()
            self._events.closing = True
            await runner.cleanup()

    async def _learn_own_name(self) -> None:
        """The full name of the machine: asked beside, as a name server may take long."""
        with contextlib.suppress(TimeoutError, OSError, UnicodeError):
            self._hosts.add(await asyncio.wait_for(in_thread(socket.getfqdn), OWN_NAME_S))

    def _app(self) -> web.Application:
        access, has_token, refusals = self._settings.access, self._token.given_by, self._refusals
        paths, requests = self._settings.paths, self._controller.metrics.http_requests
        middlewares = [
            counted(requests, paths),
            mark,
            Sending(refusals, paths).middleware(),
            errors,
            guard(access, has_token, refusals),
        ]
        middlewares.append(_where_all_may_read(access, check_host(self._hosts, has_token, refusals, paths)))
        middlewares.append(check_origin(self._hosts, refusals))
        app = web.Application(middlewares=middlewares, client_max_size=BODY_BYTES_MAX)
        app.on_response_prepare.append(_finish_headers(access))
        app.add_routes(
            web.route(one.method, paths.routes + one.path, one.handler, expect_handler=expected, **one.kwargs)
            for one in self.routes()
        )
        if paths.routes:
            app.add_routes([web.get(path, self._to_home) for path in ("/", paths.routes)])
        return app

    def routes(self) -> list[web.RouteDef]:
        """What ``operations`` describes."""
        api, sd, events = self._api, self.sd, self._events
        where = WhereEndpoint(self._controller, api.searches)
        page = Page(
            self._controller,
            api,
            where=where,
            forecasts=self._forecasts,
            history=self._history,
            actions=self._actions,
            paths=self._settings.paths,
        )
        return [
            *_pages(page),
            *_pages_of_process(ProcessPages(api, page.render, self._alerts.rules)),
            web.get("/-/healthy", self._healthy),
            web.get("/-/ready", self._ready),
            web.get("/-/leader", self._leader),
            web.post("/-/reload", self._reload),
            web.get("/metrics", self._metrics),
            web.get("/sd/{service}/{scraper}", sd.get),
            web.get("/sd/{scraper}", self._slices.get, allow_head=False),
            web.get("/api/v1/openapi.json", _openapi),
            web.get("/api/v1/status", api.status),
            web.get("/api/v1/events", events.get),
            web.get("/api/v1/services", api.services),
            web.get("/api/v1/services/{service}", api.service),
            web.get("/api/v1/services/{service}/targets", api.targets),
            web.get("/api/v1/where", where.everywhere),
            web.get("/api/v1/services/{service}/where", where.of_service),
            web.get("/api/v1/fleets", api.fleets),
            web.get("/api/v1/fleets/{fleet}", api.fleet),
            web.get("/api/v1/fleets/{fleet}/plan", self._forecasts.plan),
            web.get("/api/v1/fleets/{fleet}/reshards", api.reshards),
            web.get("/api/v1/fleets/{fleet}/history", api.history),
            web.get("/api/v1/actions", api.actions),
            web.get("/api/v1/alerts", api.alerts),
            web.get("/api/v1/config", api.config),
            web.get("/api/v1/services/{service}/coverage", api.coverage),
            web.post("/api/v1/plan", self._foresee),
            web.post("/api/v1/services/{service}/release", self._release),
            web.post("/api/v1/fleets/{fleet}/release", self._release),
            web.post("/api/v1/fleets/{fleet}/scrapers/{scraper}/drain", self._drain),
            web.post("/api/v1/fleets/{fleet}/scrapers/{scraper}/undrain", self._undrain),
        ]

    async def _to_home(self, _: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": f"{self._settings.paths.links}/"})

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.Response(text="promring is healthy.\n")

    async def _ready(self, _: web.Request) -> web.Response:
        why = self._controller.unready()
        return (
            web.Response(status=503, text=clean("\n".join(why)) + "\n") if why else web.Response(text="promring is ready.\n")
        )

    async def _leader(self, _: web.Request) -> web.Response:
        leadership = self._controller.leadership
        if leadership.leads():
            return web.Response(text="promring leads.\n")
        return web.Response(status=503, text=f"promring follows {clean(leadership.known_leader or 'nobody')}.\n")

    async def _reload(self, request: web.Request) -> web.Response:
        await self._authorize(request)
        found = await self._controller.reload(force=_is_true(request, "force"))
        self._api.changed()
        if found.problems:
            raise ApiError(400, "bad_data", "\n".join(found.problems))
        self._actions.add(request, "reload", f"{len(found.decisions)} decisions")
        if "application/json" in request.headers.get("Accept", ""):
            return success(Reloaded([decision(one) for one in found.decisions]))
        said = [clean(one.line) for one in found.decisions]
        return web.Response(text="\n".join(["reloaded", *said]) + "\n")

    async def _foresee(self, request: web.Request) -> web.Response:
        await self._authorize(request)
        return await self._api.foresee(request)

    async def _release(self, request: web.Request) -> web.Response:
        await self._authorize(request)
        return self._api.release(request)

    async def _drain(self, request: web.Request) -> web.Response:
        await self._authorize(request)
        return await self._forecasts.drain(request)

    async def _undrain(self, request: web.Request) -> web.Response:
        await self._authorize(request)
        return await self._forecasts.undrain(request)

    async def _metrics(self, request: web.Request) -> web.Response:
        form = OPEN_METRICS if prefers_openmetrics(header(request, "Accept")) else PLAIN
        headers = {"Content-Type": form.content_type, "Vary": "Accept"}
        return web.Response(body=await self._rendered.get(form), headers=headers)

    async def _authorize(self, request: web.Request) -> None:
        """Every write needs the bearer token; without a configured one there is no writing."""
        if not self._token.configured:
            raise ApiError(403, "forbidden", "writing is off: promring runs without --web.token-file")
        if not await self._token.read():
            raise ApiError(403, "forbidden", "writing is off: the file of --web.token-file cannot be read, or is empty")
        if not bearer(request):
            text = "this needs the token in the file of --web.token-file, as Authorization: Bearer <token>"
            raise ApiError(401, "unauthorized", text, {"WWW-Authenticate": 'Bearer realm="promring"'})
        if not await self._token.given_by(request):
            self._refusals.add("token", request.remote or "")
            raise ApiError(403, "forbidden", "the token is wrong: it is not the one in the file of --web.token-file")


async def _openapi(_: web.Request) -> web.Response:
    return web.Response(body=_document(), content_type="application/json")


@cache
def _document() -> bytes:
    return encode(document())


def _is_true(request: web.Request, name: str) -> bool:
    """A parameter of the query that is true or false; false when it is not there."""
    text = request.query.get(name, "false")
    if text not in ("true", "false"):
        raise ApiError(400, "bad_data", f"{name}: {text[:20]!r} is not true or false")
    return text == "true"


def _where_all_may_read(access: Access, check: Middleware) -> Middleware:
    """``check``, while neither TLS nor users keep strangers out."""

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        needed = access.open and access.ssl_context is None
        return await (check(request, handler) if needed else handler(request))

    return checked


def _pages(page: Page) -> list[web.RouteDef]:
    return [
        web.get("/", page.home),
        web.get("/services/{service}", page.service),
        web.get("/services/{service}/lists/{kind}", page.targets),
        web.get("/services/{service}/targets/{target}", page.target),
        web.get("/fleets/{fleet}", page.fleet),
        web.get("/fleets/{fleet}/plan", page.plan),
        web.get("/fleets/{fleet}/scrapers/{scraper}", page.scraper),
        web.get("/events", page.events),
        web.get("/where", page.where),
        web.get("/static/{name}", page.file),
    ]


def _pages_of_process(pages: ProcessPages) -> list[web.RouteDef]:
    return [
        web.get("/alerts", pages.alerts),
        web.get("/runbooks", pages.runbooks),
        web.get("/config", pages.config),
    ]


def _finish_headers(access: Access) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def finish(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "promring"
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.update(access.headers)

    return finish
