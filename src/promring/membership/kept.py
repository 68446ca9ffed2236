"""Health checks on a connection that is kept: one GET costs a tenth of what a new connection through aiohttp costs.

Promises: the status of one whole answer within the time-out, or an ``HttpError`` as of ``httpclient.request``; an answer is
held in at most ``ANSWER_BYTES_MAX``, whatever comes; nothing is read as two answers. Between two checks a scraper has one
connection at most, ``idle_most`` are kept in the whole process. One that the scraper closed is replaced at once and is no
failure; one that does not answer in half of the time is given a new one beside it, so that a path that forgot the
connection is no failure either, and a hung scraper is noticed in time. Each is renewed after ``AGE_S``: then the name is
asked again, and whether the scraper still accepts. No redirect is followed, no body is unpacked. See decision 0026.
Over TLS likewise. Credentials and certificates are read for each new connection; a kept one that is answered with 401 or 403
is replaced at once, so that a password that was rotated is no failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import re
import resource
import time
from typing import ClassVar, cast

from promring.config.scraper_api import PLAIN, ScraperApi
from promring.runtime.http_client import (
    USER_AGENT,
    HttpError,
    closed_error,
    connect_error,
    credentials_refused,
    dropped_error,
    look_up_error,
    not_resolved,
    too_late,
)
from promring.runtime.resolver import Resolver, watch_lookups

AGE_S = 60.0
ANSWER_BYTES_MAX = 128 * 1024
"""Of one answer with its headers and frames."""
IDLE_SHARE = 4
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [^\r\n]*)?\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+.^`|~\w-]+):[ \t]*([^\r\n]*?)[ \t]*\r?\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
_CHUNK_HEAD_MAX = 1024
_SEPARATE = frozenset({b"content-length", b"transfer-encoding", b"connection"})


def idle_most() -> int:
    """A share of the descriptors that the process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else soft // IDLE_SHARE


class MalformedError(ValueError):
    """It is not HTTP/1; the text says where."""


class DroppedError(HttpError):
    """The connection was closed before the first byte of an answer."""


