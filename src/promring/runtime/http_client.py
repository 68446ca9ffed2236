"""The one way promring makes HTTP requests: bounded in time and size, no redirects, nothing sent twice.

An error says whose trouble it is. ``NotAskedError`` is ours, or that of a name: the other side was not asked, so nobody
may take it for dead.

Promises: no error says more of the URL than ``redact.shown`` does; what ``Response.text`` and ``Response.headers`` give has
no secret of the request in it, whatever the other side repeats. ``Response.body`` is as it came.

aiohttp silently sends an idempotent request again when a kept connection turns out to be closed. That doubles a time-out
and hides a restart of the other side, so a middleware (``never_twice``) turns the event into an error that aiohttp does not
retry. aiohttp takes 0.15 s of CPU to load: only what asks loads it, so a command that checks a configuration does not.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from multidict import CIMultiDict
from yarl import URL

from promring.runtime import secretfile
from promring.runtime.http_body import read_body
from promring.runtime.http_errors import DistrustError as DistrustError
from promring.runtime.http_errors import HttpError as HttpError
from promring.runtime.http_errors import NotAskedError as NotAskedError
from promring.runtime.http_errors import RefusedError as RefusedError
from promring.runtime.http_errors import TooLargeError as TooLargeError
from promring.runtime.http_errors import UnresolvedError as UnresolvedError
from promring.runtime.http_errors import closed_error, is_distrust, one_line, tls_error
from promring.runtime.proxy import Proxy
from promring.runtime.redact import hide, secrets_of_headers, secrets_of_url
from promring.runtime.resolver import Resolver, last_address_of, watch_lookups
from promring.runtime.tls import TlsFiles as TlsFiles
from promring.runtime.urls import http_url

if TYPE_CHECKING:
    import aiohttp

MEGABYTE = 2**20
BODY_BYTES_MAX = 16 * 1024 * 1024
HEADER_BYTES_MAX = 64 * 1024
"""Of one header of an answer: some programs send policies or cookies of more than aiohttp's 8 KiB."""
USER_AGENT = "promring"
TEXT_WINDOW_BYTES = 64 * 1024
"""Of a body: so much of it is looked at for an error message."""

STILL_S = 2.0
"""A time-out that ends later than this after its time says nothing of the other side."""
OWN_TROUBLE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EADDRNOTAVAIL, errno.ENETDOWN}
)
"""No descriptor, no memory, no thread, no port, no network on this machine."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """What the request had that no message may show."""
    proxy: str = ""
    """Through which it came, mostly none: a status that is not 200 may be its own."""

    def text(self, most: int = 200) -> str:
        """The beginning of the body on one line, for error messages."""
        window = self.body[:TEXT_WINDOW_BYTES].decode("utf-8", "replace")
        return " ".join(self.clean(window).split())[:most]

    def refusal(self) -> str:
        """Status and text of an answer that is not the wanted one, for error messages."""
        came = f" through {self.proxy}" if self.proxy else ""
        return f"status {self.status}{came}: {self.text()}".rstrip(": ")

    def clean(self, text: str) -> str:
        """A text that is made of this answer, without what it repeats of the request's secrets."""
        return hide(text, self.secrets) if self.secrets else text


def new_session(
    *,
    connections_max: int = 100,
    keep_alive: bool = True,
    unix_socket: str | None = None,
    unpack: bool = True,
) -> aiohttp.ClientSession:
    """A session without cookies and without proxies from the environment. ``keep_alive`` False: one connection a request;
    ``unpack`` False: bodies as they came, whatever ``Content-Encoding`` says.
    """
    import aiohttp

    from promring.runtime.never_twice import never_twice

    connector: aiohttp.BaseConnector
    if unix_socket:
        connector = aiohttp.UnixConnector(path=unix_socket, limit=connections_max, force_close=not keep_alive)
    else:
        connector = aiohttp.TCPConnector(
            limit=connections_max, force_close=not keep_alive, resolver=Resolver(), use_dns_cache=False
        )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(never_twice,),
        auto_decompress=unpack,
        headers={"User-Agent": USER_AGENT},
        timeout=aiohttp.ClientTimeout(total=None),
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
    )


