"""Targets that a Prometheus discovers: every kind of service discovery that it has, through one that scrapes nothing.

The engine is a stock Prometheus, best in agent mode with ``scrape_interval: 100y``: it lists what each of its jobs
discovered and did not drop by relabelling. A source takes one scrape pool (the ``job_name``). All sources of one engine
share one request: who asks first asks for all, and the others are woken by the answer.

Promises: an engine that is down, slow, malformed or does not have the pool gives no answer. One that started or loaded its
configuration less than ``SETTLE_S`` ago may not have discovered everything yet: a list that lacks something of the last one
is no answer then; and neither is an empty one for ``UNDISCOVERED_S``, if the pool had no target since that start.
One that refused its newest configuration, and goes on with the one before, is said to fail: its targets are taken.
A discovery that fails inside the engine is named (``troubles``). Prometheus keeps its last targets then, unless it starts
or loads another configuration meanwhile: what it has not discovered again since stays in the list, and the source is said
to fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from yarl import URL

from promring.config.http_client import HttpClient
from promring.config.kinds import Problem, Section
from promring.config.values import HttpUrl, Interval
from promring.core.pool import pool_of
from promring.discovery import Dropped, SourceContext, SourceSettings
from promring.discovery.engine import Engine, EngineAnswer
from promring.discovery.engine_owed import Owed
from promring.discovery.engine_section import EngineSection
from promring.discovery.list_rules import ListRules
from promring.model import DiscoveryError, TargetPool
from promring.runtime.redact import shown
from promring.runtime.threads import computed

SETTLE_S = 60.0
UNDISCOVERED_S = 600.0
TIMEOUT_S = 60.0
POOLS_NAMED_MOST = 5
STARTED = "started, or loaded its configuration,"
API = ("/api/v1", "/api/v1/targets")


class PrometheusTargets(SourceSettings, HttpClient):
    """One scrape pool of a Prometheus that discovers. ``url``: of the server, with its path prefix; default: that which
    promring runs, as the section ``engine`` says. ``timeout``: for a whole answer; default twice the interval, at most
    1 minute.
    """

    kind = "prometheus"
    section = EngineSection

    url: HttpUrl | None = None
    scrape_pool: Annotated[str, Field(min_length=1)]
    interval: Interval = 30.0
    timeout: Interval | None = None

    @property
    def needs(self) -> type[Section] | None:
        return EngineSection if self.url is None else None

    def relations(self) -> Iterator[Problem]:
        if self.url is None:
            yield from (((name,), "goes with a url: the engine that promring runs wants none") for name in self._of_http)
        elif URL(self.url.reveal()).path.rstrip("/").endswith(API):
            yield ("url",), "is that of the server, without /api/v1 and what follows"
        elif URL(self.url.reveal()).query_string:
            yield ("url",), "is that of the server, without a query: it would not be sent"

    @property
    def _of_http(self) -> list[str]:
        """The keys of HTTP that are given."""
        return sorted(self.model_fields_set & HttpClient.model_fields.keys())

    @property
    def source_name(self) -> str:
        return f"prometheus:{shown(self.url) if self.url else EngineSection.key}/{self.scrape_pool}"

    def source(self, context: SourceContext) -> PrometheusSource:
        at = self.url.reveal() if self.url else context.engine or NoEngine()
        rules, timeout_s = ListRules(self.trusted, context.legacy_names), self.timeout or min(2 * self.interval, TIMEOUT_S)
        key = (at if isinstance(at, str) else EngineSection, self.identity)
        engine = context.shared.one(Engine, key, lambda: Engine(at, self))
        if not engine.add(self.scrape_pool, rules, timeout_s, self.interval):
            engine = context.shared.one(Engine, (key, rules), lambda: Engine(at, self))
            engine.add(self.scrape_pool, rules, timeout_s, self.interval)
        return PrometheusSource(engine, self.scrape_pool, self.interval)


class NoEngine:
    """In a command that asks by itself."""

    async def url(self) -> str:
        raise DiscoveryError("the engine of this configuration runs in `promring run` only")

    condition = last_words = ""


class PrometheusSource:
    """``interval_s``: of the engine's answers, or less where another source of it has a shorter one."""

    def __init__(self, engine: Engine, scrape_pool: str, interval_s: float) -> None:
        self._engine, self._scrape_pool, self.interval_s = engine, scrape_pool, interval_s
        self._taken = 0
        """The number of the last answer that this source took."""
        self._fetching = False
        self._last: TargetPool | None = None
        self._life = ""
        """Of the engine when it last listed a target here."""
        self._owed = Owed()

    @property
    def last(self) -> TargetPool:
        """The last list that was believed; empty: there was none."""
        return pool_of(()) if self._last is None else self._last

    @property
    def dropped(self) -> Dropped:
        return self._engine.dropped(self._scrape_pool)

    @property
    def troubles(self) -> Sequence[str]:
        return self._engine.troubles(self._scrape_pool)

    def remember(self, pool: TargetPool) -> None:
        """The list that a run before this one had."""
        self._last = pool

    async def fetch(self) -> TargetPool:
        self._fetching = True
        try:
            answer = await self._engine.answer(self._taken, self.interval_s)
            while self._scrape_pool in answer.unread:  # its turn comes
                answer = await self._engine.answer(answer.number, self.interval_s)
        finally:
            self._fetching = False
        self._taken = answer.number
        if answer.failure:
            raise DiscoveryError(f"{self._engine.where}: {answer.failure}")
        pool = answer.pools.get(self._scrape_pool)
        if pool is None and self._scrape_pool not in answer.jobs:
            there = ", ".join(sorted({*answer.jobs, *answer.pools})[:POOLS_NAMED_MOST])
            raise DiscoveryError(
                f"{self._engine.where}: no scrape pool {self._scrape_pool!r} (a job_name); there is {there}"
            )
        if pool is None:
            pool = pool_of(())
        if why := await self._doubt(pool, answer):
            raise DiscoveryError(f"{self._engine.where}: {self._scrape_pool}: {'; '.join([why, *self.troubles])}")
        if len(pool):
            self._life = answer.life
        failing = [answer.refused] if answer.refused else []
        await self._owed.note(answer.loaded, self.last, pool)
        if not self.troubles:
            self._owed.forget()
        elif owed := len(self._owed.pool):
            pool = await self._owed.beside(pool)
            why = "; ".join(self.troubles)
            failing.append(f"{owed} targets stay that it has not discovered since it {STARTED} because {why}")
        self._last = pool
        if failing:
            raise DiscoveryError(f"{self._engine.where}: {'; '.join(failing)}", pool)
        return pool

    async def _doubt(self, pool: TargetPool, answer: EngineAnswer) -> str:
        """Why a list is no answer; mostly empty."""
        last = self._last
        if answer.age_s < SETTLE_S and (not len(pool) if last is None else last is not pool and await _lacks(pool, last)):
            return (
                f"{STARTED} less than {SETTLE_S:g} s ago and may not have discovered everything "
                "yet: a list that lacks something is not believed before"
            )
        emptied = last is not None and len(last) and not len(pool) and self._life != answer.life
        if emptied and answer.age_s < UNDISCOVERED_S:
            return f"discovered nothing since it started: believed {UNDISCOVERED_S:g} s after that"
        return ""

    async def changes(self, stop: asyncio.Event) -> AsyncIterator[object]:
        """One item an answer for this scrape pool that another source asked for, or a look at the engine."""
        woken = asyncio.Event()
        self._engine.woken[woken] = self._scrape_pool
        try:
            while not stop.is_set():
                try:
                    async with asyncio.timeout(self._engine.look_every_s):
                        await woken.wait()
                except TimeoutError:
                    await self._engine.look()
                    continue
                woken.clear()
                if not self._fetching:
                    yield None
        finally:
            self._engine.woken.pop(woken, None)


async def _lacks(pool: TargetPool, last: TargetPool) -> bool:
    """Whether something of the last list is missing."""
    return await computed(lambda: not bool(np.isin(last.ids, pool.ids).all()))
