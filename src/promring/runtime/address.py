"""One grammar for the address of a scraper, whoever says it: the configuration, Consul, or a person.

Promises: what ``canonical_host`` gives is a host name (RFC 1123, with underscores as in containers' names), an IPv4 or an
IPv6 address, in one spelling: lower case, without the trailing dot, IPv6 compressed (RFC 5952), an IPv4-mapped address as
IPv4. So two spellings of one address are one text, and a host can stand in a URL, a path or a command without quoting.
Does not promise that the name can be resolved, nor that two names of one machine are found out.
"""

from __future__ import annotations

import ipaddress
import re

from promring.model import join_host_port

HOST_LENGTH_MAX = 253
PORT_MAX = 65535
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SHOWN_MOST = 60
UNSPECIFIED = "is an address to listen on, not to ask: write the one where the scraper is"


def parse_host_port(text: object) -> tuple[str, int]:
    """``host:port`` or ``[ipv6]:port`` to the canonical host and the port. Raises ValueError."""
    if isinstance(text, int | float):
        raise ValueError(f"{_shown(text)} is not host:port: YAML reads a number, put quotes around it")
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if not colon or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise ValueError(f"{_shown(text)} is not host:port")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or not 0 < int(port) <= PORT_MAX:
        raise ValueError(f"{_shown(text)} is not host:port")
    try:
        return canonical_host(host), int(port)
    except ValueError as error:
        raise ValueError(f"{_shown(text)} is not host:port: {error}") from None


def canonical_id(text: str) -> str:
    """A scraper's identity, ``host:port`` or a host, as somebody wrote it, in its one spelling; what is none stays."""
    try:
        return join_host_port(*parse_host_port(text))
    except ValueError:
        pass
    try:
        return canonical_host(text)
    except ValueError:
        return text


def is_unspecified(host: str) -> bool:
    """Whether ``host``, as ``canonical_host`` gives it, is ``0.0.0.0`` or ``::``: to listen on, not to ask."""
    return host in ("0.0.0.0", "::")  # noqa: S104  compared


def canonical_host(text: str) -> str:
    """A host name, IPv4 or IPv6 address (with or without brackets) in its one spelling. Raises ValueError."""
    if len(text) > HOST_LENGTH_MAX + 2:
        raise ValueError(f"{_shown(text)} is longer than {HOST_LENGTH_MAX} characters")
    bracketed = text.startswith("[") and text.endswith("]")
    inner = text[1:-1] if bracketed else text
    if bracketed or ":" in inner:
        return _ipv6(inner, text)
    name = inner.lower().removesuffix(".") if inner.isascii() else ""
    labels = name.split(".")
    if len(name) > HOST_LENGTH_MAX or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{_shown(text)} is no host name and no IP address")
    if not _NUMBER.fullmatch(labels[-1]):
        return name
    try:  # a name that ends in a number is an IPv4 address, or nothing: resolvers read 127.1 and 0x7f.1 in their own ways
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        raise ValueError(f"{_shown(text)} is no IPv4 address of four numbers without leading zeros") from None


def _ipv6(inner: str, text: str) -> str:
    try:
        address = ipaddress.IPv6Address(inner)
    except ValueError:
        raise ValueError(f"{_shown(text)} is no IPv6 address") from None
    if address.scope_id is not None:
        raise ValueError(f"{_shown(text)} has a zone, which means something on one machine only")
    return str(address.ipv4_mapped or address)


def _shown(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= _SHOWN_MOST else f"{shown[:_SHOWN_MOST]}..."
