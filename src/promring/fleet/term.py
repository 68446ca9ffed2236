"""What the loop of one fleet shares with the other controllers: epochs, who is drained, who is listed and down, loads.

``election/leadership`` is the whole process's; here is what one fleet makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from promring.core.admission import TOLD_S
from promring.core.loads import LoadBook, decode, encode
from promring.election.leadership import Leadership
from promring.fleet.slicing import in_epoch
from promring.fleet.state import Memory
from promring.membership.listed import LISTED_STILL_S
from promring.model import LONG_AGO, NONE_FAILING, Failing, Members, ServiceScraper
from promring.telemetry.log import Logger

FOUND_AGAIN_S = 120.0
"""So long it takes at most to find again which scrapers get nothing: what the run before this one, or the leader before this
one, had found.
"""


class Term:
    """Of one fleet."""

    def __init__(self, fleet: str, leadership: Leadership, log: Logger) -> None:
        self._fleet, self.leadership, self._log = fleet, leadership, log
        self._led_epoch = 0
        """Of our own newest lease that the loop has begun to lead with."""
        self._live: frozenset[str] = frozenset()
        self._inherited = NONE_FAILING
        """Who got nothing, or nothing new of a service, in the plan of the leader before us."""
        self._inherited_until = LONG_AGO
        self._died_at: dict[str, float] = {}
        self._book: tuple[LoadBook | None, bytes] = None, b""
        """The last book of loads that was packed."""

    def go_on(self, memory: Memory) -> Memory:
        """``memory`` in the newest epoch, with what a person had drained at the leader, and with its loads. While the leader
        does not know a fleet of this name, which was renamed here first, what is remembered stays. A leader that
        finds nothing told of this fleet, which has a new name then, tells the others who is drained.
        """
        leadership = self.leadership
        drained = (leadership.told.drained or {}).get(self._fleet)
        if drained is None:
            if leadership.leads():
                self.tell_drained(memory.drained)
        elif drained != memory.drained:
            memory = replace(memory, drained=drained)
        told = leadership.told.loads.get(self._fleet)
        if told is not None and told != self._packed(memory.loads) and (self.is_new or not leadership.leads()):
            book = decode(told) if told else None
            memory = replace(memory, loads=book) if book is not None or not told else memory
        if leadership.epoch > memory.generation.epoch:  # the same bytes, but receivers shall know who sends them
            memory = in_epoch(memory, leadership.epoch)
            generation = str(memory.generation)
            self._log.info("epoch", generation=generation, leads=leadership.leads(), leader=leadership.leader)
        return memory

    @property
    def is_new(self) -> bool:
        """Whether we lead, since a moment ago."""
        return not self.leadership.alone and self.leadership.epoch != self._led_epoch

    def begins(self) -> bool:
        """Whether another lease of ours began since the last time: a look is needed at what the scrapers have."""
        if not self.leadership.leads() or not self.is_new:
            return False
        self._led_epoch = self.leadership.epoch
        self._inherited = self.leadership.told.failing.get(self._fleet, NONE_FAILING)
        self._inherited_until = self.leadership.led_since + FOUND_AGAIN_S  # not again after each reload
        return True

    def catalogue(self, listed: Members) -> Members:
        """Who is listed for a plan: ``listed`` is what we know. Who follows goes by the leader's plan: a controller that was
        started lately does not know who left the catalogue before. Of a death it may know before the leader tells it.
        """
        leadership = self.leadership
        told = leadership.told.down.get(self._fleet)
        if told is None or leadership.alone:
            return listed
        if not leadership.leads():
            now = leadership.clock()
            untold = (s for s in listed if s.id in self._live or now - self._died_at.get(s.id, LONG_AGO) < TOLD_S)
            return (*untold, *told)
        return (*told, *listed) if leadership.clock() - leadership.led_since < LISTED_STILL_S else listed

    def tell_down(self, listed: Members, live: Members, waiting: Collection[str]) -> None:
        """As the leader: the plan is over those who are ``listed`` and not ``live``, too, some of which are ``waiting``."""
        ids, now = frozenset(s.id for s in live), self.leadership.clock()
        died = {name: at for name, at in self._died_at.items() if now - at < TOLD_S and name not in ids}
        self._died_at, self._live = dict.fromkeys(self._live - ids, now) | died, ids
        if self.leadership.tells_others:
            down = tuple(s for s in listed if s.id not in ids)
            self.leadership.shared.placed_over(self._fleet, down, tuple(s.id for s in down if s.id in waiting))

    def tell_held(self) -> None:
        """As the leader: there is no plan now by which the others could let somebody wait."""
        if self.leadership.tells_others and self._fleet in self.leadership.told.down:
            self.leadership.shared.placed_over(self._fleet, self.leadership.told.down[self._fleet], ())

    def tell_loads(self, book: LoadBook | None, *, learnt: bool) -> None:
        """As the leader: targets are placed by these loads. ``learnt``: whether loads are learnt at all."""
        if learnt and self.leadership.tells_others:
            self.leadership.shared.placed_by(self._fleet, self._packed(book))

    def _packed(self, book: LoadBook | None) -> bytes:
        """Empty: there is none, and each target counts 1."""
        if book is not self._book[0]:
            self._book = book, b"" if book is None else encode(book)
        return self._book[1]

    def failing(self, ours: Failing, reached: Callable[[ServiceScraper], bool] = lambda _: False) -> Failing:
        """Who gets nothing, or nothing new of a service, although it lives; ``ours``: as far as we have found. Who
        follows goes by the plan of the leader, and a new leader for a while by what the one before it had found, besides;
        not where a scraper has taken our list of a service: ``reached``.
        """
        leadership = self.leadership
        if leadership.alone:
            return ours
        told = leadership.told.failing.get(self._fleet, NONE_FAILING)
        if not leadership.leads():
            return told
        if self.is_new:  # in the middle of a cycle
            return ours.and_those_of(told)
        if leadership.clock() >= self._inherited_until:
            return ours
        refusing = tuple(pair for pair in self._inherited.refusing if not reached(pair))
        return ours.and_those_of(self._inherited._replace(refusing=refusing))

    @property
    def idle(self) -> tuple[ServiceScraper, ...] | None:
        """Services and the scrapers that are idle for them, as the leader says; None: we say it."""
        leadership = self.leadership
        if leadership.alone or leadership.leads():
            return None
        return leadership.told.failing.get(self._fleet, NONE_FAILING).idle

    def tell_failing(self, failing: Failing) -> None:
        """As the leader: the plan gives these nothing, or nothing new of a service."""
        if self.leadership.tells_others:
            self.leadership.shared.placed_without(self._fleet, failing)

    def tell_drained(self, drained: Collection[str]) -> None:
        """As the leader: a person has drained these."""
        if not self.leadership.alone:
            self.leadership.shared.drain(self._fleet, frozenset(drained))
