"""``GET /sd/{scraper}``: all slices of one scraper for its agent, of every service of its fleets that has http_sd.

The answer (``delivery.bundle``) lists every slice, and has the bodies of those that the asker does not name in
``X-Promring-Have`` or ``X-Promring-Declined``. With ``?wait=30s`` it waits until there is one. A slice is taken when the
asker names it as what it has, never because it was sent. The answer is 503 until something was decided for the scraper in
any service. A service with nothing for it is listed apart: only what is not listed at all is not configured any more.

More than ``ANSWER_BYTES_MOST`` go out in several answers: who asks again names what it has got.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from aiohttp import web

from promring.delivery.askers import newer_in, said_of, why_in
from promring.delivery.bundle import (
    CONTENT_TYPE,
    DECLINED,
    HAVE,
    OUTRANKED,
    SERVICES_MOST,
    UNTAKEN,
    Listed,
    Listing,
    line_of,
    marks_in,
    outranked_in,
)
from promring.delivery.http_sd import HttpSdDelivery, Served
from promring.fleet.fleet import Service
from promring.model import Generation
from promring.runtime.address import canonical_id
from promring.runtime.paths import file_name
from promring.runtime.threads import computed
from promring.telemetry import log
from promring.web.controller import Controller
from promring.web.envelope import ApiError
from promring.web.negotiation import chosen_coding
from promring.web.sd import Polls, header, may_stay_away_s, seconds_to_wait

ANSWER_BYTES_MOST = 16 * 1024 * 1024
WHOLE_BYTES = 128 * 1024
TOGETHER_S, WOKEN_MOST = 0.01, 8
"""What several fleets decide at once is sent together; to so many before others have their turn."""
LOOK_S = 0.5
"""How soon it is seen that a reload has brought other services."""
REASONS_MOST = 5


class Named(NamedTuple):
    """What the asker has, and what it does not want now, by marks."""

    have: frozenset[str]
    declined: frozenset[str]

    def has(self, one: Offer) -> bool:
        """Whether it need not be sent."""
        return one.mark in self.have or one.mark in self.declined


class Offer(NamedTuple):
    """What there is for the asker of one service; ``name``: one that the service had before a reload, too."""

    name: str
    scraper: str
    delivery: HttpSdDelivery
    served: Served
    mark: str


@dataclass(frozen=True, slots=True)
class View:
    """What there is for one scraper: ``ids`` are its names in the fleets, ``without`` the services with nothing for it."""

    offers: Sequence[Offer]
    without: Sequence[str]
    ids: Collection[str]

    def differs(self, named: Named) -> bool:
        return not all(map(named.has, self.offers))


@dataclass(eq=False)
class _Waiter:
    view: View
    bell: asyncio.Event


class SlicesEndpoint:
    """Is told by deliveries what changes (``rang``)."""

    def __init__(self, controller: Controller, polls: Polls) -> None:
        self._controller, self._polls = controller, polls
        self._waiters: dict[str, dict[_Waiter, None]] = {}
        """By each name that their scrapers have. They are told in the order in which they came."""
        self._lacking: dict[_Waiter, None] = {}
        """Of scrapers that some service has nothing for: they may have other names there."""
        self._rung: dict[_Waiter, None] = {}
        """Those who are yet to be told, in the order in which they came."""
        self._waking: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    def rang(self, scrapers: Collection[str], *, new: bool) -> None:
        for scraper in scrapers:
            self._rung |= self._waiters.get(scraper, {})
        if new:
            self._rung |= self._lacking
        if self._rung and self._waking is None:
            self._waking = asyncio.create_task(self._wake())

    async def _wake(self) -> None:
        """A few at a time: each makes an answer at once, and whoever else asks shall not wait for hundreds of them."""
        try:
            await asyncio.sleep(TOGETHER_S)
            while self._rung:
                for waiter in list(islice(self._rung, WOKEN_MOST)):
                    del self._rung[waiter]
                    waiter.bell.set()
                await asyncio.sleep(0)
        finally:
            self._waking = None

    async def get(self, request: web.Request) -> web.StreamResponse:
        asked = canonical_id(request.match_info["scraper"])
        named = Named(*(marks_in(header(request, name).replace(", ", "")) for name in (HAVE, DECLINED)))
        wait_s, coding = seconds_to_wait(request), chosen_coding(header(request, "Accept-Encoding"))
        if coding is None:
            raise ApiError(406, "not_acceptable", "slices are sent as they are or with gzip; Accept-Encoding takes neither")
        view = self._look(asked)
        words = why_in(header(request, UNTAKEN))
        told = {file_name(one.name): newer_in(said_of(one.name, words)) for one in view.offers}
        outranked = {file: has for file, has in told.items() if has} | outranked_in(header(request, OUTRANKED))
        self._heard_of(view, named, words, outranked, may_stay_away_s(request, wait_s))
        if view.offers:
            self._heed(outranked, asked, view, named)
        if wait_s > 0 and not view.differs(named):
            view = await self._polls.wait(lambda: self._changed(asked, view, named, wait_s))
        if not view.offers:
            raise self._nothing_for(asked)
        return await self._answer(request, view, named, packed=coding == "gzip")

    # --- what there is -------------------------------------------------------------------------------------------------

    def _look(self, asked: str) -> View:
        offers, ids, without = list[Offer](), dict[str, str](), list[str]()
        for name, service in self._named():
            if service is None:
                without.append(name)
            elif (delivery := service.http_sd) is not None:
                delivery.listeners.add(self)
                fleet = service.fleet
                scraper = ids.get(fleet.name) or ids.setdefault(fleet.name, fleet.scraper_id(asked))
                served = delivery.get(scraper)
                if served is None or len(offers) == SERVICES_MOST:
                    without.append(name)
                else:
                    offers.append(Offer(name, scraper, delivery, served, served.mark(name)))
        return View(offers, without, {asked, *ids.values()})

    def _named(self) -> Iterator[tuple[str, Service | None]]:
        """All services, also those that are being started (None); and, at last, those that had another name before."""
        controller, running = self._controller, self._controller.services
        starting = [one.name for one in controller.settings.shard_services if one.name not in running]
        renamed = {before: running[now] for before, now in controller.renamed.items() if now in running}
        yield from running.items()
        yield from ((name, None) for name in starting)
        yield from ((name, service) for name, service in renamed.items() if name not in starting)

    def _heard_of(self, view: View, named: Named, untaken: str, outranked: Collection[str], says_s: float) -> None:
        """The asker comes for these, and has some of them; ``untaken``: why not the others. It has something newer of the
        files that are ``outranked``. Of a service that was renamed the file of its name counts; while that is not there, a
        scraper that reads the one of before has its slice.
        """
        services = self._controller.services
        before = {one.delivery for one in view.offers if one.name not in services and one.mark in named.have}
        for one in view.offers:
            if (service := services.get(one.name)) is None:
                continue
            why = said_of(one.name, untaken)
            declines = (bool(why) or one.mark in named.declined) and file_name(one.name) not in outranked
            has = one.delivery.asked(
                one.scraper,
                lambda served, name=one.name: served.mark(name) in named.have,  # type: ignore[misc]
                why=why or untaken,
                declines=declines and one.delivery not in before,
                says_s=says_s,
                beside=one.delivery in before,
            )
            service.fleet.asks.note_agent(one.name, one.scraper, has=has)

    def _heed(self, has: Mapping[str, Generation], asked: str, view: View, named: Named) -> None:
        """An agent names the generations because of which it refused slices. Above our epoch, our state was lost while the
        clock went back, or another controller served the agent. Of our own epoch, the agent may have our slice, and have
        refused an older one of a follower: that is no news unless the agent lacks our slice of that service.
        """
        leadership, ours = self._controller.leadership, self._controller.leadership.epoch
        lacking = {file_name(one.name): one.served.slice.generation for one in view.offers if one.mark not in named.have}
        newest = max((g for file, g in has.items() if g.epoch > ours or g > lacking.get(file, g)), default=None)
        if newest is not None and leadership.agent_has(newest):
            note = "our state was lost while the clock went back, or another controller served this agent"
            fields = {"agents_had": str(newest), "ours": ours, "scraper": asked, "note": note}
            log.get().error("agents_outrank_us", goes_above=newest.epoch, **fields)

    def _nothing_for(self, asked: str) -> ApiError:
        services = [service for service in self._controller.services.values() if service.http_sd is not None]
        if not services and not any(d.pulled for s in self._controller.settings.shard_services for d in s.delivery):
            return ApiError(404, "not_found", "no service has an http_sd delivery")
        reasons = list(dict.fromkeys(service.why_not(service.fleet.scraper_id(asked)) for service in services)) or [
            "no service runs yet"
        ]
        return ApiError(503, "unavailable", "; ".join(reasons[:REASONS_MOST]))

    # --- waiting -------------------------------------------------------------------------------------------------------

    async def _changed(self, asked: str, view: View, named: Named, timeout_s: float) -> View:
        """As soon as something of it is not ``named``, at the latest after ``timeout_s``."""
        waiter = _Waiter(view, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not waiter.view.differs(named):
                    with self._waiting(waiter):
                        await waiter.bell.wait()
                    waiter.bell.clear()
                    waiter.view = self._look(asked)
                return waiter.view
        return self._look(asked)

    @contextlib.contextmanager
    def _waiting(self, waiter: _Waiter) -> Iterator[None]:
        view = waiter.view
        for name in view.ids:
            self._waiters.setdefault(name, {})[waiter] = None
        if view.without or not view.offers:
            self._lacking[waiter] = None
        if self._watch is None:
            self._watch = asyncio.create_task(self._watch_reloads(self._controller.services))
        try:
            yield
        finally:
            self._lacking.pop(waiter, None)
            for name in view.ids:
                self._waiters[name].pop(waiter, None)
                if not self._waiters[name]:
                    del self._waiters[name]
            if not self._waiters and self._watch is not None:
                self._watch.cancel()
                self._watch = None

    async def _watch_reloads(self, known: Mapping[str, Service]) -> None:
        """While somebody waits."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._controller.services is not known:
                known = self._controller.services
                self.rang(list(self._waiters), new=True)

    # --- answering -----------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request, view: View, named: Named, *, packed: bool) -> web.StreamResponse:
        sent = _that_fit([one for one in view.offers if not named.has(one)])
        bodies = await _bodies(sent, packed=packed)
        for one in sent:
            if one.name in self._controller.services:
                one.delivery.sends(one.scraper, one.served)
        followed = self._controller.leadership.followed
        listed = [_listed(one, bodies.get(one.name), followed) for one in view.offers]
        blind = not self._controller.leadership.sees_lock()
        line = line_of(Listing(listed, list(view.without), len(named.have) + len(named.declined), blind))
        parts = [line, *(body for body, _ in bodies.values())]
        headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
        if (size := sum(map(len, parts))) <= WHOLE_BYTES:
            return web.Response(body=b"".join(parts), headers=headers)
        answer = web.StreamResponse(headers=headers)  # slices are kept anyway: no copy of all of them for each who asks
        answer.content_length = size
        await answer.prepare(request)
        for part in parts:
            whole = memoryview(part)
            for at in range(0, len(part), WHOLE_BYTES):
                await answer.write(whole[at : at + WHOLE_BYTES])
        await answer.write_eof()
        return answer


def _that_fit(offers: Sequence[Offer]) -> list[Offer]:
    """The first of them that fit into one answer, one at least."""
    size, fit = 0, list[Offer]()
    for one in offers:
        size += len(one.served.slice.body)
        if fit and size > ANSWER_BYTES_MOST:
            break
        fit.append(one)
    return fit


async def _bodies(offers: Sequence[Offer], *, packed: bool) -> dict[str, tuple[bytes, bool]]:
    """By service, and whether it is packed. A small one is not worth it."""

    def make() -> dict[str, tuple[bytes, bool]]:
        found = {}
        for one in offers:
            pack = packed and not one.served.is_small
            found[one.name] = (one.served.gzipped if pack else one.served.slice.body, pack)
        return found

    return await computed(make, beside=packed and any(one.served.is_unpacked for one in offers))


def _listed(one: Offer, body: tuple[bytes, bool] | None, followed: int) -> Listed:
    slice_ = one.served.slice
    above = slice_.generation.epoch + 1
    return Listed(
        one.name,
        str(slice_.generation),
        slice_.sha256,
        above if above == followed else 0,
        None if body is None else len(body[0]),
        body is not None and body[1],
    )
