"""The loop of one fleet. Read this file first: it is promring from top to bottom.

    facts -> guard -> lists -> ring -> placement -> hand-over -> slices -> state on disk -> deliveries

It is level-triggered: a changed fact only wakes it; each cycle computes everything from the newest facts, and a cycle runs
every ``reconcile_interval`` anyway, which also puts back what was changed by hand at a sink. One loop owns a fleet's plan,
so nothing races it. Decisions are pure functions from ``core``; this file calls them, remembers and delivers.

One placement is over the targets of all shard services of the fleet. The guard judges the scrapers once, and the lists of
each service by themselves: a service whose lists are doubted keeps its last ones, one that has no plan yet waits alone.

Promises: nothing is delivered that the guard did not let through; what is in force is saved before it is delivered; a
slice keeps its generation as long as its bytes are the same; what a scraper has is not touched when it leaves the plan; a
target that moves stays with its old owner, if that lives, until the new one scrapes it or the overlap has passed.
Flow: facts come from ``facts.FactBoard``, adapters write them; ``dispatcher`` carries the slices away; ``Fleet`` owns this.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from promring.core.admission import History, Rules
from promring.core.coverage import Seen, Sight
from promring.core.guard import (
    Act,
    Facts,
    Guard,
    Hold,
    Lists,
    ServiceVerdict,
    Verdict,
    Withheld,
    ends_next,
    judge_lists,
    judge_members,
)
from promring.core.handover import (
    Claims,
    Departed,
    Evidence,
    Handover,
    owned_now,
    schedule,
    waiting_for,
    with_seen,
    without_room,
)
from promring.core.joined import FleetPool, FleetShares, part_of, same_owners
from promring.core.placement import capacities
from promring.core.plan import compare, shares
from promring.core.pool import mark_of
from promring.core.preview import fit
from promring.core.recall import recalled
from promring.core.refusals import NOTHING_REFUSED, Refused, refused_now
from promring.core.second import Opinions, Trial
from promring.election.leadership import Leadership
from promring.fleet.couriers import RETRY_FIRST_S
from promring.fleet.decision_log import Held, say_fit, say_opinions
from promring.fleet.departures import Departures
from promring.fleet.dispatcher import Dispatcher
from promring.fleet.facts import FactBoard
from promring.fleet.planner import Planner, same_lists
from promring.fleet.releases import Releases
from promring.fleet.state import Memory, ServiceMemory, Store
from promring.fleet.takeover import TakeOver
from promring.model import Generation, ListMark, Loads, Members, Placement, Plan, Scraper, Slice, TargetPool
from promring.runtime.threads import beside
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics

NO_PLAN = Plan(())
STARTING = Hold("starting", "the first cycle has not run yet")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: a full cycle at the latest after ``interval_s``; changes within ``debounce_s`` are one cycle."""

    interval_s: float = 60.0
    debounce_s: float = 0.2


@dataclass
class ServiceState:
    """What the loop remembers of one shard service from cycle to cycle."""

    guard: Guard
    releases: Releases
    held: Held
    verdict: ServiceVerdict = STARTING
    decided: bool = False
    """Whether there was a plan of it from scrapers that were known then, not just remembered; with other controllers: and
    from sources that have answered.
    """
    fit: Mapping[str, Any] = field(default_factory=dict)
    """What of it has no room."""
    marks: tuple[Mapping[str, TargetPool], Mapping[str, ListMark]] | None = None

    @property
    def lists(self) -> Mapping[str, TargetPool] | None:
        """What the guard lets through; None: nothing."""
        return self.verdict.sources if isinstance(self.verdict, Lists) else None


