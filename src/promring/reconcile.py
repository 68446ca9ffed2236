"""The loop of one shard service. Read this file first: it is promring from top to bottom.

    facts -> guard -> ring -> placement -> hand-over -> slices -> state on disk -> deliveries

It is level-triggered: a changed fact only wakes it; each cycle computes everything from the newest facts, and a cycle runs
every ``reconcile_interval`` anyway, which also puts back what was changed by hand at a sink. One loop owns a service's
plan, so nothing races it. Decisions are pure functions from ``core``; this file calls them, remembers and delivers.

Promises: nothing is delivered that the guard did not let through; what is in force is saved before it is delivered; a
slice keeps its generation as long as its bytes are the same; what a scraper has is not touched when it leaves the plan; a
target that moves stays with its old owner, if that lives, until the new one scrapes it or the overlap has passed.
Flow: facts come from ``facts.FactBoard``, adapters write them; deliveries carry the slices away; ``service`` owns this.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from promring.core.admission import NOBODY_ASIDE, Aside, History
from promring.core.aside import place_around
from promring.core.coverage import Seen, Sight
from promring.core.guard import RELEASABLE, Act, Facts, Guard, Hold, Verdict, Withheld, judge
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
from promring.core.placement import Policy, capacities
from promring.core.plan import Shares, compare, shares, unchanged
from promring.core.pool import mark_of, merge
from promring.core.preview import fit
from promring.core.recall import recalled
from promring.core.ring import TOKENS_MOST, Ring
from promring.core.second import Opinions, Trial
from promring.couriers import RETRY_FIRST_S, Couriers
from promring.delivery import Delivery
from promring.departures import Departures
from promring.facts import FactBoard
from promring.leadership import Leadership
from promring.log import Logger, difference
from promring.metrics import Metrics
from promring.model import Generation, LetGo, ListMark, Loads, Members, Placement, Plan, Scraper, Slice, TargetPool
from promring.narration import Held, say_fit, say_opinions
from promring.retirement import Retirement
from promring.state import Memory, Store
from promring.threads import beside

NO_PLAN = Plan(())
LOOK_S = 3.0
"""So long the leader of several waits at most to see what the scrapers have, before it changes anything."""
NOT_YET = float("inf")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: a full cycle at the latest after ``interval_s``; changes within ``debounce_s`` are one cycle."""

    interval_s: float = 60.0
    debounce_s: float = 0.2


