"""An http_sd source that can behave badly, one mode at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import zlib
from typing import Any

from aiohttp import web

LONG_BYTES = 1024**3
BLOCK = b" " * 1024 * 1024


class TargetSource:
    """Use as an async context manager; ``url`` is where it listens. ``mode`` is what it does with the next request."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.groups = groups
        self.body: bytes | None = None
        """What a good answer has instead of ``groups``."""
        self.mode = "good"
        self.requests: list[web.Request] = []
        self.asked_at: list[float] = []
        """Monotonic seconds of each request."""

    async def __aenter__(self) -> TargetSource:
        app = web.Application()
        app.router.add_get("/targets", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        host, self._port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{self._port}/targets"
        return self

    async def go_down(self) -> None:
        """Refuse connections."""
        await self._site.stop()

    async def come_back(self) -> None:
        """Listen again, on the same port."""
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await self._site.start()

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.asked_at.append(time.monotonic())
        body = json.dumps(self.groups).encode() if self.body is None else self.body
        match self.mode:
            case "status 500":
                return web.Response(status=500, text="the database is on fire")
            case "empty":
                return web.json_response([])
            case "null":
                return web.json_response(None)
            case "cut":
                return web.Response(body=body[: len(body) // 2], content_type="application/json")
            case "html":
                return web.Response(text="<html>log in please</html>", content_type="text/html")
            case "redirect":
                return web.Response(status=302, headers={"Location": "http://elsewhere.example/targets"})
            case "wrong type":
                return web.json_response([{"targets": ["a:1"]}, {"targets": "b:2"}])
            case "hang":
                await asyncio.sleep(3600)
            case "trickle":
                response = web.StreamResponse(headers={"Content-Type": "application/json"})
                await response.prepare(request)
                with contextlib.suppress(ConnectionError):
                    for byte in body:
                        await response.write(bytes([byte]))
                        await asyncio.sleep(0.2)
                return response
            case "1 GB":
                return await _pour(request, {}, [BLOCK] * (LONG_BYTES // len(BLOCK)))
            case "1 GB announced":
                return await _pour(request, {"Content-Length": str(LONG_BYTES)}, [BLOCK] * (LONG_BYTES // len(BLOCK)))
            case "bomb":  # 4 GB of spaces in 4 MB
                begin, again = _squeezed()
                return await _pour(request, {"Content-Encoding": "deflate"}, [begin, *[again] * 4096])
            case "endless headers":
                return await _headers_for_ever(request)
        return web.Response(body=body, content_type="application/json")


async def _pour(request: web.Request, headers: dict[str, str], blocks: list[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"} | headers)
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        for block in blocks:
            await response.write(block)
    return response


def _squeezed() -> tuple[bytes, bytes]:
    """``BLOCK`` compressed, and what follows it for each further one."""
    press = zlib.compressobj(9)
    begin, again = (press.compress(BLOCK) + press.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return begin, again


async def _headers_for_ever(request: web.Request) -> web.StreamResponse:
    transport = request.transport
    assert transport is not None  # the request is being answered
    transport.write(b"HTTP/1.1 200 OK\r\n")
    while not transport.is_closing():
        transport.write(b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(60)))
        await asyncio.sleep(0.01)
    return web.Response()


BROKEN = ["status 500", "cut", "html", "redirect", "wrong type", "hang", "trickle"]
EMPTY = ["empty", "null"]
HEAVY = ["1 GB", "1 GB announced", "bomb", "endless headers"]
