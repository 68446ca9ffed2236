"""One Prometheus that discovers, asked once for all sources that take a scrape pool of it.

An answer is its configuration, its targets, read as they come, and how long it has been running. Who asks first asks for
all: the others take the same answer. What its metrics say was applied since is read pool by pool, the pools first in which
the number of targets changed, and not all in one answer: so news of one pool does not wait for the others. What was not read
for ``READ_EVERY_S`` is read anyway.

Promises: an answer is whole, or says why there is none, within ``timeout_s``. Files of secrets are read for each request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import xxhash
from yarl import URL

from promring.config.http_client import HttpConfig
from promring.discovery import Dropped, OwnEngine, asking
from promring.discovery.engine_applied import Applied, applied_of
from promring.discovery.engine_config import Job, jobs_of
from promring.discovery.engine_pools import EnginePools, OtherPoolError, Reading
from promring.discovery.groups import ListRules
from promring.model import DiscoveryError, TargetPool
from promring.runtime import secretfile
from promring.runtime.http_client import HttpError, Response, new_session
from promring.runtime.redact import shown
from promring.runtime.threads import in_thread, in_thread_shielded

if TYPE_CHECKING:
    import aiohttp  # which takes long to load, and a configuration needs none of it

BODY_BYTES_MAX = 8 * 1024**3
CONFIG_BYTES_MAX = 64 * 1024 * 1024
PIECE_BYTES = 1024 * 1024
READ_EVERY_S = 600.0
SHARE = 16
"""An answer reads pools with about one target in so many, where none is known to have changed."""


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """``number``: from 1; ``at``: monotonic seconds; ``failure``: why there is none, mostly empty; ``life``: tells one start
    of the engine from another; ``age_s``: since that, or since it last loaded its configuration; ``refused``: what is to be
    said of a newest configuration that it refused, mostly empty; ``read``, where it is not everything: scrape pools that
    were read for it; ``unread``: those that may have changed, and are read for one of the next answers.
    """

    number: int
    at: float
    failure: str = ""
    pools: Mapping[str, TargetPool] = field(default_factory=dict)
    jobs: Mapping[str, Job] = field(default_factory=dict)
    life: str = ""
    age_s: float = 0.0
    refused: str = ""
    read: Collection[str] = ()
    unread: Collection[str] = ()


@dataclass(slots=True)
class _Read:
    """What was read of one ``life``: of each pool the number of syncs, its size, and when (monotonic seconds). ``filters``:
    whether the engine answers for one scrape pool, as Prometheus does since 2.42.
    """

    life: Hashable
    filters: bool = True
    syncs: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, bytes] = field(default_factory=dict)
    at: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, applied: Applied, at: float) -> None:
        self.syncs[name], self.sizes[name], self.at[name] = applied.syncs[name], applied.sizes.get(name, b""), at

    def open(self, wanted: Collection[str], applied: Applied) -> tuple[list[str], list[str]]:
        """Those of ``wanted`` in which the number of targets changed, and those that may have changed, the oldest first."""
        due = time.monotonic() - READ_EVERY_S
        there = [name for name in wanted if name in applied.syncs]
        stale = [n for n in there if self.syncs.get(n) != applied.syncs[n] or self.at.get(n, 0.0) < due]
        news = [name for name in stale if self.sizes.get(name) != applied.sizes.get(name, b"")]
        return news, sorted((name for name in stale if name not in news), key=lambda name: self.at.get(name, 0.0))


class _RuntimeInfo(msgspec.Struct, rename="camel"):
    start_time: str = ""
    last_config_time: str = ""


class _RuntimeAnswer(msgspec.Struct):
    data: _RuntimeInfo


class _Config(msgspec.Struct):
    yaml: str


class _ConfigAnswer(msgspec.Struct):
    data: _Config


class Engine:
    """One Prometheus. ``at``: its URL, or that which promring runs; ``timeout_s``: for a whole answer, the longest that a
    source gives it.
    """

    def __init__(self, at: str | OwnEngine, http: HttpConfig) -> None:
        self._at, self._http, self.where = at, http, shown(at) if isinstance(at, str) else "engine"
        self._own = None if isinstance(at, str) else at
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
        self._read: _Read | None = None

    def add(self, scrape_pool: str, rules: ListRules, timeout_s: float) -> bool:
        """A source takes this pool with these ``rules``. False: it cannot, because another one has other rules for it."""
        taken = self._pools.rules.setdefault(scrape_pool, rules) == rules
        if taken:
            self.timeout_s = max(self.timeout_s, timeout_s)
        return taken

    def dropped(self, scrape_pool: str) -> Dropped:
        return self._pools.dropped.get(scrape_pool) or Dropped()

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

    async def _ask(self) -> EngineAnswer:
        number = self.newest.number + 1 if self.newest else 1
        try:
            async with asyncio.timeout(self.timeout_s), new_session(unpack=False) as session:
                self._url = (self._at if isinstance(self._at, str) else await self._at.url()).rstrip("/")
                jobs = await self._jobs(session)
                refused, now, unread = await self._read_changes(session, jobs)
                life, age_s = await self._life(session)
            made = EngineAnswer(number, time.monotonic(), "", self._pools.pools, jobs, life, age_s, refused, now, unread)
        except TimeoutError:
            why = [f"no whole answer within {self.timeout_s:g} s"]
            why += [self._own.condition] if self._own and self._own.condition else []
            made = EngineAnswer(number, time.monotonic(), "; ".join(why))
        except (HttpError, DiscoveryError, secretfile.SecretError) as error:
            made = EngineAnswer(number, time.monotonic(), str(error))
        self.newest = made
        for event, pool in self.woken.items():
            if not made.unread or pool in made.read:
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
            filters = read.filters
            news, unsure = read.open(wanted, applied)
            if filters and len(wanted) > 1:
                try:
                    chosen = self._chosen(news, unsure)
                    for name in chosen:
                        at = time.monotonic()
                        await self._targets(session, jobs, name)
                        read.note(name, applied, at)
                    return chosen, {*news, *unsure} - {*chosen}
                except OtherPoolError:
                    filters = False
            elif not news and not unsure:
                return (), ()
        self._read = None
        await self._targets(session, jobs)
        if applied is not None:
            self._read = _Read(applied.life, filters)
            for name in applied.syncs:
                self._read.note(name, applied, began)
        return (), ()

    def _chosen(self, news: Sequence[str], unsure: Sequence[str]) -> list[str]:
        """What is read for this answer: the news and one more, or some of which none is known to have changed."""
        chosen = [*news, *unsure[:1]]
        if not news:
            most, pools = self._pools.size(self._pools.rules) / SHARE, iter(unsure[1:])
            while self._pools.size(chosen) < most and (name := next(pools, None)) is not None:
                chosen.append(name)
        return chosen

    async def _applied(self, session: aiohttp.ClientSession) -> Applied | None:
        """None where its metrics do not say. Raises ``HttpError``, ``SecretError``."""
        response = await self._answered(session, "/metrics")
        life = self._config[0], *self._pools.rules
        return await in_thread(lambda: applied_of(response.body, life)) if response.status == 200 else None

    async def _jobs(self, session: aiohttp.ClientSession) -> Mapping[str, Job]:
        """Raises ``DiscoveryError`` and what ``_get`` does."""
        body = (await self._get(session, "status/config")).body
        digest = xxhash.xxh3_128_hexdigest(body)

        def work() -> Mapping[str, Job] | str:
            try:
                return jobs_of(msgspec.json.decode(body, type=_ConfigAnswer).data.yaml)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
                return " ".join(str(error).split())[:200]

        if digest != self._config[0]:
            found = await in_thread(work)
            if isinstance(found, str):
                raise DiscoveryError(f"/api/v1/status/config is malformed: {found}")
            self._config = digest, found
        return self._config[1]

    async def _targets(self, session: aiohttp.ClientSession, jobs: Mapping[str, Job], only: str | None = None) -> None:
        """Read them, or those of one scrape pool, into the pools. Raises ``DiscoveryError`` and what ``_get`` does."""
        reading = await in_thread(lambda: self._pools.begin(jobs, only))
        buffer = bytearray()

        async def consume(chunk: bytes) -> None:
            buffer.extend(chunk)
            if len(buffer) >= PIECE_BYTES:
                piece = bytes(buffer)
                buffer.clear()
                await _in_thread(partial(reading.feed, piece))

        wanted = list(self._pools.rules) if only is None else [only]
        one = {"scrapePool": wanted[0]} if len(wanted) == 1 else {}
        await self._get(session, "targets", {"state": "any", **one}, consume)
        await _in_thread(partial(_finish, reading, bytes(buffer)))

    async def _life(self, session: aiohttp.ClientSession) -> tuple[str, float]:
        """Raises ``DiscoveryError`` and what ``_get`` does."""
        response = await self._get(session, "status/runtimeinfo")
        try:
            info = msgspec.json.decode(response.body, type=_RuntimeAnswer).data
            now = parsedate_to_datetime(response.headers.get("date", ""))
            began = max(datetime.fromisoformat(text) for text in (info.start_time, info.last_config_time) if text)
            return info.start_time, max(0.0, (now - began).total_seconds())
        except (msgspec.DecodeError, ValueError, TypeError, OverflowError, RecursionError) as error:
            said = " ".join(str(error).split())[:200]
            raise DiscoveryError(f"/api/v1/status/runtimeinfo is malformed: {said}") from None


def _finish(reading: Reading, rest: bytes) -> None:
    reading.feed(rest)
    reading.end()


async def _in_thread(work: Callable[[], None]) -> None:
    """To its end. Raises ``DiscoveryError``, made here: one that crosses from a thread keeps what it was fed."""

    def why() -> DiscoveryError | None:
        try:
            work()
        except DiscoveryError as error:
            return type(error)(str(error))
        return None

    if failure := await in_thread_shielded(why):
        raise failure
