"""Whether this controller may push, and with which epoch.

The loop of the election keeps it true; there are many readers, in threads too. Without a lock a controller is ``alone``: it
always leads, and its epoch is that of its state. With one it leads until its lease ends on ``CLOCK_BOOTTIME``, which goes on
while the machine sleeps and does not jump with the wall clock: a controller that was frozen sees at once that its time is
over.

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
from collections.abc import Callable

from promring.election.note import Told
from promring.election.rivals import AgentsAhead, Rivals
from promring.election.shared import Shared
from promring.model import EPOCH_FOLLOWED_MOST, LONG_AGO, Generation

STEP = 2
HEARD_OF_LEADER_S = 20.0
"""What a leader told is heeded no longer when the lock was not seen for so long: somebody else may lead, or nobody."""


def boottime() -> float:
    """Seconds since the machine started, those in which it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Leadership:
    """``clock`` in seconds; ``changed`` is called when somebody should look again. Attributes:

    - ``epoch``: of the slices that are made from now on; 0: nobody said one. ``followed``: of the leader that we follow or
      followed last; 0: we never did.
    - ``leader``: who leads, as far as is known; ``heard_at``: when the lock was last seen, which another controller has.
    - ``led_since``: since when we lead, or led last, without another one in between; ``lease_ends_at``: until then we lead.
    - ``shared``: what all controllers share; ``told``: the facts of it.
    - ``rivals``: without a lock, other controllers without one; ``outranked_by``: the highest epoch above ours that a
      receiver was seen to have.
    - ``lacking``: a right that this controller has lost and will need for the lock, in words; empty: none that is known.
    """

    def __init__(
        self,
        *,
        alone: bool = True,
        clock: Callable[[], float] = boottime,
        changed: Callable[[], None] = lambda: None,
        epoch: int = 0,
    ) -> None:
        self.alone, self.clock, self.changed, self.epoch = alone, clock, changed, epoch
        self.shared = Shared(clock, changed)
        self.rivals = Rivals()
        self.followed, self.outranked_by = 0, 0
        self.leader = self.lacking = ""
        self.heard_at = LONG_AGO
        self.lease_ends_at = self.led_since = 0.0
        self._another_led = True
        """Whether another one led since we did, or may have."""
        self._agents = AgentsAhead()

    @property
    def told(self) -> Told:
        return self.shared.told

    def leads(self) -> bool:
        """Asked before each write."""
        return self.alone or self.clock() < self.lease_ends_at

    @property
    def tells_others(self) -> bool:
        """Whether we lead, and there may be others who follow."""
        return not self.alone and self.leads()

    def lead(self, leader: str, epoch: int, lease_ends_at: float) -> None:
        """We hold the lock, until then at least."""
        news = (leader, epoch) != (self.leader, self.epoch) or not self.leads()
        self.leader, self.epoch, self.lease_ends_at = leader, epoch, lease_ends_at
        if news:
            if self._another_led:
                self.led_since = self.clock()
                self.shared.begin_term()
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
        self.shared.news.set()
        if not self.alone or not self.rivals.is_gone(service, newest, self.clock()):
            return False
        self.outranked_by = 0
        self._climb_above(newest)
        return True

    def agent_has(self, newest: Generation) -> bool:
        """An agent refuses what we serve, since it has ``newest``. True when we go above that."""
        if not self.leads() or newest.epoch < self.epoch or not self._agents.is_gone(newest, self.clock()):
            return False
        if self.alone:
            self._climb_above(self._agents.newest)
        else:
            self.outranked_by = max(self.outranked_by, self._agents.newest.epoch)
            self.shared.news.set()
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
                await self.shared.news.wait()
        self.shared.news.clear()