class Reconciler:
    """Keeps the slices of one shard service true. ``memory`` is what a run before this one left."""

    def __init__(
        self,
        service: str,
        *,
        guard: Guard,
        policy: Policy,
        handover: Handover,
        hash_labels: Sequence[str] | None,
        zone_label: str | None,
        pace: Pace,
        facts: FactBoard,
        deliveries: Sequence[Delivery],
        leadership: Leadership,
        store: Store,
        memory: Memory,
        metrics: Metrics,
        log: Logger,
        saved: bool = True,
        policy_changed: bool = False,
        departures: Departures | None = None,
        retirement: Retirement | None = None,
    ) -> None:
        """``saved``: the memory is on disk as it is; ``policy_changed``: it was made under another policy."""
        self.service = service
        self.memory = memory
        self._saved = memory if saved else None
        self._policy_changed = policy_changed
        self.departures = departures or Departures((), log=log)
        self.retirement = retirement or Retirement((), log=log)
        self.verdict: Verdict = Hold("starting", "the first cycle has not run yet")
        self.history: History = memory.history
        """Who counts as alive, and why not who does not."""
        self.placement: Placement | None = None
        """Who owns what, room considered."""
        self._placed: Placement | None = None
        """The same by ring and policy alone."""
        self.ring: Ring | None = Ring(memory.members, policy.virtual_nodes) if memory.members else None
        self.in_force: Placement | None = None
        """``placement``, and further owners who hold on to what they had."""
        self.waiting: set[str] = set()
        """Scrapers that a hand-over waits for: until they are seen scraping what they got."""
        self.no_room: Mapping[str, int] = {}
        """By scraper: targets that it shall not have, and keeps while it lives, since nobody else has room for them."""
        self.opinions = Opinions()
        """Targets that their owners cannot reach, who tries them besides, and which scrapers are sick."""
        self._departed = Departed()
        self._in_force_at = 0.0
        self._sick: frozenset[str] = frozenset()
        self._tried: Mapping[int, Trial] = {}
        self._aside = NOBODY_ASIDE
        self.decided = False
        """Whether there was a plan from scrapers that were known then, not just remembered; with other controllers: and from
        sources that have answered.
        """
        self.policy, self._hash_labels, self._zone_label, self._pace = policy, hash_labels, zone_label, pace
        self._guard, self._handover = guard, handover
        self._leadership = leadership
        self._calls_sick = leadership.alone or not any(delivery.pulled for delivery in deliveries)
        """Not where several controllers serve slices: each would judge for itself, and they must make one plan."""
        self._marks: tuple[Mapping[str, TargetPool], Mapping[str, ListMark]] | None = None
        self._released: tuple[LetGo, ...] = ()
        self._shared: tuple[LetGo, ...] = ()
        self._used: set[str] = set()
        self._judge_again_at = 0.0
        self._reign = 0
        self._look_since: float | None = None if memory.slices else NOT_YET
        """Since when we lead, or know nothing, without having seen what the leader before us, or we, gave to whom; None: we
        need not know it.
        """
        self._facts, self._store = facts, store
        self._metrics, self._log = metrics, log.bind(srv_name=service)
        self._held = Held(self._log)
        self.couriers = Couriers(service, deliveries, leadership, facts.ring, metrics, self._log)
        self._heard: Members | None = None
        self._shares: Shares | None = None
        self._pool: tuple[Mapping[str, TargetPool], TargetPool] | None = None
        self.fit: Mapping[str, Any] = {}
        self._next_wake = 0.0
        self._waiting_since: float | None = None

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever. The first cycle is at once: it delivers what the memory holds."""
        while True:
            changed_at = await self._woken()
            await self.cycle(changed_at)

    async def _woken(self) -> float | None:
        """Wait until a fact changed or a cycle is due. Returns when the change came (monotonic), None without one."""
        if await self._facts.wait(max(0.0, self._next_wake - time.monotonic())):
            await asyncio.sleep(self._pace.debounce_s)  # what changes together is one cycle
        return self._facts.take()

    async def cycle(self, changed_at: float | None = None) -> None:
        """Once: from the newest facts to every sink."""
        started = time.monotonic()
        self._take_term()
        facts = self.departures.applied(self._facts.newest())
        verdict = self._judge(facts)
        if isinstance(verdict, Act):
            self._sick = frozenset(self.opinions.sick(time.monotonic()))
            ring = await self._listen(self._able(verdict.members, self.memory.drained))
            pool = await self._merge(verdict.sources)
            await self._hand_over(verdict, facts, await self._place(pool, ring, verdict.aside), changed_at)
        else:
            self._wait_for_nobody()
        acts = isinstance(verdict, Act)
        looked = self.decided or self._look_since is None
        decided = self.decided or (acts and looked and not facts.members.stale and self._knows_enough())
        if acts and decided:
            self._tell_others()
        await self._save()
        await self._deliver(remembered=not decided)
        self._end_departures()
        self.decided = decided
        self._metrics.reconcile_duration.labels(self.service).observe(time.monotonic() - started)

    def _take_term(self) -> None:
        """Go on in the newest epoch, and with what a person had drained at the leader. While that one does not know a
        service of this name, which was renamed here first, what is remembered stays.
        """
        term, before = self._leadership, self.memory
        drained = (term.drained or {}).get(self.service, before.drained)
        if drained != before.drained:
            before = self.memory = replace(before, drained=drained)
        if term.epoch > before.generation.epoch:  # the same bytes, but receivers shall know who sends them
            generation = Generation(term.epoch, 1 if before.slices else 0)
            slices = {name: replace(s, generation=generation) for name, s in before.slices.items()}
            self.memory = replace(before, generation=generation, slices=slices)
            self._log.info("epoch", generation=str(generation), leads=term.leads(), leader=term.leader)
        if term.leads() and not term.alone and term.epoch != self._reign:
            self._reign, self._look_since = term.epoch, NOT_YET

    # --- decide ------------------------------------------------------------------------------------------------------

    def _judge(self, facts: Facts) -> Verdict:
        """May we act on the facts? What the guard remembers, doubts and wants to see again is kept for it."""
        planned = self.memory.sources if self.memory.slices else None
        released, self._released = self._released, ()
        released += self._released_elsewhere()
        drained, now = self.memory.drained, time.monotonic()
        marks = {} if self._leadership.alone else self._leadership.lists.get(self.service, {})
        judged = judge(
            facts,
            self.history,
            self._guard,
            now,
            planned=planned,
            drained=drained,
            stale=[name for name in marks if self._is_stale(name, marks[name])],
            counts={name: mark.targets for name, mark in marks.items()},
            released=released,
        )
        self.history, self._judge_again_at = judged.history, judged.again_at
        self._facts.suspect(judged.suspects)
        self._held.say(judged.verdict)
        self.verdict = judged.verdict
        return judged.verdict

    def _released_elsewhere(self) -> tuple[LetGo, ...]:
        """What a person let go at the leader a moment ago, for one verdict here, too."""
        if self._leadership.leads():
            return ()
        let_go = self._leadership.lately_released(self.service)
        if let_go is not self._shared:
            self._shared, self._used = let_go, set()
        mine = tuple(one for one in let_go if one.reason not in self._used)
        self._used |= {one.reason for one in mine} & {one.reason for one in self.verdict.withheld}
        return mine

    def _is_stale(self, source: str, mark: ListMark) -> bool:
        """Whether all we know of ``source`` is a list from before the start, and another one than the last leader had."""
        cell, had = self._facts.sources.get(source), self.memory.sources.get(source)
        return cell is not None and not cell.answered and had is not None and mark_of(had) != mark

    def _knows_enough(self) -> bool:
        """Whether a plan of ours is as good as another controller's: from sources that have answered, or whose remembered
        lists are those of the last leader. Who leads has to do with what it has.
        """
        if self._leadership.alone or self._leadership.leads() or self._facts.answered:
            return True
        marks, had = self._leadership.lists.get(self.service, {}), self.memory.sources
        silent = [name for name, cell in self._facts.sources.items() if not cell.answered]
        return all(name in marks and name in had and mark_of(had[name]) == marks[name] for name in silent)

    def would_have(self, drained: frozenset[str]) -> Members:
        """The scrapers that the next plan would be made for, were these drained; weight 0: in the plan, and gets nothing."""
        return self._able(self.history.members, drained)

    def _able(self, members: Members, drained: frozenset[str]) -> Members:
        """The members, with weight 0 for those that shall get nothing: the drained, the sick, and who cannot be reached."""
        failing = (self.couriers.cut_off | self.opinions.sick(time.monotonic()).keys()) & {s.id for s in members}
        able = {s.id for s in members if s.able and s.id not in drained}
        if len(failing) * 2 > len(members) or able <= failing:  # when most fail, it is not them
            failing = set()
        off = drained | failing | {s.id for s in members if s.draining}
        if off.isdisjoint(s.id for s in members):
            return members
        return tuple(replace(s, weight=0.0) if s.id in off else s for s in members)

    async def _listen(self, members: Members) -> Ring:
        """Compare the live scrapers with the ring's; when they differ, a new ring replaces the old one whole."""
        if self.ring is None:  # the ring starts from the scrapers that are alive, whatever the configuration lists
            self.ring = await self._make_ring(members)
        old, new = self.ring.members, [s.id for s in members]
        if old != new:
            self._log.info(
                "node_update_reshard",
                old_num=len(old),
                new_num=len(new),
                oldnodes=",".join(old),
                newnodes=",".join(new),
                **difference(old, new),
            )
        elif members != self._heard:
            self._log.info("node_same", nodes=",".join(new))
        if self.ring.scrapers != members:  # other ids, or an id that now stands for another address
            self.ring = await self._make_ring(members)
        self._heard = members
        return self.ring

    async def _make_ring(self, members: Members) -> Ring:
        ring = await beside(lambda: Ring(members, self.policy.virtual_nodes))
        if ring.wanted > TOKENS_MOST:  # weights may come from outside, and nothing ends because of one
            self._log.warning("ring_bounded", wanted=ring.wanted, most=TOKENS_MOST, note="fewer virtual nodes, equal shares")
        return ring

    async def _merge(self, sources: Mapping[str, TargetPool]) -> TargetPool:
        """The pool of all sources; built again only when a source's list is another one."""
        known = self._pool
        if known is not None and _same(known[0], sources):
            return known[1]
        pool = await beside(lambda: merge(list(sources.values()), self._hash_labels, self._zone_label))
        self._pool = (sources, pool)
        if pool.conflicts:
            named = ",".join(pool.conflicts_named)
            self._log.warning("targets_conflict", conflicts=pool.conflicts, among=named, kept="what the first source says")
        return pool

    async def _place(self, pool: TargetPool, ring: Ring, aside: Aside) -> Placement:
        """Who shall own what. A pure function of pool, ring and policy: made of the same ones, it is the same. Those that
        are ``aside`` get nothing new.
        """
        known, before, self._aside = self._placed, self._aside, aside
        if known is not None and known.pool is pool and known.scrapers == ring.scrapers and aside == before:
            return known
        claims = self.memory.claims
        return await beside(lambda: place_around(pool, ring, self.policy, aside, claims))

    async def _hand_over(self, verdict: Act, facts: Facts, placed: Placement, changed_at: float | None) -> None:
        """Towards ``placed``: new slices when there is another plan, or a step of a hand-over is due."""
        if self._look_since == NOT_YET:
            self._look_since = time.monotonic()
        opinions, looked = self.opinions, self._has_looked()
        if placed is not self._placed or self.memory.claims.held or opinions.trials != self._tried or looked:
            weights = {s.id: s.weight for s in verdict.members}
            most = capacities([weights.get(s.id) or 1.0 for s in placed.scrapers], self.policy)
            wanted = opinions.applied(placed, most)
            before, live, now_s = self.memory.claims, {s.id for s in placed.scrapers}, time.monotonic()
            departed = self._departed
            before = departed.back(before, live, now_s)
            claims, in_force = await beside(lambda: self._schedule(wanted, most, placed, before, looked=looked))
            now = await beside(lambda: shares(in_force))
            slices = await beside(lambda: self._slices(in_force, now))
            plan = await beside(lambda: self._compare(placed)) if placed is not self._placed else NO_PLAN
            owned = await beside(lambda: owned_now(claims, placed))
            self._put_in_force(verdict, facts, owned, plan, claims, slices)
            self._placed = placed
            self._departed = departed.and_then(before, live, now_s)
            self.waiting, self.no_room = await beside(lambda: (waiting_for(claims, wanted), without_room(claims, wanted)))
            self._shares, self._tried = now, opinions.trials
            if self.in_force is None or not _same_owners(self.in_force, in_force):
                self.in_force = in_force
            self._waiting_since = self._waiting_since or changed_at
            self._look_since = None if looked else self._look_since
        self.waiting |= self.departures.emptied
        if self._look_since is not None:
            self.waiting |= {s.id for s in placed.scrapers}
        if self.waiting and self._handover.confirm:
            self._facts.ask_for_look()

    def _compare(self, placed: Placement) -> Plan:
        """With the placement before, or what is remembered of it."""
        before = self._placed
        if before is None and self.memory.slices:
            before = recalled(self.memory.claims, placed.pool)
        return compare(before, placed)

    def _wait_for_nobody(self) -> None:
        """Held: nobody is asked meanwhile, and a look begins when we act again."""
        self.waiting = set()
        if self._look_since is not None:
            self._look_since = NOT_YET

    def _has_looked(self) -> bool:
        """Whether it is seen now what the scrapers have, after another one led: or cannot be."""
        since = self._look_since
        if since is None:
            return False
        return self._facts.looked_at >= since or not self._handover.confirm or time.monotonic() >= since + LOOK_S

    def _schedule(
        self, wanted: Placement, most: Loads | None, placed: Placement, before: Claims, *, looked: bool
    ) -> tuple[Claims, Placement]:
        """Who has what in its slice: the owners, and those who hold on to what they had ``before`` until the owners scrape
        it. With ``looked`` that is also what another leader gave them.
        """
        facts, now = self._facts, time.monotonic()
        before = with_seen(before, facts.seen) if looked else before
        evidence = Evidence(facts.seen, self.couriers.taken, facts.silent, facts.answering, self.couriers.pushes)
        replicas = placed.owners.shape[1]
        return schedule(wanted, before, evidence, self._handover, now, replicas=replicas, capacities=most)

    def _slices(self, placement: Placement, now: Shares) -> dict[str, Slice]:
        """The slice of every live scraper, ``[]`` for one without targets; the old one where the bytes are the same. Only
        those that changed are put together.
        """
        generation = Generation(self.memory.generation.epoch, self.memory.generation.n + 1)
        before = {s.id: i for i, s in enumerate(self.in_force.scrapers)} if self.in_force else {}
        result = {}
        for index, scraper in enumerate(placement.scrapers):
            old = self.memory.slices.get(scraper.id)
            if old is not None and not _same_place(old.scraper, scraper):
                old = None
            if old and self._shares and scraper.id in before and unchanged(self._shares, before[scraper.id], now, index):
                result[scraper.id] = old
                continue
            body = now.body(index)
            same = old is not None and old.body == body
            result[scraper.id] = old if old and same else Slice(self.service, scraper, generation, body, now.count(index))
        return result

    # --- act ---------------------------------------------------------------------------------------------------------

    def _put_in_force(
        self,
        verdict: Act,
        facts: Facts,
        placement: Placement,
        plan: Plan,
        claims: Claims,
        slices: Mapping[str, Slice],
    ) -> None:
        """From here on ``slices`` is what sinks shall hold."""
        before, scrapers_before = self.memory, self.placement.scrapers if self.placement else ()
        changed = [s for name, s in slices.items() if s is not before.slices.get(name)]
        if plan is NO_PLAN and not changed and claims == before.claims:
            return  # nothing of a hand-over was due
        generation = max((s.generation for s in changed), default=before.generation)
        self.placement, self._in_force_at = placement, time.monotonic()
        self.memory = replace(
            before,
            members=verdict.members,
            sources=dict(verdict.sources),
            slices=slices,
            generation=generation,
            claims=claims,
            history=self.history,
            members_at=facts.members.good_at,
            sources_at={name: fact.good_at for name, fact in facts.sources.items()},
        )
        if changed or (self._policy_changed and plan.moves):
            reason = "handover" if self.opinions.trials == self._tried else "second_opinion"
            if plan is not NO_PLAN:
                reason = _why(before, self.memory, scrapers_before, placement, policy_changed=self._policy_changed)
            self._metrics.reshards.labels(self.service, reason).inc()
            self._metrics.targets_moved.labels(self.service).inc(plan.moved)
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
        found = fit(placement)
        say_fit(self._log, self.fit, found)
        self.fit = found
        if left := sorted(before.slices.keys() - slices.keys()):
            self._log.info("slices_left", scrapers=",".join(left), note="they keep what they have")

    def _tell_others(self) -> None:
        """As the leader: what the plan is made of, so that none of the other controllers leads with less."""
        if self._leadership.alone or not self._leadership.leads() or not self.memory.slices:
            return
        if self._marks is None or not _same(self._marks[0], self.memory.sources):
            self._marks = self.memory.sources, {name: mark_of(pool) for name, pool in self.memory.sources.items()}
        self._leadership.made_of(self.service, self._marks[1])

    async def _save(self) -> None:
        """What is in force, before it is delivered, so that a restart does not go back. Failures are tried again."""
        if self.memory is self._saved:
            return
        memory = self.memory
        try:
            await self._store.save(memory)
            self._saved = memory
        except OSError as error:  # the sinks matter more than the memory
            self._metrics.state_failures.labels(self.service).inc()
            self._log.error("state_not_saved", error=str(error))

    async def _deliver(self, *, remembered: bool) -> None:
        """Give the sinks what is in force, and say when to look again: after a failure soon."""
        term, slices = self._leadership, list(self.memory.slices.values())
        looked = self._look_since is None and (term.alone or term.epoch == self._reign)  # else we lead since a moment ago
        async with asyncio.TaskGroup() as group:
            delivering = group.create_task(self.couriers.deliver(slices, remembered=remembered, pushes=looked))
            if not remembered or term.alone:
                group.create_task(self.retirement.deliver(slices, term.leads, pushes=looked))
        delivered = delivering.result()
        now = time.monotonic()
        if self._waiting_since is not None and delivered and (looked or not term.leads()):
            self._metrics.delivery_lag.labels(self.service).observe(now - self._waiting_since)
            self._waiting_since = None
        ends_next = self.memory.claims.ends_next
        if ends_next <= now:  # its time is over, and it waits for something that is seen or delivered
            ends_next = float("inf") if self._handover.confirm else now + RETRY_FIRST_S
        ends_next = min([max(ends_next, now + RETRY_FIRST_S), *(one.until for one in self.opinions.sick(now).values())])
        if self._look_since is not None and isinstance(self.verdict, Act):
            ends_next = min(ends_next, max(self._look_since + LOOK_S, now + RETRY_FIRST_S))
        self._next_wake = min(now + self.couriers.again_in(self._pace.interval_s), ends_next, self._judge_again_at)

    def _end_departures(self) -> None:
        """Those that were taken out of the list and have nothing left, or died, are in the plan no more."""
        outcomes = [o for of_means in self.couriers.outcomes.values() for o in of_means]
        reached = {o.scraper for o in outcomes if o.outcome in ("written", "same")}
        ended = {s.id for s in self.departures.end(self.memory.slices, reached, self._facts.seen)}
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
            self.couriers.saw(sight.asked, sight.running, self._in_force_at)
        self._facts.answering = sight.answering
        self._facts.put_seen(sight.seen, sight.silent, sight.began, awaited=bool(self.waiting))

    async def look_at(self, seen: Mapping[str, Seen]) -> None:
        """All scrapers were looked at: what cannot be reached gets a second opinion, and so does who reaches little."""
        placement, ring = self.placement, self.ring
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
                self._leadership.drain(self.service, drained)
            self._facts.ring()

    def release(self) -> list[Withheld]:
        """Take for right what is held now, in the next cycle only, and nothing that is more by then; where we lead, the
        others do, too. What is let go by that; empty when nothing is held that could be.
        """
        let_go = [one for one in self.verdict.withheld if one.reason in RELEASABLE]
        if let_go:
            self._log.warning("release", reasons=",".join(one.reason for one in let_go))
            self._released = tuple(one.let_go for one in let_go)
            if self._leadership.leads() and not self._leadership.alone:
                self._leadership.release(self.service, self._released)
            self._facts.ring()
        return let_go


