"""What Prometheus' ``dns_sd_configs`` makes of the answers of a name server. Pure: no I/O.

Owns: which labels a record becomes. Source:
``discovery/dns`` of Prometheus and the DNS library that it uses, compared with Prometheus 2.42 and 3.5 in
``tests/real/test_discovery_dns.py``. Differs where a record leads nowhere (an SRV, MX or NS target that is the root):
Prometheus makes ``:0`` of it, here it is left out and named.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from promring.discovery.json_list import Group
from promring.model import join_host_port

if TYPE_CHECKING:
    import dns.message  # which takes long to load, and few configurations need it
    import dns.name
    from dns.rdata import Rdata

    from promring.discovery.groups import Refusals

TYPES = ("A", "AAAA", "MX", "NS", "SRV")
PREFIX = "__meta_dns_"


def groups_of(answer: dns.message.Message | None, name: str, port: int, refusals: Refusals) -> Iterator[Group]:
    """One group a record of any of ``TYPES``; None: nobody knows the name. ``name``: as it is configured."""
    for rrset in answer.answer if answer else ():
        for record in rrset:
            group = _group(record, name, port, refusals)
            if group is not None:
                yield group


def _group(record: Rdata, name: str, port: int, refusals: Refusals) -> Group | None:
    from dns.rdtypes.ANY.MX import MX
    from dns.rdtypes.ANY.NS import NS
    from dns.rdtypes.IN.A import A
    from dns.rdtypes.IN.AAAA import AAAA
    from dns.rdtypes.IN.SRV import SRV

    labels: dict[str, str | None] = {f"{PREFIX}name": name}
    match record:
        case A():
            return Group([join_host_port(record.address, port)], labels)
        case AAAA():
            return Group([join_host_port(_ipv6(record.address), port)], labels)
        case SRV():
            labels[f"{PREFIX}srv_record_port"] = str(record.port)
            return _named("srv", record.target, record.port, labels, refusals)
        case MX():
            return _named("mx", record.exchange, port, labels, refusals)
        case NS():
            return _named("ns", record.target, port, labels, refusals)
    return None  # a CNAME on the way to an address, say


def _named(kind: str, target: dns.name.Name, port: int, labels: dict[str, str | None], refusals: Refusals) -> Group | None:
    rooted = target.to_text().replace("\\$", "$")
    host = rooted.rstrip(".")
    if not host:
        refusals.add(f"{labels[f'{PREFIX}name']}: the {kind.upper()} record leads nowhere ({rooted})")
        return None
    labels[f"{PREFIX}{kind}_record_target"] = rooted
    return Group([join_host_port(host, port)], labels)


def _ipv6(text: str) -> str:
    """As Go writes it: an IPv4 address in IPv6 is that IPv4 address."""
    address = cast(ipaddress.IPv6Address, ipaddress.ip_address(text))
    return str(address.ipv4_mapped or address)
