"""A small reverse proxy: what people reach under a path of its own name, with that path stripped or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from yarl import URL

HOP = {"connection", "content-length", "content-encoding", "transfer-encoding", "keep-alive"}


@asynccontextmanager
async def reverse_proxy(path: str, *, strip: bool) -> AsyncIterator[tuple[str, list[str]]]:
    """Its URL with ``path``, and a list that takes the address to pass on to. Other paths are 404 of the proxy itself."""
    behind: list[str] = []

    async def forward(request: web.Request) -> web.StreamResponse:
        where = request.rel_url.raw_path.removeprefix(path) if strip else request.rel_url.raw_path
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        async with session.request(
            request.method,
            URL(f"{behind[0]}{where or '/'}{query}", encoded=True),
            headers=headers,
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            passed = {name: value for name, value in answer.headers.items() if name.lower() not in HOP}
            response = web.StreamResponse(status=answer.status, headers=passed)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    app = web.Application()
    app.router.add_route("*", path, forward)
    app.router.add_route("*", path + "/{rest:.*}", forward)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:
        try:
            yield f"http://{host}:{port}{path}", behind
        finally:
            await runner.cleanup()
