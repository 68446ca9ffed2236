"""Which name servers are asked for which full names, and the question. Pure: no I/O.

Owns: how ``resolv.conf`` is read, and which full names a name stands for; as Prometheus and the DNS library that it uses do,
compared with Prometheus 2.42 and 3.5 in ``tests/real/test_discovery_dns.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dns.message  # which takes long to load, and few configurations need it

NDOTS, NDOTS_MOST = 1, 15


@dataclass(frozen=True, slots=True)
class Resolving:
    """What ``resolv.conf`` says, as far as Prometheus goes by it: ``timeout``, ``attempts`` and ``rotate`` are ignored."""

    servers: Sequence[str] = ()
    search: Sequence[str] = ()
    ndots: int = NDOTS


def parse_resolv_conf(text: str) -> Resolving:
    """Of several ``domain`` and ``search`` lines the last counts. Never fails: what makes no sense says nothing."""
    servers: list[str] = []
    search: list[str] = []
    ndots = NDOTS
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        match words[0], words[1:]:
            case "nameserver", [server, *_]:
                servers.append(server)
            case "domain", [domain, *_]:
                search = [domain]
            case "search", domains:
                search = domains
            case "options", options:
                for option in options:
                    name, _, value = option.partition(":")
                    if name == "ndots" and value.isascii() and value.isdecimal():
                        ndots = min(int(value[:4]), NDOTS_MOST)
    return Resolving(servers, search, ndots)


def names_to_try(name: str, conf: Resolving) -> list[str]:
    """The full names, each with its last dot, in the order in which they are asked for."""
    if name.endswith("."):
        return [name]
    found = [f"{name}.{domain.rstrip('.')}." for domain in conf.search if domain.strip(".")]
    alone = f"{name}."
    return [alone, *found] if name.count(".") + 1 > conf.ndots else [*found, alone]


def query(name: str, type_: str, *, edns: bool) -> dns.message.QueryMessage:
    """Raises ValueError for what is no name."""
    import dns.exception
    import dns.message
    import dns.name

    try:
        wanted = dns.name.from_text(name)
    except dns.exception.DNSException as error:
        raise ValueError(f"{name[:80]!r} is no name: {error}") from None
    return dns.message.make_query(wanted, type_, use_edns=0 if edns else None, payload=4096 if edns else None)
