"""From a placement to slices, make before break: what the loop remembers of the way between two placements.

``core/handover`` decides who holds a target besides its owners, and until when. Here is what it is asked with: who has
taken which slice, who left and came back, whether a new leader has looked already what the scrapers have.
Flow: ``reconcile`` asks for the ``next_step``, puts it in force, and says that it was ``made``.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from promring.core.claims import Claims, Departed, Taken, with_seen
from promring.core.coverage import Seen
from promring.core.difference import compare
from promring.core.evidence import Evidence, Handover
from promring.core.handover import owned_now, schedule, waiting_for, without_room
from promring.core.idle import NO_CANARIES, canaries
from promring.core.joined import FleetPool
from promring.core.recall import recalled
from promring.core.refusals import NOTHING_REFUSED, Refused, refused_now
from promring.core.ring import Ring
from promring.core.second_opinion import SecondOpinions
from promring.core.sight import Sight
from promring.core.trials import Trial
from promring.fleet.deliveries import RETRY_FIRST_S
from promring.fleet.dispatcher import Dispatcher
from promring.fleet.facts import FactBoard
from promring.fleet.slicing import InForce, Slices, slices_of
from promring.fleet.state import Memory
from promring.fleet.takeover import TakeOver
from promring.model import (
    NEVER_ENDS,
    NONE_FAILING,
    Failing,
    Loads,
    Members,
    Placement,
    Plan,
    ServiceScraper,
    Slice,
    TargetPool,
)
from promring.runtime.threads import computed
from promring.telemetry.log import Logger

NO_MOVES = Plan(())


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What shall be in force next."""

    placed: Placement
    """By ring and policy alone."""
    owned: Placement
    """As it can be, room considered."""
    plan: Plan
    """What moves between this placement and the one before; ``NO_MOVES``: it is the same."""
    claims: Claims
    in_force: InForce
    slices: Slices
    waiting: frozenset[str]
    no_room: Mapping[str, int]
    departed: Departed
    trials: Mapping[int, Trial]
    failing: Failing
    looked: bool = False
    """Whether it was made after the look at all scrapers that a take-over waits for."""
    let_go: Collection[ServiceScraper] = ()
    """Services and scrapers that were held back until now."""
    shown: Collection[ServiceScraper] = ()
    """Services and scrapers of which something was seen when the step was made."""


class Look(NamedTuple):
    """``seen``: what scrapers have, by id. ``taken``: what each may have taken of us, by service and id."""

    seen: Mapping[str, Seen]
    taken: Mapping[ServiceScraper, Taken]


class Barred:
    """Those who get nothing new of some services. ``has``: what each has; ``canaries``: what the idle get besides."""

    def __init__(self) -> None:
        self.has: Refused = NOTHING_REFUSED
        self.canaries = NO_CANARIES
        self._made_of: tuple[TargetPool, Ring, tuple[ServiceScraper, ...]] | None = None

    async def choose(self, pool: FleetPool, ring: Ring, idle: tuple[ServiceScraper, ...]) -> None:
        known = self._made_of
        if known is None or known[0] is not pool or known[1] is not ring or known[2] != idle:
            self.canaries = await computed(lambda: canaries(pool, ring, idle)) if idle else NO_CANARIES
            self._made_of = pool, ring, idle