class Reconciler:
    """Keeps the slices of one fleet true. ``memory`` is what a run before this one left."""

    def __init__(
        self,
        fleet: str,
        *,
        rules: Rules,
        guards: Mapping[str, Guard],
        handover: Handover,
        pace: Pace,
        facts: FactBoard,
        planner: Planner,
        dispatcher: Dispatcher,
        leadership: Leadership,
        store: Store,
        memory: Memory,
        metrics: Metrics,
        log: Logger,
        saved: bool = True,
        policy_changed: bool = False,
        departures: Departures | None = None,
    ) -> None:
        """``guards``: by service. ``saved``: the memory is on disk as it is; ``policy_changed``: it was made under another
        policy.
        """
        self.fleet = fleet
        self.memory = memory
        self._saved = memory if saved else None
        self._policy_changed = policy_changed
        self.departures = departures or Departures((), log=log)
        self.verdict: Verdict = STARTING
        """About the scrapers; about each service's lists: ``services``."""
        self.history: History = memory.history
        """Who counts as alive, and why not who does not."""
        self.planner, self.dispatcher = planner, dispatcher
        self.placement: Placement | None = None
        """Who owns what, of all services, room considered."""
        self.in_force: Placement | None = None
        """``placement``, and further owners who hold on to what they had."""
        self.waiting: set[str] = set()
        """Scrapers that a hand-over waits for: until they are seen scraping what they got."""
        self.no_room: Mapping[str, int] = {}
        """By scraper: targets that it shall not have, and keeps while it lives, since nobody else has room for them."""
        self.opinions = Opinions()
        """Targets that their owners cannot reach, who tries them besides, and which scrapers are sick."""
        self._departed = Departed()
        self._refused = NOTHING_REFUSED
        self._in_force_at = 0.0
        self._sick: frozenset[str] = frozenset()
        self._tried: Mapping[int, Trial] = {}
        self._rules, self._pace, self._handover = rules, pace, handover
        self._leadership = leadership
        pulled = any(delivery.pulled for couriers in dispatcher.couriers.values() for delivery in couriers.deliveries)
        self._calls_sick = leadership.alone or not pulled
        """Not where several controllers serve slices: each would judge for itself, and they must make one plan."""
        self._judge_again_at = 0.0
        self._reign = 0
        self._takeover = TakeOver(needed=not memory.planned)
        self._facts, self._store = facts, store
        self._metrics, self._log = metrics, log.bind(srv_name=fleet)
        self._held = Held(self._log)
        self._releases = Releases(f"fleet:{fleet}", leadership, self._log)
        self.services = {name: self._new(name, guard) for name, guard in guards.items()}
        self._shares: FleetShares | None = None
        self._next_wake = 0.0
        self._waiting_since: float | None = None

    def _new(self, service: str, guard: Guard) -> ServiceState:
        log = self._log if service == self.fleet else self._log.bind(service=service)
        return ServiceState(guard, Releases(service, self._leadership, log), Held(log))

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever. The first cycle is at once: it delivers what the memory holds."""
        while True:
            changed_at = await self._woken()
            await self.cycle(changed_at)

    async def _woken(self) -> float | None:
        """Wait until a fact changed or a cycle is due. Returns when the change came (monotonic), None without one."""
        if await self._facts.wait(max(0.0, self._next_wake - time.monotonic())):
            await self._facts.settle(self._pace.debounce_s)  # what changes together is one cycle
        return self._facts.take()

    async def cycle(self, changed_at: float | None = None) -> None:
        """Once: from the newest facts to every sink."""
        started = time.monotonic()
        self._take_term()
        facts = self.departures.applied(self._facts.newest())
        verdict = self._judge(facts)
        lists = self._lists() if isinstance(verdict, Act) else {}
        if isinstance(verdict, Act) and lists:
            self._sick = frozenset(self.opinions.sick(time.monotonic()))
            ring = await self.planner.listen(self._able(verdict.members, self.memory.drained))
            pool = await self.planner.merge(lists)
            if self.planner.placed is not None and any(not self.memory.of(name).slices for name in lists):
                self._takeover.begin()  # nobody knows yet who has what of the one that is new
            listed = self.listed(verdict.members)
            refused = self._refused_by(verdict.members)
            placed = await self.planner.place(pool, ring, listed, verdict.aside, self.memory.claims, refused)
            await self._hand_over(verdict, facts, lists, placed, changed_at)
        else:
            self.waiting = set()
            self._takeover.held()
        decided = self._decided(facts, acts=bool(lists))
        self._tell_others(decided)
        await self._save()
        await self._deliver(decided)
        self._end_departures()
        for name, service in self.services.items():
            service.decided = name in decided
        self._metrics.reconcile_duration.labels(self.fleet).observe(time.monotonic() - started)

    def _take_term(self) -> None:
        """Go on in the newest epoch, and with what a person had drained at the leader. While that one does not know a
        fleet of this name, which was renamed here first, what is remembered stays.
        """
        term, before = self._leadership, self.memory
        drained = (term.drained or {}).get(self.fleet, before.drained)
        if drained != before.drained:
            before = self.memory = replace(before, drained=drained)
        if term.epoch > before.generation.epoch:  # the same bytes, but receivers shall know who sends them
            generation = Generation(term.epoch, 1 if before.planned else 0)
            self.memory = replace(
                before,
                generation=generation,
                services={
                    name: replace(one, slices={n: replace(s, generation=generation) for n, s in one.slices.items()})
                    for name, one in before.services.items()
                },
            )
            self._log.info("epoch", generation=str(generation), leads=term.leads(), leader=term.leader)
        if term.leads() and not term.alone and term.epoch != self._reign:
            self._reign = term.epoch
            self._takeover.begin()

    # --- decide ------------------------------------------------------------------------------------------------------

    def _judge(self, facts: Facts) -> Verdict:
        """May we act on the facts? What the guard remembers, doubts and wants to see again is kept for it."""
        now = time.monotonic()
        released = self._releases.take(self.verdict.withheld)
        judged = judge_members(facts, self.history, self._rules, now, drained=self.memory.drained, released=released)
        self.history, self._judge_again_at = judged.history, judged.again_at
        self._facts.suspect(judged.suspects)
        self._held.say(judged.verdict)
        self.verdict = judged.verdict
        if isinstance(judged.verdict, Act):
            for name in self.services:
                self._judge_lists(name, facts, now)
        return judged.verdict

    def _judge_lists(self, name: str, facts: Facts, now: float) -> None:
        service, had = self.services[name], self.memory.of(name)
        marks = {} if self._leadership.alone else self._leadership.lists.get(name, {})
        service.verdict = judge_lists(
            facts.services[name],
            service.guard,
            now,
            planned=had.sources if had.slices else None,
            stale=[source for source in marks if self._is_stale(name, source, marks[source])],
            counts={source: mark.targets for source, mark in marks.items()},
            released=service.releases.take(service.verdict.withheld),
        )
        service.held.say(service.verdict)
        self._judge_again_at = min(self._judge_again_at, ends_next(service.verdict, now))

    def _is_stale(self, service: str, source: str, mark: ListMark) -> bool:
        """Whether all we know of ``source`` is a list from before the start, and another one than the last leader had."""
        cell, had = self._facts.services[service].cells.get(source), self.memory.of(service).sources.get(source)
        return cell is not None and not cell.answered and had is not None and mark_of(had) != mark

    def _lists(self) -> dict[str, Mapping[str, TargetPool]]:
        """Of each service the lists to go on with: what the guard lets through, else those of its last plan. A service that
        has neither waits.
        """
        found = {}
        for name, service in self.services.items():
            had = self.memory.of(name)
            if (lists := service.lists) is not None:
                found[name] = lists
            elif had.slices:
                found[name] = had.sources
        return found

    def _decided(self, facts: Facts, *, acts: bool) -> set[str]:
        """The services whose plan is from scrapers that are known, and as good as another controller's."""
        looked = acts and not self._takeover.pending and not facts.members.stale and self._knows_all()
        return {
            name
            for name, service in self.services.items()
            if service.decided or (looked and service.lists is not None and self._knows_enough(name))
        }

    def _knows_all(self) -> bool:
        """Whether nothing of what the last leader placed is missing here: one bound is over all services, so without one of
        them the others have another plan.
        """
        if self._leadership.alone or self._leadership.leads():
            return True
        placed = [name for name in self.services if self._leadership.lists.get(name)]
        return all(self.services[name].lists is not None and self._knows_enough(name) for name in placed)

    def _knows_enough(self, service: str) -> bool:
        """Whether a plan of ours is as good as another controller's: from sources that have answered, or whose remembered
        lists are those of the last leader. Who leads has to do with what it has.
        """
        board = self._facts.services[service]
        if self._leadership.alone or self._leadership.leads() or (self._facts.members.answered and board.answered):
            return True
        marks, had = self._leadership.lists.get(service, {}), self.memory.of(service).sources
        silent = [name for name, cell in board.cells.items() if not cell.answered]
        return all(name in marks and name in had and mark_of(had[name]) == marks[name] for name in silent)

    def listed(self, members: Members) -> Members:
        """Who is listed, alive or not, with the share that each has when it lives: what a plan for ``members`` is made over.
        Who was taken out of the configuration is not.
        """
        departing = {s.id for s in self.departures.remembered}
        every = {s.id: replace(s, draining=False) for s in (*self._facts.listed, *members) if s.id not in departing}
        every |= {s.id: replace(s, weight=0.0) for s in members if s.id in departing}
        return tuple(sorted(every.values()))

    def would_have(self, drained: frozenset[str]) -> Members:
        """The scrapers that the next plan would be made for, were these drained; weight 0: in the plan, and gets nothing."""
        return self._able(self.history.members, drained)

    def _able(self, members: Members, drained: frozenset[str]) -> Members:
        """The members, with weight 0 for those that shall get nothing: the drained, the sick, and who cannot be reached."""
        cut_off = self.dispatcher.cut_off | self.opinions.sick(time.monotonic()).keys()
        failing = frozenset(s.id for s in members if s.id in cut_off)
        able = {s.id for s in members if s.able and s.id not in drained}
        if len(failing) * 2 > len(members) or able <= failing:  # when most fail, it is not them
            failing = frozenset()
        off = drained | failing | {s.id for s in members if s.draining}
        if off.isdisjoint(s.id for s in members):
            return members
        return tuple(replace(s, weight=0.0) if s.id in off else s for s in members)

    def _refused_by(self, members: Members) -> Refused:
        """Who takes the slices of some services and not of others, and what it has of those."""
        pairs, claims = self.dispatcher.refusing, self.memory.claims
        self._refused = refused_now(pairs, self._refused, members, claims, self.dispatcher.taken, self._facts.seen)
        return self._refused

    async def _hand_over(
        self,
        verdict: Act,
        facts: Facts,
        lists: Mapping[str, Mapping[str, TargetPool]],
        placed: Placement,
        changed_at: float | None,
    ) -> None:
        """Towards ``placed``: new slices when there is another plan, or a step of a hand-over is due."""
        self._takeover.may_act()
        opinions, known = self.opinions, self.planner.placed
        looked = self._takeover.has_looked(self._facts.looked_at, can_look=self._handover.confirm)
        if placed is not known or self.memory.claims.held or opinions.trials != self._tried or looked:
            weights = {s.id: s.weight for s in verdict.members}
            most = capacities([weights.get(s.id) or 1.0 for s in placed.scrapers], self.planner.policy)
            wanted = opinions.applied(placed, most)
            before, live, now_s = self.memory.claims, {s.id for s in placed.scrapers}, time.monotonic()
            departed = self._departed
            before = departed.back(before, live, now_s)
            claims, in_force = await beside(lambda: self._schedule(wanted, most, placed, before, looked=looked))
            now = await beside(lambda: _fleet_shares(in_force))
            slices = await beside(lambda: self._slices(in_force, now))
            plan = await beside(lambda: self._compare(known, placed)) if placed is not known else NO_PLAN
            owned = await beside(lambda: owned_now(claims, placed))
            self._put_in_force(verdict, facts, lists, owned, plan, claims, slices)
            self.planner.placed = placed
            self._departed = departed.and_then(before, live, now_s)
            self.waiting, self.no_room = await beside(lambda: (waiting_for(claims, wanted), without_room(claims, wanted)))
            self._shares, self._tried = now, opinions.trials
            if self.in_force is None or not _same_owners(self.in_force, in_force):
                self.in_force = in_force
            self._waiting_since = self._waiting_since or changed_at
            if looked:
                self._takeover.done()
        self.waiting |= self.departures.emptied
        if self._takeover.pending:
            self.waiting |= {s.id for s in placed.scrapers}
        if self.waiting and self._handover.confirm:
            self._facts.ask_for_look()

    def _compare(self, known: Placement | None, placed: Placement) -> Plan:
        """With the placement before, or what is remembered of it."""
        if known is None and self.memory.planned:
            known = recalled(self.memory.claims, placed.pool)
        return compare(known, placed)

    def _schedule(
        self, wanted: Placement, most: Loads | None, placed: Placement, before: Claims, *, looked: bool
    ) -> tuple[Claims, Placement]:
        """Who has what in its slice: the owners, and those who hold on to what they had ``before`` until the owners scrape
        it. With ``looked`` that is also what another leader gave them.
        """
        facts, dispatcher, now = self._facts, self.dispatcher, time.monotonic()
        before = with_seen(before, facts.seen, placed.pool, facts.intervals.keys()) if looked else before
        evidence = Evidence(facts.seen, dispatcher.taken, facts.silent, facts.answering, dispatcher.pushes, facts.intervals)
        replicas = placed.owners.shape[1]
        return schedule(wanted, before, evidence, self._handover, now, replicas=replicas, capacities=most)

    def _slices(self, placement: Placement, now: FleetShares) -> dict[str, dict[str, Slice]]:
        """By service the slice of every live scraper, ``[]`` for one without targets; the old one where the bytes are the
        same. Only those that changed are put together.
        """
        generation = Generation(self.memory.generation.epoch, self.memory.generation.n + 1)
        before = {s.id: i for i, s in enumerate(self.in_force.scrapers)} if self.in_force else {}
        result = {}
        for name in now.pool.names:
            old = self.memory.of(name).slices
            if self.in_force is not None and same_owners(self.in_force, placement, name) and len(old) == len(before):
                result[name] = dict(old)
                continue
            result[name] = {
                scraper.id: self._slice(name, index, scraper, generation, before.get(scraper.id), now)
                for index, scraper in enumerate(placement.scrapers)
            }
        return result

    def _slice(
        self, service: str, index: int, scraper: Scraper, generation: Generation, was: int | None, now: FleetShares
    ) -> Slice:
        """``was``: the number of the scraper in the placement before."""
        old = self.memory.of(service).slices.get(scraper.id)
        if old is not None and not _same_place(old.scraper, scraper):
            old = None
        if old and self._shares and was is not None and now.unchanged(index, self._shares, was, service):
            return old
        body = now.body(index, service)
        if old is not None and old.body == body:
            return old
        return Slice(service, scraper, generation, body, len(now.of(index, service)))

    # --- act ---------------------------------------------------------------------------------------------------------

    def _put_in_force(
        self,
        verdict: Act,
        facts: Facts,
        lists: Mapping[str, Mapping[str, TargetPool]],
        placement: Placement,
        plan: Plan,
        claims: Claims,
        slices: Mapping[str, Mapping[str, Slice]],
    ) -> None:
        """From here on ``slices`` is what sinks shall hold."""
        before, scrapers_before = self.memory, self.placement.scrapers if self.placement else ()
        changed = [s for name, some in slices.items() for n, s in some.items() if s is not before.of(name).slices.get(n)]
        if plan is NO_PLAN and not changed and claims == before.claims:
            return  # nothing of a hand-over was due
        generation = max((s.generation for s in changed), default=before.generation)
        self.placement, self._in_force_at = placement, time.monotonic()
        self.memory = replace(
            before,
            members=verdict.members,
            services={name: _of_service(name, lists, some, facts) for name, some in slices.items()},
            generation=generation,
            claims=claims,
            history=self.history,
            members_at=facts.members.good_at,
            catalogue=self._facts.listed,
        )
        if changed or (self._policy_changed and plan.moves):
            reason = "handover" if self.opinions.trials == self._tried else "second_opinion"
            if plan is not NO_PLAN:
                reason = _why(before, self.memory, scrapers_before, placement, policy_changed=self._policy_changed)
            self._metrics.reshards.labels(self.fleet, reason).inc()
            self._metrics.targets_moved.labels(self.fleet).inc(plan.moved)
            self._log.info(
                "reshard",
                reason=reason,
                generation=str(generation),
                scrapers=len(placement.scrapers),
                targets=len(placement.pool),
                moved=plan.moved,
                held=claims.held,
                slices_changed=len(changed),
            )
        self._policy_changed = False
        self._say_fit(placement)
        had = {s.scraper.id for s in before.every_slice}
        if left := sorted(had - {s.id for s in placement.scrapers}):
            self._log.info("slices_left", scrapers=",".join(left), note="they keep what they have")

    def _say_fit(self, placement: Placement) -> None:
        for name, service in self.services.items():
            if (part := part_of(placement, name)) is not None:
                found = fit(part)
                log = self._log if name == self.fleet else self._log.bind(service=name)
                say_fit(log, service.fit, found)
                service.fit = found

    def _tell_others(self, decided: set[str]) -> None:
        """As the leader: what the plan is made of, so that none of the other controllers leads with less."""
        if self._leadership.alone or not self._leadership.leads():
            return
        for name in decided:
            service, had = self.services[name], self.memory.of(name)
            if not had.slices or service.lists is None:
                continue
            if service.marks is None or not same_lists(service.marks[0], had.sources):
                service.marks = had.sources, {source: mark_of(pool) for source, pool in had.sources.items()}
            self._leadership.made_of(name, service.marks[1])

    async def _save(self) -> None:
        """What is in force, before it is delivered, so that a restart does not go back. Failures are tried again."""
        if self.memory is self._saved:
            return
        memory = self.memory
        try:
            await self._store.save(memory)
            self._saved = memory
        except OSError as error:  # the sinks matter more than the memory
            self._metrics.state_failures.labels(self.fleet).inc()
            self._log.error("state_not_saved", error=str(error))

    async def _deliver(self, decided: set[str]) -> None:
        """Give the sinks what is in force, and say when to look again: after a failure soon."""
        term = self._leadership
        slices = {name: list(self.memory.of(name).slices.values()) for name in self.services}
        looked = not self._takeover.pending and (term.alone or term.epoch == self._reign)  # else we lead since a moment ago
        delivered = await self.dispatcher.deliver(slices, decided, pushes=looked)
        now = time.monotonic()
        if self._waiting_since is not None and all(delivered.values()) and (looked or not term.leads()):
            self._metrics.delivery_lag.labels(self.fleet).observe(now - self._waiting_since)
            self._waiting_since = None
        ends = self.memory.claims.ends_next
        if ends <= now:  # its time is over, and it waits for something that is seen or delivered
            ends = float("inf") if self._handover.confirm else now + RETRY_FIRST_S
        ends = min([max(ends, now + RETRY_FIRST_S), *(one.until for one in self.opinions.sick(now).values())])
        if self._takeover.pending and isinstance(self.verdict, Act):
            ends = min(ends, max(self._takeover.ends_at, now + RETRY_FIRST_S))
        self._next_wake = min(now + self.dispatcher.again_in(self._pace.interval_s), ends, self._judge_again_at)

    def _end_departures(self) -> None:
        """Those that were taken out of the list and have nothing left, or died, are in the plan no more."""
        ended = {s.id for s in self.departures.end(self.memory.targets(), self.dispatcher.reached_by_all, self._facts.seen)}
        if ended:
            standings = {name: one for name, one in self.history.standings.items() if name not in ended}
            self.history = replace(self.history, standings=standings)
            members = tuple(s for s in self.memory.members if s.id not in ended)
            self.memory = replace(self.memory, members=members, history=self.history)
            self._facts.ring()
        if self.departures.remembered != self.memory.departing:
            self.memory = replace(self.memory, departing=self.departures.remembered)

    def receive(self, sight: Sight) -> None:
        """What scrapers were seen doing."""
        if sight.placement is self.in_force:
            self.dispatcher.saw(sight, self._in_force_at)
        self._facts.put_sight(sight, awaited=bool(self.waiting))

    async def look_at(self, seen: Mapping[str, Seen]) -> None:
        """All scrapers were looked at: what cannot be reached gets a second opinion, and so does who reaches little."""
        placement, ring = self.placement, self.planner.ring
        if placement is None or ring is None or placement.scrapers != ring.scrapers:
            return  # they changed meanwhile
        before = self.opinions
        self.opinions = await beside(lambda: before.judged(placement, ring, seen, time.monotonic()))
        if not self._calls_sick:
            self.opinions = replace(self.opinions, scrapers={})
        say_opinions(self._log, before, self.opinions, time.monotonic())
        sick = frozenset(self.opinions.sick(time.monotonic()))
        if self.opinions.trials.keys() != before.trials.keys() or sick != self._sick:
            self._facts.ring()

    # --- what a person asks for --------------------------------------------------------------------------------------

    @property
    def saved(self) -> bool:
        """Whether what is in force, and what is drained, survives a restart."""
        return self.memory is self._saved

    def drain(self, scraper: str, *, back: bool = False) -> None:
        """Take everything from ``scraper``, make before break; ``back``: let it have its share again. Only where we lead."""
        drained = self.memory.drained - {scraper} if back else self.memory.drained | {scraper}
        if drained != self.memory.drained:
            self._log.info("undrain" if back else "drain", scraper=scraper)
            self.memory = replace(self.memory, drained=drained)
            if not self._leadership.alone:
                self._leadership.drain(self.fleet, drained)
            self._facts.ring()

    def release(self, service: str | None = None) -> list[Withheld]:
        """Take for right what is held of the scrapers, or of the lists of a ``service``. In a fleet that is a service's own
        it is one: what is let go by it, empty when nothing is held that could be.
        """
        let_go = []
        if service is None or (service == self.fleet and len(self.services) == 1):
            let_go += self._releases.release(self.verdict.withheld)
        if (state := self.services.get(service or self.fleet)) is not None:
            let_go += state.releases.release(state.verdict.withheld)
        if let_go:
            self._facts.ring()
        return let_go


