"""Targets from DNS, with the labels of Prometheus' ``dns_sd_configs``.

All names are asked for at once, every ``interval_s``; times to live are ignored. ``resolv.conf`` is read each time; its
servers are asked as ``runtime/dns_client.py`` says.

Promises: a name that gives no answer (no server says NOERROR or NXDOMAIN in time) keeps its last list, the others go on. A
name that nobody knows, or that has no such records, is an answer and empty; the guard judges what that does. A search ends
at the first NOERROR, also an empty one, as with Prometheus.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from promring.config.kinds import Problem
from promring.config.values import ENTRIES_MAX, Interval
from promring.discovery import SourceContext, SourceSettings
from promring.discovery.dns_rules import TYPES, groups_of
from promring.discovery.list_rules import ANY, ListRules
from promring.discovery.parts import PATIENCE_S, Parts
from promring.model import DiscoveryError, TargetPool
from promring.runtime.dns_client import PORT, RESOLV_CONF, NameClient, NoAnswerError
from promring.runtime.dns_names import Resolving, query

NAME_S = 30.0
"""For one name, with its whole search path and all servers."""
AT_ONCE = 50


def _type(text: str) -> str:
    if text.upper() not in TYPES:
        raise ValueError(f"{text!r} is none of {', '.join(TYPES)}")
    return text.upper()


def _dns_name(text: str) -> str:
    query(text, "A", edns=False)
    if any(map(str.isspace, text)):
        raise ValueError(f"{text!r} is no name: there is a space in it")
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
        self._rules = rules
        self._names_asked = NameClient(resolv_conf, server_port)
        self._parts = Parts(patience_s)

    def remember(self, pool: TargetPool) -> None:
        """The list that a run before this one had."""
        self._parts.remember(pool)

    async def fetch(self) -> TargetPool:
        conf = await self._names_asked.resolving()
        self._parts.only(self._names)
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with limit:
                self._parts.put(name, await self._list(name, conf))

        if conf.servers:
            async with asyncio.TaskGroup() as group:
                for name in self._names:
                    group.create_task(one(name))
        return self._parts.whole("" if conf.servers else self._names_asked.why_none)

    async def _list(self, name: str, conf: Resolving) -> TargetPool | DiscoveryError:
        try:
            async with asyncio.timeout(NAME_S):
                answer = await self._names_asked.search(name, self._type, conf)
        except TimeoutError:
            return DiscoveryError(f"{name}: no answer within {NAME_S:g} s")
        except NoAnswerError as error:
            return DiscoveryError(f"{name}: {error}")
        from promring.discovery.groups import Refusals, read_pool  # numpy, which the settings need not

        refusals = Refusals()
        found = groups_of(answer, name, self._port, refusals)
        try:
            return read_pool(found, name, rules=self._rules, refusals=refusals)
        except DiscoveryError as error:
            return error
