"""The network between controllers, agents, scrapers, sources and stores: slow, cut, or fine; and scrapers that fetch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from yarl import URL

from promring.delivery import receiver
from promring.delivery.bundle import BundleError, line_of, opened
from promring.runtime.http_client import HttpError, RefusedError, Response
from tests.sim.faketime import HERE, within
from tests.sim.lockstores import KUBERNETES
from tests.sim.pods import Consume
from tests.sim.rights import refused, shown
from tests.sim.scraper import Scraper
from tests.sim.traits import PORT

if TYPE_CHECKING:
    from tests.sim.world import World


class Network:
    def __init__(self, world: World) -> None:
        self._world = world

    async def request(
        self,
        _: object,
        method: str,
        url: str | URL,
        *,
        timeout_s: float,
        headers: dict[str, str] | None = None,
        params: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        json: object = None,
        data: bytes | None = None,
        consume: Consume | None = None,
        **__: object,
    ) -> Response:
        """In the place of ``httpclient.request``."""
        process, url = HERE.get(), URL(url)
        assert process is not None
        assert url.host is not None
        if process.dead:
            raise HttpError("dead")
        await asyncio.sleep(self._world.rng.uniform(0.0005, 0.005) + self._world.pace.on_the_way_s())
        pair = process.name, url.host
        query = (dict(url.query) if url.query_string else {}) | dict(params or {})
        if self._world.pods is not None and url.host == KUBERNETES and url.path.startswith("/api/"):
            asked = self._world.pods.answer(url.path, query, self._as_it_comes(pair, consume))
        else:
            asked = self._route(process.name, method, url, query, json if data is None else data, headers or {})
        try:
            return await within(timeout_s, self._through(pair, asked))
        except TimeoutError:
            raise HttpError(f"no whole answer within {timeout_s:g} s") from None

    async def _through(self, pair: tuple[str, str], asked: Coroutine[Any, Any, Response]) -> Response:
        """What is lost on the way is sent again, as TCP does."""
        try:
            if pair in self._world.cut_off:
                await _until(lambda: pair not in self._world.cut_off)
            answer = await asked
        finally:
            asked.close()
        if pair in self._world.cut_off:
            await _until(lambda: pair not in self._world.cut_off)
        return answer

    def _as_it_comes(self, pair: tuple[str, str], consume: Consume | None) -> Consume | None:
        """Takes an answer piece by piece; what is lost on the way comes later."""

        async def take(piece: bytes) -> None:
            if pair in self._world.cut_off:
                await _until(lambda: pair not in self._world.cut_off)
            assert consume is not None
            await consume(piece)

        return take if consume is not None else None

    async def _route(
        self, who: str, method: str, url: URL, query: dict[str, str], body: Any, headers: dict[str, str]
    ) -> Response:
        host = str(url.host)
        if no := refused(self._world.denied, who, host, method, url.path, body):
            return no
        if host == "consul":
            answer = await self._world.consul.answer(who, method, url.path, query, body)
            return shown(self._world.denied, who, url.path, answer)
        if host in self._world.lock_stores:
            return await self._world.lock_stores[host].answer(who, method, url.path, body)
        if host == "cmdb":
            source = self._world.sources.get(url.path.strip("/"), self._world.other_source)
            self._world.short_at = self._world.now if source.mode in ("empty", "half") else self._world.short_at
            return await source.answer(who)
        if host in self._world.controllers:
            return self._on_the_way(who, await self._world.controllers[host].serve(url, headers))
        scraper = self._world.anybody(f"{host}:{PORT}")
        if not scraper.up:
            raise RefusedError(f"cannot connect to {scraper.id}: Connection refused")
        if scraper.frozen:
            await _until(lambda: not scraper.frozen)
        if self._world.hides(scraper, url.path):
            return Response(503, {}, b"")
        return await scraper.answer(url.path, query, self._world.now)

    async def accepts(self, url: URL, _: float) -> bool:
        """As the machine of a frozen process does."""
        process, scraper = HERE.get(), self._world.anybody(f"{url.host}:{PORT}")
        assert process is not None
        return scraper.up and (process.name, str(url.host)) not in self._world.cut_off

    def heal(self) -> None:
        """Everybody reaches everybody, and may do what it has to."""
        self._world.cut_off.clear()
        self._world.denied.clear()

    def _on_the_way(self, who: str, answer: Response) -> Response:
        """Something between an agent and the controllers may cut each slice in half, and say the length of that."""
        scraper = self._world.scrapers.get(f"{who.removeprefix('agent of ')}:{PORT}")
        cut = scraper is not None and scraper.pulls and scraper.disk == "cut"
        return replace(answer, body=_halved(answer.body)) if cut and answer.status == 200 else answer

    def passes(self, url: str) -> bool:
        scraper = self._world.scrapers[f"{URL(url).host}:{PORT}"]
        ready = URL(url).path == "/-/healthy" or self._world.now >= scraper.replays_until
        return scraper.vouched or (scraper.answers and not scraper.hidden and ready)

    async def polls(self, scraper: Scraper, job: str, controllers: Sequence[str]) -> None:
        """Fetches its list of a job from one of these, for ever; from the next one when that does not answer, when
        ``strict`` always. Known to be weak: controllers that see different things serve slices of different plans.
        """
        every_s, asked = scraper.traits.poll_s, 0
        await asyncio.sleep(self._world.rng.uniform(0.0, every_s))
        while True:
            reads = job in self._world.jobs and job not in scraper.without
            if reads and scraper.answers and self._world.now >= scraper.replays_until:
                answered = await self._fetch(scraper, job, controllers[asked % len(controllers)])
                asked += self._world.strict or not answered
            await asyncio.sleep(every_s)

    async def _fetch(self, scraper: Scraper, job: str, controller: str) -> bool:
        """Whether there was an answer."""
        url, started_at = f"http://{controller}:9600/sd/{job}/{scraper.id}", scraper.started_at
        try:
            answer = await self.request(None, "GET", url, timeout_s=min(scraper.traits.poll_s, 30.0))
        except HttpError:
            return False
        reads = job in self._world.jobs and job not in scraper.without
        if answer.status == 200 and reads and scraper.answers and scraper.started_at == started_at:
            generation = receiver.parse_generation(answer.headers["x-promring-generation"])
            self._world.has(scraper, job, answer.body, (generation, answer.headers["x-promring-sha256"]), fetched=True)
            scraper.fetched_at[job] = self._world.now
            scraper.given(job, answer.body, self._world.now)
        return answer.status == 200


def _halved(answer: bytes) -> bytes:
    """Half of each slice, with a list that says so."""
    try:
        listing, sent = opened(answer)
    except BundleError:
        return answer[: len(answer) // 2]
    halves = {service: body[: len(body) // 2] for service, body in sent.items()}
    for one in listing.slices:
        if one.sent is not None:
            one.sent = len(halves[one.service])
    return line_of(listing) + b"".join(halves[one.service] for one in listing.slices if one.service in halves)


async def _until(over: Callable[[], bool]) -> None:
    while not over():  # noqa: ASYNC110  # several things end it, and looking costs no time here
        await asyncio.sleep(0.5)
