"""Sources and probes as a configuration makes them, for tests that need one by itself."""

from __future__ import annotations

from pathlib import Path

from promring.config.http_client import Tls
from promring.config.node import Node
from promring.discovery.http import BODY_BYTES_MAX, HttpSource, HttpTargets
from promring.discovery.python import PythonSource, PythonTargets
from promring.membership.probe import ProbeScrapers
from promring.runtime.redact import SecretUrl
from promring.runtime.rlimit import BYTES_MAX
from promring.runtime.tls import TlsFiles


def http_source(
    url: str,
    interval_s: float,
    timeout_s: float,
    headers_file: Path | None = None,
    bearer_token_file: Path | None = None,
    *,
    tls: TlsFiles | None = None,
    body_bytes_max: int = BODY_BYTES_MAX,
) -> HttpSource:
    settings = HttpTargets(
        url=SecretUrl(url),
        refresh_interval=interval_s,
        timeout=timeout_s,
        headers_file=headers_file,
        bearer_token_file=bearer_token_file,
        tls=None if tls is None else _as_configured(tls),
    )
    return HttpSource(settings, body_bytes_max=body_bytes_max)


def _as_configured(tls: TlsFiles) -> Tls:
    return Tls(
        ca_file=tls.ca_file,
        cert_file=tls.cert_file,
        key_file=tls.key_file,
        server_name=tls.server_name,
        insecure_skip_verify=tls.insecure_skip_verify,
    )


def python_source(
    callable: str, interval_s: float, timeout_s: float, folder: str, *, memory_bytes_max: int = BYTES_MAX
) -> PythonSource:
    settings = PythonTargets(callable=callable, interval=interval_s, timeout=timeout_s)
    return PythonSource(settings, folder, memory_bytes_max=memory_bytes_max)


def probing_every(interval_s: float, timeout_s: float) -> ProbeScrapers:
    """The scrapers are those that the membership is given."""
    return ProbeScrapers(nodes=[Node("named-elsewhere", 1)], interval=interval_s, timeout=timeout_s)
