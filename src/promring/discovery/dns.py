"""Targets from DNS, with the labels of Prometheus' ``dns_sd_configs``.

All names are asked for at once, every ``interval_s``; times to live are ignored. ``resolv.conf`` is read each time; its
servers are asked in order, each for ``SERVER_S`` over UDP with EDNS, and again over TCP when the answer is truncated.

Promises: a name that gives no answer (no server says NOERROR or NXDOMAIN in time) keeps its last list, the others go on. A
name that nobody knows, or that has no such records, is an answer and empty; the guard judges what that does. A search ends
at the first NOERROR, also an empty one, as with Prometheus.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import dns.exception
import dns.flags
import dns.message
import dns.rcode
from pydantic import AfterValidator, Field

from promring.config.kinds import Problem
from promring.config.values import ENTRIES_MAX, Interval
from promring.discovery import SourceContext, SourceSettings
from promring.discovery.dns_rules import TYPES, Resolving, groups_of, names_to_try, parse_resolv_conf, query
from promring.discovery.groups import ANY, ListRules, Refusals, read_pool
from promring.discovery.parts import PATIENCE_S, Parts
from promring.model import DiscoveryError, TargetPool
from promring.runtime import regular
from promring.runtime.dns_wire import over_tcp, over_udp
from promring.runtime.threads import BusyError, Single, beside

RESOLV_CONF = Path("/etc/resolv.conf")
RESOLV_CONF_BYTES_MAX = 64 * 1024
READ_S = 1.0
PORT = 53
SERVER_S = 2.0
NAME_S = 30.0
"""For one name, with its whole search path and all servers."""
AT_ONCE = 50
PARSE_BESIDE_BYTES = 2048


class _NoAnswerError(Exception):
    """A server gave none that counts; the text says why."""


def _type(text: str) -> str:
    if text.upper() not in TYPES:
        raise ValueError(f"{text!r} is none of {', '.join(TYPES)}")
    return text.upper()


def _dns_name(text: str) -> str:
    query(text, "A", edns=False)
    return text


class DnsTargets(SourceSettings):
    """``names``: one ends with a dot, or the search path of ``resolv.conf`` applies. ``type``: of the records, in any case;
    ``port``: of targets whose records say none, so all but SRV need it.
    """

    kind = "dns"

    names: Annotated[list[Annotated[str, AfterValidator(_dns_name)]], Field(min_length=1, max_length=ENTRIES_MAX)]
    type: Annotated[str, AfterValidator(_type)] = "SRV"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    refresh_interval: Interval = 30.0

    @property
    def source_name(self) -> str:
        return f"dns:{','.join(self.names)}/{self.type}" + (f":{self.port}" if self.type != "SRV" else "")

    def relations(self) -> Iterator[Problem]:
        if self.type != "SRV" and not self.port:
            yield ("port",), f"is required for records of type {self.type}"

    def source(self, context: SourceContext) -> DnsSource:
        return DnsSource(self, rules=ListRules(self.trusted, context.legacy_names))


class DnsSource:
    """``resolv_conf`` and ``server_port``: of the system, unless somebody tries this with a name server of their own."""

    def __init__(
        self,
        settings: DnsTargets,
        *,
        rules: ListRules = ANY,
        patience_s: float = PATIENCE_S,
        resolv_conf: Path = RESOLV_CONF,
        server_port: int = PORT,
    ) -> None:
        self._names, self._type, self._port = settings.names, settings.type, settings.port
        self.interval_s = settings.refresh_interval
        self._rules, self._resolv_conf, self._server_port = rules, resolv_conf, server_port
        self._parts = Parts(patience_s)
        self._reading = Single()

    def remember(self, pool: TargetPool) -> None:
        """The list that a run before this one had."""
        self._parts.remember(pool)

    async def fetch(self) -> TargetPool:
        conf = await self._resolving()
        self._parts.only(self._names)
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with limit:
                self._parts.put(name, await self._list(name, conf))

        if conf.servers:
            async with asyncio.TaskGroup() as group:
                for name in self._names:
                    group.create_task(one(name))
        return self._parts.whole("" if conf.servers else f"{self._resolv_conf}: cannot be read, or has no nameserver")

    async def _resolving(self) -> Resolving:
        """Without servers when the file cannot be read."""
        try:
            text = await self._reading.run(lambda: regular.read(self._resolv_conf, RESOLV_CONF_BYTES_MAX), READ_S)
        except (OSError, TimeoutError, BusyError):
            return Resolving()
        return parse_resolv_conf(text.decode("utf-8", "replace"))

    async def _list(self, name: str, conf: Resolving) -> TargetPool | DiscoveryError:
        try:
            async with asyncio.timeout(NAME_S):
                answer = await self._search(name, conf)
        except TimeoutError:
            return DiscoveryError(f"{name}: no answer within {NAME_S:g} s")
        except _NoAnswerError as error:
            return DiscoveryError(f"{name}: {error}")
        refusals = Refusals()
        found = groups_of(answer, name, self._port, refusals)
        try:
            return read_pool(found, name, rules=self._rules, refusals=refusals)
        except DiscoveryError as error:
            return error

    async def _search(self, name: str, conf: Resolving) -> dns.message.Message | None:
        """The first answer NOERROR; None when every full name does not exist. Raises ``_NoAnswerError``."""
        why = ""
        for full in names_to_try(name, conf):
            try:
                answer = await self._from_any_server(full, conf)
            except _NoAnswerError as error:
                why = why or str(error)
                continue
            if answer.rcode() == dns.rcode.NOERROR:
                return answer
        if why:
            raise _NoAnswerError(why)
        return None

    async def _from_any_server(self, name: str, conf: Resolving) -> dns.message.Message:
        """Raises ``_NoAnswerError``."""
        whys = []
        for server in conf.servers:
            try:
                answer = await self._ask(name, server)
            except _NoAnswerError as error:
                whys.append(f"{server}: {error}")
                continue
            if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return answer
            whys.append(f"{server}: {dns.rcode.to_text(answer.rcode())}")
        raise _NoAnswerError(f"{name} {self._type}: {'; '.join(whys)}")

    async def _ask(self, name: str, server: str) -> dns.message.Message:
        """Raises ``_NoAnswerError``."""
        try:
            wanted = query(name, self._type, edns=True)
            answer = await _parsed(wanted, await over_udp(wanted.to_wire(), server, self._server_port, SERVER_S))
            if answer.flags & dns.flags.TC:
                wanted = query(name, self._type, edns=False)
                answer = await _parsed(wanted, await over_tcp(wanted.to_wire(), server, self._server_port, SERVER_S))
        except TimeoutError:
            raise _NoAnswerError(f"no answer within {SERVER_S:g} s") from None
        except (OSError, EOFError) as error:
            why = error.strerror if isinstance(error, OSError) else ""
            raise _NoAnswerError(why or str(error) or type(error).__name__) from None
        except (dns.exception.DNSException, ValueError) as error:
            raise _NoAnswerError(f"malformed answer: {' '.join(str(error).split())[:200]}") from None
        if answer.flags & dns.flags.TC:
            raise _NoAnswerError("truncated over TCP, too")
        return answer


async def _parsed(question: dns.message.Message, data: bytes) -> dns.message.Message:
    """Raises ``DNSException``, ValueError."""

    def work() -> dns.message.Message:
        return dns.message.from_wire(data)

    answer = await beside(work) if len(data) > PARSE_BESIDE_BYTES else work()
    if not question.is_response(answer):
        raise ValueError("an answer to another question")
    return answer
