"""Targets from an http_sd endpoint: status 200, JSON, a total deadline.

How it is asked is ``discovery/asking.py``. No error shows the query of the URL, nor what an answer repeats of the request's
secrets.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path

from yarl import URL

from promring.config.document import YamlProblem, read_yaml
from promring.config.http_client import HEADER, HttpClient, HttpConfig
from promring.config.kinds import Problem
from promring.config.values import AbsolutePath, HttpUrl, Interval
from promring.discovery import SourceContext, SourceSettings, asking
from promring.discovery.list_rules import ANY, ListRules
from promring.model import DiscoveryError, TargetPool
from promring.runtime import secretfile
from promring.runtime.http_client import HttpError, Response, new_session
from promring.runtime.redact import shown
from promring.runtime.threads import in_thread

BODY_BYTES_MAX = 512 * 1024 * 1024
CONTENT_TYPE = re.compile(r'application/json(;\s*charset=("utf-8"|utf-8))?', re.IGNORECASE | re.ASCII)
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
    they can be rotated. ``timeout``: default the interval, at most 30 s. A source that refuses with ``Retry-After`` is asked
    again after that time, or after ``refresh_interval`` when that is sooner.
    """

    kind = "http"

    timeout: Interval | None = None
    headers_file: AbsolutePath | None = None

    @property
    def timeout_s(self) -> float:
        return self.timeout or min(self.refresh_interval, 30.0)

    def doubts(self) -> Iterator[Problem]:
        if self.timeout is not None and self.timeout > self.refresh_interval:
            yield ("timeout",), "longer than refresh_interval: a slow answer delays the next question"

    async def headers(self) -> dict[str, str]:
        """Raises ``DiscoveryError`` for a file of headers that is none, ``SecretError``."""
        file = self.headers_file
        if file is None:
            return await super().headers()
        content = await secretfile.read(file)
        return await in_thread(lambda: headers_in(content, file)) | await super().headers()


class HttpSource:
    """``body_bytes_max``: of one answer."""

    def __init__(self, settings: HttpQuery, rules: ListRules = ANY, *, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        from promring.discovery import groups  # which needs numpy: the settings need none of it

        self._settings, self._body_bytes_max = settings, body_bytes_max
        self._reader = groups.Reader(rules=rules)
        self.interval_s = settings.refresh_interval

    async def fetch(self) -> TargetPool:
        where, timeout_s = shown(self._settings.url), self._settings.timeout_s
        headers = {
            "Accept": "application/json",
            "X-Prometheus-Refresh-Interval-Seconds": f"{self.interval_s:g}",
        }
        try:
            async with asyncio.timeout(timeout_s), new_session(keep_alive=False, unpack=False) as session:
                response = await asking.get(
                    session,
                    URL(self._settings.url.reveal()),
                    self._settings,
                    timeout_s=timeout_s,
                    body_bytes_max=self._body_bytes_max,
                    headers=headers,
                )
        except TimeoutError:
            raise DiscoveryError(f"{where}: no whole answer within {timeout_s:g} s") from None
        except (HttpError, secretfile.SecretError) as error:
            raise DiscoveryError(f"{where}: {error}") from error
        if response.status != 200:
            raise DiscoveryError(f"{where}: {response.refusal()}", retry_after_s=retry_after_s(response.headers))
        kind = response.headers.get("content-type", "").strip()
        if not CONTENT_TYPE.fullmatch(kind):
            raise DiscoveryError(f"{where}: content type {kind[:80]!r}, not application/json: {response.text(80)!r}")
        try:
            pool = await self._reader.read_beside(response.body, where)
        except DiscoveryError as error:
            raise DiscoveryError(response.clean(str(error)) + _no_list(response), error.pool) from None
        return pool


def _no_list(response: Response) -> str:
    """What the body is where it does not even begin as a list: packed, which nobody asked for, or a page to log in."""
    packing = response.headers.get("content-encoding", "identity").strip()
    if packing.lower() != "identity":
        return f"; the answer is packed ({packing[:40]}), and was not asked for so"
    return "" if response.body.lstrip()[:1] in (b"[", b"n", b"") else f"; the answer begins with {response.text(80)!r}"


def retry_after_s(headers: Mapping[str, str]) -> float:
    """As ``Retry-After`` says, in seconds or as a date by the clock of whoever answered; 0: it does not."""
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        then, now = (parsedate_to_datetime(text) for text in (said, headers.get("date", "")))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def headers_in(content: bytes, path: Path) -> dict[str, str]:
    wrong = DiscoveryError(f"{path}: must be lines of `Name: value`")
    try:
        document = read_yaml(content)
    except YamlProblem:  # its words repeat the file
        raise wrong from None
    found = document.value
    if not isinstance(found, dict) or not found or document.duplicates:
        raise wrong
    if not all(HEADER.fullmatch(name) for name in found) or not all(isinstance(one, str | int) for one in found.values()):
        raise wrong
    headers = {name: str(value) for name, value in found.items()}
    if not all(value.isprintable() for value in headers.values()):
        raise wrong
    return headers
