"""Answers of more than ``WHOLE_BYTES`` go out in pieces, each when the client has taken those before.

So a client that does not read costs one piece, not a copy of a slice, and the answers that are made for one client each
(lists, plans) are bounded together: one that finds no room within ``ROOM_S`` is 503.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Middleware

from promring.web.envelope import Handler, failure
from promring.web.paths import Paths
from promring.web.refusals import Refusals

WHOLE_BYTES = 128 * 1024
PIECE_BYTES = 64 * 1024
ANSWERS_BYTES_MOST = 64 * 1024 * 1024
ROOM_S = 10.0


class Sending:
    def __init__(self, refusals: Refusals, paths: Paths) -> None:
        self._paths = paths
        self._refusals = refusals
        self._room = asyncio.Condition()
        self._bytes = 0

    def middleware(self) -> Middleware:
        @web.middleware
        async def send(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._send(request, handler)

        return send

    async def _send(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        body = response.body if isinstance(response, web.Response) else None
        if not isinstance(body, bytes) or len(body) <= WHOLE_BYTES or request.method == "HEAD":
            return response
        if self._paths.inner(request.path).startswith("/sd/"):  # slices are kept anyway
            return await _in_pieces(request, response, body)
        return await self._bounded(request, response, body)

    async def _bounded(self, request: web.Request, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
        size = len(body)
        try:
            async with asyncio.timeout(ROOM_S), self._room:
                await self._room.wait_for(lambda: not self._bytes or self._bytes + size <= ANSWERS_BYTES_MOST)
                self._bytes += size
        except TimeoutError:
            self._refusals.add("busy", "too many bytes are being sent already")
            refused = failure(503, "busy", "too much is being sent at a time; ask again")
            refused.headers["Retry-After"] = "5"
            return refused
        try:
            return await _in_pieces(request, response, body)
        finally:
            async with self._room:
                self._bytes -= size
                self._room.notify_all()


async def _in_pieces(request: web.Request, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
    made = web.StreamResponse(status=response.status, headers=response.headers)
    made.content_length = len(body)
    await made.prepare(request)
    whole = memoryview(body)
    for at in range(0, len(body), PIECE_BYTES):
        await made.write(whole[at : at + PIECE_BYTES])
    await made.write_eof()
    return made
