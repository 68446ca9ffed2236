"""Targets from Consul's catalogue, with the labels of Prometheus' ``consul_sd_configs``.

What is asked: one health query for each service of each datacenter; the catalogue first where not every service is named, or
tags or a filter choose. Changes are heard by blocking queries: one for each service while there are at most ``WATCHES_MAX``,
and one for the catalogue else; everything is read again every ``interval_s``.

Promises: a service that gives no answer keeps its last list, the others go on; one that the catalogue does not have any more
is empty. After an error nothing is asked with an index from before it. An index that is lower than the one before (Consul
restarted without its data, an older snapshot, a server that lags behind) is doubt: for ``DOUBT_S`` a list that lacks
something of the last one is not believed. An empty answer of which Consul says that the token may not see all is none.
Does not promise that each state in between is seen. What is believed is still judged by the guard.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial

import numpy as np

from promring.consul.access import Access
from promring.consul.answers import Read
from promring.consul.client import Client
from promring.discovery.consul_labels import Query, pool_of_instances, services_of
from promring.discovery.consul_query import DOUBT_S, ConsulQuery, Heard, Indexes, Place
from promring.discovery.list_rules import ANY, ListRules
from promring.discovery.parts import PATIENCE_S, Parts
from promring.model import LONG_AGO, ConsulError, DiscoveryError, TargetPool
from promring.runtime.backoff import Bucket
from promring.runtime.threads import computed

WATCHES_MAX = 20
"""Blocking queries of one source: Consul refuses more than 200 connections from one address."""
AT_ONCE = 10
BODY_BYTES_MAX = 256 * 1024 * 1024
DECODE_BESIDE_BYTES = 16 * 1024
WATCH_WAIT_S = 30.0
WATCH_AGAIN_S = 5.0
CHANGES_PER_S, CHANGES_BURST = 1.0, 3
ALL_NEEDS = 'service_prefix "" read, node_prefix "" read'


class ConsulSource:
    """``access``: where Consul is, one agent for all datacenters. Changes are watched for while somebody iterates over
    ``changes``.
    """

    def __init__(
        self,
        access: Access,
        chosen: ConsulQuery,
        *,
        rules: ListRules = ANY,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.interval_s = chosen.refresh_interval
        self._access, self._chosen, self._rules = access, chosen, rules
        self._clock = clock
        self._parts = Parts(patience_s, clock)
        self._places: list[Place] = []
        self._datacenter = ""
        self._indexes: dict[object, Indexes] = {}
        self._heard: dict[Place, Heard] = {}
        """What watches heard since the last fetch."""
        self._read_all_at = LONG_AGO
        self._changed = asyncio.Event()
        self._listed = asyncio.Event()
        """Set when there are other services to watch."""

    def remember(self, pool: TargetPool) -> None:
        """The list that a run before this one had."""
        self._parts.remember(pool)

    async def fetch(self) -> TargetPool:
        heard, self._heard = self._heard, {}
        failure = ""
        if heard and self._clock() < self._read_all_at + self.interval_s:
            for place, answer in heard.items():
                if place in self._places and answer.at > self._indexes_of(place).at:
                    self._parts.put(str(place), await self._believed(place, answer))
        else:
            self._read_all_at = self._clock()
            async with Client(self._access) as client:
                failure = await self._read_all(client)
        return self._parts.whole(failure)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _read_all(self, client: Client) -> str:
        """Why it could not be known what to ask for, or an empty text."""
        failure = ""
        try:
            self._watch_these(await self._catalogue(client))
        except ConsulError as error:
            failure = str(error)
            if not error.status:  # no answer: nobody has to wait for the others, too
                return failure
        limit, silent = asyncio.Semaphore(AT_ONCE), asyncio.Event()

        async def one(place: Place) -> None:
            async with limit:
                if not silent.is_set():
                    self._parts.put(str(place), await self._answer(client, place, silent))

        async with asyncio.TaskGroup() as group:
            for place in self._places:
                group.create_task(one(place))
        return failure

    async def _answer(self, client: Client, place: Place, silent: asyncio.Event) -> TargetPool | DiscoveryError:
        try:
            read = await self._ask(place, client)
        except ConsulError as error:
            if not error.status:
                silent.set()
            return DiscoveryError(str(error))
        return await self._believed(place, Heard(self._clock(), read))

    def _watch_these(self, places: list[Place]) -> None:
        if places == self._places:
            return
        self._places = places
        self._parts.only([str(place) for place in places])
        known = {*places, *(place.datacenter for place in places)}
        self._indexes = {key: one for key, one in self._indexes.items() if key in known}
        self._listed.set()

    def _indexes_of(self, key: object) -> Indexes:
        return self._indexes.setdefault(key, Indexes())

    async def _catalogue(self, client: Client) -> list[Place]:
        """What to ask for. Raises ``ConsulError``."""
        chosen = self._chosen
        places: list[Place] = []
        for datacenter in chosen.in_datacenters or [await self._own_datacenter(client)]:
            if chosen.are_named:
                places += [Place(datacenter, service) for service in dict.fromkeys(chosen.services)]
            else:
                places += self._listed_in(datacenter, await self._ask_catalogue(datacenter, client), client.where)
        return places

    def _listed_in(self, datacenter: str, read: Read, where: str) -> list[Place]:
        """Raises ``ConsulError``."""
        chosen = self._chosen
        try:
            found = services_of(read.body, chosen.services, chosen.tags)
        except ValueError as error:
            raise ConsulError(f"{where}: {error}", 200) from None
        if not found and read.filtered:
            raise ConsulError(f"{where}: shows no service to this token, which must have {ALL_NEEDS}", 200)
        if not found and not (chosen.services or chosen.tags or chosen.filter or chosen.node_meta):
            why = f"shows no service at all, not even its own; the token must have {ALL_NEEDS}"
            raise ConsulError(f"{where}: {why}", 200)
        listed = [Place(datacenter, service) for service in found]
        if self._indexes_of(datacenter).doubts(Heard(self._clock(), read)):
            listed += [place for place in self._places if place.datacenter == datacenter and place not in listed]
        return listed

    async def _own_datacenter(self, client: Client) -> str:
        """Read once, as Prometheus does. Raises ``ConsulError``."""
        if not self._datacenter:
            self._datacenter = await client.own_datacenter()
        if not self._datacenter:
            raise ConsulError(f"{client.where}: does not say its datacenter: say `datacenter`", 200)
        return self._datacenter

    def _asked(self, datacenter: str) -> str:
        """The agent's own is not asked for by its name."""
        return datacenter if self._chosen.in_datacenters else ""

    async def _ask_catalogue(self, datacenter: str, client: Client, index: int | None = None) -> Read:
        """Raises ``ConsulError``."""
        query = self._chosen.query(self._asked(datacenter), self._chosen.filter)
        return await self._read(client, "/v1/catalog/services", query, index, ALL_NEEDS)

    async def _ask(self, place: Place, client: Client, index: int | None = None) -> Read:
        """Raises ``ConsulError``."""
        query = self._chosen.query(self._asked(place.datacenter), self._chosen.health_filter)
        query += [("tag", tag) for tag in self._chosen.tags]
        needs = f'service "{place.service}" read, node_prefix "" read'
        return await self._read(client, f"/v1/health/service/{place.service}", query, index, needs)

    async def _read(
        self, client: Client, path: str, query: Sequence[tuple[str, str]], index: int | None, needs: str
    ) -> Read:
        return await client.read(path, query, index=index, wait_s=WATCH_WAIT_S, bytes_max=BODY_BYTES_MAX, needs=needs)

    async def _believed(self, place: Place, answer: Heard) -> TargetPool | DiscoveryError:
        """The list of an answer, or why it is not believed."""
        where, read = f"Consul, service {place.service}", answer.read
        query = Query(place.service, place.datacenter, self._chosen.tag_separator, self._chosen.instead_of_port)
        last = self._parts.of(str(place))

        def work() -> tuple[TargetPool, bool] | DiscoveryError:
            try:
                pool = pool_of_instances(read.body, query, where, self._rules)
            except DiscoveryError as error:
                return error
            return pool, last is not None and not bool(np.isin(last.ids, pool.ids).all())

        found = await computed(work, beside=len(read.body) > DECODE_BESIDE_BYTES)
        if isinstance(found, DiscoveryError):
            return found
        pool, lacks = found
        indexes = self._indexes_of(place)
        before = indexes.newest
        if indexes.doubts(answer) and lacks:
            went = f"its index went from {before} to {read.index}" if read.index < before else "its index went back"
            return DiscoveryError(f"{where}: {went}, so for {DOUBT_S:g} s no list is believed that lacks something")
        if not len(pool) and read.filtered:
            return DiscoveryError(f"{where}: the token may not see its instances: service and node_prefix read")
        return pool

    # --- watching ----------------------------------------------------------------------------------------------------

    async def changes(self, stop: asyncio.Event) -> AsyncIterator[object]:
        """One item a change, some in a row and then one a second at most."""
        bucket = Bucket(CHANGES_PER_S, CHANGES_BURST)
        async with Client(self._access) as client:
            watching = asyncio.create_task(self._watch_all(client))
            watching.add_done_callback(lambda _: self._changed.set())
            try:
                while not stop.is_set():
                    await self._changed.wait()
                    self._changed.clear()
                    if watching.done():
                        watching.result()
                    yield None
                    await bucket.take()
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _watch_all(self, client: Client) -> None:
        """Watches of what there is, begun and ended as that changes."""
        running: dict[object, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._listed.clear()
                wanted = self._watched()
                for gone in running.keys() - wanted.keys():
                    running.pop(gone).cancel()
                for key, ask in wanted.items():
                    if key not in running:
                        running[key] = group.create_task(self._watch(key, partial(ask, client)))
                await self._listed.wait()

    def _watched(self) -> Mapping[object, Callable[[Client, int | None], Awaitable[Read]]]:
        """What to watch, and how to ask for it: services, and the catalogue where it says which there are."""
        few = self._places if len(self._places) <= WATCHES_MAX else []
        wanted: dict[object, Callable[[Client, int | None], Awaitable[Read]]] = {
            place: partial(self._ask, place) for place in few
        }
        if not self._chosen.are_named or not few:
            wanted |= {place.datacenter: partial(self._ask_catalogue, place.datacenter) for place in self._places}
        return wanted

    async def _watch(self, key: object, ask: Callable[[int | None], Awaitable[Read]]) -> None:
        """Keep the newest answer about a service; for the catalogue, have everything read again."""
        bucket, index = Bucket(CHANGES_PER_S, CHANGES_BURST), None
        while True:
            await bucket.take()
            try:
                read = await ask(index)
            except ConsulError:  # said by the next full read
                index = None
                await asyncio.sleep(WATCH_AGAIN_S)
                continue
            if read.index != index:
                if isinstance(key, Place):
                    self._heard[key] = Heard(self._clock(), read)
                elif index is not None:
                    self._read_all_at = LONG_AGO
                self._changed.set()
            back = index is not None and read.index < index
            index = None if back or read.index < 1 else read.index
