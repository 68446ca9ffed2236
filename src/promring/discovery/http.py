"""Targets from an http_sd endpoint: status 200, JSON, a total deadline, no redirects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from yarl import URL

from promring import secretfile
from promring.discovery import groups
from promring.httpclient import HttpError, TlsFiles, new_session, request
from promring.model import DiscoveryError, TargetPool
from promring.threads import beside
from promring.yamlsafe import UnsafeYaml, refuse_unsafe

BODY_BYTES_MAX = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpSource:
    """``headers_file`` has ``Name: value`` lines (YAML); files are read for each fetch, so they can be rotated."""

    url: str
    interval_s: float
    timeout_s: float
    headers_file: Path | None = None
    bearer_token_file: Path | None = None
    tls: TlsFiles | None = None
    body_bytes_max: int = BODY_BYTES_MAX
    reader: groups.Reader = field(default_factory=groups.Reader, repr=False)

    async def fetch(self) -> TargetPool:
        where = str(URL(self.url).with_query(None))
        headers = {"Accept": "application/json", "X-Prometheus-Refresh-Interval-Seconds": f"{self.interval_s:g}"}
        try:
            headers |= await _credentials(self.headers_file, self.bearer_token_file)
            async with new_session(keep_alive=False) as session:
                response = await request(
                    session,
                    "GET",
                    self.url,
                    timeout_s=self.timeout_s,
                    headers=headers,
                    tls=self.tls,
                    body_bytes_max=self.body_bytes_max,
                )
        except (HttpError, secretfile.SecretError) as error:
            raise DiscoveryError(f"{where}: {error}") from error
        if response.status != 200:
            raise DiscoveryError(f"{where}: status {response.status}: {response.text()}")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise DiscoveryError(f"{where}: content type {kind!r}, not application/json: {response.text(80)!r}")
        return await self.reader.read_beside(response.body, where)


async def _credentials(headers_file: Path | None, bearer_token_file: Path | None) -> Mapping[str, str]:
    """Raises ``DiscoveryError`` or ``SecretError``."""
    headers: dict[str, str] = {}
    if headers_file is not None:
        content = await secretfile.read(headers_file)
        headers |= await beside(lambda: _headers(content, headers_file))
    if bearer_token_file is not None:
        headers["Authorization"] = f"Bearer {await secretfile.read_line(bearer_token_file)}"
    return headers


def _headers(content: bytes, path: Path) -> Mapping[str, str]:
    try:
        refuse_unsafe(content)
        loaded = yaml.safe_load(content)
    except (yaml.YAMLError, UnsafeYaml, UnicodeDecodeError, ValueError):  # its own words repeat the file
        raise DiscoveryError(f"{path}: must be lines of `Name: value`") from None
    if not isinstance(loaded, dict) or not all(isinstance(v, str | int) for v in loaded.values()):
        raise DiscoveryError(f"{path}: must be lines of `Name: value`")
    return {str(name): str(value) for name, value in loaded.items()}
