"""The one way promring makes HTTP requests: bounded in time and size, no redirects, nothing sent twice.

aiohttp silently sends an idempotent request again when a kept connection turns out to be closed. That doubles a time-out
and hides a restart of the other side, so a middleware turns the event into an error that aiohttp does not retry.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

BODY_BYTES_MAX = 16 * 1024 * 1024
USER_AGENT = "promring"


class HttpError(Exception):
    """No usable answer: refused, timed out, cut, too large. The text says which, in one line."""


class _Dropped(aiohttp.ClientError):
    """A kept connection was closed by the other side."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def text(self, most: int = 200) -> str:
        """The beginning of the body on one line, for error messages."""
        return " ".join(self.body[: most * 4].decode("utf-8", "replace").split())[:most]


async def _never_twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # never connected, so nothing was sent, and aiohttp does not retry it
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Dropped(str(error) or "connection closed by the other side") from error


def new_session(
    *,
    connections_max: int = 100,
    keep_alive: bool = True,
    unix_socket: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> aiohttp.ClientSession:
    """A session without cookies and without proxies from the environment. ``keep_alive`` False: one connection a request."""
    connector: aiohttp.BaseConnector
    if unix_socket:
        connector = aiohttp.UnixConnector(path=unix_socket, limit=connections_max, force_close=not keep_alive)
    else:
        connector = aiohttp.TCPConnector(limit=connections_max, ssl=ssl_context or True, force_close=not keep_alive)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_never_twice,),
        headers={"User-Agent": USER_AGENT},
        timeout=aiohttp.ClientTimeout(total=None),
    )


async def request(
    session: aiohttp.ClientSession,
    method: str,
    url: str | URL,
    *,
    timeout_s: float,
    headers: dict[str, str] | None = None,
    params: dict[str, str] | None = None,
    json: object = None,
    data: bytes | None = None,
    server_name: str | None = None,
    body_bytes_max: int = BODY_BYTES_MAX,
) -> Response:
    """One request with a total deadline. Any status is a ``Response``; raises ``HttpError`` when there is none."""
    try:
        async with (
            asyncio.timeout(timeout_s),
            session.request(
                method,
                url,
                headers=headers,
                params=params,
                json=json,
                data=data,
                server_hostname=server_name,
                allow_redirects=False,
            ) as response,
        ):
            names = {name.lower(): value for name, value in response.headers.items()}
            return Response(response.status, names, await _body(response, body_bytes_max))
    except TimeoutError:
        raise HttpError(f"no whole answer within {timeout_s:g} s") from None
    except aiohttp.ClientConnectorError as error:
        if type(error) is not aiohttp.ClientConnectorError:  # TLS: its own words say more
            raise HttpError(_line(error)) from error
        number = error.os_error.errno  # its own text repeats the address
        why = os.strerror(number) if number else error.os_error
        raise HttpError(f"cannot connect to {error.host}:{error.port}: {why}") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise HttpError(_line(error)) from error


async def _body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Counted as it is unpacked. Raises ``HttpError`` as soon as it is longer than ``most`` bytes, or says it will be."""
    too_large = f"body larger than {most} bytes"
    if (response.content_length or 0) > most:
        response.close()
        raise HttpError(too_large)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.content.iter_chunked(65536):
            size += len(chunk)
            if size > most:
                response.close()
                raise HttpError(too_large)
            chunks.append(chunk)
            await asyncio.sleep(0)  # a bomb unpacks without a wait: 512 MB of it would hold the event loop for a second
        return b"".join(chunks)
    finally:
        chunks.clear()  # an error keeps this frame, and what it names, until the garbage collector comes


def _line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())


def parse_base(text: str, *, tls: bool = False) -> tuple[URL, str | None]:
    """``host:port``, ``http(s)://host:port`` or ``unix:///path`` → base URL and socket path. Raises ValueError."""
    if text.startswith("unix:///") and len(text) > len("unix:///"):
        return URL("http://localhost"), text.removeprefix("unix://")
    full = text if "://" in text else f"{'https' if tls else 'http'}://{text}"
    try:
        url = URL(full)
        port = url.explicit_port
    except ValueError:
        raise ValueError("is not host:port, http(s)://host:port or unix:///path") from None
    if url.scheme not in ("http", "https") or not url.host or port == 0 or not re.fullmatch(r"[\w.:-]+", url.host):
        raise ValueError("is not host:port, http(s)://host:port or unix:///path")
    if url.user or url.password:
        raise ValueError("credentials do not belong in the address")
    if url.path not in ("", "/") or url.query_string or url.fragment:
        raise ValueError("must be an address only, without a path")
    return url.origin(), None


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths as in the configuration's ``tls``; read again for every new context."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False
    ca_folder: Path | None = None
    """All certificates in it, whatever their names, when there is no ``ca_file``."""

    def context(self) -> ssl.SSLContext:
        """Verified by default, TLS 1.2 or newer. Raises OSError or ssl.SSLError, naming nothing secret."""
        if self.ca_folder and not self.ca_file:
            made = _trusting(self.ca_folder)
        else:
            made = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file:
            made.load_cert_chain(self.cert_file, self.key_file)
        if self.insecure_skip_verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made


def _trusting(folder: Path) -> ssl.SSLContext:
    """Only what is in ``folder``; OpenSSL's own way wants names that are hashes."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        made.load_verify_locations(cafile=path)
    if not files:
        raise FileNotFoundError(errno.ENOENT, "no certificate in the folder", str(folder))
    return made