async def request(
    session: aiohttp.ClientSession,
    method: str,
    url: str | URL,
    *,
    timeout_s: float,
    headers: dict[str, str] | None = None,
    params: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
    json: object = None,
    data: bytes | None = None,
    tls: TlsFiles | None = None,
    body_bytes_max: int = BODY_BYTES_MAX,
    consume: Callable[[bytes], Awaitable[None]] | None = None,
    proxy: Proxy | None = None,
    body_s: float | None = None,
    on_head: Callable[[], None] = lambda: None,
) -> Response:
    """One request with a total deadline. Any status is a ``Response``; raises ``HttpError`` when there is none.

    ``params``: added to the query of ``url``; unlike that, they may be repeated in errors. ``tls``: files that are read for
    each request, so that certificates can be rotated. ``consume``: takes the body of an answer with status 200 as it comes;
    ``Response.body`` is empty then. ``proxy``: errors and answers name it, as they may be its own. ``body_s``: the deadline
    is for the head of the answer; the body has so long for each megabyte. ``on_head`` is called when the answer begins.
    """
    import aiohttp

    unresolved, began = watch_lookups(), asyncio.get_running_loop().time()
    secrets = (*secrets_of_url(str(url)), *secrets_of_headers(headers or {}), *_secrets_of_proxy(proxy))
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            way = await _way(tls, proxy)
            async with session.request(
                method, url, headers=headers, params=params, json=json, data=data, allow_redirects=False, **way
            ) as response:
                on_head()
                if body_s is not None:
                    deadline.reschedule(_ends_at(response.content_length or 0, body_s))
                body = await read_body(response, body_bytes_max, consume if response.status == 200 else None)
                return Response(response.status, _names(response, secrets), body, secrets, str(proxy or ""))
    except TimeoutError:
        raise _through(not_answered(round((deadline.when() or began) - began, 1), began, unresolved), proxy) from None
    except secretfile.SecretError as error:
        raise NotAskedError(str(error)) from error
    except aiohttp.ClientConnectorDNSError as error:
        raise _through(look_up_error(error.os_error, error.host), proxy) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # their own texts, and their causes, have the whole URL
        raise _through(_kind(error)(_hidden(_why(error), secrets)), proxy) from None
    except MemoryError as error:
        raise NotAskedError("no memory for the answer") from error


def _ends_at(length: int, body_s: float) -> float:
    """When a body of so many bytes has to be there, by the clock of the event loop."""
    return asyncio.get_running_loop().time() + body_s * (1 + length / MEGABYTE)


def _names(response: aiohttp.ClientResponse, secrets: Sequence[str]) -> dict[str, str]:
    """Its headers. Of what stands twice the first counts, as for Prometheus."""
    return {name.lower(): _hidden(value, secrets) for name, value in reversed([*response.headers.items()])}


class _Way(TypedDict):
    """How a server is reached, in the words of aiohttp."""

    ssl: ssl.SSLContext | bool
    server_hostname: str | None
    proxy: str | None
    proxy_headers: CIMultiDict[str] | None


async def _way(tls: TlsFiles | None, proxy: Proxy | None) -> _Way:
    """Raises ``SecretError``."""
    return _Way(
        ssl=await secretfile.tls_context(tls) if tls is not None else True,
        server_hostname=tls.server_name if tls is not None else None,
        proxy=proxy.url.reveal() if proxy else None,
        proxy_headers=CIMultiDict(proxy.connect_headers) if proxy else None,
    )


def _through(error: HttpError, proxy: Proxy | None) -> HttpError:
    """The error of a request: with a proxy it says nothing certain about the other side, and names the proxy."""
    if proxy is None:
        return error
    kind = HttpError if isinstance(error, RefusedError) else type(error)
    return kind(f"through {proxy}: {error}")


def _secrets_of_proxy(proxy: Proxy | None) -> Iterator[str]:
    if proxy is not None:
        yield from secrets_of_url(proxy.url.reveal())
        for _, value in proxy.connect_headers:
            yield value


def not_answered(timeout_s: float, began: float, unresolved: Collection[str] = ()) -> HttpError:
    """Of a request that ran out of time. ``began``: when it did, by the clock of the event loop. When this process stood
    still meanwhile (it was stopped, or its machine paused it or was too busy), nobody knows whether there was an answer.
    """
    still_s = asyncio.get_running_loop().time() - began - timeout_s
    if still_s >= STILL_S:
        return NotAskedError(f"this process stood still for {still_s:.0f} s, so nobody knows whether there was an answer")
    return not_resolved(unresolved, timeout_s) if unresolved else too_late(timeout_s)