def _why(before: Memory, after: Memory, scrapers: Members, placement: Placement, *, policy_changed: bool = False) -> str:
    """Which fact made the plan another one."""
    if not before.slices:
        return "initial"
    if policy_changed:
        return "policy"
    if before.members != after.members:
        same = [replace(s, draining=False) for s in before.members] == [replace(s, draining=False) for s in after.members]
        return "drain" if same else "policy" if _same_places(before.members, after.members) else "scrapers"
    if scrapers and scrapers != placement.scrapers:
        return "drain"
    same = list(before.sources) == list(after.sources) and before.sources == after.sources  # a reload reads equal lists
    return "policy" if same else "targets"


def _same_places(one: Members, other: Members) -> bool:
    """The same scrapers, whatever their zone and weight."""
    return len(one) == len(other) and all(map(_same_place, one, other))


def _same_owners(one: Placement, other: Placement) -> bool:
    return one.pool is other.pool and one.scrapers == other.scrapers and np.array_equal(one.owners, other.owners)


def _same_place(one: Scraper, other: Scraper) -> bool:
    return (one.id, one.host, one.port) == (other.id, other.host, other.port)


def _same(one: Mapping[str, TargetPool], other: Mapping[str, TargetPool]) -> bool:
    """Whether both hold the very same lists: facts keep the identity of a list that did not change."""
    return list(one) == list(other) and all(pool is other[name] for name, pool in one.items())
