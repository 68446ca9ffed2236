"""Controllers as an agent sees them, and an HTTP proxy that stands between and does what proxies do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
from aiohttp import web

from promring.delivery.bundle import CONTENT_TYPE, DECLINED, HAVE, Listed, Listing, line_of, mark, marks_in
from promring.delivery.receiver import Envelope, parse_generation
from promring.runtime.duration import parse_duration
from promring.runtime.paths import file_name

PATH = "/sd/s:1"


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def bundle(
    slices: Mapping[str, Envelope],
    *,
    without: Sequence[str] = (),
    named: int = 0,
    packed: bool = False,
    blind: bool = False,
) -> bytes:
    """What ``/sd/{scraper}`` answers with these, by service; one without a body is listed only."""
    listed, bodies = [], []
    for service, one in slices.items():
        made = Listed(service, str(one.generation), one.sha256, one.follows)
        if one.body:
            bodies.append(gzip.compress(one.body) if packed else one.body)
            made.sent, made.gzip = len(bodies[-1]), packed
        listed.append(made)
    return line_of(Listing(listed, list(without), named, blind)) + b"".join(bodies)


def sealed(body: bytes, generation: str, follows: int = 0, sha256: str = "") -> Envelope:
    return Envelope(body, sha256 or hashlib.sha256(body).hexdigest(), parse_generation(generation), follows)


class FakeSlices:
    """One controller that serves slices of services to one scraper, long polls too. ``down``: it answers 503; ``blind``: it
    has not seen the lock for long. ``without``: services with nothing for it. ``sent``: the services whose bodies went out,
    an answer each.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[web.Request] = []
        self.sent: list[list[str]] = []
        self.have: set[str] = set()
        """The marks that were named last."""
        self.down, self.packed, self.blind = False, False, False
        self.without: list[str] = []
        self._slices, self._changed = dict[str, Envelope](), asyncio.Event()

    def offer(self, body: bytes, generation: str, *, follows: int = 0, service: str = "x") -> None:
        self._slices[service] = sealed(body, generation, follows)
        self.ring()

    def take_back(self, service: str) -> None:
        del self._slices[service]
        self.ring()

    def ring(self) -> None:
        """End the long polls."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _offers_nothing_but(self, named: Set[str]) -> bool:
        return not self.down and all(self.mark(service) in named for service in self._slices)

    def mark(self, service: str) -> str:
        return mark(file_name(service), self._slices[service].sha256)

    async def get(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        self.have = set(marks_in(request.headers.get(HAVE, "")))
        named = self.have | marks_in(request.headers.get(DECLINED, ""))
        try:
            wait_s = parse_duration(request.query.get("wait", "0"))
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while wait_s and self._offers_nothing_but(named):
                    await self._changed.wait()
        if not self._slices or self.down:
            return web.Response(status=503, text="down")
        news = {name for name in self._slices if self.mark(name) not in named}
        self.sent.append(sorted(news))
        shown = {n: one if n in news else replace(one, body=b"") for n, one in self._slices.items()}
        body = bundle(shown, without=self.without, named=len(named), packed=self.packed, blind=self.blind)
        return web.Response(body=body, content_type=CONTENT_TYPE)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeSlices]:
        app = web.Application()
        app.router.add_get(PATH, self.get)
        async with serving(app) as self.url:
            yield self


@dataclass
class HttpProxy:
    """To one of ``backends`` after the other. ``cut_after_s``: 504 for what takes longer, or, with ``hang_up``, no answer at
    all. ``drops``: headers of requests that do not pass. ``password``: what it wants, ``user:password``.
    ``page``: it answers with this status and a page. ``prefix`` is taken off.
    """

    backends: Sequence[str]
    cut_after_s: float = 60.0
    hang_up: bool = False
    drops: frozenset[str] = frozenset()
    password: str = ""
    page: int = 0
    prefix: str = ""
    requests: int = 0
    _turn: itertools.count[int] = field(default_factory=itertools.count)

    async def get(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.page:
            return web.Response(status=self.page, text="<html>Bad Gateway</html>", content_type="text/html")
        if self.password and request.headers.get("Authorization") != _basic(self.password):
            return web.Response(status=401, text="who are you?")
        path = request.path_qs.removeprefix(self.prefix)
        url = self.backends[next(self._turn) % len(self.backends)] + path
        passed = {HAVE, DECLINED, "Accept-Encoding", "Authorization"} - self.drops
        headers = {n: v for n, v in request.headers.items() if n in passed}
        try:
            async with asyncio.timeout(self.cut_after_s):
                return await self._passed_on(url, headers)
        except TimeoutError:
            if self.hang_up and request.transport is not None:
                request.transport.abort()
            return web.Response(status=504, text="<html>Gateway Timeout</html>", content_type="text/html")

    async def _passed_on(self, url: str, headers: dict[str, str]) -> web.Response:
        async with aiohttp.ClientSession(auto_decompress=False) as session, session.get(url, headers=headers) as answer:
            dropped = {"Transfer-Encoding", "Content-Length", "Date", "Server"}
            given = {n: v for n, v in answer.headers.items() if n not in dropped}
            return web.Response(status=answer.status, body=await answer.read(), headers=given)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.get)
        async with serving(app) as url:
            yield url + self.prefix


def _basic(pair: str) -> str:
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