def too_late(timeout_s: float) -> HttpError:
    return HttpError(f"no whole answer within {timeout_s:g} s")


def not_resolved(names: Iterable[str], timeout_s: float) -> UnresolvedError:
    return UnresolvedError(f"the name {', '.join(names)} was not resolved within {timeout_s:g} s")


def look_up_error(error: OSError, host: str) -> NotAskedError:
    """Of a name that has no address, or of this machine."""
    if error.errno in OWN_TROUBLE:
        return NotAskedError(f"cannot look up {host}: {_why(error)}")
    return UnresolvedError(f"the name {host} cannot be resolved: {_why(error)}")


def connect_error(error: OSError, host: str, port: int) -> HttpError:
    """Of a connection that could not be made; its type says whose trouble that is."""
    if is_distrust(error):
        return DistrustError(_why(error))
    return _kind(error)(f"cannot connect to {host}:{port}{last_address_of(host)}: {_why(error)}")


def dropped_error(error: Exception | None, kind: type[HttpError] = HttpError) -> HttpError:
    """Of a connection that ended; ``kind``: where nothing more is known of why."""
    return (DistrustError if is_distrust(error) else kind)(closed_error(error))


def credentials_refused(status: int) -> str:
    """What an answer says that asks for other credentials, or an empty text: whoever gives it is there."""
    return f"it refuses our credentials: status {status}" if status in (401, 403) else ""


def _kind(error: Exception) -> type[HttpError]:
    import aiohttp

    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if is_distrust(cause) or is_distrust(error.__cause__):
        return DistrustError
    number = cause.errno if isinstance(cause, OSError) else None
    if isinstance(error, aiohttp.ClientConnectorError) and number == errno.ECONNREFUSED:
        return RefusedError
    return NotAskedError if number in OWN_TROUBLE else HttpError


def _why(error: Exception) -> str:
    """What happened, in words of our own wherever those of the library repeat the request."""
    import aiohttp

    from promring.runtime.never_twice import Dropped

    match error:
        case aiohttp.ClientConnectorCertificateError():
            return _why(error.certificate_error)
        case aiohttp.ClientConnectorSSLError():
            return _why(error.os_error)
        case ssl.SSLError():
            return tls_error(error)
        case aiohttp.ClientConnectorError():
            where = f"{error.host}:{error.port}{last_address_of(str(error.host))}"
            return f"cannot connect to {where}: {_why(error.os_error)}"
        case aiohttp.InvalidURL():
            return "the URL is malformed"
        case aiohttp.ClientHttpProxyError():
            return one_line(f"the proxy answered {error.status} to CONNECT: {error.message}")
        case aiohttp.ClientResponseError():
            return one_line(f"malformed answer: {error.message}")
        case aiohttp.ClientPayloadError():
            return "the body was cut, or cannot be unpacked"
        case Dropped():
            return str(error)
        case aiohttp.ClientError():
            return f"no answer ({type(error).__name__})"
        case OSError() if error.errno and error.errno > 0 and not isinstance(error, socket.gaierror):
            return os.strerror(error.errno)
        case OSError() if error.strerror:
            return one_line(error.strerror)
    return one_line(str(error) or type(error).__name__)


def _hidden(text: str, secrets: Iterable[str]) -> str:
    return hide(text, secrets) if secrets else text


def parse_base(text: str, *, tls: bool = False, path: bool = False) -> tuple[URL, str | None]:
    """``host:port``, ``http(s)://host:port`` or ``unix:///path`` → base URL and socket path. ``path``: the URL may have one,
    as a proxy may want. Raises ValueError.
    """
    if text.startswith("unix:///") and len(text) > len("unix:///"):
        return URL("http://localhost"), text.removeprefix("unix://")
    full = text if "://" in text else f"{'https' if tls else 'http'}://{text}"
    try:
        url = http_url(full)
    except ValueError:
        raise ValueError("is not host:port, http(s)://host:port or unix:///path") from None
    if not re.fullmatch(r"[\w.:-]+", url.host or ""):
        raise ValueError("is not host:port, http(s)://host:port or unix:///path")
    if url.user or url.password:
        raise ValueError("credentials do not belong in the address")
    if url.query_string or url.fragment or (url.path not in ("", "/") and not path):
        raise ValueError("must be an address, without a query" if path else "must be an address only, without a path")
    return url.origin().joinpath(*url.path.strip("/").split("/")) if path and url.path != "/" else url.origin(), None
