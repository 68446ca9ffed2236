"""How a source asks by HTTP: credentials, TLS and proxy of its configuration, redirects within one origin.

A redirect to another scheme, host or port would carry the credentials there, and lets a source choose what promring asks.
Files are read for each request, so that they can be rotated. As with Prometheus no compression is asked for, and the body
is taken as it came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from yarl import URL

from promring.config.http_client import HttpConfig
from promring.runtime.http_client import HttpError, Response, request
from promring.runtime.redact import shown

if TYPE_CHECKING:
    import aiohttp  # which takes long to load, and a configuration needs none of it

REDIRECTS = (301, 302, 303, 307, 308)
REDIRECTS_MOST = 10


async def get(
    session: aiohttp.ClientSession,
    url: URL,
    http: HttpConfig,
    *,
    timeout_s: float,
    body_bytes_max: int,
    headers: Mapping[str, str] | None = None,
    consume: Callable[[bytes], Awaitable[None]] | None = None,
) -> Response:
    """The first answer that is no redirect. ``timeout_s``: for each. Raises ``HttpError``, ``SecretError``, and
    ``DiscoveryError`` for a file of ``headers`` that is none.
    """
    given = {"Accept-Encoding": "identity", **(headers or {}), **await http.headers()}
    for _ in range(REDIRECTS_MOST + 1):
        response = await request(
            session,
            "GET",
            url,
            timeout_s=timeout_s,
            headers=dict(given),
            tls=http.tls_files,
            body_bytes_max=body_bytes_max,
            consume=consume,
            proxy=http.proxy_for(url),
        )
        location = response.headers.get("location")
        if response.status not in REDIRECTS or location is None or not http.follow_redirects:
            return response
        url = _redirected(url, location, response)
    raise HttpError(f"more than {REDIRECTS_MOST} redirects, the last to {shown(url)!r}")


def _redirected(url: URL, location: str, response: Response) -> URL:
    """Raises ``HttpError`` for a place that is not asked."""
    next_url = _joined(url, location)
    if next_url is None or next_url.origin() != url.origin() or next_url.raw_user or next_url.raw_password:
        to = response.clean(shown(location))
        why = f"redirects to {to!r}; a redirect out of {shown(url.origin())} is not followed"
        raise HttpError(f"status {response.status}: {why}")
    return next_url


def _joined(url: URL, location: str) -> URL | None:
    """Where a redirect leads; None when that is no URL of HTTP."""
    try:
        joined = url.join(URL(location))
        return joined if joined.scheme in ("http", "https") and joined.host and joined.port else None
    except ValueError:
        return None
