"""One Prometheus that discovers, asked once for all sources that take a scrape pool of it.

An answer is its configuration, its targets, read as they come, and how long it has been running. Who asks first asks for
all: the others take the same answer. What its metrics say was applied since is read pool by pool (``engine_turns``). They
are looked at several times in an interval while sources wait, so that what has to be read is read before it is over.

Promises: an answer is whole, or says why there is none, within ``timeout_s``. Files of secrets are read for each request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import xxhash
from yarl import URL

from promring.config.http_client import HttpConfig
from promring.discovery import Dropped, OwnEngine, asking
from promring.discovery.engine_applied import Applied, applied_of
from promring.discovery.engine_config import Job
from promring.discovery.engine_failures import Failures
from promring.discovery.engine_pools import EnginePools, OtherPoolError, Reading
from promring.discovery.engine_status import jobs_in, life_in, time_of
from promring.discovery.engine_turns import SHARE, Looks, Turns, look_every_s
from promring.discovery.list_rules import ListRules
from promring.model import NEVER_ENDS, DiscoveryError, TargetPool
from promring.runtime import secretfile
from promring.runtime.http_client import HttpError, Response, new_session
from promring.runtime.redact import shown
from promring.runtime.threads import computed, in_thread_shielded, turn

if TYPE_CHECKING:
    import aiohttp  # which takes long to load, and a configuration needs none of it

T = TypeVar("T")

BODY_BYTES_MAX = 8 * 1024**3
CONFIG_BYTES_MAX = 64 * 1024 * 1024
PIECE_BYTES = 1024 * 1024
AT_ONCE = 2
"""Scrape pools that are read at one moment: an engine makes an answer on one core."""


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """``number``: from 1; ``at``: monotonic seconds; ``failure``: why there is none, mostly empty; ``life``: tells one start
    of the engine from another; ``loaded``: one configuration that it loaded from another; ``age_s``: since the later of the
    two; ``refused``: what is to be
    said of a newest configuration that it refused, mostly empty; ``read``, where it is not everything: scrape pools that
    were read for it; ``unread``: those that are due as well, and are read for one of the next answers.
    """

    number: int
    at: float
    failure: str = ""
    pools: Mapping[str, TargetPool] = field(default_factory=dict)
    jobs: Mapping[str, Job] = field(default_factory=dict)
    life: str = ""
    loaded: str = ""
    age_s: float = 0.0
    refused: str = ""
    read: Collection[str] = ()
    unread: Collection[str] = ()


class Engine:
    """One Prometheus. ``at``: its URL, or that which promring runs; ``timeout_s``: for a whole answer, the longest that a
    source gives it.
    """

    def __init__(self, at: str | OwnEngine, http: HttpConfig) -> None:
        self._at, self._http, self.where = at, http, shown(at) if isinstance(at, str) else "engine"
        self._url = ""
        self._pools = EnginePools(self.where)
        self.timeout_s = 0.0
        self.newest: EngineAnswer | None = None
        self.woken: dict[asyncio.Event, str] = {}
        """By scrape pool: set at each answer of everything, and at those for which that pool was read."""
        self._asking: asyncio.Task[EngineAnswer] | None = None
        self._waiting = 0
        self._config: tuple[str, Mapping[str, Job]] = ("", {})
        """With the digest of the text."""
        self._read: Turns | None = None
        self._intervals: dict[str, float] = {}
        self._looks = Looks()
        self._failures = Failures()

    @property
    def _own(self) -> OwnEngine | None:
        return None if isinstance(self._at, str) else self._at

    def add(self, scrape_pool: str, rules: ListRules, timeout_s: float, interval_s: float) -> bool:
        """A source takes this pool with these ``rules``. False: it cannot, because another one has other rules for it."""
        taken = self._pools.rules.setdefault(scrape_pool, rules) == rules
        if taken:
            self.timeout_s = max(self.timeout_s, timeout_s)
            self._intervals[scrape_pool] = min(interval_s, self._intervals.get(scrape_pool, interval_s))
        return taken

    def dropped(self, scrape_pool: str) -> Dropped:
        return self._pools.dropped.get(scrape_pool) or Dropped()

    def troubles(self, scrape_pool: str) -> Sequence[str]:
        """What failed lately inside the engine, and concerns this pool, whose last targets are listed meanwhile."""
        return list(self._failures.of(scrape_pool, self._config[1], time.monotonic()))

    async def answer(self, after: int, younger_than_s: float) -> EngineAnswer:
        """The newest answer if it came after number ``after`` and is that young; else the next one."""
        newest = self.newest
        if newest is not None and newest.number > after and time.monotonic() - newest.at < younger_than_s:
            return newest
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        asking = self._asking
        self._waiting += 1
        try:
            return await asyncio.shield(asking)
        finally:
            self._waiting -= 1
            if not self._waiting and not asking.done():  # nobody waits any more
                asking.cancel()
                await asyncio.wait([asking])

    @property
    def look_every_s(self) -> float:
        return look_every_s(min(self._intervals.values()), self._looks.took_s)

    async def look(self) -> None:
        """Read what is due, where something was applied. Whoever calls: it asks no more often than ``look_every_s``."""
        began, read, newest = time.monotonic(), self._read, self.newest
        busy = self._asking is not None and not self._asking.done()
        if read is None or newest is None or busy or began - max(self._looks.at, newest.at) < self.look_every_s:
            return
        self._looks.at = NEVER_ENDS  # by nobody else meanwhile
        try:
            async with new_session(unpack=False) as session:
                applied = await self._applied(session)
        except (HttpError, secretfile.SecretError):  # the next answer says it
            return
        finally:
            self._looks.at = time.monotonic()
            self._looks.took_s = self._looks.at - began
        if applied is None or (applied.life == read.life and not read.open(self._intervals, applied, began)):
            return
        answer = await self.answer(newest.number, 0.0)
        while answer.unread:
            answer = await self.answer(answer.number, 0.0)

    async def _ask(self) -> EngineAnswer:
        number = self.newest.number + 1 if self.newest else 1
        try:
            async with asyncio.timeout(self.timeout_s), new_session(unpack=False) as session:
                self._url = (self._at if isinstance(self._at, str) else await self._at.url()).rstrip("/")
                jobs = await self._jobs(session)
                refused, now, unread = await self._read_changes(session, jobs)
                lived = await self._life(session)
            made = EngineAnswer(number, time.monotonic(), "", self._pools.pools, jobs, *lived, refused, now, unread)
        except TimeoutError:
            why = [f"no whole answer within {self.timeout_s:g} s"]
            why += [self._own.condition] if self._own and self._own.condition else []
            made = EngineAnswer(number, time.monotonic(), "; ".join(why))
        except (HttpError, DiscoveryError, secretfile.SecretError) as error:
            made = EngineAnswer(number, time.monotonic(), str(error))
        self.newest = made
        for event, pool in self.woken.items():
            if not made.read or pool in made.read:
                event.set()
        return made

    async def _get(
        self,
        session: aiohttp.ClientSession,
        path: str,
        params: Mapping[str, str] | None = None,
        consume: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> Response:
        """Raises ``HttpError``, ``DiscoveryError``, ``SecretError``."""
        response = await self._answered(session, f"/api/v1/{path}", params, consume)
        if response.status != 200:
            raise DiscoveryError(f"/api/v1/{path}: {response.refusal()}")
        return response

    async def _answered(
        self,
        session: aiohttp.ClientSession,
        path: str,
        params: Mapping[str, str] | None = None,
        consume: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> Response:
        """Whatever its status. Raises ``HttpError``, ``SecretError``."""
        return await asking.get(
            session,
            URL(f"{self._url}{path}").with_query(params),
            self._http,
            timeout_s=self.timeout_s,
            body_bytes_max=BODY_BYTES_MAX if consume else CONFIG_BYTES_MAX,
            consume=consume,
        )

    async def _read_changes(
        self, session: aiohttp.ClientSession, jobs: Mapping[str, Job]
    ) -> tuple[str, Collection[str], Collection[str]]:
        """Read into the pools what may have changed, or a part of that. What is to be said of a configuration that was
        refused, what was read of it, and what was not. Raises ``DiscoveryError`` and what ``_get`` does.
        """
        applied = await self._applied(session)
        now, unread = await self._read_those(session, jobs, applied)
        if applied is None or not applied.refused:
            return "", now, unread
        said = self._own.last_words if self._own else ""
        return (
            f"it refused its newest configuration, and goes on with the one before{f': {said}' if said else ''}",
            now,
            unread,
        )

    async def _read_those(
        self, session: aiohttp.ClientSession, jobs: Mapping[str, Job], applied: Applied | None
    ) -> tuple[Collection[str], Collection[str]]:
        """What was read, where that is not everything, and what was not. Raises as ``_read_changes``."""
        read, wanted, began = self._read, self._pools.rules, time.monotonic()
        filters = True
        if applied is not None and read is not None and applied.life == read.life:
            filters, due = read.filters, read.open(self._intervals, applied, began)
            if filters and len(wanted) > 1:
                chosen = due.first(self._pools.size, self._pools.size(wanted) / SHARE)
                try:
                    await self._read_some(session, jobs, chosen, read, applied)
                    return chosen, {*due.news, *due.unsure} - {*chosen}
                except OtherPoolError:
                    filters = False
            elif not due:
                return (), ()
        self._read = None
        await self._targets(session, jobs)
        if applied is not None:
            self._read, took_s = Turns(applied.life, filters), time.monotonic() - began
            for name in applied.syncs:
                self._read.note(name, applied, began, took_s / len(applied.syncs), self._pools.listed(name))
        return (), ()

    async def _read_some(
        self, session: aiohttp.ClientSession, jobs: Mapping[str, Job], names: Sequence[str], read: Turns, applied: Applied
    ) -> None:
        """These scrape pools, ``AT_ONCE`` at a moment. Raises as ``_targets``."""
        left = iter(names)

        async def one_after_the_other() -> None:
            for name in left:
                at = time.monotonic()
                await self._targets(session, jobs, name)
                read.note(name, applied, at, (time.monotonic() - at) / AT_ONCE, self._pools.listed(name))

        workers = [asyncio.create_task(one_after_the_other()) for _ in names[:AT_ONCE]]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _applied(self, session: aiohttp.ClientSession) -> Applied | None:
        """None where its metrics do not say. Raises ``HttpError``, ``SecretError``."""
        response = await self._answered(session, "/metrics")
        life = self._config[0], *self._pools.rules
        applied = await computed(lambda: applied_of(response.body, life)) if response.status == 200 else None
        if applied is not None:
            age_s = time_of(response.headers.get("date", "")) - applied.began
            counted, now = (applied.failures, applied.not_started, applied.began), time.monotonic()
            self._failures.note(*counted, self._config[1], age_s=age_s, now=now)
        return applied

    async def _jobs(self, session: aiohttp.ClientSession) -> Mapping[str, Job]:
        """Raises ``DiscoveryError`` and what ``_get`` does."""
        body = (await self._get(session, "status/config")).body
        digest = xxhash.xxh3_128_hexdigest(body)

        if digest != self._config[0]:
            self._config = digest, await _from_thread(partial(jobs_in, body))
        return self._config[1]

    async def _targets(self, session: aiohttp.ClientSession, jobs: Mapping[str, Job], only: str | None = None) -> None:
        """Read them, or those of one scrape pool, into the pools. Raises ``DiscoveryError`` and what ``_get`` does."""
        reading = await computed(lambda: self._pools.begin(jobs, only))
        buffer = bytearray()

        async def consume(chunk: bytes) -> None:
            buffer.extend(chunk)
            if len(buffer) >= PIECE_BYTES:
                piece = bytes(buffer)
                buffer.clear()
                await _from_thread(partial(reading.feed, piece))

        wanted = list(self._pools.rules) if only is None else [only]
        one = {"scrapePool": wanted[0]} if len(wanted) == 1 else {}
        await self._get(session, "targets", {"state": "any", **one}, consume)
        await _from_thread(partial(_finish, reading, bytes(buffer)))

    async def _life(self, session: aiohttp.ClientSession) -> tuple[str, str, float]:
        """``life``, ``loaded`` and ``age_s`` of an answer. Raises ``DiscoveryError`` and what ``_get`` does."""
        response = await self._get(session, "status/runtimeinfo")
        return life_in(response.body, response.headers.get("date", ""))


def _finish(reading: Reading, rest: bytes) -> None:
    reading.feed(rest)
    reading.end()


async def _from_thread(work: Callable[[], T]) -> T:
    """Its result, at its end. Raises ``DiscoveryError``, made here: one that crosses from a thread keeps what it was fed."""

    def heard() -> T | DiscoveryError:
        try:
            return work()
        except DiscoveryError as error:
            return type(error)(str(error))

    async with turn():
        result = await in_thread_shielded(heard)
    if isinstance(result, DiscoveryError):
        raise result
    return result
