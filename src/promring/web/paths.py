"""Under which path the server answers, and how its own links are written, behind a reverse proxy or not.

As Prometheus has it: ``--web.external-url`` is what people type, ``--web.route-prefix`` what the path of a request begins
with when it arrives here. The second is the path of the first unless it is given, so it is needed only where a proxy strips
a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from promring.runtime.redact import scrub

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True)
class Paths:
    """``routes`` and ``links``: empty, or ``/a/b``. ``host``: the name in the external URL, empty without one."""

    routes: str = ""
    links: str = ""
    host: str = ""

    @classmethod
    def of(cls, external_url: str = "", route_prefix: str | None = None) -> Paths:
        """Raises ``ValueError``, whose text says what is wrong with which."""
        links, host = _external(external_url) if external_url else ("", "")
        if route_prefix is None:
            return cls(links, links, host)
        routes = _prefix(route_prefix if route_prefix.startswith("/") else f"/{route_prefix}", "--web.route-prefix")
        return cls(routes, links if external_url else routes, host)

    def inner(self, path: str) -> str:
        """The path of a request without the prefix."""
        return path.removeprefix(self.routes)


def _external(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise ValueError(f"--web.external-url: {scrub(url)!r} is not http(s)://host[:port][/path]") from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"--web.external-url: {scrub(url)!r} is not http(s)://host[:port][/path]")
    return _prefix(parts.path, "--web.external-url"), host


def _prefix(path: str, option: str) -> str:
    found = path.rstrip("/")
    if not _PREFIX.fullmatch(found) or {".", ".."} & set(found.split("/")):
        raise ValueError(f"{option}: {path!r} is not a path of letters, digits and . _ ~ -")
    return found
