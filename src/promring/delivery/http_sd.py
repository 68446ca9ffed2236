"""Slices for Prometheus' http_sd and for agents: kept in memory, served by ``web/sd.py`` and ``web/slices.py``.

Promises: a reader sees a whole slice or the one before; a waiter gets its slice as soon as it differs. A slice is delivered
when its scraper has come for it (``came``), not when it is put into memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol
from weakref import WeakSet

from promring.delivery import Delivery, Leads, Names, Outcome, always
from promring.delivery.askers import Askers
from promring.delivery.bundle import mark
from promring.delivery.settings import DeliveryContext, DeliverySettings
from promring.model import Scraper, Slice
from promring.runtime.paths import file_name

GZIP_LEVEL, GZIP_LEAST = 5, 1024
"""Bytes: what fits into one packet anyway is not worth it."""
SENT_S = 300.0
"""Who has not named for so long what it was sent does not: the slice is let go."""


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

    @cached_property
    def same(self) -> Outcome:
        """It was served before."""
        return Outcome(self.slice.scraper.id, "same")

    @cached_property
    def _marks(self) -> dict[str, str]:
        return {}

    def mark(self, name: str) -> str:
        """For agents, as a slice of the service of that ``name``."""
        if (known := self._marks.get(name)) is None:
            known = self._marks[name] = mark(file_name(name), self.slice.sha256)
        return known

    @property
    def is_small(self) -> bool:
        """Too small to be packed."""
        return len(self.slice.body) < GZIP_LEAST

    @property
    def is_unpacked(self) -> bool:
        """Whether it is yet to be packed."""
        return not self.is_small and "gzipped" not in vars(self)


class Listener(Protocol):
    """Who waits for slices of several services."""

    def rang(self, scrapers: Collection[str], *, new: bool) -> None:
        """The slices of these are others than before; ``new``: some of these had none."""


def _ignored(scraper: str, upto: float, says_s: float) -> None:
    return


class Sent(NamedTuple):
    """The slice that somebody was sent last, and what was decided until then (monotonic seconds)."""

    served: Served
    upto: float


class HttpSdDelivery:
    means = "http_sd"
    pulled = True

    def __init__(self, slices: Iterable[Slice] = ()) -> None:
        self._served = {s.scraper.id: Served(s) for s in slices}
        self.askers = Askers()
        self._current_at = 0.0
        """When it was last said that all that is served is what shall be, monotonic seconds."""
        self.taken: Callable[[str, float, float], None] = _ignored
        """As in ``Visited``."""
        self._sent: dict[str, Sent] = {}
        """By scraper, while it has not named it: of a list that changes all the time nobody ever has the newest one."""
        self.declined: Callable[[], None] = lambda: None
        self._waiting: dict[str, asyncio.Event] = {}
        """Set when the slice of that scraper is another one."""
        self._delivered = asyncio.Event()
        """Set when there are slices of scrapers that had none. Names that nobody knows share it: anybody may ask for any."""
        self.listeners: WeakSet[Listener] = WeakSet()
        """Told of each change, once nothing is delivered together with it."""
        self._unrung: dict[str, None] = {}
        """Whose slices are others than the listeners were told of."""
        self._rings_new, self._held = False, 0

    def resumed(self, before: Sequence[Delivery], slices: Iterable[Slice]) -> HttpSdDelivery:
        """Who waits at the one before gets the next slice there."""
        return next((one for one in before if isinstance(one, HttpSdDelivery)), None) or HttpSdDelivery(slices)

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        outcomes, before = list[Outcome](), self._served
        served, written = dict[str, Served](), dict[str, None]()
        self._current_at = time.monotonic()
        for slice_ in slices:
            name = slice_.scraper.id
            known = before.get(name)
            if known is not None and (known.slice is slice_ or known.slice == slice_):
                served[name] = known
                outcomes.append(known.same)
            else:
                served[name], written[name] = Served(slice_), None
                outcomes.append(Outcome(name, "written"))
        # A scraper that is not in the plan gets no answer, not an empty list: it goes on with what it has.
        self._served = served
        self.askers.keep(served)
        since = self._current_at - SENT_S
        self._sent = {name: sent for name, sent in self._sent.items() if name in served and sent.upto > since}
        self._delivered.set()
        self._delivered = asyncio.Event()
        for name in [name for name in self._waiting if name in written or name not in served]:
            self._waiting.pop(name).set()
        self._unrung |= written
        self._rings_new |= not written.keys() <= before.keys()
        if not self._held:
            self._ring()
        return outcomes

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """As ``Together``."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held:
                self._ring()

    def _ring(self) -> None:
        rung, new = self._unrung, self._rings_new
        self._unrung, self._rings_new = {}, False
        if rung:
            for listener in list(self.listeners):
                listener.rang(rung, new=new)

    def sends(self, scraper: str, served: Served) -> None:
        """It is sent this."""
        if self._served.get(scraper) is served:
            self._sent[scraper] = Sent(served, self._current_at)

    def asked(
        self,
        scraper: str,
        names: Callable[[Served], bool],
        *,
        why: str = "",
        declines: bool = False,
        says_s: float = 0.0,
        beside: bool = False,
    ) -> bool:
        """``names``: whether it has that slice; ``why``: its agent's words of what it has not taken; ``declines``: that is
        the slice that is served; ``says_s``: so long it may be until it asks again, as it says; ``beside``: it has what is
        served in another file. Whether it has what is served, or was sent last.
        """
        if (served := self._served.get(scraper)) is None:
            return False
        sent, has = self._sent.get(scraper), names(served)
        had_until = sent.upto if not has and sent is not None and names(sent.served) else None
        has_some = has or had_until is not None
        if has_some:
            self._sent.pop(scraper, None)
        if self.askers.asked(scraper, has=has, why=why, declines=declines, had_until=had_until):
            self.declined()
        if has_some or beside:
            self.taken(scraper, self._current_at if has or beside or had_until is None else had_until, says_s)
        return has_some

    def declining(self) -> Mapping[str, str]:
        return self.askers.declining()

    def came(self, scraper: str, says_s: float = 0.0) -> None:
        """It gets the slice that is served now, and does not name what it has. ``says_s``: as in ``asked``."""
        if scraper in self._served:
            self.askers.asked(scraper, has=True)
            self.taken(scraper, self._current_at, says_s)

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
