"""Proxies of HTTP: which one a request goes through, by the rules of Go's ``httpproxy``, which are Prometheus'.

Owns: what ``no_proxy`` means (for Go, which is not what curl or Python make of it), and the variables ``HTTP_PROXY``,
``HTTPS_PROXY`` and ``NO_PROXY``. Promises: no text of a proxy has its user or password. promring speaks to a proxy by HTTP,
with TLS or without; the TLS of a request is that of its proxy, too, as with Prometheus. It does not speak SOCKS.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from yarl import URL

from promring.runtime.redact import SecretUrl
from promring.runtime.urls import http_url

_HOST_PORT = re.compile(r"\[([^\[\]]*)\]:([^\[\]:]*)|([^:\[\]]*):([^:\[\]]*)")
_NETWORK = re.compile(r"(.*)/\d{1,3}")
_Address = IPv4Address | IPv6Address
INSTEAD = "put an HTTP proxy before it, or let a Prometheus discover these (targets: prometheus)"


@dataclass(frozen=True, slots=True)
class Proxy:
    """``connect_headers``: what a CONNECT to it has besides."""

    url: SecretUrl
    connect_headers: Sequence[tuple[str, str]] = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"the proxy {self.url}"


def proxy_url(text: object) -> SecretUrl:
    """Raises ValueError for what is no URL of a proxy that promring can speak to."""
    if isinstance(text, SecretUrl):
        return text
    try:
        http_url(text if isinstance(text, str) else "")
    except ValueError:
        said = f"{SecretUrl(str(text))!s:.100} is not an http:// or https:// URL of a proxy; {INSTEAD}"
        raise ValueError(said) from None
    return SecretUrl(str(text))


def proxy_of_environment(environ: Mapping[str, str], url: URL) -> SecretUrl | None:
    """The proxy that the variables name for ``url``. Raises ValueError for one that promring cannot speak to."""
    found = _first(environ, f"{url.scheme}_proxy")
    if not found or not is_proxied(url, _first(environ, "no_proxy")):
        return None
    return proxy_url(found if "://" in found else f"http://{found}")


def _first(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name.upper()) or environ.get(name) or ""


def is_proxied(url: URL, no_proxy: str) -> bool:
    """Whether a request for ``url`` goes through a proxy, with this ``no_proxy``. One to this machine itself never does."""
    host, port = (url.raw_host or "").lower(), str(url.port or "")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    entries = [entry for entry in (part.strip().lower() for part in no_proxy.split(",")) if entry]
    return not any(entry == "*" or _matches(entry, host, port, address) for entry in entries)


def _matches(entry: str, host: str, port: str, address: _Address | None) -> bool:
    if (network := _network(entry)) is not None:
        return address is not None and address in network
    name, wanted = _split(entry)
    if wanted not in ("", port):
        return False
    if (given := _address(name)) is not None:
        return given == address
    if not name or address is not None:
        return False
    name = _ascii(name.removeprefix("*"))
    return host.endswith(name if name.startswith(".") else f".{name}") or host == name


def _split(entry: str) -> tuple[str, str]:
    """Host and port. What has no port, or too many colons for one, is a host."""
    found = _HOST_PORT.fullmatch(entry)
    if found is None:
        return entry, ""
    return (found[1], found[2]) if found[1] is not None else (found[3], found[4])


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False) if _NETWORK.fullmatch(text) else None
    except ValueError:
        return None


def _ascii(name: str) -> str:
    try:
        return ".".join(part.encode("idna").decode() for part in name.split("."))
    except UnicodeError:
        return name
