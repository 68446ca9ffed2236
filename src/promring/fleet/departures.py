"""Planned leaves: somebody took a scraper out of the configuration, or out of its list, while it is alive.

A departure has three steps:

1. *Waiting.* Other scrapers are listed and may join soon. Until then, for ``waits_s`` at most, the leaving scraper keeps its
   share. Otherwise the few scrapers that remain would get all targets for seconds.
2. *Draining.* The scraper stays in the plan as a drained one: it gets nothing new, and keeps each target until the new owner
   scrapes it. Then its slice is empty, and the empty slice is delivered.
3. *Gone.* The departure ends when the empty slice was delivered and the scraper was seen scraping nothing of it, or when the
   scraper was dead for ``PROOF_S``. (A scraper that restarts earlier goes on with its last slice and must be emptied, too.)
   From then on it is in no plan, whatever Consul says, and promring deregisters what it had registered.

With several controllers the leader, or the controller that the scraper asks, may have emptied it; a scraper that asks
nobody any more takes no slice. So two kinds of departures also end by time: of scrapers that come for their slices, and all
departures at a controller that follows. They end when the scraper was seen scraping nothing ``PROOF_S`` after its slice
became empty; at a controller that follows and cannot ask the scraper, after twice that time. While nobody leads, nobody
empties a scraper, and the rules are those of a leader.

Promises: a departure causes no doubt and no panic. Does not promise that the departure of a scraper ends that goes on
scraping: it stays visible, and its targets count as doubled.
Flow: ``succession`` says who departs; ``reconcile`` asks this object around each cycle; ``fleet.py`` has them probed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from promring.core.coverage import Seen
from promring.core.verdicts import Facts
from promring.fleet.asks import Asks
from promring.model import NEVER_ENDS, Known, Members, Reply, Scraper
from promring.runtime.clocks import monotonic
from promring.telemetry.log import Logger

PROOF_S = 60.0
"""How long a scraper stays that cannot be asked what it scrapes, after its empty slice was delivered; and how long one stays
that refuses connections or is silent.
"""
WAITS_S = 10.0
"""How long, besides ``join_delay``, a leaving scraper keeps its share while others may join."""


class Departures:
    """The departures of one fleet, with an attribute for each thing that is known of them.

    ``registered``: Consul has the scrapers until promring deregisters them. ``pulls``: slices are only fetched, so an
    empty slice is delivered when it was asked for. ``waits_s``: how long to wait for others. ``wake`` wakes the loop.
    """

    def __init__(
        self,
        scrapers: Members,
        *,
        registered: bool = False,
        pulls: bool = False,
        audited: bool = False,
        asks: Asks | None = None,
        wake: Callable[[], None] = lambda: None,
        waits_s: float = WAITS_S,
        log: Logger,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.scrapers = scrapers
        """Still in the plan. ``draining``: it is being emptied, or its membership drains it."""
        self._waits_s, self._since = waits_s, dict.fromkeys((s.id for s in scrapers), clock())
        """When each was taken out."""
        self.gone: Members = ()
        """Out of the plan; Consul may still have them."""
        self.changed = asyncio.Event()
        self._registered, self._pulls, self._audited = registered, pulls, audited
        self._asks, self._wake, self._log, self._clock = asks or Asks(), wake, log, clock
        self._dead: set[str] = set()
        self.down: dict[str, float] = {}
        """Since when each refuses connections or is silent."""
        self._empty: dict[str, float] = {}
        """Since when the slice of each is empty; ``_emptied``: since when the empty slice is delivered."""
        self._emptied: dict[str, float] = {}
        self._ended: set[str] = set()
        """Their departure ended, and their list still says that they left."""

    def heard(self, listed: Members, left: Members, planned: Collection[str]) -> None:
        """A watched list changed: those that ``left`` it and are ``planned`` depart now; ``listed`` ones are back."""
        there, gone = {s.id for s in listed}, {s.id for s in left}
        self._ended &= gone
        known = {*self._ended, *(s.id for s in self.scrapers)}
        new = tuple(s for s in left if s.id in planned and s.id not in known)
        back = {s.id for s in self.scrapers} & there
        if not new and not back:
            return
        for name in back:
            self.down.pop(name, None)
            self._emptied.pop(name, None)
            self._empty.pop(name, None)
            self._dead.discard(name)
        self.scrapers = tuple(sorted((*(s for s in self.scrapers if s.id not in back), *new)))
        self._since = {s.id: self._since.get(s.id, self._clock()) for s in self.scrapers}
        said = {"leave": " ".join(s.id for s in new), "are_back": " ".join(sorted(back))}
        self._log.info("scraper_list_changed", **{key: names for key, names in said.items() if names})
        self.changed.set()
        self._wake()

    def put_probed(self, scraper: str, reply: Reply) -> None:
        """What a direct probe says of a departing scraper. After ``PROOF_S`` without an answer it is dead."""
        if reply is Reply.ANSWERS:
            self.down.pop(scraper, None)
            self._dead.discard(scraper)
            return
        if scraper not in self.down:
            self.down[scraper] = self._clock()
            self._wake()  # it waits for nobody any more
        down_s = self._clock() - self.down[scraper]
        if down_s > PROOF_S and scraper not in self._dead:
            self._dead.add(scraper)
            self._wake()

    def go_on_from(self, before: Departures) -> None:
        """Take over what the fleet before a reload knew."""
        there = {s.id for s in self.scrapers}
        self._dead = before._dead & there
        for mine, known in zip(self._times, before._times, strict=True):
            mine.update({name: at for name, at in known.items() if name in there})

    def stood_still(self, seconds: float) -> None:
        """The process stood still: nobody was asked meanwhile, and nobody could join."""
        for times in self._times:
            times.update({name: at + seconds for name, at in times.items()})

    @property
    def _times(self) -> tuple[dict[str, float], ...]:
        return self._since, self.down, self._empty, self._emptied

    def applied(self, facts: Facts, coming: Collection[str] = ()) -> Facts:
        """``facts`` in which departing scrapers are drained, and scrapers that are gone are left out. ``coming``: listed
        scrapers that may join the plan later.
        """
        members = facts.members
        if not isinstance(members.newest, Known) or not (self.scrapers or self.gone):
            return facts  # who is listed is not known, either
        others = {*coming} - {s.id for s in self.scrapers}
        self.scrapers = tuple(replace(s, draining=s.draining or not self._waits(s, others)) for s in self.scrapers)
        answer = {s.id: s for s in members.newest.value}
        self.gone = tuple(s for s in self.gone if s.id in answer)
        for scraper in self.gone:
            del answer[scraper.id]
        answer |= {s.id: replace(one := answer.get(s.id, s), draining=one.draining or s.draining) for s in self.scrapers}
        known = Known(tuple(sorted(answer.values())))
        return replace(facts, members=replace(members, newest=known, good=known))

    def _waits(self, scraper: Scraper, others: Collection[str]) -> bool:
        """Whether a scraper that is not being emptied yet keeps its share: it is alive, and ``others`` may join."""
        return bool(others) and scraper.id not in self.down and self._ends_waiting(scraper) > self._clock()

    def _ends_waiting(self, scraper: Scraper) -> float:
        return self._since[scraper.id] + self._waits_s

    @property
    def wakes_at(self) -> float:
        """When the next scraper has waited long enough; ``NEVER_ENDS``: none waits."""
        ends = (self._ends_waiting(s) for s in self.scrapers if not s.draining)
        return min((at for at in ends if at > self._clock()), default=NEVER_ENDS)  # one that is late waits for an answer

    @property
    def leaving(self) -> set[str]:
        """Scrapers that shall have nothing any more."""
        return {s.id for s in (*self.scrapers, *self.gone) if s.draining}

    @property
    def remembered(self) -> Members:
        """Scrapers that a restart must know."""
        return tuple(sorted((*self.scrapers, *self.gone)))

    def of_others(self, places: Collection[tuple[str, int]]) -> None:
        """Somebody else registered these in Consul (host and port): they are scrapers like any other."""
        left = tuple(s for s in self.gone if (s.host, s.port) not in places)
        if left != self.gone:
            self.gone = left
            self._wake()

    @property
    def emptied(self) -> set[str]:
        """Scrapers that have an empty slice and may still scrape what they had: they have to be asked."""
        return {s.id for s in self.scrapers if s.id in self._emptied}

    def end(
        self, targets: Mapping[str, int], reached: Collection[str], seen: Mapping[str, Seen], *, follows: bool = False
    ) -> Members:
        """The scrapers whose departure ends now. ``targets``: how many targets the slices of each scraper have; ``reached``:
        scrapers to which their present slices were delivered; ``follows``: another controller delivers them.
        """
        empty = {s.id for s in self.scrapers if s.draining and self._is_empty(s.id, targets.get(s.id))}
        done = {
            name
            for name in empty
            if self._is_done(name, reached, seen)
            or (follows and self._is_over(name, seen, waits=False))
            or (self._pulls and self._is_over(name, seen, waits=True))
        }
        ended = tuple(s for s in self.scrapers if s.id in self._dead or s.id in done)
        if not ended:
            return ()
        for scraper in ended:
            why = "it is dead" if scraper.id in self._dead else "its slice is empty, and it scrapes nothing of it"
            self._log.info("scraper_departed", scraper=scraper.id, why=why)
        self.scrapers = tuple(s for s in self.scrapers if s not in ended)
        self._ended |= {s.id for s in ended}
        if self._registered:
            self.gone = (*self.gone, *(replace(s, draining=True) for s in ended))
        self.changed.set()
        return ended

    def _is_empty(self, name: str, left: int | None) -> bool:
        """``left``: how many targets its slices have; None: no plan has been made yet in which it is drained."""
        if left is None:
            return False
        if left:
            self._empty.pop(name, None)
            self._emptied.pop(name, None)
            return False
        self._empty.setdefault(name, self._clock())
        return True

    def _is_over(self, name: str, seen: Mapping[str, Seen], *, waits: bool) -> bool:
        """Whether it scrapes nothing ``PROOF_S`` after its slice became empty, whoever emptied it. ``waits``: that must have
        been seen, however long the scraper cannot be asked.
        """
        over_at, found = self._empty[name] + PROOF_S, seen.get(name)
        if self._audited and found is not None and found.at > over_at:
            return not len(found.ids)
        return not waits and self._clock() > over_at + PROOF_S * self._audited

    def _is_done(self, name: str, reached: Collection[str], seen: Mapping[str, Seen]) -> bool:
        """Whether it has taken its empty slice from this controller, and scrapes nothing of the old one."""
        now = self._clock()
        if name not in reached:
            self._emptied.pop(name, None)
            return False
        if name not in self._emptied:
            self._emptied[name] = now
            self._wake()  # it is asked what it scrapes at once
        since = self._emptied[name]
        last = self._asks.latest(name)
        if (self._pulls or last is not None) and (last is None or last <= since):
            return False  # whoever fetches has not fetched the empty one yet
        if not self._audited:
            return True
        found = seen.get(name)
        if found is None or found.at <= since:
            return now - since > PROOF_S
        return not len(found.ids)
