"""Targets from an http_sd endpoint: status 200, JSON, a total deadline, redirects within one origin only.

As with Prometheus no compression is asked for, and the body is taken as it came.

A redirect to another scheme, host or port would carry the credentials there, and lets a source choose what promring asks.
No error shows the query of the URL, nor what an answer repeats of the request's secrets.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

import aiohttp
from yarl import URL

from promring.config.document import YamlProblem, read_yaml
from promring.config.http_client import HttpClient, HttpConfig
from promring.config.values import AbsolutePath, HttpUrl, Interval
from promring.discovery import SourceContext, SourceSettings, groups
from promring.discovery.groups import ListRules
from promring.model import DiscoveryError, TargetPool
from promring.runtime import secretfile
from promring.runtime.http_client import HttpError, Response, new_session, request
from promring.runtime.redact import shown
from promring.runtime.threads import in_thread

BODY_BYTES_MAX = 512 * 1024 * 1024
REDIRECTS = (301, 302, 303, 307, 308)
REDIRECTS_MOST = 10
CONTENT_TYPE = re.compile(r'application/json(;\s*charset=("utf-8"|utf-8))?', re.IGNORECASE)
"""What Prometheus takes."""


class HttpQuery(SourceSettings, HttpConfig):
    """What is asked for, and how: in keys of promring or of Prometheus."""

    url: HttpUrl
    refresh_interval: Interval = 60.0

    @property
    @abstractmethod
    def timeout_s(self) -> float:
        """For the whole answer."""

    @property
    def source_name(self) -> str:
        address, _, query = self.url.reveal().partition("?")
        digest = f"?{hashlib.sha256(query.encode()).hexdigest()[:8]}" if query else ""  # a query may hold a secret
        return f"http:{address}{digest}"

    def source(self, context: SourceContext) -> HttpSource:
        return HttpSource(self, ListRules(self.trusted, context.legacy_names))


class HttpTargets(HttpQuery, HttpClient):
    """A list from an http_sd endpoint. ``headers_file`` has ``Name: value`` lines (YAML); files are read for each fetch, so
    they can be rotated. ``timeout``: default the interval, at most 30 s.
    """

    kind = "http"

    timeout: Interval | None = None
    headers_file: AbsolutePath | None = None

    @property
    def timeout_s(self) -> float:
        return self.timeout or min(self.refresh_interval, 30.0)

    async def headers(self) -> dict[str, str]:
        """Raises ``DiscoveryError`` for a file of headers that is none, ``SecretError``."""
        file = self.headers_file
        if file is None:
            return await super().headers()
        content = await secretfile.read(file)
        return await in_thread(lambda: _headers(content, file)) | await super().headers()


class HttpSource:
    """``body_bytes_max``: of one answer."""

    def __init__(self, settings: HttpQuery, rules: ListRules = groups.ANY, *, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self._settings, self._body_bytes_max = settings, body_bytes_max
        self._reader = groups.Reader(rules=rules)
        self._tls = settings.tls_files
        self.interval_s = settings.refresh_interval

    async def fetch(self) -> TargetPool:
        where, timeout_s = shown(self._settings.url), self._settings.timeout_s
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "X-Prometheus-Refresh-Interval-Seconds": f"{self.interval_s:g}",
        }
        try:
            async with asyncio.timeout(timeout_s), new_session(keep_alive=False, unpack=False) as session:
                headers |= await self._settings.headers()
                response = await self._follow(session, headers, where)
        except TimeoutError:
            raise DiscoveryError(f"{where}: no whole answer within {timeout_s:g} s") from None
        except (HttpError, secretfile.SecretError) as error:
            raise DiscoveryError(f"{where}: {error}") from error
        if response.status != 200:
            raise DiscoveryError(f"{where}: status {response.status}: {response.text()}".rstrip(": "))
        kind = response.headers.get("content-type", "").strip()
        if not CONTENT_TYPE.fullmatch(kind):
            raise DiscoveryError(f"{where}: content type {kind[:80]!r}, not application/json: {response.text(80)!r}")
        try:
            pool = await self._reader.read_beside(response.body, where)
        except DiscoveryError as error:
            raise DiscoveryError(response.clean(str(error)), error.pool) from None
        return pool

    async def _follow(self, session: aiohttp.ClientSession, headers: Mapping[str, str], where: str) -> Response:
        """The first answer that is no redirect. Raises ``HttpError``, ``DiscoveryError``."""
        url = URL(self._settings.url.reveal())
        for _ in range(REDIRECTS_MOST + 1):
            response = await request(
                session,
                "GET",
                url,
                timeout_s=self._settings.timeout_s,
                headers=dict(headers),
                tls=self._tls,
                body_bytes_max=self._body_bytes_max,
                proxy=self._settings.proxy,
            )
            location = response.headers.get("location")
            if response.status not in REDIRECTS or location is None or not self._settings.follow_redirects:
                return response
            next_url = _joined(url, location)
            if next_url is None or next_url.origin() != url.origin() or next_url.raw_user or next_url.raw_password:
                to = response.clean(shown(location))
                why = f"redirects to {to!r}; a redirect out of {shown(url.origin())} is not followed"
                raise DiscoveryError(f"{where}: status {response.status}: {why}")
            url = next_url
        raise DiscoveryError(f"{where}: more than {REDIRECTS_MOST} redirects, the last to {shown(url)!r}")


def _joined(url: URL, location: str) -> URL | None:
    """Where a redirect leads; None when that is no URL of HTTP."""
    try:
        joined = url.join(URL(location))
        return joined if joined.scheme in ("http", "https") and joined.host and joined.port else None
    except ValueError:
        return None


def _headers(content: bytes, path: Path) -> dict[str, str]:
    wrong = DiscoveryError(f"{path}: must be lines of `Name: value`")
    try:
        document = read_yaml(content)
    except YamlProblem:  # its words repeat the file
        raise wrong from None
    found = document.value
    if not isinstance(found, dict) or not found or document.duplicates:
        raise wrong
    if not all(isinstance(value, str | int) for value in found.values()):
        raise wrong
    return {name: str(value) for name, value in found.items()}
