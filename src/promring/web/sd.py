"""``GET /sd/{service}/{scraper}``: a slice as Prometheus http_sd.

``[]`` only for a scraper that decidedly has no targets. Before the first plan, and for a scraper that is not in the plan,
the answer is 503: Prometheus and the agent then go on with the list that they have. So is a service that is being started;
an unknown service is 404. A service that was renamed answers to the name before, a scraper to each of its names.

``If-None-Match`` with the ``ETag`` gives 304; with ``?wait=30s`` the answer waits until the slice differs. gzip when asked.
What a controller says that follows has ``X-Promring-Follows``, the epoch of its leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from promring.delivery.http_sd import Served
from promring.fleet.visitors import PATIENCE_VISITS
from promring.runtime.address import canonical_id
from promring.runtime.duration import parse_duration
from promring.runtime.threads import computed
from promring.web.controller import Controller, service_of
from promring.web.envelope import ApiError
from promring.web.negotiation import IfNoneMatch, chosen_coding

T = TypeVar("T")

WAIT_MOST_S = 300.0
AFTER_WAIT_S = 60.0
"""So long after a long poll could have ended its client may ask again."""
REFRESH_INTERVAL = "X-Prometheus-Refresh-Interval-Seconds"
POLLS_MOST = 4096
NAMES_CHANGED = "a reload has changed names, or who is in which fleet: ask again"


class Polls:
    """The long polls of this process, ``most`` of them."""

    def __init__(self, most: int = POLLS_MOST) -> None:
        self._most = most
        self._waiting: set[asyncio.Task[object]] = set()
        self._renewed: set[asyncio.Task[object]] = set()
        """Those of them that shall be asked again."""
        self._ending = asyncio.Event()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def close(self) -> None:
        """Answer them, so that who waits asks another controller at once."""
        self._ending.set()
        for task in self._waiting:
            task.cancel()

    def renew(self) -> None:
        """Answer them, so that who waits asks again."""
        self._renewed |= self._waiting
        for task in self._waiting:
            task.cancel()

    async def wait(self, work: Callable[[], Awaitable[T]]) -> T:
        """What one waits for. Raises ``ApiError`` 503 when there are too many, and when promring ends."""
        if self._ending.is_set():
            raise _ending()
        if len(self._waiting) >= self._most:
            raise ApiError(503, "busy", f"{self._most} requests wait already", retry_after_s=5)
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            return await work()
        except asyncio.CancelledError:
            if task not in self._renewed and not self._ending.is_set():  # its client is gone
                raise
            task.uncancel()
            raise _ending() if self._ending.is_set() else ApiError(503, "unavailable", NAMES_CHANGED) from None
        finally:
            self._waiting.discard(task)
            self._renewed.discard(task)


def _ending() -> ApiError:
    return ApiError(503, "unavailable", "this controller is being stopped: ask another one")


class SdEndpoint:
    def __init__(self, controller: Controller, *, polls_most: int = POLLS_MOST) -> None:
        self._controller = controller
        self.polls = Polls(polls_most)

    def close(self) -> None:
        """End the long polls."""
        self.polls.close()

    def renew(self) -> None:
        """End the long polls that there are: who waits asks again."""
        self.polls.renew()

    async def get(self, request: web.Request) -> web.StreamResponse:
        asked = request.match_info["service"]
        service = service_of(self._controller, self._controller.renamed.get(asked, asked))
        if (delivery := service.http_sd) is None:
            raise ApiError(404, "not_found", f"service {service.name!r} has no http_sd delivery")
        scraper = service.fleet.scraper_id(canonical_id(request.match_info["scraper"]))
        known, wait_s = IfNoneMatch(header(request, "If-None-Match")), seconds_to_wait(request)
        says_s = may_stay_away_s(request, wait_s)
        service.fleet.asks.note(asked, scraper)
        if not known.is_empty:  # what it has is said before it waits for the next
            delivery.asked(scraper, lambda served: known.has(served.etag), says_s=says_s)
        if wait_s > 0:
            served = await self.polls.wait(lambda: delivery.wait(scraper, known.has, wait_s))
        else:
            served = delivery.get(scraper)
        if served is None:
            raise ApiError(503, "unavailable", service.why_not(scraper))
        if known.is_empty:
            delivery.came(scraper, says_s)
        elif not known.has(served.etag):  # who names what it has says itself when it has this
            delivery.sends(scraper, served)
        follows = served.slice.generation.epoch + 1 == self._controller.leadership.followed
        return await _answer(request, served, known, follows=follows)


def may_stay_away_s(request: web.Request, wait_s: float) -> float:
    """How long it may be until who asks so asks again, in seconds: it waits in a long poll of ``wait_s``, or is a
    Prometheus that says how often it comes; 0: nothing is said.
    """
    try:
        every_s = float(request.headers.get(REFRESH_INTERVAL, "0"))
    except ValueError:
        every_s = 0.0
    return max(wait_s + AFTER_WAIT_S if wait_s else 0.0, PATIENCE_VISITS * every_s if every_s > 0 else 0.0)


def seconds_to_wait(request: web.Request) -> float:
    """What ``?wait=`` says. Raises ``ApiError``."""
    try:
        return min(parse_duration(request.query.get("wait", "0")), WAIT_MOST_S)
    except ValueError as error:
        raise ApiError(400, "bad_data", f"wait: {error}") from None


async def _answer(request: web.Request, served: Served, known: IfNoneMatch, *, follows: bool) -> web.Response:
    """``follows``: the slice was made by a controller that follows the leader of the next epoch."""
    generation = served.slice.generation
    headers = {
        "ETag": served.etag,
        "Vary": "Accept-Encoding",
        "Cache-Control": "no-cache",
        "X-Promring-Generation": str(generation),
        "X-Promring-Sha256": served.slice.sha256,
    } | ({"X-Promring-Follows": str(generation.epoch + 1)} if follows else {})
    if known.has(served.etag):
        return web.Response(status=304, headers=headers)
    body = served.slice.body
    coding = chosen_coding(header(request, "Accept-Encoding"), small=served.is_small)
    if coding is None:
        raise ApiError(406, "not_acceptable", "a slice is sent as it is or with gzip; Accept-Encoding takes neither")
    if coding == "gzip":
        body, headers["Content-Encoding"] = await computed(lambda: served.gzipped, beside=served.is_unpacked), "gzip"
    return web.Response(body=body, headers=headers, content_type="application/json")


def header(request: web.Request, name: str) -> str:
    """All of its lines as one, as RFC 9110 has it (5.3)."""
    return ", ".join(request.headers.getall(name, []))