class Answer:
    """Reads one answer as its bytes come. ``status`` is set when it is whole; ``keep``: whether another may follow."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.keep = False
        self._bytes, self._at = bytearray(), 0
        self._coming = 0
        """The status of an answer whose body is not whole."""
        self._length: int | None = None
        self._chunked = self._last_chunk = False

    @property
    def begun(self) -> bool:
        return bool(self._bytes)

    def feed(self, data: bytes) -> None:
        """Raises ``MalformedError``, also for what is too long."""
        self._bytes += data
        if len(self._bytes) > ANSWER_BYTES_MAX:
            raise MalformedError(f"larger than {ANSWER_BYTES_MAX} bytes")
        while not self._coming and self._head():
            pass
        if self._coming:
            self._body()

    def end(self) -> None:
        """The other side sends no more. Raises ``MalformedError`` when something is missing."""
        if self.status is None:
            if not self._coming or self._chunked or self._length is not None:
                raise MalformedError("the answer was cut")
            self.status = self._coming

    def _head(self) -> bool:
        """Whether there was a whole one at ``_at``; an interim one is passed over."""
        ends = self._bytes.find(b"\n\r\n", self._at)
        if ends < 0:
            if len(self._bytes) - self._at >= 5 and not self._bytes.startswith(b"HTTP/", self._at):
                raise MalformedError("no HTTP")
            return False
        first = _STATUS.match(self._bytes, self._at)
        if first is None:
            raise MalformedError("the status line")
        found = self._headers(first.end(), ends + 1)
        self._at, status = ends + 3, int(first[2])
        if 100 <= status < 200 and status != 101:
            return True
        self._frame(status, found, late=first[1] == b"1")
        return False

    def _headers(self, at: int, end: int) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        while at < end:
            line = _HEADER.match(self._bytes, at, end)
            if line is None:
                raise MalformedError("a header")
            name, at = line[1].lower(), line.end()
            if name in _SEPARATE and found.setdefault(name, line[2].lower()) != line[2].lower():
                raise MalformedError(f"two of {name.decode()}")
        return found

    def _frame(self, status: int, found: dict[bytes, bytes], *, late: bool) -> None:
        """``late``: of HTTP/1.1."""
        length, coding = found.get(b"content-length"), found.get(b"transfer-encoding")
        if coding not in (None, b"chunked") or (length is not None and (coding or not length.isdigit() or len(length) > 18)):
            raise MalformedError("its length")
        said = {token.strip() for token in found.get(b"connection", b"").split(b",")}
        self._coming, self._chunked = status, coding is not None
        self._length = 0 if status in (204, 304) else None if length is None else int(length)
        if status in (204, 304):
            self._chunked = False
        if (self._length or 0) > ANSWER_BYTES_MAX:
            raise MalformedError(f"larger than {ANSWER_BYTES_MAX} bytes")
        framed = self._chunked or self._length is not None
        self.keep = framed and b"close" not in said and (late or b"keep-alive" in said)

    def _body(self) -> None:
        if self._chunked:
            while not self._last_chunk and self._chunk():
                pass
            whole = self._last_chunk
        else:
            whole = self._length is not None and len(self._bytes) - self._at >= self._length
            self._at += (self._length or 0) if whole else 0
        if whole:
            self.status = self._coming
            self.keep = self.keep and len(self._bytes) == self._at  # more than one answer: nobody asked for it

    def _chunk(self) -> bool:
        """Whether there was a whole one at ``_at``."""
        head = _CHUNK.match(self._bytes, self._at)
        if head is None:
            if len(self._bytes) - self._at > _CHUNK_HEAD_MAX or b"\n" in self._bytes[self._at :]:
                raise MalformedError("a chunk")
            return False
        ends = head.end() + int(head[1], 16)
        if len(self._bytes) < ends + 2:
            return False
        if self._bytes[ends : ends + 2] != b"\r\n":  # trailers are nobody's: such a connection ends
            raise MalformedError("a chunk")
        self._at, self._last_chunk = ends + 2, head[1].strip(b"0") == b""
        return True


class _Connection(asyncio.Protocol):
    """One connection; asks one thing at a time."""

    def __init__(self, question: bytes) -> None:
        self._question = question
        self._transport: asyncio.Transport | None = None
        self._answer = Answer()
        self._waiting: asyncio.Future[int] | None = None
        self.old_at = time.monotonic() + AGE_S * random.uniform(0.5, 1.0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it

    @property
    def usable(self) -> bool:
        """Whether another question may be asked."""
        return self._transport is not None and not self._transport.is_closing() and self._waiting is None

    def ask(self) -> asyncio.Future[int]:
        """The status of the answer. Fails with ``DroppedError`` when the connection was closed, else with ``HttpError``."""
        assert self._transport is not None
        self._answer, self._waiting = Answer(), asyncio.get_running_loop().create_future()
        self._transport.write(self._question)
        return self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._waiting is not None:
            self._waiting.cancel()

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:  # nobody asked
            self.close()
            return
        try:
            self._answer.feed(data)
        except MalformedError as error:
            self._fail(HttpError(f"malformed answer: {error}"))
        else:
            self._end_if_whole()

    def eof_received(self) -> bool:
        if self._waiting is not None and self._answer.begun:
            with contextlib.suppress(MalformedError):
                self._answer.end()
                self._end_if_whole()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(HttpError(closed_error(error)) if self._answer.begun else dropped_error(error, DroppedError))
        self._transport = None

    def _end_if_whole(self) -> None:
        if self._answer.status is None or self._waiting is None:
            return
        waiting, self._waiting = self._waiting, None
        if not self._answer.keep:
            self.close()
        if not waiting.done():
            waiting.set_result(self._answer.status)

    def _fail(self, error: HttpError) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
        self.close()


class KeptProbe:
    """Asks one scraper. ``address`` as ``host:port``; ``path`` under the prefix of ``api``."""

    _idle: ClassVar[set[KeptProbe]] = set()
    """Those of the process that keep a connection."""

    def __init__(self, address: str, path: str, *, idle_most: int, api: ScraperApi = PLAIN) -> None:
        url = api.url(address, path)
        assert url.raw_host is not None and url.port is not None  # noqa: PT018 - an address has both
        self._host, self._port, self._idle_most = url.raw_host, url.port, idle_most
        self._api = api
        self._question = f"GET {url.raw_path_qs} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\n"
        self._resolver = None if _is_numeric(url.raw_host) else Resolver()
        self._kept: _Connection | None = None

    async def status(self, timeout_s: float) -> int:
        """Of the answer, whatever it is. Raises ``HttpError``."""
        unresolved = watch_lookups()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._asked(timeout_s)
        except TimeoutError:
            raise not_resolved(unresolved, timeout_s) if unresolved else too_late(timeout_s) from None

    def close(self) -> None:
        kept = self._take()
        if kept is not None:
            kept.close()

    async def _asked(self, timeout_s: float) -> int:
        kept = self._take()
        if kept is None or not kept.usable or time.monotonic() > kept.old_at:
            if kept is not None:
                kept.close()
            return await self._anew(timeout_s)
        answer = kept.ask()
        try:
            await asyncio.wait((answer,), timeout=timeout_s / 2)
            if not answer.done():
                return await self._both(answer, timeout_s)
            if isinstance(answer.exception(), DroppedError):
                return await self._anew(timeout_s)
            if answer.exception() is None and credentials_refused(answer.result()):
                return await self._anew(timeout_s)
            self._keep(kept)
            return answer.result()
        finally:
            if kept is not self._kept:
                kept.close()

    async def _both(self, late: asyncio.Future[int], timeout_s: float) -> int:
        """From the kept connection, which is late, or a new one: who answers first."""
        anew = asyncio.ensure_future(self._anew(timeout_s))
        try:
            done, _ = await asyncio.wait((late, anew), return_when=asyncio.FIRST_COMPLETED)
            return late.result() if late in done and late.exception() is None else await anew
        finally:
            anew.cancel()
            await asyncio.wait((anew,))
            if not anew.cancelled():
                anew.exception()  # or asyncio says that nobody wanted it

    async def _anew(self, timeout_s: float) -> int:
        connection = await self._connected(timeout_s)
        try:
            status = await connection.ask()
            self._keep(connection)
            return status
        finally:
            if connection is not self._kept:
                connection.close()

    async def _connected(self, timeout_s: float) -> _Connection:
        """Raises ``HttpError``. Of several addresses each has its share of the time that a check has at most."""
        question, tls, context = await self._said(), self._api.tls_files, await self._api.tls_context()
        name = None if tls is None else tls.server_name or self._host
        loop, hosts, refused = asyncio.get_running_loop(), await self._addresses(), HttpError("no address")
        for host in hosts:
            try:
                async with asyncio.timeout(timeout_s / len(hosts)):
                    _, made = await loop.create_connection(
                        lambda: _Connection(question), host, self._port, ssl=context, server_hostname=name
                    )
                    return made
            except TimeoutError:
                refused = too_late(timeout_s)
            except OSError as error:
                refused = connect_error(error, self._host, self._port)
        raise refused

    async def _said(self) -> bytes:
        """The question, with the credentials as they are now."""
        headers = "".join(f"{name}: {value}\r\n" for name, value in (await self._api.credentials()).items())
        return f"{self._question}{headers}\r\n".encode()

    async def _addresses(self) -> list[str]:
        if self._resolver is None:
            return [self._host]
        try:
            return list(dict.fromkeys(found["host"] for found in await self._resolver.resolve(self._host, self._port)))
        except OSError as error:
            raise look_up_error(error, self._host) from None

    def _keep(self, connection: _Connection) -> None:
        if connection.usable and (self in self._idle or len(self._idle) < self._idle_most):
            self._kept = connection
            self._idle.add(self)

    def _take(self) -> _Connection | None:
        kept, self._kept = self._kept, None
        self._idle.discard(self)
        return kept


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
