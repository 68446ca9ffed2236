"""Targets from an http_sd endpoint: status 200, JSON, a total deadline, no redirects."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from yarl import URL

from promring.discovery import groups
from promring.httpclient import HttpError, TlsFiles, new_session, request
from promring.model import DiscoveryError, TargetPool

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
        headers |= _credentials(self.headers_file, self.bearer_token_file)
        try:
            async with new_session(keep_alive=False, ssl_context=self.tls.context() if self.tls else None) as session:
                response = await request(
                    session,
                    "GET",
                    self.url,
                    timeout_s=self.timeout_s,
                    headers=headers,
                    server_name=self.tls.server_name if self.tls else None,
                    body_bytes_max=self.body_bytes_max,
                )
        except (HttpError, ssl.SSLError, OSError) as error:
            raise DiscoveryError(f"{where}: {error}") from error
        if response.status != 200:
            raise DiscoveryError(f"{where}: status {response.status}: {response.text()}")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise DiscoveryError(f"{where}: content type {kind!r}, not application/json: {response.text(80)!r}")
        return await self.reader.read_beside(response.body, where)


def _credentials(headers_file: Path | None, bearer_token_file: Path | None) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    try:
        if headers_file is not None:
            loaded = yaml.safe_load(headers_file.read_text())
            if not isinstance(loaded, dict) or not all(isinstance(v, str | int) for v in loaded.values()):
                raise DiscoveryError(f"{headers_file}: must be lines of `Name: value`")
            headers |= {str(name): str(value) for name, value in loaded.items()}
        if bearer_token_file is not None:
            headers["Authorization"] = f"Bearer {bearer_token_file.read_text().strip()}"
    except OSError as error:
        raise DiscoveryError(f"{error.filename}: {error.strerror}") from error
    except UnicodeError:
        raise DiscoveryError(f"{headers_file or bearer_token_file}: is not text") from None
    except yaml.YAMLError:
        raise DiscoveryError(f"{headers_file}: must be lines of `Name: value`") from None
    return headers
