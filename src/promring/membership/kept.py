"""Health checks on a connection that is kept: one GET costs a tenth of what a new connection through aiohttp costs.

Promises: the status of one whole answer within the time-out, or an ``HttpError`` as of ``http_client.request``; an answer is
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
import random
import resource
import time
from typing import ClassVar, cast

from promring.config.scraper_api import PLAIN, ScraperApi
from promring.membership.kept_answer import AGE_S, Answer, DroppedError, MalformedError, is_numeric
from promring.runtime.http_client import (
    USER_AGENT,
    HttpError,
    connect_error,
    credentials_refused,
    dropped_error,
    look_up_error,
    not_answered,
)
from promring.runtime.http_errors import closed_error
from promring.runtime.resolver import Resolver, watch_lookups

IDLE_SHARE = 4


def idle_most() -> int:
    """A share of the descriptors that the process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else soft // IDLE_SHARE


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
        self._resolver = None if is_numeric(url.raw_host) else Resolver()
        self._kept: _Connection | None = None

    async def status(self, timeout_s: float) -> int:
        """Of the answer, whatever it is. Raises ``HttpError``."""
        unresolved, began = watch_lookups(), asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._asked(timeout_s)
        except TimeoutError:
            raise not_answered(timeout_s, began, unresolved) from None

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
            began, share_s = loop.time(), timeout_s / len(hosts)
            try:
                async with asyncio.timeout(share_s):
                    _, made = await loop.create_connection(
                        lambda: _Connection(question), host, self._port, ssl=context, server_hostname=name
                    )
                    return made
            except TimeoutError:
                refused = not_answered(share_s, began)
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
