"""An http_sd source that can behave badly, one mode at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from aiohttp import web


class TargetSource:
    """Use as an async context manager; ``url`` is where it listens. ``mode`` is what it does with the next request."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.groups = groups
        self.mode = "good"
        self.requests: list[web.Request] = []

    async def __aenter__(self) -> TargetSource:
        app = web.Application()
        app.router.add_get("/targets", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/targets"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        body = json.dumps(self.groups).encode()
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
                return web.Response(status=302, headers={"Location": "/targets"})
            case "wrong type":
                return web.json_response([{"targets": ["a:1"]}, {"targets": "b:2"}])
            case "bad address":
                return web.json_response([{"targets": ["a:1"]}, {"targets": ["x:2:3"]}])
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
        return web.Response(body=body, content_type="application/json")


BROKEN = ["status 500", "cut", "html", "redirect", "wrong type", "bad address", "hang", "trickle"]
EMPTY = ["empty", "null"]
