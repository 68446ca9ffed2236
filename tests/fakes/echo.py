"""A server that repeats the request in whatever it answers, as proxies and debuggers do, and behaves badly otherwise."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from urllib.parse import unquote

from aiohttp import web

from promring.delivery.receiver import Envelope
from promring.model import Generation
from tests.fakes.slices import bundle, sealed

MODES = (
    "error",
    "forbidden",
    "list",
    "not json",
    "odd content type",
    "header",
    "odd slices",
    "zstd",
    "redirect elsewhere",
    "redirect with the query",
    "redirect for ever",
    "status line",
    "bad header",
    "cut",
    "reset",
    "hang",
)
SLICE = b'[{"targets":["t:1"]}]\n'
"""What an agent is given in the mode ``slice``."""


class EchoServer:
    """Use as an async context manager; ``port`` is where it listens on loopback. ``mode`` is what it does next."""

    def __init__(self) -> None:
        self.mode = "error"
        self.asked: list[str] = []
        """The mode of each request so far."""

    async def __aenter__(self) -> EchoServer:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(self.mode)
        headers = " ".join(f"{name}: {value}" for name, value in request.headers.items())
        said = f"{request.path_qs} {unquote(request.path_qs)} {headers}"
        raw = said.encode("utf-8", "replace").replace(b"\r", b"").replace(b"\n", b"")
        match self.mode:
            case "error":
                return web.Response(status=500, text=said)
            case "forbidden":
                return web.Response(status=403, text=said)
            case "list":
                return web.json_response([{"targets": [said]}, {"tragets": [said]}])
            case "not json":
                return web.Response(body=b"[" + raw, content_type="application/json")
            case "odd content type":
                return web.Response(body=raw, headers={"Content-Type": f"text/{said[-60:]}"})
            case "header":
                odd = {"ETag": said[-80:], "X-Consul-Index": said[-80:]}
                return web.Response(body=b"[]", headers=odd, content_type="application/json")
            case "slice":
                return web.Response(body=bundle({"x": sealed(SLICE, "1.1")}))
            case "odd slices":
                odd_slice = Envelope(raw, said[-64:], Generation(1, 1))
                return web.Response(body=bundle({"x": sealed(SLICE, "1.2"), "odd": odd_slice, said[-60:]: odd_slice}))
            case "zstd":
                packed = {"Content-Encoding": "zstd", "Content-Type": "application/json"}
                return web.Response(body=b"(\xb5/\xfdnot", headers=packed)
            case "redirect elsewhere":
                raise web.HTTPFound(f"http://user:pw@127.0.0.1:1/x/{request.query_string}?{request.query_string}")
            case "redirect with the query":
                raise web.HTTPFound(f"https://127.0.0.1:1{request.path_qs}")
            case "redirect for ever":
                raise web.HTTPFound(request.path_qs)
            case "status line":
                return await self._write(request, b"HTTP/9.9 " + raw + b"\r\n\r\n")
            case "bad header":
                return await self._write(request, b"HTTP/1.1 200 OK\r\nX y\x01: " + raw + b"\r\n\r\n[]")
            case "cut":
                return await self._write(request, b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + raw)
            case "reset":
                return await self._write(request, b"")
        await asyncio.sleep(3600)
        return web.Response()

    async def _write(self, request: web.Request, answer: bytes) -> web.Response:
        assert request.transport is not None  # it is being answered
        with contextlib.suppress(ConnectionError):
            request.transport.write(answer)
        request.transport.close()
        return web.Response()
