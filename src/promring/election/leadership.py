"""Whether this controller may push, with which epoch, and what all controllers share.

One writer (``consul/lock.py``), many readers, in threads too. Without a lock a controller is ``alone``: it always leads, and
its epoch is that of its state. With one it leads until its lease ends on ``CLOCK_BOOTTIME``, which goes on while the machine
sleeps and does not jump with the wall clock: a controller that was frozen sees at once that its time is over.

A controller without a lock whose receivers have a higher epoch is locked out: another one without a lock was started after
it. When that one has written nothing for a while, this one goes above it, since nobody else serves the targets then. If both
live they take turns, and each waits twice as long as the last time.

Epochs climb by two at least, so that the number below a leader's is left for the controllers that follow. Their slices,
served over http_sd, are newer than those of the leader before, and older than the leader's.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from promring.election.rivals import SILENT_MOST_S, SILENT_S, Rivals
from promring.model import EPOCH_FOLLOWED_MOST, LONG_AGO, Failing, Fingerprint, Generation, Members, Release

STEP = 2
EPOCH_OF_AGENTS_MOST = 10**10
"""No epoch that an agent says is heeded from here on: whoever reaches the API may say one. Most are seconds since 1970."""
HEARD_S = 60.0
"""What no agent has said for so long is over."""
AGENTS_CALM_S = 7200.0
"""So long after we went above what an agent has we go above the next such slice as soon as at first."""
HEARD_OF_LEADER_S = 20.0
"""What a leader told is heeded no longer when the lock was not seen for so long: somebody else may lead, or nobody."""
DOWN_MOST = 100
LOADS_BYTES_MOST = 96 * 1024
"""Of the books of loads of all fleets. A Lease of Kubernetes holds a note of 200 kB, in which they are a third longer."""
LOADS_KEPT_S = 600.0
"""A fleet whose loads nobody told for so long is no more."""
RELEASED_S = 60.0
"""So long the other controllers let go what a person released at the leader, when they hold exactly that, too."""


def boottime() -> float:
    """Seconds since the machine started, those in which it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Leadership:
    """An attribute for each thing that the note beside the lock tells. ``clock`` in seconds; ``changed`` is called when
    somebody should look again.
    """

    alone: bool = True
    clock: Callable[[], float] = boottime
    changed: Callable[[], None] = lambda: None
    epoch: int = 0
    """Of the slices that are made from now on; 0: nobody said one."""
    followed: int = 0
    """The epoch of the leader that we follow or followed last; 0: we never did."""
    leader: str = ""
    """Who leads, as far as is known."""
    heard_at: float = LONG_AGO
    """When the lock was last seen, which another controller has, on ``clock``."""
    drained: Mapping[str, frozenset[str]] | None = None
    """Scrapers that a person drained, by fleet, for all controllers; None: each for itself. ``drained_told``: in the note
    that we wrote last.
    """
    drained_told: Mapping[str, frozenset[str]] | None = None
    lists: Mapping[str, Mapping[str, Fingerprint]] = field(default_factory=dict)
    """What the last plan of a leader was made of, by shard service and source."""
    released: Mapping[str, tuple[Release, ...]] = field(default_factory=dict)
    """What a person released at the leader within ``RELEASED_S``, by shard service, or as `fleet:NAME` of one."""
    down: Mapping[str, Members] = field(default_factory=dict)
    """Scrapers of a fleet that are listed and do not live, as the leader's plan has them: a plan is over those, too."""
    waiting: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of those that are ``down`` the ids of those that live, and wait to come into the leader's plan."""
    loads: Mapping[str, bytes] = field(default_factory=dict)
    """By fleet: the book of loads that the leader places by, packed; empty: by the number of targets."""
    failing: Mapping[str, Failing] = field(default_factory=dict)
    """Which scrapers of a fleet live and get nothing, or nothing new of a service, as the leader's plan has it."""
    fleets: frozenset[str] = frozenset()
    """Those of this controller; empty: not known yet."""
    lacking: str = ""
    """A right that this controller has lost and will need for the lock, in words; empty: none that is known."""
    outranked_by: int = 0
    """The highest epoch above ours that a receiver was seen to have."""
    rivals: Rivals = field(default_factory=Rivals, init=False)
    """Without a lock: other controllers without one, on ``clock``."""
    lease_ends_at: float = field(default=0.0, init=False)
    led_since: float = field(default=0.0, init=False)
    """Since when we lead, or led last, without another one in between, on ``clock``."""
    _another_led: bool = field(default=True, init=False)
    """Whether another one led since we did, or may have."""
    _released_heard: bool = field(default=False, init=False)
    _agents_have: tuple[Generation, float, float] | None = field(default=None, init=False)
    """The newest generation because of which an agent refuses us, since when it is that one, and when that was last said."""
    _agents_patience_s: float = field(default=SILENT_S, init=False)
    _above_agents_at: float = field(default=LONG_AGO, init=False)
    """When we last went above what an agent has, on ``clock``."""
    _placed_at: dict[str, float] = field(default_factory=dict, init=False)
    """When we last told the loads of a fleet, on ``clock``."""
    _released_at: dict[str, float] = field(default_factory=dict, init=False)
    _listed_at: dict[tuple[str, str], float] = field(default_factory=dict, init=False)
    """By service and source: when we saw that another leader's plan is made of another list, monotonic seconds."""
    _news: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def leads(self) -> bool:
        """Asked before each write."""
        return self.alone or self.clock() < self.lease_ends_at

    def lead(self, leader: str, epoch: int, lease_ends_at: float) -> None:
        """We hold the lock, until then at least."""
        news = (leader, epoch) != (self.leader, self.epoch) or not self.leads()
        self.leader, self.epoch, self.lease_ends_at = leader, epoch, lease_ends_at
        if news:
            self.led_since = self.clock() if self._another_led else self.led_since
            self._another_led = False
            self.changed()

    def follow(self, leader: str, epoch: int) -> None:
        """Somebody else leads with ``epoch``; an empty name: nobody does."""
        self.heard_at = self.clock()
        self._another_led |= bool(leader)
        news = leader != self.leader or self.lease_ends_at > 0
        self.leader, self.lease_ends_at = leader, 0.0
        self.followed = epoch or self.followed
        if epoch - 1 > self.epoch:
            self.epoch, news = epoch - 1, True
        if news:
            self.changed()

    @property
    def known_leader(self) -> str:
        """Who leads, as far as is known now: empty when the lock was not seen for long."""
        return self.leader if self.sees_lock() else ""

    def sees_lock(self) -> bool:
        """Whether we lead, or saw not long ago who does, or that nobody does."""
        return self.leads() or self.clock() - self.heard_at < HEARD_OF_LEADER_S

    def hears(self) -> bool:
        """Whether another controller leads, and what it tells is not from long ago."""
        return bool(self.leader) and not self.leads() and self.sees_lock()

    def share_drained(self, drained: Mapping[str, frozenset[str]]) -> None:
        """What is drained according to whoever leads."""
        if drained != self.drained:
            self.drained = drained
            self._news.set()
            self.changed()

    def drain(self, service: str, scrapers: frozenset[str]) -> None:
        """As the leader: these of ``service`` are drained from now on; the lock tells the others."""
        self.share_drained({**(self.drained or {}), service: scrapers})

    def keep_only(self, fleets: Collection[str], services: Collection[str]) -> None:
        """As the leader: there are no others any more, and nothing is told of them."""
        drained = {name: some for name, some in (self.drained or {}).items() if name in fleets}
        lists = {name: some for name, some in self.lists.items() if name in services}
        down = {name: some for name, some in self.down.items() if name in fleets}
        self.waiting = {name: some for name, some in self.waiting.items() if name in fleets}
        loads = {name: book for name, book in self.loads.items() if name in fleets}
        failing = {name: some for name, some in self.failing.items() if name in fleets}
        self._listed_at = {pair: at for pair, at in self._listed_at.items() if pair[0] in services}
        before = self.drained or {}, self.lists, self.down, self.loads, self.failing
        if (drained, lists, down, loads, failing) != before:
            self.drained, self.lists, self.down, self.loads, self.failing = drained, lists, down, loads, failing
            self._news.set()

    def share_released(self, released: Mapping[str, tuple[Release, ...]]) -> None:
        """What a person released, according to whoever leads. What stands in the first note that we read may be from long
        ago.
        """
        first, self._released_heard = not self._released_heard, True
        if released == self.released:
            return
        for service, let_go in released.items():
            if not first and let_go != self.released.get(service):
                self._released_at[service] = self.clock()
        before = self.released
        self.released = {s: before[s] if before.get(s) == let_go else let_go for s, let_go in released.items()}
        self._news.set()
        self.changed()

    def release(self, service: str, let_go: tuple[Release, ...]) -> None:
        """As the leader: these of ``service`` are let go; the lock tells the others."""
        self._released_at[service] = self.clock()
        self.share_released({**self.released, service: let_go})

    def lately_released(self, service: str) -> tuple[Release, ...]:
        """What was released within ``RELEASED_S``; the same object until there is another release."""
        recent = self.clock() - self._released_at.get(service, LONG_AGO) < RELEASED_S
        return self.released.get(service, ()) if recent else ()

    def forget_released(self) -> None:
        """What was released a while ago is told to nobody any more."""
        self.released = {service: let_go for service, let_go in self.released.items() if self.lately_released(service)}

    def share_lists(self, lists: Mapping[str, Mapping[str, Fingerprint]]) -> None:
        """What whoever leads has made its plan of."""
        if lists == self.lists:
            return
        if before := self.lists:  # what stands in the first note that we read may be long ago
            now = time.monotonic()
            for service, marks in lists.items():
                known = before.get(service, {})
                self._listed_at.update({(service, name): now for name, mark in marks.items() if known.get(name) != mark})
        self.lists = lists
        self.changed()

    def listed_at(self, service: str, source: str) -> float:
        """When the list of ``source`` that the last leader had was news to us, monotonic; ``LONG_AGO``: it never was."""
        return self._listed_at.get((service, source), LONG_AGO)

    def publish_fingerprints(self, service: str, lists: Mapping[str, Fingerprint]) -> None:
        """As the leader: the plan of ``service`` is made of these now."""
        if lists != self.lists.get(service):
            self.lists = {**self.lists, service: lists}
            self._news.set()

    def share_down(self, down: Mapping[str, Members], waiting: Mapping[str, tuple[str, ...]]) -> None:
        """Who is listed and not in the plan, according to whoever leads, and who of them waits to come in."""
        if (down, waiting) != (self.down, self.waiting):
            self.down, self.waiting = down, waiting
            self.changed()

    def placed_over(self, fleet: str, down: Members, waiting: tuple[str, ...]) -> None:
        """As the leader: the plan of ``fleet`` is over these, too, of which some are ``waiting``. More than ``DOWN_MOST``
        of all fleets together are told to nobody, since a note has little room: then each controller goes by what it
        knows itself.
        """
        here = self.fleets or self.down.keys()  # as in ``placed_without``
        told = {name: some for name, some in self.down.items() if name != fleet and name in here}
        wait = {name: some for name, some in self.waiting.items() if name in told}
        if len(down) + sum(map(len, told.values())) <= DOWN_MOST:
            told[fleet] = down
            wait |= {fleet: waiting} if waiting else {}
        if (told, wait) != (self.down, self.waiting):
            self.down, self.waiting = told, wait
            self._news.set()

    def share_failing(self, failing: Mapping[str, Failing]) -> None:
        """Who gets nothing, or nothing new of a service, although it lives, according to whoever leads."""
        if failing != self.failing:
            self.failing = failing
            self.changed()

    def placed_without(self, fleet: str, failing: Failing) -> None:
        """As the leader: these of ``fleet`` get nothing, or nothing new of a service. Of all fleets together at most
        ``DOWN_MOST`` of each kind are told.
        """
        here = (
            self.fleets or self.failing.keys()
        )  # what an older leader told of a fleet that has another name now is dropped
        others = {name: some for name, some in self.failing.items() if name != fleet and name in here}
        room = [max(0, DOWN_MOST - sum(len(one[i]) for one in others.values())) for i in range(len(failing))]
        scrapers, refusing = failing.scrapers[: room[0]], failing.refusing[: room[1]]
        ours = Failing(scrapers, refusing, failing.aliases[: room[2]], failing.idle[: room[3]])
        told = {**others, fleet: ours} if any(ours) else others
        if told != self.failing:
            self.failing = told
            self._news.set()

    def share_loads(self, loads: Mapping[str, bytes]) -> None:
        """The loads that whoever leads places by."""
        if loads != self.loads:
            self.loads = loads
            self.changed()

    def placed_by(self, fleet: str, loads: bytes) -> None:
        """As the leader: ``fleet`` is placed by this book now; an empty one: by the number of targets. Books that are longer
        than ``LOADS_BYTES_MOST`` together are told to nobody.
        """
        now = self.clock()
        self._placed_at[fleet] = now
        placed_at = {name: max(self._placed_at.get(name, 0.0), self.led_since) for name in self.loads}
        there = [name for name, at in placed_at.items() if now - at < LOADS_KEPT_S]
        told = {name: self.loads[name] for name in there if name != fleet}
        if len(loads) + sum(map(len, told.values())) <= LOADS_BYTES_MOST:
            told[fleet] = loads
        if told != self.loads:
            self.loads = told
            self._news.set()

    def outranked(self, service: str, newest: Generation, *, first: bool = False) -> bool:
        """Receivers of ``service`` have a slice of a higher epoch than ours, ``newest``. ``first``: they are the first that
        were asked. True when we took over from another controller by that.

        A controller without a lock goes above it at once when it is the first answer: its state was lost and the clock went
        back. Later it is another controller that was started after this one: we go above it when it is silent.
        """
        if not self.epoch <= newest.epoch < EPOCH_FOLLOWED_MOST:
            return False
        if self.alone and first:
            self._climb_above(newest)
            return False
        self.outranked_by = max(self.outranked_by, newest.epoch)
        self._news.set()
        if not self.alone or not self.rivals.is_gone(service, newest, self.clock()):
            return False
        self.outranked_by = 0
        self._climb_above(newest)
        return True

    def agent_has(self, newest: Generation) -> bool:
        """An agent refuses what we serve, since it has ``newest``. True when we go above that: it was the newest that agents
        have for ``SILENT_S``, then twice that each time.
        """
        if not self.leads() or not self.epoch <= newest.epoch < EPOCH_OF_AGENTS_MOST:
            return False
        now = self.clock()
        known, since, heard = self._agents_have or (newest, now, now)
        if now - self._above_agents_at > AGENTS_CALM_S:
            self._agents_patience_s = SILENT_S
        if newest > known or now - heard > HEARD_S:
            known, since = newest, now
        self._agents_have = known, since, now
        if now - since < self._agents_patience_s:
            return False
        self._agents_have, self._above_agents_at = None, now
        self._agents_patience_s = min(SILENT_MOST_S, 2 * self._agents_patience_s)
        if self.alone:
            self._climb_above(known)
        else:
            self.outranked_by = max(self.outranked_by, known.epoch)
            self._news.set()
        return True

    @property
    def locked_out_by(self) -> Generation | None:
        """What our receivers have of another controller without a lock; None: they take what we give them."""
        return self.rivals.newest

    def takes_over_in(self, service: str) -> float | None:
        """Seconds until we may go above who locks us out of ``service``; None: nobody does."""
        return self.rivals.gone_in(service, self.clock())

    def _climb_above(self, newest: Generation) -> None:
        self.epoch = newest.epoch + STEP
        self.changed()

    async def wait_for_news(self, timeout_s: float) -> None:
        """For the lock: until there is something to tell the others, at most ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        self._news.clear()