def _of_service(
    name: str, lists: Mapping[str, Mapping[str, TargetPool]], slices: Mapping[str, Slice], facts: Facts
) -> ServiceMemory:
    times = {source: fact.good_at for source, fact in facts.services.get(name, {}).items()}
    return ServiceMemory(dict(lists[name]), slices, times)


def _fleet_shares(in_force: Placement) -> FleetShares:
    assert isinstance(in_force.pool, FleetPool)  # the planner makes no others
    return FleetShares(in_force.pool, shares(in_force))


def _why(before: Memory, after: Memory, scrapers: Members, placement: Placement, *, policy_changed: bool = False) -> str:
    """Which fact made the plan another one."""
    if not before.planned:
        return "initial"
    if policy_changed:
        return "policy"
    if before.members != after.members:
        same = [replace(s, draining=False) for s in before.members] == [replace(s, draining=False) for s in after.members]
        return "drain" if same else "policy" if _same_places(before.members, after.members) else "scrapers"
    if scrapers and scrapers != placement.scrapers:
        return "drain"
    lists = [{name: list(one.sources.items()) for name, one in m.services.items()} for m in (before, after)]
    return "policy" if lists[0] == lists[1] else "targets"  # a reload reads equal lists


def _same_places(one: Members, other: Members) -> bool:
    """The same scrapers, whatever their zone and weight."""
    return len(one) == len(other) and all(map(_same_place, one, other))


def _same_owners(one: Placement, other: Placement) -> bool:
    return one.pool is other.pool and one.scrapers == other.scrapers and np.array_equal(one.owners, other.owners)


def _same_place(one: Scraper, other: Scraper) -> bool:
    return (one.id, one.host, one.port) == (other.id, other.host, other.port)
