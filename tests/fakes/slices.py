"""Controllers as an agent sees them, and an HTTP proxy that stands between and does what proxies do."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from promring.duration import parse_duration
from promring.web.negotiation import IfNoneMatch

PATH = "/sd/x/s:1"


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class FakeSlices:
    """One controller that serves one slice, long polls too. ``down``: it answers 503."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[web.Request] = []
        self.down = False
        self._body, self._headers, self._changed = b"", dict[str, str](), asyncio.Event()

    def offer(self, body: bytes, generation: str, *, follows: int = 0) -> None:
        digest = hashlib.sha256(body).hexdigest()
        self._body = body
        self._headers = {"ETag": f'"{digest[:32]}"', "X-Promring-Generation": generation, "X-Promring-Sha256": digest}
        if follows:
            self._headers["X-Promring-Follows"] = str(follows)
        self._changed.set()
        self._changed = asyncio.Event()

    async def get(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        known = IfNoneMatch(request.headers.get("If-None-Match", ""))
        wait_s = parse_duration(request.query.get("wait", "0s"))
        if self.down:
            return web.Response(status=503, text="down")
        try:
            async with asyncio.timeout(wait_s):
                while known.has(self._headers["ETag"]):
                    await self._changed.wait()
        except TimeoutError:
            return web.Response(status=304, headers=self._headers)
        return web.Response(body=self._body, headers=self._headers, content_type="application/json")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeSlices]:
        app = web.Application()
        app.router.add_get(PATH, self.get)
        async with serving(app) as self.url:
            yield self


@dataclass
class HttpProxy:
    """To one of ``backends`` after the other. ``cut_after_s``: 504 for what takes longer, or, with ``hang_up``, no answer at
    all. ``weak``: it weakens ETags. ``drops``: headers that do not pass. ``password``: what it wants, ``user:password``.
    ``page``: it answers with this status and a page. ``prefix`` is taken off.
    """

    backends: Sequence[str]
    cut_after_s: float = 60.0
    hang_up: bool = False
    weak: bool = False
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
        headers = {n: v for n, v in request.headers.items() if n in ("If-None-Match", "Accept-Encoding", "Authorization")}
        try:
            async with asyncio.timeout(self.cut_after_s):
                return await self._passed_on(url, headers)
        except TimeoutError:
            if self.hang_up and request.transport is not None:
                request.transport.abort()
            return web.Response(status=504, text="<html>Gateway Timeout</html>", content_type="text/html")

    async def _passed_on(self, url: str, headers: dict[str, str]) -> web.Response:
        async with aiohttp.ClientSession(auto_decompress=False) as session, session.get(url, headers=headers) as answer:
            dropped = self.drops | {"Transfer-Encoding", "Content-Length", "Date", "Server"}
            given = {n: v for n, v in answer.headers.items() if n not in dropped}
            if self.weak and "ETag" in given:
                given["ETag"] = "W/" + given["ETag"]
            return web.Response(status=answer.status, body=await answer.read(), headers=given)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.get)
        async with serving(app) as url:
            yield url + self.prefix


def _basic(pair: str) -> str:
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
