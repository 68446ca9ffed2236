"""May the loop act, and on which lists? What the guard of a fleet remembers from cycle to cycle.

The guard itself is pure (``core/guard``). Here are its memory, what people released, and what was said of it. The scrapers
are judged once for all services, the lists of each service by themselves: a service whose lists are doubted keeps its last
ones, one that has no plan yet waits alone. Flow: asked by ``reconcile`` at the begin of a cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from promring.core.admission import Led, joins_at
from promring.core.guard import judge_lists, judge_members
from promring.core.joined import part_of
from promring.core.pool import fingerprint_of
from promring.core.preview import Fit, fit
from promring.core.standing import History, Rules, Standing, State
from promring.core.verdicts import Act, Facts, Guard, Hold, Lists, ServiceVerdict, Verdict, Withheld, ends_next
from promring.election.leadership import Leadership
from promring.fleet.decision_log import Held, say_fit
from promring.fleet.facts import FactBoard
from promring.fleet.planner import Lists as ServiceLists
from promring.fleet.planner import same_lists
from promring.fleet.releases import Releases
from promring.fleet.state import Memory
from promring.model import Fingerprint, Known, Members, Placement, Scraper, TargetPool
from promring.telemetry.log import Logger

Doubts = Callable[[FactBoard, Members], Members]
CATCH_UP_S = 5.0
"""A controller that follows may read a list a little later than the leader. For so long nothing is logged about that."""
STILL_WAITING_S = 30.0
STARTING = Hold("starting", "the first cycle has not run yet")


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
    behind: bool = False
    """Whether the last leader knew a newer list of a source: what we have may be older than what the sinks have."""
    fit: Fit | None = None
    """What of it has no room."""
    marks: tuple[Mapping[str, TargetPool], Mapping[str, Fingerprint]] | None = None

    @property
    def lists(self) -> Mapping[str, TargetPool] | None:
        """What the guard lets through; None: nothing."""
        return self.verdict.sources if isinstance(self.verdict, Lists) else None


class Judge:
    """Of one fleet. ``guards``: by service. ``history``: who counted as alive in the run before."""

    def __init__(
        self,
        fleet: str,
        *,
        rules: Rules,
        guards: Mapping[str, Guard],
        history: History,
        facts: FactBoard,
        leadership: Leadership,
        log: Logger,
    ) -> None:
        self.fleet = fleet
        self.verdict: Verdict = STARTING
        """About the scrapers; about the lists of a service: ``services``."""
        self.history = history
        """Who counts as alive, and why not who does not."""
        self.again_at = 0.0
        """When a verdict may be another one by itself, monotonic seconds."""
        self.rules, self._facts, self._leadership = rules, facts, leadership
        self._held, self._releases = Held(log), Releases(f"fleet:{fleet}", leadership, log)
        self.waiting: frozenset[str] = frozenset()
        """Who lives, and waits to come into the plan; also for a while after the membership gives no answer any more."""
        self._answered_at: float | None = None
        """When the membership gave an answer, or, before it has, the first cycle was; monotonic seconds."""
        self._prints: dict[tuple[str, str, str], tuple[TargetPool, Fingerprint]] = {}
        """By service, source and where it is from: the list that was compared with the last leader's, and what tells it from
        others.
        """
        logs = self._logs = {name: log if name == fleet else log.bind(service=name) for name in guards}
        self.services = {
            name: ServiceState(guard, Releases(name, leadership, logs[name]), Held(logs[name]))
            for name, guard in guards.items()
        }

    # --- the verdicts ------------------------------------------------------------------------------------------------

    def judge(self, facts: Facts, memory: Memory, now: float, doubts: Doubts) -> Verdict:
        """What the guard doubts and wants to see again is kept for the next time. ``now``: monotonic seconds. ``doubts``:
        who of those that count as alive, and are not drained, shall be asked directly besides.
        """
        answers = isinstance(facts.members.newest, Known)
        released = self._releases.take(self.verdict.withheld) if answers else ()  # else it would be lost
        drained, no_room, led = memory.drained, self._no_room, self._led
        judged = judge_members(
            facts, self.history, self.rules, now, drained=drained, released=released, no_room=no_room, led=led
        )
        self.history, self.again_at = judged.history, judged.again_at
        self._answered_at = now if answers or self._answered_at is None else self._answered_at
        joining = (one.id for one in self.joining)
        self.waiting = frozenset(joining if now < self._answered_at + STILL_WAITING_S else ())
        wanted = tuple(s for s in judged.history.members if s.id not in memory.drained)
        suspects = {s.id: s for s in (*doubts(self._facts, wanted), *judged.suspects)}
        self._facts.suspect(tuple(sorted(suspects.values())))
        self._held.say(judged.verdict)
        self.verdict = judged.verdict
        if isinstance(judged.verdict, Act):
            for name in self.services:
                self._judge_lists(name, facts, memory, now)
        return judged.verdict

    def _judge_lists(self, name: str, facts: Facts, memory: Memory, now: float) -> None:
        service, had = self.services[name], memory.of(name)
        marks = {} if self._leadership.alone else self._leadership.told.lists.get(name, {})
        stale = [source for source in marks if self._is_stale(name, source)]
        planned = {source: had.sources[source] for source in marks if source in had.sources}
        older = [source for source, pool in planned.items() if self._print(name, source, "plan", pool) != marks[source]]
        service.verdict = judge_lists(
            facts.services[name],
            service.guard,
            now,
            planned=had.sources if had.slices else None,
            stale=stale,
            older=older if had.slices else (),
            counts={source: mark.targets for source, mark in marks.items()},
            released=service.releases.take(service.verdict.withheld),
        )
        service.behind = bool(stale or older) and not isinstance(service.verdict, Lists)
        told_at = max((self._leadership.shared.listed_at(name, source) for source in (*stale, *older)), default=0.0)
        if service.behind and not self._leadership.leads() and now < told_at + CATCH_UP_S:
            self.again_at = min(self.again_at, told_at + CATCH_UP_S)
        else:
            service.held.say(service.verdict)
        self.again_at = min(self.again_at, ends_next(service.verdict, now))

    def _is_stale(self, service: str, source: str) -> bool:
        """Whether what we know of ``source`` is another list than that of the last leader, and is from before the start, or
        was asked, if only in a part, before that leader told of its list. Then the source is asked at once.
        """
        cell = self._facts.services[service].cells.get(source)
        if cell is None or cell.fact.good is None:
            return False
        told_at, list_ = self._leadership.shared.listed_at(service, source), cell.fact.good.value
        overtaken = cell.asked_at < told_at
        if cell.answered and not overtaken:
            return False
        if self._print(service, source, "source", list_) == self._leadership.told.lists[service][source]:
            cell.confirm(told_at)
            return False
        if overtaken:
            cell.want(told_at)
        return True

    def _print(self, service: str, source: str, where: str, pool: TargetPool) -> Fingerprint:
        known, print_ = self._prints.get((service, source, where), (None, None))
        if print_ is None or known is not pool:
            print_ = fingerprint_of(pool)
            self._prints[service, source, where] = pool, print_
        return print_

    def held_since(self, one: Withheld, service: str = "") -> float | None:
        """Since when this process holds it of the fleet, or of the lists of a ``service``, wall-clock seconds."""
        state = self.services.get(service)
        return self._held.since(one) or (state.held.since(one) if state else None)

    @property
    def behind(self) -> set[str]:
        """The services of which the last leader knew a newer list than we do."""
        return {name for name, service in self.services.items() if service.behind}

    def lists(self, memory: Memory) -> dict[str, ServiceLists]:
        """Of each service the lists to go on with: what the guard lets through, else those of its last plan. A service that
        has neither waits. Empty while everything is held.
        """
        found: dict[str, ServiceLists] = {}
        if not isinstance(self.verdict, Act):
            return found
        for name, service in self.services.items():
            had = memory.of(name)
            if (lists := service.lists) is not None:
                found[name] = lists
            elif had.slices:
                found[name] = had.sources
        return found

    @property
    def _no_room(self) -> bool:
        return any(service.fit is not None and service.fit.unplaced for service in self.services.values())

    def say_fit(self, placement: Placement) -> None:
        """What of each service has no room, when it is another number than before. Scrapers that are needed are let in."""
        fitted, fits = not self._no_room, fit(placement) == Fit()
        for name, service in self.services.items():
            if (part := part_of(placement, name)) is not None:
                found = Fit() if fits else fit(part)
                say_fit(self._logs[name], service.fit or Fit(), found)
                service.fit = found
        if fitted and self._no_room and self.joining:
            self.again_at = 0.0

    @property
    def joining(self) -> list[Scraper]:
        """Who is alive and waits for its share."""
        return [one.scraper for one in self.history.standings.values() if one.state is State.JOINING]

    def joins_at(self, one: Standing) -> float:
        """When one that is joining comes in at the latest, monotonic seconds; ``NEVER_ENDS``: when the leader lets it in."""
        return joins_at(one, self.rules, self._led)

    def coming(self, listed: Members, now: float) -> set[str]:
        """Which of these were never in the plan, or are joining and not due ``now`` (monotonic seconds)."""
        known = {s.id: self.history.standings.get(s.id) for s in listed}
        joining = {name for name, one in known.items() if one is not None and one.state is State.JOINING}
        later = {name for name in joining if self.joins_at(self.history.standings[name]) > now}
        return {name for name, one in known.items() if one is None} | later

    def stood_still(self, seconds: float) -> None:
        """So long nobody looked."""
        self.history = self.history.stood_still(seconds)
        if self._answered_at is not None:
            self._answered_at += seconds

    def noted(self, memory: Memory) -> Memory:
        """``memory``, and what a restart shall know of who comes and goes. Times alone are saved with the next change."""
        if not memory.planned or self.history.without_times == memory.history.without_times:
            return memory
        return replace(memory, history=self.history)

    def forget(self, scrapers: Collection[str]) -> None:
        """These were taken out of the configuration, and have ended."""
        standings = {name: one for name, one in self.history.standings.items() if name not in scrapers}
        self.history = replace(self.history, standings=standings)

    # --- beside other controllers ------------------------------------------------------------------------------------

    @property
    def _led(self) -> Led | None:
        """What the leader that we follow says of those not in its plan; None: we follow none, or it says nothing."""
        leadership = self._leadership
        told = leadership.told.down.get(self.fleet) if leadership.hears() else None
        if told is None:
            return None
        return Led(frozenset(s.id for s in told), frozenset(leadership.told.waiting.get(self.fleet, ())))

    def decided(self, facts: Facts, memory: Memory, *, acts: bool) -> set[str]:
        """The services whose plan is from scrapers that are known, and as good as another controller's. ``acts``: we act,
        and have looked at what the scrapers have.
        """
        looked = acts and not facts.members.stale and self._knows_all(memory)
        return {
            name
            for name, service in self.services.items()
            if (service.decided and not service.behind)
            or (looked and service.lists is not None and self._knows_enough(name, memory))
        }

    def _knows_all(self, memory: Memory) -> bool:
        """Whether nothing of what the last leader placed is missing here: one bound is over all services, so without one of
        them the others have another plan.
        """
        if self._leadership.alone or self._leadership.leads():
            return True
        placed = [name for name in self.services if self._leadership.told.lists.get(name)]
        return all(self.services[name].lists is not None and self._knows_enough(name, memory) for name in placed)

    def _knows_enough(self, service: str, memory: Memory) -> bool:
        """Whether a plan of ours is as good as another controller's: from sources that have answered, or whose remembered
        lists are those of the last leader. Who leads has to do with what it has.
        """
        board = self._facts.services[service]
        if self._leadership.alone or self._leadership.leads() or (self._facts.members.answered and board.answered):
            return True
        marks, had = self._leadership.told.lists.get(service, {}), memory.of(service).sources
        silent = [name for name, cell in board.cells.items() if not cell.answered]
        return all(name in marks and name in had and fingerprint_of(had[name]) == marks[name] for name in silent)

    def tell_others(self, decided: Collection[str], memory: Memory) -> None:
        """As the leader: what the plan is made of, so that none of the other controllers leads with less."""
        if not self._leadership.tells_others:
            return
        for name in decided:
            service, had = self.services[name], memory.of(name)
            if not had.slices or service.lists is None:
                continue
            if service.marks is None or not same_lists(service.marks[0], had.sources):
                service.marks = had.sources, {source: fingerprint_of(pool) for source, pool in had.sources.items()}
            self._leadership.shared.publish_fingerprints(name, service.marks[1])

    # --- what a person asks for --------------------------------------------------------------------------------------

    def release(self, service: str | None = None) -> list[Withheld]:
        """Take for right what is held of the scrapers, or of the lists of a ``service``. In a fleet that is a service's own
        it is one: what is let go by it, empty when nothing is held that could be.
        """
        let_go = []
        if service is None or (service == self.fleet and len(self.services) == 1):
            let_go += self._releases.release(self.verdict.withheld)
        if (state := self.services.get(service or self.fleet)) is not None:
            let_go += state.releases.release(state.verdict.withheld)
        return let_go
