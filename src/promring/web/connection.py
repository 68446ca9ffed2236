"""One client's connection: aiohttp's protocol, and what the server must know to bound it.

A connection is ``idle`` (between requests, or before the first one is whole) or has a request in progress. ``overdue`` says
why it must end: no whole request in time, idle for too long, or an answer that the client does not read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from promring.web.envelope import Handler, failure
from promring.web.refusals import Reason, Refusals

HEADER_S = 10.0
"""From the connection, or from the first byte of a later request, until its headers are whole."""
IDLE_S = 75.0
STALL_S, STALL_BYTES = 20.0, 64 * 1024
"""A client that takes less than so many bytes of its answer in so many seconds is cut off."""
LINE_BYTES_MAX = 8190
_SILENT = logging.getLogger("promring.web.requests")


class Owner(Protocol):
    """Who keeps the connections."""

    refusals: Refusals

    def became(self, connection: Connection) -> None:
        """It is idle now, or busy."""

    def gone(self, connection: Connection) -> None: ...


class _Ended(AbstractAccessLogger):
    """aiohttp tells an access logger the end of each answer; nothing is logged."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        connection = request.protocol
        if isinstance(connection, Connection):
            connection.ended()


class Connection(web.RequestHandler):
    """``accepted_at`` and other times are of ``time.monotonic``."""

    def __init__(self, server: web.Server, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=2 * IDLE_S,  # ``overdue`` comes first
            access_log=_SILENT,
            access_log_class=_Ended,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            lingering_time=2.0,
            auto_decompress=False,
        )
        self._owner = owner
        self.idle = True
        self.changed_at = time.monotonic()
        """When it became idle, or busy."""
        self._served = 0
        self._part_at: float | None = None
        """When the first bytes of a request came that is not whole yet."""
        self._stall: tuple[float, int] | None = None
        """When this many bytes were still to be sent."""

    def began(self) -> None:
        """A request is whole, and handled from now on."""
        self.idle, self.changed_at, self._part_at = False, time.monotonic(), None
        self._owner.became(self)

    def ended(self) -> None:
        """Its answer has been handed to the transport."""
        self.idle, self.changed_at, self._part_at = True, time.monotonic(), None
        self._served += 1
        self._owner.became(self)

    def overdue(self, now: float) -> Reason | None:
        if self._stalls(now):
            return "read_timeout"
        if not self.idle:
            return None
        asked = self.changed_at if not self._served else self._part_at
        if asked is not None and now - asked > HEADER_S:
            return "header_timeout"
        return "idle" if now - self.changed_at > IDLE_S else None

    @property
    def stalled(self) -> bool:
        """Whether its client has not taken what was sent."""
        return self._stall is not None

    def abort(self) -> None:
        """End it at once, with what is not sent yet."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if data and self.idle and self._part_at is None:
            self._part_at = time.monotonic()
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = (time.monotonic(), self.unsent)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall = None

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._owner.gone(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a malformed request (400), or to one that our own code failed at (500)."""
        if isinstance(exc, ConnectionError):  # it went away
            raise exc
        if status == 400:
            self._owner.refusals.add("malformed", (message or "").split("\n")[0])
            answer = failure(status, "bad_request", "the request is malformed")
        else:
            self._owner.refusals.add("error", request.path, exc)
            answer = failure(status, "internal", "promring failed at this request; its log says why")
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is sent already")
        answer.headers["Server"] = "promring"
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """aiohttp says here what went wrong outside of handlers."""
        error = kw.get("exc_info")
        if isinstance(error, HttpProcessingError):  # of a client: some versions of aiohttp see it after the answer
            self._owner.refusals.add("malformed", error.message.split("\n")[0])
            return
        self._owner.refusals.add("error", str(args[0]) if args else "", error if isinstance(error, BaseException) else None)

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def _stalls(self, now: float) -> bool:
        if self._stall is None:
            return False
        since, before = self._stall
        if before - (unsent := self.unsent) >= STALL_BYTES:
            self._stall = (now, unsent)
        return now - since > STALL_S


@web.middleware
async def mark(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connection that it is busy; it learns the end of the answer from aiohttp."""
    if isinstance(request.protocol, Connection):
        request.protocol.began()
    return await handler(request)