class Moves:
    """Of one fleet. ``needs_look``: nobody knows what the scrapers have."""

    def __init__(
        self, handover: Handover, facts: FactBoard, dispatcher: Dispatcher, log: Logger, *, needs_look: bool
    ) -> None:
        self.handover = handover
        self.takeover = TakeOver(log, needed=needs_look, hands_over=handover.confirm and handover.overlap_s > 0)
        self.placement: Placement | None = None
        """Who owns what, of all services, room considered."""
        self.before: Placement | None = None
        """The same of the loop before a reload, until this one has its own ``placement``: only for people."""
        self.in_force: InForce | None = None
        """``placement``, and further owners who hold on to what they had."""
        self.waiting: set[str] = set()
        """Scrapers that a hand-over waits for: until they are seen scraping what they got."""
        self.no_room: Mapping[str, int] = {}
        """By scraper: targets that it shall not have, and keeps while it lives, since nobody else has room for them."""
        self.tried: Mapping[int, Trial] = {}
        """The second opinions that are asked with what is in force."""
        self.failing = self._failing = NONE_FAILING
        """Who gets nothing, or nothing new of a service, in what is in force, and in the next step."""
        self._facts, self._dispatcher = facts, dispatcher
        self._in_force_at = 0.0
        self._barred, self._carried = Barred(), NO_CANARIES

    async def refused(self, failing: Failing, members: Members, claims: Claims, pool: FleetPool, ring: Ring) -> Refused:
        """What those have who get nothing new of some services, of those. ``failing``: the next step, of ``pool``, is made
        without these.
        """
        taken, tried, seen = self._dispatcher.given, self._dispatcher.tried, self._facts.seen
        barred, self._failing = self._barred, failing
        barred.has = refused_now(failing, barred.has, members, claims, taken, seen, tried)
        await barred.choose(pool, ring, tuple(pair for pair in failing.idle if pair in barred.has))
        return barred.has

    async def next_step(
        self, placed: Placement, known: Placement | None, most: Loads | None, opinions: SecondOpinions, memory: Memory
    ) -> Step | None:
        """Towards ``placed``, while second ``opinions`` are asked; None when nothing is due. ``known``: the placement
        before. ``most``: int64, the capacity of each scraper; None: no bound.
        """
        self.takeover.may_act()
        silent = any(s.id in self._facts.silent for s in placed.scrapers)
        looked = self.takeover.has_looked(self._facts.looked_at, can_look=self.handover.confirm, silent=silent)
        shown = (
            {(s, name) for s, name in self._facts.intervals if name not in self._facts.silent} if self.unlooked else set()
        )
        let_go = self.takeover.held_back.ended(shown, time.monotonic())
        tries = opinions.trials != self.tried or self._barred.canaries is not self._carried
        if not (placed is not known or memory.claims.held or tries or looked or let_go):
            return None
        evidence = self._evidence()  # here: scrapers come for slices while the thread works
        look = self._look(evidence, {name for _, name in let_go & shown}, looked=looked)
        step = await computed(lambda: self._step(placed, known, most, opinions, memory, evidence, look))
        return replace(step, looked=looked, let_go=let_go, shown=shown)

    def _look(self, evidence: Evidence, late: Collection[str], *, looked: bool) -> Look | None:
        """What counts as given although nobody here gave it: after a look at all, or at the ``late``, who were held back."""
        if not looked and not late:
            return None
        seen = evidence.seen if looked else {name: one for name, one in evidence.seen.items() if name in late}
        return Look(seen, self.all_taken)

    @property
    def all_taken(self) -> Mapping[ServiceScraper, Taken]:
        """What each scraper may have taken of a service, of this loop and, while a look is needed, of the one before."""
        return self.takeover.all_taken(self._dispatcher.given)

    def _evidence(self) -> Evidence:
        facts, dispatcher = self._facts, self._dispatcher
        return Evidence(
            seen=facts.seen,
            taken=dispatcher.taken,
            silent=facts.silent,
            answering=facts.answering,
            pushes=dispatcher.pushes,
            intervals=facts.intervals,
            served=dispatcher.served,
        )

    def _step(
        self,
        placed: Placement,
        known: Placement | None,
        most: Loads | None,
        opinions: SecondOpinions,
        memory: Memory,
        evidence: Evidence,
        look: Look | None,
    ) -> Step:
        """``look``: None: there was none, or none was needed."""
        wanted = opinions.applied(placed, most, self._barred.canaries)
        live, now = {s.id for s in placed.scrapers}, time.monotonic()
        before = memory.departed.back(memory.claims, live, now)
        claims, holders = self._schedule(wanted, most, placed, before, evidence, look)
        in_force = InForce.of(holders)
        return Step(
            placed=placed,
            owned=owned_now(claims, placed),
            plan=_compared(known, placed, memory) if placed is not known else NO_MOVES,
            claims=claims,
            in_force=in_force,
            slices=slices_of(in_force, self.in_force, memory),
            waiting=frozenset(waiting_for(claims, wanted)),
            no_room=without_room(claims, wanted),
            departed=memory.departed.and_then(before, live, now),
            trials=opinions.trials,
            failing=self._failing,
        )

    def _schedule(
        self,
        wanted: Placement,
        most: Loads | None,
        placed: Placement,
        before: Claims,
        evidence: Evidence,
        look: Look | None,
    ) -> tuple[Claims, Placement]:
        """Who has what in its slice: the owners, and those who hold on to what they had ``before`` until the owners scrape
        it. After a ``look`` that is also what another leader gave them.
        """
        if look is not None:
            before = with_seen(before, look.seen, placed.pool, evidence.intervals.keys(), look.taken)
        replicas = placed.owners.shape[1]
        return schedule(wanted, before, evidence, self.handover, time.monotonic(), replicas=replicas, capacities=most)

    def made(self, step: Step, *, changed: bool) -> None:
        """``step`` is in force now. ``changed``: it was another one than before."""
        if changed:
            self.placement, self.before, self._in_force_at = step.owned, None, time.monotonic()
        self.in_force = step.in_force.or_same(self.in_force)
        self.waiting, self.no_room = set(step.waiting), step.no_room
        self.tried, self.failing, self._carried = step.trials, step.failing, self._barred.canaries
        self.takeover.held_back.end(step.let_go)
        self.takeover.in_force(step.slices.keys(), step.placed.pool)
        if step.looked:
            live = {s.id for s in step.placed.scrapers}
            self.takeover.done(live, step.shown, Evidence(self._facts.seen).overlap_s(self.handover, "", ""))

    def noted(self, memory: Memory) -> Memory:
        """``memory``, and whether it is still to be looked what the scrapers have."""
        unlooked = self.unlooked
        return memory if memory.unlooked == unlooked else replace(memory, unlooked=unlooked)

    @property
    def unlooked(self) -> bool:
        """Whether it is still to be looked what some scraper has."""
        return self.takeover.pending or bool(self.takeover.held_back.until)

    def to_deliver(self, service: str, slices: Mapping[str, Slice]) -> list[Slice]:
        """Of the ``slices`` of a service, by scraper, those that are not held back."""
        held_back = self.takeover.held_back
        return [one for name, one in slices.items() if not (held_back.until and held_back.waits(service, name))]

    def held(self) -> None:
        """Nothing may be changed now."""
        self.waiting = set()
        self.takeover.held()

    def ask_for_look(self, live: Members, emptied: Collection[str]) -> None:
        """Somebody should look soon, while it is waited for what is seen. ``emptied``: those that are taken out."""
        self.waiting |= set(emptied)
        if self.takeover.pending:
            self.waiting |= {s.id for s in live}
        self.waiting |= {name for _, name in self.takeover.held_back.until}
        if self.waiting and self.handover.confirm:
            self._facts.ask_for_look()

    def receive(self, sight: Sight) -> None:
        """What scrapers were seen doing."""
        if self.in_force is not None and sight.placement is self.in_force.placement:
            self._dispatcher.saw(sight, self._in_force_at)
        self._facts.put_sight(sight, awaited=bool(self.waiting))

    def ends_next(self, claims: Claims, now: float) -> float:
        """When a hand-over or a take-over may go on by itself, monotonic seconds."""
        ends = claims.ends_next
        if ends <= now:  # its time is over, and it waits for something that is seen or delivered
            ends = NEVER_ENDS if self.handover.confirm else now
        if self.takeover.pending:
            ends = min(ends, self.takeover.ends_at)
        ends = min(ends, self.takeover.held_back.ends_next(now))
        return max(ends, now + RETRY_FIRST_S)


def _compared(known: Placement | None, placed: Placement, memory: Memory) -> Plan:
    """With the placement before, or what is remembered of it."""
    if known is None and memory.planned:
        known = recalled(memory.claims, placed.pool)
    return compare(known, placed)
