"""Membership from a name in DNS, such as a headless service of Kubernetes; each scraper that it names is probed.

A name server's answers are short by accident: during a resync, from a negative cache, after a zone was lost. So an answer
without a scraper (NXDOMAIN, NODATA) is not believed, no answer (SERVFAIL, a time-out) keeps the last one, and a scraper that
is missing from an answer and lives is kept as listed for ``keep``, and as long as more are missing than are there. Then
it leaves by a plan. See decision 55.

The identity of a scraper is its address (A, AAAA) or the name in its record (SRV) with its port.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import AfterValidator

from promring.config.kinds import Problem
from promring.config.node import Node
from promring.config.values import NODES_MAX, Interval, Port
from promring.membership import DirectCheck, MembershipContext, ScraperSettings
from promring.membership.listing import Heard, ListedMembership
from promring.membership.probing import ProbeKeys
from promring.model import Members, Scraper, join_host_port
from promring.runtime.address import parse_host_port
from promring.runtime.dns_client import NameClient, NoAnswerError
from promring.runtime.dns_names import query

if TYPE_CHECKING:
    import dns.message  # which takes long to load, and few configurations need it
    from dns.rdata import Rdata

ANSWER_S = 10.0
"""For one answer, with the whole search path and all servers."""
JITTER = 0.1
Type = Literal["A", "AAAA", "SRV"]
_NO_NAME = re.compile(r"[\s\x00-\x1f\x7f:/\[\]]")
"""What no host has in its name, and a URL or an address does."""


def _dns_name(text: str) -> str:
    query(text, "A", edns=False)
    if _NO_NAME.search(text):
        raise ValueError(f"{text!r} is no name in DNS")
    return text


class DnsScrapers(ScraperSettings):
    """``name``: ends with a dot, or the search path of ``resolv.conf`` applies; ``port``: of every scraper, not for SRV;
    ``keep``: so long one that is missing from the answers, and lives, counts as listed: longer than a negative cache (5 to
    30 s) and a resync of a cluster's name server last; ``probe``: how each scraper is asked.
    """

    kind = "dns"

    name: Annotated[str, AfterValidator(_dns_name)]
    type: Type = "SRV"
    port: Port | None = None
    refresh_interval: Interval = 5.0
    keep: Interval = 60.0
    probe: ProbeKeys = ProbeKeys()

    def relations(self) -> Iterator[Problem]:
        if self.type != "SRV" and self.port is None:
            yield ("port",), f"is required for records of type {self.type}"
        if self.type == "SRV" and self.port is not None:
            yield ("port",), "is said by each record of type SRV"
        for path, what in self.probe.problems():
            yield ("probe", *path), what

    def doubts(self) -> Iterator[Problem]:
        if not self.name.endswith("."):
            yield ("name",), f"has no dot at its end, so each domain of the search path may be asked first: {self.name}."

    @property
    def direct_check(self) -> DirectCheck:
        return DirectCheck(self.probe.path, self.probe.timeout)

    def finds_the_same(self, other: ScraperSettings) -> bool:
        return isinstance(other, DnsScrapers) and other.name.rstrip(".").lower() == self.name.rstrip(".").lower()

    @property
    def said(self) -> str:
        return f"the name {self.name} ({self.type}{f', port {self.port}' if self.port else ''})"

    def membership(self, context: MembershipContext) -> ListedMembership:
        return ListedMembership.of(context, DnsListing(self, context.scraper), self.probe)


class DnsListing:
    """``make``: a node as a scraper of the fleet; ``client``: of the system's name servers."""

    def __init__(self, settings: DnsScrapers, make: Callable[[Node], Scraper], client: NameClient | None = None) -> None:
        self.name, self.keep_s, self.may_be_short = f"{settings.name} {settings.type}", settings.keep, True
        self._settings, self._make, self._client = settings, make, client or NameClient()

    async def run(self, heard: Heard, failed: Callable[[str], None]) -> None:
        while True:
            found, why = await self._ask()
            if why:
                failed(why)
            else:
                heard(found)
            await asyncio.sleep(self._settings.refresh_interval * random.uniform(1 - JITTER, 1 + JITTER))

    async def _ask(self) -> tuple[Members, str]:
        """The scrapers, or why there is no answer to go by."""
        conf = await self._client.resolving()
        if not conf.servers:
            return (), self._client.why_none
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._client.search(self._settings.name, self._settings.type, conf)
        except TimeoutError:
            return (), f"{self.name}: no answer within {ANSWER_S:g} s"
        except NoAnswerError as error:
            return (), str(error)
        if answer is None:
            return (), f"{self.name}: the name does not exist (NXDOMAIN); an answer without a scraper is not believed"
        return self._scrapers(answer)

    def _scrapers(self, answer: dns.message.Message) -> tuple[Members, str]:
        found: dict[str, Scraper] = {}
        try:
            for host, port in self._places(answer):
                scraper = self._make(Node(*parse_host_port(join_host_port(host, port))))
                found.setdefault(scraper.id, scraper)
        except ValueError as error:
            return (), f"{self.name}: {error}"
        if not found:
            return (), f"{self.name}: no such record (NODATA); an answer without a scraper is not believed"
        if len(found) > NODES_MAX:
            return (), f"{self.name}: more than {NODES_MAX} scrapers"
        return tuple(sorted(found.values())), ""

    def _places(self, answer: dns.message.Message) -> Iterator[tuple[str, int]]:
        """Host and port of each record of the type that is asked for; others are on the way to them."""
        for record in (record for rrset in answer.answer for record in rrset):
            place = _place(record, self._settings.port or 0)
            if place is not None and type(record).__name__ == self._settings.type:
                yield place


def _place(record: Rdata, port: int) -> tuple[str, int] | None:
    from dns.rdtypes.IN.A import A
    from dns.rdtypes.IN.AAAA import AAAA
    from dns.rdtypes.IN.SRV import SRV

    match record:
        case A():
            return record.address, port
        case AAAA():
            address = cast(ipaddress.IPv6Address, ipaddress.ip_address(record.address))
            return str(address.ipv4_mapped or address), port
        case SRV():
            return record.target.to_text(omit_final_dot=True), record.port
    return None
