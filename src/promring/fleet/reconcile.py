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
Flow: facts come from ``facts.FactBoard``, adapters write them; ``judge`` asks the guard, ``planner`` places, ``moves`` makes
the hand-over and the slices, ``dispatcher`` carries them away. ``Fleet`` owns all of this.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from promring.core.coverage import Seen
from promring.core.eligible import entitled, listed
from promring.core.evidence import Handover
from promring.core.second_opinion import SecondOpinions
from promring.core.standing import History, Rules
from promring.core.verdicts import Act, Facts, Guard, Verdict, Withheld
from promring.election.leadership import Leadership
from promring.fleet.decision_log import say_reshard, why_reshard
from promring.fleet.departures import Departures
from promring.fleet.dispatcher import Dispatcher
from promring.fleet.facts import FactBoard, Pace
from promring.fleet.health import ScraperHealth
from promring.fleet.judge import Judge, ServiceState
from promring.fleet.keeper import Keeper
from promring.fleet.moves import NO_MOVES, Moves, Step
from promring.fleet.planner import Lists, Planner
from promring.fleet.slicing import changed_slices, service_memory
from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.fleet.term import Term
from promring.fleet.timeline import reshard_of
from promring.fleet.weighing import Weighing
from promring.model import NONE_FAILING, Failing, Members, Placement
from promring.runtime.pulse import Pulse
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics


class Reconciler:
    """Keeps the slices of one fleet true. ``memory`` is what a run before this one left.

    Its attributes are the parts of the loop, about twenty: each has its own memory, and none knows the loop.
    """

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
        weighing: Weighing | None = None,
    ) -> None:
        """``guards``: by service. ``saved``: ``memory`` is on disk. ``policy_changed``: it was made under another policy."""
        log = log.bind(srv_name=fleet)
        self.fleet, self.memory = fleet, memory
        self.planner, self.dispatcher = planner, dispatcher
        self.departures = departures or Departures((), log=log)
        self.judge = Judge(
            fleet, rules=rules, guards=guards, history=memory.history, facts=facts, leadership=leadership, log=log
        )
        self.moves = Moves(handover, facts, dispatcher, log, needs_look=memory.unlooked or not memory.planned)
        self.health = ScraperHealth(memory.opinions, memory.undelivered.aliases, memory.answers, log=log)
        self.weighing = weighing or Weighing(leadership=leadership, wake=facts.wake, log=log)
        self.keeper = Keeper(fleet, store, memory if saved else None, metrics, log)
        self._term, self.pulse = Term(fleet, leadership, log), Pulse(self.stood_still)
        self._facts, self._metrics, self._log, self._pace = facts, metrics, log, pace
        self._policy_changed, self._next_wake, self._whole_at = policy_changed, 0.0, 0.0
        self._waiting_since: float | None = None
        """Since when the oldest change waits to be delivered, monotonic seconds."""

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever. The first cycle is at once: it delivers what the memory holds."""
        while True:
            changed_at = await self._woken()
            await self.cycle(changed_at)
            self.weighing.placement_is_new()

    async def _woken(self) -> float | None:
        """Wait until a fact changed or a cycle is due. Returns when the change came (monotonic), None without one."""
        if await self._facts.wait(max(0.0, self._next_wake - time.monotonic())):
            await self._facts.settle(self._pace.debounce_s)  # what changes together is one cycle
        return self._facts.take()

    async def cycle(self, changed_at: float | None = None) -> None:
        """Once: from the newest facts to every sink."""
        self.pulse.beat()
        started = time.monotonic()
        self.memory = self._term.go_on(self.memory)
        self.memory = self.health.noted(self.memory, self.dispatcher.failing)
        if self._term.begins():
            self.moves.takeover.begin()
        facts = self.departures.applied(self._facts.newest(), self.judge.coming(self._facts.listed, started))
        verdict = self.judge.judge(facts, self.memory, time.monotonic(), self.health.doubts)
        lists = self.judge.lists(self.memory)
        self.moves.takeover.knows(self.judge.behind)
        if isinstance(verdict, Act) and lists:
            placed = await self._place(verdict, lists)
            most = self.planner.capacities(placed, verdict.members)
            step = await self.moves.next_step(placed, self.planner.placed, most, self.opinions, self.memory)
            if step is not None:
                self._put_in_force(step, verdict, facts, lists)
                self._waiting_since = self._waiting_since or changed_at
            self.moves.ask_for_look(placed.scrapers, self.departures.emptied)
        else:
            self.moves.held()
            self._term.tell_held()
        decided = self.judge.decided(facts, self.memory, acts=bool(lists) and not self.moves.takeover.pending)
        self.judge.tell_others(decided, self.memory)
        self.memory = self.judge.noted(self.moves.noted(self.memory))
        await self.keeper.save(self.memory)
        await self._deliver(decided, whole=changed_at is None or started - self._whole_at >= self._pace.interval_s)
        self._end_departures()
        for name, service in self.services.items():
            service.decided = name in decided
        self._metrics.reconcile_duration.labels(self.fleet).observe(time.monotonic() - started)

    def stood_still(self, seconds: float) -> None:
        """So long nobody looked: what has to be so for some time was not seen to be so meanwhile."""
        self._log.warning("stood_still", seconds=round(seconds, 1))
        for part in (self.judge, self._facts, self.dispatcher, self.health, self.moves.takeover, self.departures):
            part.stood_still(seconds)

    # --- decide ------------------------------------------------------------------------------------------------------

    async def _place(self, verdict: Act, lists: Mapping[str, Lists]) -> Placement:
        """Who shall own what, by ring and policy."""
        failing = self._failing(self.health.begin_plan(self._term.idle))
        self._term.tell_failing(failing)
        ring = await self.planner.update_ring(entitled(verdict.members, self.memory.drained, failing))
        pool = await self.planner.merge(lists)
        if self.planner.placed is not None and any(not self.memory.of(name).slices for name in lists):
            self.moves.takeover.begin()  # nobody knows yet who has what of the one that is new
        refused = await self.moves.refused(failing, verdict.members, self.memory.claims, pool, ring)
        members = self.listed(verdict.members)
        self._term.tell_down(members, verdict.members, self.judge.waiting)
        place = partial(self.planner.place, pool, ring, members, verdict.aside, self.memory.claims, refused)
        calm = verdict == Act(verdict.members) and not self._facts.members.fact.stale and not self.moves.takeover.pending
        placed, book = await self.weighing.placed(pool, place, self.memory, self.planner.policy, calm=calm)
        if book is not self.memory.loads:
            self.memory = replace(self.memory, loads=book)
        self._term.tell_loads(self.memory.loads, learnt=self.weighing.learns)
        return placed

    def listed(self, members: Members) -> Members:
        """Who is listed, alive or not: what a plan for ``members`` is made over."""
        return listed(members, self._term.catalogue(self._facts.listed), self.departures.leaving)

    def would_have(self, drained: frozenset[str]) -> Members:
        """The scrapers that the next plan would be made for, were these drained; weight 0: in the plan, and gets nothing."""
        return entitled(self.history.members, drained, self._failing(self.opinions.failing(time.monotonic())))

    def _failing(self, ours: Failing = NONE_FAILING) -> Failing:
        """Who gets nothing, or nothing new of a service, although it lives."""
        return self._term.failing(self.health.found(self.dispatcher.failing, ours), self.dispatcher.has_reached)

    @property
    def nameless(self) -> Mapping[str, str]:
        """Who gets nothing, being another name of a server: the name by which that gets its slices."""
        return self._failing().nameless(s.id for s in self.history.members)

    # --- act ---------------------------------------------------------------------------------------------------------

    def _put_in_force(self, step: Step, verdict: Act, facts: Facts, lists: Mapping[str, Lists]) -> None:
        """From here on the slices of ``step`` are what sinks shall hold."""
        self.memory = before = self.memory.after_leaving(step.departed)
        placed_before = self.placement
        some = changed_slices(before, step.slices)
        changed = step.plan is not NO_MOVES or bool(some) or step.claims != before.claims
        trials_changed, failing_changed = step.trials != self.moves.tried, step.failing != self.moves.failing
        self.moves.made(step, changed=changed)
        known, self.planner.placed = self.planner.placed, step.placed
        if not changed:
            return  # nothing of a hand-over was due
        self.memory = replace(
            before,
            members=verdict.members,
            services={name: service_memory(name, lists, slices, facts) for name, slices in step.slices.items()},
            generation=max((s.generation for s in some), default=before.generation),
            claims=step.claims,
            history=self.history,
            members_at=facts.members.good_at,
            catalogue=self._facts.listed,
        )
        reason = "second_opinion" if trials_changed else "handover"
        if step.plan is not NO_MOVES:
            scrapers_before = placed_before.scrapers if placed_before else ()
            too = {"policy_changed": self._policy_changed, "failing_changed": failing_changed}
            too["loads_changed"] = known is not None and known.loads is not step.placed.loads
            reason = why_reshard(before, self.memory, scrapers_before, step.owned, **too)
        self._remember(step, reason, placed_before, {s.scraper.id for s in before.every_slice}, len(some))
        if some or (self._policy_changed and step.plan.moves):
            self._say_reshard(step, reason, len(some))
        self._policy_changed = False
        self.judge.say_fit(step.owned)
        if left := sorted({s.scraper.id for s in before.every_slice} - {s.id for s in step.owned.scrapers}):
            self._log.info("slices_left", scrapers=",".join(left), note="they keep what they have")

    def _remember(self, step: Step, reason: str, before: Placement | None, had: set[str], slices_changed: int) -> None:
        """For people; also a plan that changed no slice, as when a scraper dies before it was given anything."""
        timeline, generation, held, now = self.memory.timeline, self.memory.generation, step.claims.held, time.time()
        if slices_changed:
            timeline.made(generation, now)
        if step.plan is not NO_MOVES:
            said = reshard_of(
                now, reason, generation, before, step.owned, step.plan, slices=had, held=held, slices_changed=slices_changed
            )
            timeline.add(said, step.plan)
        timeline.holding(held, now)

    def _say_reshard(self, step: Step, reason: str, slices_changed: int) -> None:
        self._metrics.reshards.labels(self.fleet, reason).inc()
        self._metrics.targets_moved.labels(self.fleet).inc(step.plan.moved)
        counts = {"moved": step.plan.moved, "held": step.claims.held, "slices_changed": slices_changed}
        say_reshard(self._log, reason, self.memory.generation, step.owned, **counts)

    async def _deliver(self, decided: set[str], *, whole: bool) -> None:
        """Give the sinks what is in force, and say when to look again: after a failure soon. ``whole``: look at the sinks of
        what has not changed, too.
        """
        self._whole_at = time.monotonic() if whole else self._whole_at
        slices = {name: self.moves.to_deliver(name, self.memory.of(name).slices) for name in self.services}
        looked = not self.moves.takeover.pending and not self._term.is_new
        await self.dispatcher.withdraw(self.judge.behind)
        delivered = await self.dispatcher.deliver(slices, decided, pushes=looked, whole=whole)
        now = time.monotonic()
        if self._waiting_since is not None and all(delivered.values()) and (looked or not self._term.leadership.leads()):
            self._metrics.delivery_lag.labels(self.fleet).observe(now - self._waiting_since)
            self._waiting_since = None
        self._next_wake = min(
            now + self.dispatcher.again_in(self._pace.interval_s),
            self._whole_at + self._pace.interval_s,
            self.moves.ends_next(self.memory.claims, now),
            self.health.ends_next,
            self.judge.again_at,
            self.departures.wakes_at,
            self.weighing.wakes_at,
        )

    def _end_departures(self) -> None:
        """Those that were taken out of the list and have nothing left, or died, are in the plan no more."""
        ended: set[str] = set()
        if self.departures.scrapers:
            targets = {**dict.fromkeys((s.id for s in self.memory.members), 0), **self.memory.targets()}
            reached = self.dispatcher.reached_by_all
            follows = self._term.leadership.hears()
            ended = {s.id for s in self.departures.end(targets, reached, self._facts.seen, follows=follows)}
        if ended:
            self.judge.forget(ended)
            members = tuple(s for s in self.memory.members if s.id not in ended)
            self.memory = replace(self.memory, members=members, history=self.history)
            self._facts.wake()
        if self.departures.remembered != self.memory.departing:
            self.memory = replace(self.memory, departing=self.departures.remembered)

    # --- what the audit saw ------------------------------------------------------------------------------------------

    async def look_at(self, seen: Mapping[str, Seen]) -> None:
        """All scrapers were looked at: what cannot be reached gets a second opinion, and so does who reaches little."""
        placement, ring, claims = self.placement, self.planner.ring, self.memory.claims
        if placement is None or ring is None or placement.scrapers != ring.scrapers:
            return  # they changed meanwhile
        most = self.planner.capacities(placement, self.memory.members)
        if await self.health.look(placement, ring, seen, claims, self.dispatcher.offered, self._facts.intervals, most):
            self.memory = replace(self.memory, opinions=self.opinions)
            self._facts.wake()

    # --- what a person asks for --------------------------------------------------------------------------------------

    def drain(self, scraper: str, *, back: bool = False) -> None:
        """Take everything from ``scraper``, make before break; ``back``: let it have its share again. Only where we lead."""
        drained = self.memory.drained - {scraper} if back else self.memory.drained | {scraper}
        if drained != self.memory.drained:
            self._log.info("undrain" if back else "drain", scraper=scraper)
            self.memory = replace(self.memory, drained=drained)
            self._term.tell_drained(drained)
            self._facts.wake()

    def release(self, service: str | None = None) -> list[Withheld]:
        """Take for right what is held of the scrapers, or of the lists of a ``service``: what is let go by it."""
        let_go = self.judge.release(service)
        if let_go:
            self._facts.wake()
        return let_go

    # --- what others read --------------------------------------------------------------------------------------------

    @property
    def saved(self) -> bool:
        """Whether what is in force, and what is drained, survives a restart."""
        return self.keeper.has(self.memory)

    @property
    def verdict(self) -> Verdict:
        """About the scrapers; about the lists of a service: ``services``."""
        return self.judge.verdict

    @property
    def history(self) -> History:
        """Who counts as alive, and why not who does not."""
        return self.judge.history

    @property
    def services(self) -> Mapping[str, ServiceState]:
        return self.judge.services

    @property
    def opinions(self) -> SecondOpinions:
        return self.health.opinions

    @property
    def placement(self) -> Placement | None:
        """Who owns what, of all services, room considered."""
        return self.moves.placement

    @property
    def in_force(self) -> Placement | None:
        """``placement``, and further owners who hold on to what they had."""
        return None if self.moves.in_force is None else self.moves.in_force.placement
