"""Slices for Prometheus' http_sd and for agents: kept in memory, served by ``web/sd.py`` and ``web/slices.py``.

Promises: a reader sees a whole slice or the one before; a waiter gets its slice as soon as it differs. A slice is delivered
when its scraper has come for it (``came``), not when it is put into memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol
from weakref import WeakSet

from promring.delivery import Delivery, Leads, Names, Outcome, always
from promring.delivery.settings import DeliveryContext, DeliverySettings
from promring.model import Scraper, Slice

GZIP_LEVEL = 5


class HttpSdSettings(DeliverySettings):
    """Slices that scrapers come for: it has no keys."""

    kind = "http_sd"
    pulled = True

    def places(self, names: Names, scrapers: Iterable[Scraper]) -> list[str]:
        return [f"/sd/{names.service}/{scraper.id}" for scraper in scrapers]

    def delivery(self, context: DeliveryContext) -> HttpSdDelivery:
        return HttpSdDelivery()


@dataclass(frozen=True)
class Served:
    """One slice as it goes over the wire."""

    slice: Slice

    @cached_property
    def etag(self) -> str:
        """Made when somebody asks: of all slices of a large fleet at once it would hold the event loop for long."""
        return f'"{self.slice.sha256[:32]}"'

    @cached_property
    def gzipped(self) -> bytes:
        """Made once a slice, by whoever asks first."""
        return gzip.compress(self.slice.body, GZIP_LEVEL, mtime=0)

    @property
    def is_packed(self) -> bool:
        return "gzipped" in vars(self)


class Listener(Protocol):
    """Who waits for slices of several services."""

    def rang(self, scrapers: Collection[str], *, new: bool) -> None:
        """The slices of these are others than before; ``new``: some of these had none."""


def _ignored(scraper: str, upto: float) -> None:
    return


class HttpSdDelivery:
    means = "http_sd"
    pulled = True

    def __init__(self, slices: Iterable[Slice] = ()) -> None:
        self._served = {s.scraper.id: Served(s) for s in slices}
        self._current_at = 0.0
        """When it was last said that all that is served is what shall be, monotonic seconds."""
        self.taken: Callable[[str, float], None] = _ignored
        """Told who has the slice that is served, with all that was decided until then (monotonic seconds)."""
        self._waiting: dict[str, asyncio.Event] = {}
        """Set when the slice of that scraper is another one."""
        self._delivered = asyncio.Event()
        """Set when there are slices of scrapers that had none. Names that nobody knows share it: anybody may ask for any."""
        self.listeners: WeakSet[Listener] = WeakSet()
        """Told of each change."""

    def resumed(self, before: Sequence[Delivery], slices: Iterable[Slice]) -> HttpSdDelivery:
        """Who waits at the one before gets the next slice there."""
        return next((one for one in before if isinstance(one, HttpSdDelivery)), None) or HttpSdDelivery(slices)

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        outcomes, before = [], self._served
        self._current_at = time.monotonic()
        for slice_ in slices:
            name = slice_.scraper.id
            known = before.get(name)
            is_same = known is not None and (known.slice is slice_ or known.slice == slice_)
            outcomes.append(Outcome(name, "same" if is_same else "written"))
        # A scraper that is not in the plan gets no answer, not an empty list: it goes on with what it has.
        written = dict.fromkeys(o.scraper for o in outcomes if o.outcome == "written")
        self._served = {s.scraper.id: Served(s) if s.scraper.id in written else before[s.scraper.id] for s in slices}
        self._delivered.set()
        self._delivered = asyncio.Event()
        for outcome in outcomes:
            if outcome.outcome == "written" and (waiting := self._waiting.pop(outcome.scraper, None)):
                waiting.set()
        if written:
            for listener in list(self.listeners):
                listener.rang(written, new=not written.keys() <= before.keys())
        return outcomes

    def came(self, scraper: str) -> None:
        """It has the slice that is served now."""
        if scraper in self._served:
            self.taken(scraper, self._current_at)

    def get(self, scraper: str) -> Served | None:
        """None while nothing was decided for ``scraper``."""
        return self._served.get(scraper)

    async def wait(self, scraper: str, known: Callable[[str], bool], timeout_s: float) -> Served | None:
        """The slice as soon as its ETag is not ``known``, at the latest after ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while (served := self._served.get(scraper)) is None or known(served.etag):
                    event = self._delivered if served is None else self._waiting.setdefault(scraper, asyncio.Event())
                    await event.wait()
        return self._served.get(scraper)
