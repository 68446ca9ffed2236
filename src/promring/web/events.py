"""``/api/v1/events``: the newest events as JSON, or as a stream of server-sent events that goes on with what comes."""

from __future__ import annotations

import asyncio

from aiohttp import web

from promring.telemetry.events import About, Event
from promring.web.controller import Controller, fleet_of, service_of
from promring.web.envelope import ApiError, encode, number, success
from promring.web.views.status import event as event_of
from promring.web.views.status import events_of

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
        """``?since=`` an id, ``?service=`` or ``?fleet=`` a name, ``?limit=`` the newest so many. With ``Accept:
        text/event-stream`` a stream, which begins after ``Last-Event-ID`` or ``since``, else with what comes next.
        """
        about = self._about(request)
        if "text/event-stream" not in request.headers.get("Accept", ""):
            found = self._controller.events.since(number(request, "since", 0), about)
            limit = number(request, "limit", LIMIT)
            return success(events_of(found[max(0, len(found) - limit) :]))
        seen = request.headers.get("Last-Event-ID", "")
        known = seen.isascii() and seen.isdigit() and len(seen) < 19
        last = int(seen) if known else number(request, "since", self._controller.events.last)
        return await self._stream(request, last, about)

    def _about(self, request: web.Request) -> About | None:
        service, fleet = request.query.get("service"), request.query.get("fleet")
        if service is not None:
            service_of(self._controller, service)
            return about_service(self._controller, service)
        if fleet is not None:
            fleet_of(self._controller, fleet)
            return about_fleet(self._controller, fleet)
        return None

    async def _stream(self, request: web.Request, last: int, about: About | None) -> web.StreamResponse:
        if self._streams >= self._streams_most:
            raise ApiError(503, "busy", f"{self._streams_most} streams of events are open already", retry_after_s=5)
        self._streams += 1
        try:
            headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            await response.write(b": events\n\n")
            await self._send(response, last, about)
            return response
        finally:
            self._streams -= 1

    async def _send(self, response: web.StreamResponse, last: int, about: About | None) -> None:
        events, quiet_s = self._controller.events, 0.0
        while not self.closing:
            newest = events.last
            if found := events.since(last, about) if newest != last else []:
                for event in found:  # each waits for its client, so that little is kept for one that does not read
                    await response.write(_message(event))
                quiet_s = 0.0
            elif quiet_s >= QUIET_S:
                await response.write(b": \n\n")
                quiet_s = 0.0
            last = max(newest, found[-1].id if found else 0)
            await asyncio.sleep(LOOK_S)
            quiet_s += LOOK_S


def about_service(controller: Controller, name: str) -> About:
    """Events of a service that runs, and of its fleet."""
    return About((name,), controller.services[name].fleet.name)


def about_fleet(controller: Controller, name: str) -> About:
    """Events of a fleet that runs, and of its services."""
    return About((name, *controller.fleets[name].services), name)


def _message(event: Event) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (event.id, encode(event_of(event)))
