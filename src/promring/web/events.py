"""``/api/v1/events``: the newest events as JSON, or as a stream of server-sent events that goes on with what comes."""

from __future__ import annotations

import asyncio

from aiohttp import web

from promring.events import Event
from promring.web.controller import Controller
from promring.web.envelope import ApiError, encode, number, success

LOOK_S = 0.2
"""How long an event waits in the ring at most before the streams send it."""
QUIET_S = 15.0
"""A comment is sent after this long, so that proxies keep the connection."""
STREAMS_MOST = 256
LIMIT = 100


class EventsEndpoint:
    def __init__(self, controller: Controller, *, streams_most: int = STREAMS_MOST) -> None:
        self._controller = controller
        self._streams, self._streams_most = 0, streams_most
        self.closing = False
        """Whether the streams shall end, as the process does."""

    async def get(self, request: web.Request) -> web.StreamResponse:
        """``?since=`` an id, ``?service=`` a name, ``?limit=`` the newest so many. With ``Accept:
        text/event-stream`` a stream, which begins after ``Last-Event-ID`` or ``since``, else with what comes next.
        """
        service = request.query.get("service")
        if service is not None and service not in self._controller.services:
            raise ApiError(404, "not_found", f"no service {service!r}")
        if "text/event-stream" not in request.headers.get("Accept", ""):
            found = self._controller.events.since(number(request, "since", 0), service=service)
            limit = number(request, "limit", LIMIT)
            return success([e.describe() for e in found[max(0, len(found) - limit) :]])
        seen = request.headers.get("Last-Event-ID", "")
        known = seen.isascii() and seen.isdigit() and len(seen) < 19
        last = int(seen) if known else number(request, "since", self._controller.events.last)
        return await self._stream(request, last, service)

    async def _stream(self, request: web.Request, last: int, service: str | None) -> web.StreamResponse:
        if self._streams >= self._streams_most:
            raise ApiError(503, "busy", f"{self._streams_most} streams of events are open already", retry_after_s=5)
        self._streams += 1
        try:
            headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            await response.write(b": events\n\n")
            await self._send(response, last, service)
            return response
        finally:
            self._streams -= 1

    async def _send(self, response: web.StreamResponse, last: int, service: str | None) -> None:
        events, quiet_s = self._controller.events, 0.0
        while not self.closing:
            newest = events.last
            if found := events.since(last, service=service) if newest != last else []:
                for event in found:  # each waits for its client, so that little is kept for one that does not read
                    await response.write(_message(event))
                quiet_s = 0.0
            elif quiet_s >= QUIET_S:
                await response.write(b": \n\n")
                quiet_s = 0.0
            last = max(newest, found[-1].id if found else 0)
            await asyncio.sleep(LOOK_S)
            quiet_s += LOOK_S


def _message(event: Event) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (event.id, encode(event.describe()))
