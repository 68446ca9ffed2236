"""How promring asks the scrapers of a fleet: scheme, path prefix, credentials and TLS.

Owns: the keys of ``scraper_api``, and the one way to ask a scraper by aiohttp. Whoever asks on a connection of its own
(``membership/kept.py``) takes ``url``, ``headers()`` and ``tls_files`` from here.

Promises: passwords, tokens and certificates are read again each time they are used, beside the event loop; a file that
cannot be read is ``NotAskedError``, so nobody takes the scraper for dead. Redirects are not followed: the place that an
answer names would get the credentials.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from yarl import URL

from promring.config.http_client import HttpClient, instead
from promring.runtime import secretfile
from promring.runtime.http_client import BODY_BYTES_MAX, NotAskedError, Response, request
from promring.runtime.tls import TlsFiles

if TYPE_CHECKING:
    import aiohttp  # which takes long to load, and a configuration needs none of it

DIRECT = instead("it asks scrapers directly: trouble of a proxy would look like the death of them all")
Unfollowed = Annotated[Literal[False], instead("no redirect of a scraper is followed: say where it is with path_prefix")]


def _prefix(text: str) -> str:
    inner = text.strip("/")
    return f"/{inner}" if inner else ""


PathPrefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9._~/-]*$"), AfterValidator(_prefix)]
"""With a slash before it and none behind it, as Prometheus makes it of ``--web.route-prefix``."""


class ScraperApi(HttpClient):
    """``path_prefix``: what all paths of a scraper begin with (``--web.route-prefix``, vmagent's ``-http.pathPrefix``)."""

    scheme: Literal["http", "https"] = "http"
    path_prefix: PathPrefix = ""
    proxy_url: Annotated[None, DIRECT] = None
    no_proxy: Annotated[Literal[""], DIRECT] = ""
    proxy_from_environment: Annotated[Literal[False], DIRECT] = False
    follow_redirects: Unfollowed = False

    @model_validator(mode="after")
    def _tls_has_https(self) -> Self:
        if self.scheme == "http" and (self.tls or self.tls_config):
            raise ValueError("tls needs scheme: https")
        return self

    @property
    def tls_files(self) -> TlsFiles | None:
        """None: it is asked without TLS."""
        return (super().tls_files or TlsFiles()) if self.scheme == "https" else None

    @property
    def header_names(self) -> list[str]:
        """Of ``headers()``."""
        credentials = (self.basic_auth, self.authorization, self.bearer_token, self.bearer_token_file)
        return sorted([*self.http_headers, *(["Authorization"] if any(one is not None for one in credentials) else [])])

    def url(self, address: str, path: str) -> URL:
        """Of a scraper at ``host:port``."""
        return _url(f"{self.scheme}://{address}{self.path_prefix}{path}")

    def elsewhere(self, status: int, path: str) -> str:
        """What an answer means that says that ``path`` is not there; mostly empty."""
        if status != 404 and not 300 <= status < 400:
            return ""
        what = "there is no" if status == 404 else "a redirect, which is not followed, from"
        given = f"path_prefix: {self.path_prefix}" if self.path_prefix else "no path_prefix"
        return f"{what} {self.path_prefix}{path}; scraper_api has {given}, which must be the scraper's --web.route-prefix"

    async def get(
        self,
        session: aiohttp.ClientSession,
        address: str,
        path: str,
        *,
        timeout_s: float,
        params: dict[str, str] | None = None,
        body_bytes_max: int = BODY_BYTES_MAX,
    ) -> Response:
        """What a scraper answers, whatever its status. Raises ``HttpError``."""
        return await request(
            session,
            "GET",
            self.url(address, path),
            timeout_s=timeout_s,
            headers=await self.credentials(),
            params=params,
            tls=self.tls_files,
            body_bytes_max=body_bytes_max,
        )

    async def tls_context(self) -> ssl.SSLContext | None:
        """As the files are now. Raises ``NotAskedError``."""
        files = self.tls_files
        try:
            return None if files is None else await secretfile.tls_context(files)
        except secretfile.SecretError as error:
            raise NotAskedError(str(error)) from error

    async def credentials(self) -> dict[str, str]:
        """``headers()`` as they are now. Raises ``NotAskedError``."""
        try:
            return await self.headers()
        except secretfile.SecretError as error:
            raise NotAskedError(str(error)) from error


@lru_cache(maxsize=10_000)
def _url(text: str) -> URL:
    """Reading a URL takes as long as all else that is said of a scraper in an answer."""
    return URL(text)


PLAIN = ScraperApi()
"""HTTP without a password."""
