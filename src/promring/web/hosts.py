"""Which names a browser may call this server by, so that no other site's page reads it (DNS rebinding).

A page of ``evil.example`` whose name begins to resolve to this server is of one origin with it for the browser, and could
read and ask everything. The ``Host`` header still says ``evil.example``. Allowed are addresses, ``localhost``, the names
of this machine, that of ``--web.listen-address`` and those of ``--web.allowed-host``. The check is for plain HTTP without
users only: a browser has no certificate and no password for the other name. A request with the right token passes.

``/sd/``, ``/metrics`` and ``/-/healthy``, ``/-/ready``, ``/-/leader`` are free of it: fleets reach promring by names that it
does not know.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from aiohttp.typedefs import Middleware

from promring.web.envelope import ApiError, Handler
from promring.web.paths import Paths
from promring.web.refusals import Refusals

FREE = ("/sd/", "/metrics", "/-/healthy", "/-/ready", "/-/leader")


class Hosts:
    """``allowed``: names, ``*.example.org`` for every name below, ``*`` for all."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        own = (socket.gethostname(), "localhost", *allowed)
        self._names = {name.lower().rstrip(".").strip("[]") for name in own if name}

    def add(self, name: str) -> None:
        self._names.add(name.lower().rstrip("."))

    def known(self, host: str) -> bool:
        """Whether the value of a ``Host`` header names this server. An empty one is of no browser."""
        name = _name(host)
        return name is not None and (not name or _address(name) is not None or self._is_ours(name))

    def allows(self, host: str) -> bool:
        """Whether a page of this host may write: any address may be another site's, but for those of this machine alone."""
        name = _name(host)
        if not name:
            return False
        address = _address(name)
        return self._is_ours(name) or (address is not None and address.is_loopback)

    def _is_ours(self, name: str) -> bool:
        if "*" in self._names or name in self._names or name.endswith(".localhost"):
            return True
        return any(name.endswith(known[1:]) for known in self._names if known.startswith("*."))


def _name(host: str) -> str | None:
    """The name without its port, None when it is none."""
    if not host:
        return ""
    bracket, between = ("[", "]") if host.startswith("[") else ("", "")
    name, _, rest = host.removeprefix(bracket).partition(between or ":")
    port = rest.removeprefix(":")
    if not name or (port and not (port.isascii() and port.isdigit())) or (bracket and _address(name) is None):
        return None
    return name.lower().rstrip(".")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A zone of an address, behind ``%``, may be any text: it is for IPv6, which stands in brackets here."""
    try:
        return ipaddress.ip_address(name.partition("%")[0] if ":" in name else name)
    except ValueError:
        return None


def check_host(
    hosts: Hosts, has_token: Callable[[web.Request], Awaitable[bool]], refusals: Refusals, paths: Paths
) -> Middleware:
    """A middleware: 421 for a name that is none of this server's."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if paths.inner(request.path).startswith(FREE) or hosts.known(host) or await has_token(request):
            return await handler(request)
        refusals.add("host", host)
        text = f"{host[:100]!r} is not known as a name of this server: --web.allowed-host allows it"
        raise ApiError(421, "forbidden", text)

    return check


def check_origin(hosts: Hosts, refusals: Refusals) -> Middleware:
    """A middleware: no write because of a page of another site, whatever its headers are."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD") and _foreign(request, hosts):
            origin = request.headers.get("Origin", "")
            refusals.add("origin", origin)
            if request.headers.get("Sec-Fetch-Site"):
                raise ApiError(403, "forbidden", "the browser says that a page of another site asks for this")
            raise ApiError(403, "forbidden", f"a page of another site asks for this: {origin[:100]!r}; --web.allowed-host")
        return await handler(request)

    return check


def _foreign(request: web.Request, hosts: Hosts) -> bool:
    """Browsers say so themselves over TLS; else the ``Origin`` must be the ``Host``, or a name of this server."""
    site, origin = request.headers.get("Sec-Fetch-Site", ""), request.headers.get("Origin")
    if site:
        return site in ("cross-site", "same-site")
    if origin is None:
        return False
    _, _, host = origin.partition("://")
    return not host or (host.lower() != request.headers.get("Host", "").lower() and not hosts.allows(host))
