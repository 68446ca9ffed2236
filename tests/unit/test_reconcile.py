"""The loop by itself: real facts, real core, real state on disk, a delivery that remembers."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from promring.core.coverage import Seen
from promring.core.evidence import Handover
from promring.core.fragment import target
from promring.core.placement import Policy, place
from promring.core.pool import fingerprint_of, pool_of
from promring.core.ring import Ring
from promring.core.sight import Sight
from promring.core.standing import History, Rules, Standing, State
from promring.core.verdicts import Hold, Withheld
from promring.delivery import Leads, Outcome, always
from promring.election.leadership import Leadership
from promring.election.shared import RELEASED_S
from promring.fleet.decision_log import why_reshard
from promring.fleet.deliveries import ServiceDeliveries
from promring.fleet.departures import Departures
from promring.fleet.dispatcher import Dispatcher
from promring.fleet.facts import FactBoard, Pace
from promring.fleet.planner import Placing, Planner
from promring.fleet.reconcile import Reconciler
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.store import Store
from promring.model import (
    Empty,
    Generation,
    Known,
    Members,
    Placement,
    Reply,
    Scraper,
    Slice,
    TargetGroup,
    TargetPool,
    Unknown,
)
from promring.runtime import disk
from promring.telemetry import log
from promring.telemetry.events import Events
from promring.telemetry.metrics import Metrics
from tests.judging import Guard
from tests.seeing import owned, seen_with
from tests.telling import hears
from tests.waiting import until

A, B = Scraper("a:1", "a", 1), Scraper("b:1", "b", 1)
NAMES = [f"t{n}:1" for n in range(20)]
TARGETS = pool_of((TargetGroup.of(NAMES),))


@dataclass
class Sink:
    """What a delivery holds, as files would."""

    means: str = "memory"
    pulled: bool = False
    broken: bool = False
    broken_for: str = ""
    refused: list[Outcome] = field(default_factory=list)
    held: dict[str, bytes] = field(default_factory=dict)
    writes: int = 0
    asked: int = 0

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        if self.refused:
            return self.refused
        outcomes = []
        self.asked += 1
        if self.pulled:  # who is not named gets no answer
            self.held = {name: body for name, body in self.held.items() if name in {s.scraper.id for s in slices}}
        for slice_ in slices:
            name = slice_.scraper.id
            if self.broken or name == self.broken_for:
                outcomes.append(Outcome(name, "failed", "the disk is full"))
            elif self.held.get(name) == slice_.body:
                outcomes.append(Outcome(name, "same"))
            else:
                self.held[name] = slice_.body
                self.writes += 1
                outcomes.append(Outcome(name, "written"))
        return outcomes

    def targets(self) -> dict[str, set[str]]:
        return {name: {t for g in json.loads(body) for t in g["targets"]} for name, body in self.held.items()}


class Loop:
    """A reconciler with everything it needs."""

    def __init__(
        self,
        folder: Path,
        *,
        memory: Memory | None = None,
        pace: Pace | None = None,
        handover: Handover | None = None,
        guard: Guard | None = None,
        leadership: Leadership | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.facts = FactBoard()
        self.cells = self.facts.add("x", ["s"]).cells
        self.sink = Sink()
        self.leadership = leadership or Leadership()
        self.store = Store(folder, "x", log.get())
        guard = guard or Guard(Rules(join_delay_s=0.0), shrink_threshold=0.0)
        memory, metrics = memory or Memory(), Metrics()
        self.couriers = ServiceDeliveries("x", "x", [self.sink], self.leadership, self.facts.wake, metrics, log.get())
        self.reconciler = Reconciler(
            "x",
            rules=guard.rules,
            guards={"x": guard.lists},
            handover=handover or Handover(0.0, confirm=False),
            pace=pace or Pace(60.0, 0.0),
            facts=self.facts,
            planner=Planner(policy or Policy(), {"x": Placing()}, None, memory.members, log.get()),
            dispatcher=Dispatcher({"x": self.couriers}, {}, self.leadership, self.facts.wake, log.get()),
            leadership=self.leadership,
            store=self.store,
            memory=memory,
            metrics=metrics,
            log=log.get(),
        )
        for name, groups in memory.of("x").sources.items():
            self.cells[name].restore(groups, 1.0, "restored")
        if memory.members:
            self.facts.members.restore(memory.members, 1.0, "restored")

    @property
    def slices(self) -> Mapping[str, Slice]:
        return self.reconciler.memory.of("x").slices

    @property
    def decided(self) -> bool:
        return self.reconciler.services["x"].decided

    @property
    def withheld(self) -> list[Withheld]:
        """Of the scrapers, and of the lists."""
        return [*self.reconciler.verdict.withheld, *self.reconciler.services["x"].verdict.withheld]

    def see(self, seen: Mapping[str, Seen], looked_at: float | None) -> None:
        """What the scrapers are seen doing, in a look that the loop waits for."""
        placement = self.reconciler.in_force
        assert placement is not None
        self.facts.put_sight(Sight(placement, seen, (), {}, (), {}, {}, looked_at), awaited=True)

    async def say(self, members: Members | None = None, targets: TargetPool | None = None) -> None:
        if members is not None:
            self.facts.members.put(Known(members) if members else Empty())
        if targets is not None:
            self.cells["s"].put(Known(targets) if len(targets) else Empty())
        await self.reconciler.cycle()

    def reasons(self) -> list[str]:
        return [one.reason for one in self.withheld]

    def reason(self) -> str:
        """Why the plan is kept: of the scrapers, else of the lists."""
        verdicts = (self.reconciler.verdict, self.reconciler.services["x"].verdict)
        return next((verdict.reason for verdict in verdicts if isinstance(verdict, Hold)), "")


async def test_nothing_is_written_before_both_facts_are_known(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    await loop.reconciler.cycle()
    assert (loop.sink.held, loop.reason()) == ({}, "scrapers_unknown")
    await loop.say(members=(A, B))
    assert (loop.sink.held, loop.reason()) == ({}, "targets_unknown")
    await loop.say(targets=TARGETS)
    assert set.union(*loop.sink.targets().values()) == set(NAMES)
    assert loop.decided


async def test_a_flapper_that_waits_is_let_in_as_soon_as_targets_have_no_room(tmp_path: Path) -> None:
    loop = Loop(tmp_path, policy=Policy(capacity=10), guard=Guard(Rules(join_delay_s=5.0), shrink_threshold=0.0))
    flapper, now = Scraper("c:1", "c", 1), time.monotonic()
    loop.reconciler.judge.history = History(
        {
            **History.of((A, B)).standings,
            flapper.id: Standing(flapper, State.JOINING, now - 25.0, joined_at=now - 90.0, left_at=now - 80.0, flaps=6),
        }
    )
    await loop.say((A, B, flapper), TARGETS)
    assert sorted(loop.sink.targets()) == [A.id, B.id]
    more = pool_of((TargetGroup.of([*NAMES, "one:1", "two:1"]),))
    await loop.say(targets=more)
    assert loop.reconciler.judge.again_at <= time.monotonic(), "nobody waits for the interval"
    await loop.reconciler.cycle()
    assert set.union(*loop.sink.targets().values()) == {*NAMES, "one:1", "two:1"}
    assert flapper.id in loop.sink.targets()


async def test_none_and_no_answer_write_nothing(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    await loop.say((A, B), TARGETS)
    before, writes = dict(loop.sink.held), loop.sink.writes
    await loop.say(members=())
    assert loop.reason() == "no_scrapers"
    loop.facts.members.put(Unknown("refused"))
    await loop.say(targets=pool_of(()))
    loop.cells["s"].put(Unknown("500"))
    await loop.reconciler.cycle()
    assert (loop.sink.held, loop.sink.writes) == (before, writes)


async def test_a_scraper_that_left_keeps_what_it_has_and_one_without_targets_gets_an_empty_list(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    await loop.say((A, B), TARGETS)
    had = loop.sink.held[A.id]
    await loop.say(members=(B,))
    assert loop.sink.held[A.id] == had
    assert loop.sink.targets()[B.id] == set(NAMES)
    await loop.say((A, B), pool_of((TargetGroup.of(["only:1"]),)))
    assert sorted(map(len, loop.sink.targets().values())) == [0, 1]


async def test_equal_facts_compute_and_write_nothing(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    await loop.say((A, B), TARGETS)
    placement, writes = loop.reconciler.placement, loop.sink.writes
    await loop.say((Scraper("a:1", "a", 1), B), TARGETS)
    assert loop.reconciler.placement is placement
    await loop.say(targets=pool_of((TargetGroup.of([f"t{n}:1" for n in range(20)]),)))  # the same, by another source object
    assert loop.sink.writes == writes
    assert str(loop.reconciler.memory.generation) == "0.1"


async def test_a_slice_keeps_its_generation_while_its_bytes_are_the_same(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    await loop.say((A, B), TARGETS)
    first = dict(loop.slices)
    more = pool_of((TargetGroup.of([*NAMES, "new:1"]),))
    await loop.say(targets=more)
    now = loop.slices
    changed = [name for name in now if now[name].body != first[name].body]
    assert changed
    assert {str(now[n].generation) for n in changed} == {"0.2"}
    assert all(now[n] is first[n] for n in now if n not in changed)


async def test_a_restart_serves_what_was_saved_and_moves_nothing(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    await loop.say((A, B), TARGETS)
    again = Loop(tmp_path, memory=loop.store.load())
    await again.reconciler.cycle()
    assert again.sink.held == loop.sink.held
    assert again.reconciler.memory.generation == loop.reconciler.memory.generation
    assert not again.decided, "from remembered scrapers only"
    await again.say((A, B), TARGETS)
    assert again.reconciler.memory.generation == loop.reconciler.memory.generation
    assert again.decided


async def test_the_same_identity_at_another_address_is_taken_over(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    await loop.say((Scraper("h", "h", 9090),), TARGETS)
    await loop.say(members=(Scraper("h", "h", 9091),))
    assert loop.slices["h"].scraper.port == 9091


async def test_a_failed_delivery_is_tried_again_soon_and_a_burst_of_changes_is_one_cycle(tmp_path: Path) -> None:
    loop = Loop(tmp_path, pace=Pace(60.0, 0.05))
    loop.sink.broken = True
    task = asyncio.create_task(loop.reconciler.run())
    try:
        loop.facts.members.put(Known((A, B)))
        for n in range(1, 6):
            loop.cells["s"].put(Known(pool_of((TargetGroup.of(NAMES[:n]),))))
        await until(lambda: bool(loop.couriers.outcomes.get("memory")), "a failed delivery")
        assert [o.error for o in loop.couriers.outcomes["memory"]] == ["the disk is full"] * 2
        assert loop.reconciler.memory.generation.n == 1
        loop.sink.broken = False
        await until(lambda: loop.sink.writes == 2, "delivered, without a change and long before the interval", 5)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_state_that_cannot_be_saved_stops_nothing_and_is_saved_later(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.write_text("a file where the folder should be")
    loop = Loop(folder)
    await loop.say((A, B), TARGETS)
    assert loop.sink.writes == 2
    folder.unlink()
    await loop.reconciler.cycle()
    saved, known = loop.store.load(), loop.reconciler.memory
    assert replace(saved, history=known.history) == known
    assert saved.history.members == known.history.members


async def test_a_state_that_went_with_its_folder_is_written_again_though_nothing_changes(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    loop = Loop(folder)
    await loop.say((A, B), TARGETS)
    await loop.reconciler.cycle()
    path = next(iter(folder.glob("*.state")))
    size = path.stat().st_size
    changes: list[Callable[[], None]] = [path.unlink, lambda: shutil.rmtree(folder), lambda: disk.install(path, b"older")]
    for change in changes:
        change()
        loop.reconciler.keeper.forget()
        await loop.reconciler.cycle()
        assert path.stat().st_size == size
    assert loop.store.load().of("x").slices == loop.reconciler.memory.of("x").slices


def scraping(loop: Loop, *scrapers: Scraper) -> None:
    """These are seen scraping everything that they own."""
    placement = loop.reconciler.placement
    assert placement is not None
    found = {}
    for scraper in scrapers:
        found[scraper.id] = seen_with(owned(placement, scraper), time.monotonic())
    loop.see(found, time.monotonic())


async def begun(loop: Loop, members: Members) -> None:
    """Its first plan is delivered: it was looked at what the scrapers had, which is nothing."""
    await loop.say(members, TARGETS)
    loop.see({}, time.monotonic())
    await loop.reconciler.cycle()


async def test_a_drain_is_make_before_break_and_survives_a_restart(tmp_path: Path) -> None:
    loop = Loop(tmp_path, handover=Handover(30.0))
    await begun(loop, (A, B))
    had = loop.sink.targets()[B.id]
    loop.reconciler.drain(B.id)
    await loop.reconciler.cycle()
    assert loop.sink.targets() == {A.id: set(NAMES), B.id: had}
    assert loop.reconciler.moves.waiting == {A.id, B.id}

    again = Loop(tmp_path, memory=loop.store.load(), handover=Handover(30.0))
    await again.say((A, B), TARGETS)
    assert again.sink.targets() == {A.id: set(NAMES), B.id: had}, "still held, and still drained"
    scraping(again, A)
    await again.reconciler.cycle()
    assert again.sink.targets() == {A.id: set(NAMES), B.id: set()}
    assert again.reconciler.moves.waiting == set()

    again.reconciler.drain(B.id, back=True)
    await again.reconciler.cycle()
    scraping(again, A, B)
    await again.reconciler.cycle()
    assert again.sink.targets()[B.id] == had


async def test_a_follower_keeps_what_is_drained_until_the_leader_knows_its_service(tmp_path: Path) -> None:
    """It was renamed here, and at the leader not yet."""
    term = Leadership(alone=False, clock=lambda: 0.0)
    loop = Loop(tmp_path, leadership=term)
    loop.reconciler.memory = replace(loop.reconciler.memory, drained=frozenset({B.id}))
    for shared, drained in (
        ({"before": frozenset({B.id})}, {B.id}),
        ({}, {B.id}),
        ({loop.reconciler.fleet: frozenset({A.id})}, {A.id}),
        ({loop.reconciler.fleet: frozenset[str]()}, set[str]()),
    ):
        hears(term, drained=shared)
        await loop.say((A, B), TARGETS)
        assert loop.reconciler.memory.drained == drained


async def test_with_everybody_drained_the_last_plan_stays(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    await loop.say((A, B), TARGETS)
    before = dict(loop.sink.held)
    loop.reconciler.drain(A.id)
    loop.reconciler.drain(B.id)
    await loop.reconciler.cycle()
    assert (loop.sink.held, loop.reason()) == (before, "no_scrapers")


async def test_who_cannot_be_given_its_slice_is_treated_as_dead_until_it_can(tmp_path: Path) -> None:
    loop = Loop(tmp_path, handover=Handover(0.05))
    await begun(loop, (A,))
    loop.sink.broken_for = B.id
    await loop.say((A, B))
    await asyncio.sleep(0.1)
    await loop.reconciler.cycle()
    assert loop.sink.targets()[A.id] == set(NAMES), "what did not reach B is not taken from A, however long it takes"
    for _ in range(3):
        await loop.reconciler.cycle()
    assert loop.reconciler.placement is not None
    assert loop.reconciler.placement.counts() == {A.id: 20, B.id: 0}
    loop.sink.broken_for = ""
    await loop.reconciler.cycle()
    await loop.reconciler.cycle()
    assert loop.reconciler.placement.counts()[B.id] > 0


async def test_when_nobody_can_be_given_a_slice_it_is_not_them(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    await loop.say((A, B), TARGETS)
    loop.sink.broken = True
    for n in range(6):
        await loop.say(targets=pool_of((TargetGroup.of([*NAMES, f"new{n}:1"]),)))
    assert loop.reconciler.placement is not None
    assert min(loop.reconciler.placement.counts().values()) > 0


async def test_a_hold_that_is_over_while_nothing_can_be_decided_makes_no_storm(tmp_path: Path) -> None:
    loop = Loop(tmp_path, handover=Handover(0.05, confirm=False), pace=Pace(60.0, 0.0))
    await loop.say((A,), TARGETS)
    await loop.say((A, B))
    assert loop.reconciler.memory.claims.held
    loop.facts.members.put(Empty())
    task = asyncio.create_task(loop.reconciler.run())
    try:
        await asyncio.sleep(1.5)
        assert loop.reason() == "no_scrapers"
        asked = loop.sink.asked
        await asyncio.sleep(1.5)
        assert loop.sink.asked - asked <= 3
        loop.facts.members.put(Known((A, B)))
        await until(lambda: not loop.reconciler.memory.claims.held, "over", 5)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


MANY = tuple(Scraper(f"{c}:1", c, 1) for c in "abcdef")


async def test_held_nothing_is_written_and_a_release_is_for_one_generation(tmp_path: Path) -> None:
    loop = Loop(tmp_path, guard=Guard(Rules(join_delay_s=0.0)))
    await loop.say(MANY, TARGETS)
    writes, generation = loop.sink.writes, loop.reconciler.memory.generation
    assert loop.reconciler.release() == [], "nothing is held"
    await loop.say(MANY[:2])
    await loop.say(targets=pool_of((TargetGroup.of([*NAMES, "new:1"]),)))
    assert (loop.reason(), loop.sink.writes) == ("panic", writes)
    assert {s.id for s in loop.facts.suspects} == {s.id for s in MANY[2:]}
    (let_go,) = loop.reconciler.release()
    assert let_go.reason == "panic"
    await loop.reconciler.cycle()
    assert loop.reconciler.memory.generation.n == generation.n + 1
    assert set().union(*(loop.sink.targets()[s.id] for s in MANY[:2])) == {*NAMES, "new:1"}
    assert not loop.facts.suspects
    await loop.say(targets=pool_of((TargetGroup.of(NAMES[:2]),)))
    assert [one.reason for one in loop.withheld] == ["source_shrank"], "the next doubt is a new one"
    assert loop.reconciler.memory.generation.n == generation.n + 1


async def test_dead_by_direct_probes_and_by_time_they_leave(tmp_path: Path) -> None:
    loop = Loop(tmp_path, guard=Guard(Rules(join_delay_s=0.0, panic_hold_s=0.3)), pace=Pace(60.0, 0.0))
    await loop.say(MANY, TARGETS)
    task = asyncio.create_task(loop.reconciler.run())
    try:
        loop.facts.members.put(Known(MANY[:2]))
        await until(lambda: loop.reason() == "panic", "held")
        for scraper in MANY[2:]:
            loop.facts.put_probed(scraper.id, Reply.ANSWERS if scraper is MANY[5] else Reply.SILENT)

        def placed_on() -> list[str]:
            return [s.id for s in loop.reconciler.placement.scrapers] if loop.reconciler.placement else []

        await until(lambda: placed_on() == ["a:1", "b:1", "f:1"], "acted on before the interval; f answers a probe", 3)
        assert [one.reason for one in loop.withheld] == ["panic"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_join_is_placed_when_its_delay_is_over_without_another_fact(tmp_path: Path) -> None:
    loop = Loop(tmp_path, guard=Guard(Rules(join_delay_s=0.3)), pace=Pace(60.0, 0.0))
    task = asyncio.create_task(loop.reconciler.run())
    try:
        loop.facts.members.put(Known((A,)))
        loop.cells["s"].put(Known(TARGETS))
        await until(lambda: loop.reason() == "warming_up", "the start held", 2)
        await until(lambda: bool(loop.sink.held), "the first plan", 2)
        loop.facts.members.put(Known((A, B)))
        await asyncio.sleep(0.15)
        assert B.id not in loop.sink.held
        await until(lambda: B.id in loop.sink.held, "joined", 2)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_who_leaves_its_list_has_its_share_until_the_one_that_comes_joins_and_none_moves_twice(tmp_path: Path) -> None:
    loop = Loop(tmp_path, guard=Guard(Rules(join_delay_s=0.2)))
    new = Scraper("c:1", "c", 1)
    loop.facts.put_listed((A, B))
    loop.reconciler.departures = Departures((), log=log.get(), waits_s=60.0)
    for _ in range(2):
        await loop.say((A, B), TARGETS)
        await asyncio.sleep(0.25)
    before = dict(loop.sink.held)
    loop.facts.put_listed((A, new))
    loop.reconciler.departures.heard((A, new), (B,), {A.id, B.id})
    await loop.say((A,), TARGETS)
    await loop.say((A, new), TARGETS)
    assert loop.sink.held == before
    await asyncio.sleep(0.25)
    await loop.say((A, new), TARGETS)
    placement = loop.reconciler.placement
    assert placement is not None
    assert placement.counts()[B.id] == 0, "it joined, and this one is emptied in the same step"
    assert placement.counts()[new.id] > 0


async def test_a_flapper_is_known_after_a_restart(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    for members in ((A, B), (A,), (A, B), (A,)):
        await loop.say(members, TARGETS)
    assert loop.reconciler.history.standings[B.id].flaps == 1
    again = Loop(tmp_path, memory=loop.store.load(), guard=Guard(Rules(join_delay_s=5.0)))
    await again.say((A, B), TARGETS)
    assert again.reconciler.history.standings[B.id].flaps == 1
    assert B.id not in again.sink.held, "it has to be healthy for ten seconds"
    assert again.reconciler.history.members == (A,)


async def test_a_source_that_goes_on_saying_none_is_believed_when_its_time_is_over(tmp_path: Path) -> None:
    guard = Guard(Rules(join_delay_s=0.0), empty_hold_s=2.5)
    loop = Loop(tmp_path, guard=guard, pace=Pace(60.0, 0.0))
    await loop.say((A, B), TARGETS)
    began = time.monotonic()
    for answer in range(3):
        await loop.say(targets=pool_of(()))
        loop.cells["s"]._counted_at -= 1.0  # as if a second had passed
        assert set.union(*loop.sink.targets().values()) == set(NAMES), answer
    (doubt,) = loop.withheld
    assert (doubt.reason, doubt.confirmed) == ("source_empty", (3, 3))
    task = asyncio.create_task(loop.reconciler.run())
    try:
        await until(lambda: set.union(*loop.sink.targets().values()) == set(), "believed without another fact", 3)
        assert time.monotonic() - began >= 2.5
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await loop.say(targets=TARGETS)
    assert set.union(*loop.sink.targets().values()) == set(NAMES)


async def test_who_cannot_be_delivered_to_still_counts_in_a_panic(tmp_path: Path) -> None:
    ten = tuple(Scraper(f"{c}:1", c, 1) for c in "abcdefghij")
    loop = Loop(tmp_path, guard=Guard(Rules(join_delay_s=0.0, panic_threshold=0.3)))
    await loop.say(ten, TARGETS)
    await loop.say(ten[:6])
    assert loop.reason() == "panic"
    loop.couriers.undelivered = {s.id: 3 for s in ten[6:]}
    await loop.reconciler.cycle()
    assert loop.reason() == "panic"
    assert len(loop.reconciler.history.members) == 10


async def test_with_one_drained_and_the_other_undeliverable_the_loop_goes_on(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    await loop.say((A,), TARGETS)
    loop.reconciler.drain(B.id)
    loop.sink.broken_for = A.id
    for n in range(4):
        await loop.say(targets=pool_of((TargetGroup.of([*NAMES, f"new{n}:1"]),)))
    await loop.say((A, B))
    assert loop.reconciler.placement is not None
    assert loop.reconciler.placement.counts()[A.id] == 21, "when it is everybody, it is not them"


async def test_a_release_is_not_for_what_came_after_it(tmp_path: Path) -> None:
    loop = Loop(tmp_path, guard=Guard(Rules(join_delay_s=0.0)))
    await loop.say(MANY, TARGETS)
    await loop.say(MANY[:2])
    assert [one.reason for one in loop.reconciler.release()] == ["panic"]
    await loop.say(targets=pool_of(()))  # before the next cycle
    assert set().union(*(loop.sink.targets()[s.id] for s in MANY[:2])) == set(NAMES)


async def test_a_leader_gives_its_epoch_to_slices_without_changing_them_and_a_follower_pushes_nothing(
    tmp_path: Path,
) -> None:
    clock = [0.0]
    term = Leadership(alone=False, clock=lambda: clock[0])
    loop = Loop(tmp_path, leadership=term)
    await loop.say((A, B), TARGETS)
    assert loop.sink.asked == 0, "nobody leads"
    term.follow("other", 8)
    await loop.reconciler.cycle()
    assert (loop.sink.asked, loop.reconciler.memory.generation.epoch) == (0, 7), "the number below the leader's"
    bodies = {name: s.body for name, s in loop.slices.items()}
    term.lead("us", 10, 5.0)
    await loop.reconciler.cycle()
    assert loop.sink.held == bodies
    assert {str(s.generation) for s in loop.slices.values()} == {"10.1"}
    assert term.told.lists["x"]["s"].targets == len(NAMES)
    saved = next(iter(tmp_path.glob("*.state"))).stat().st_mtime_ns
    for _ in range(3):
        await loop.reconciler.cycle()
    assert next(iter(tmp_path.glob("*.state"))).stat().st_mtime_ns == saved, "nothing changed, nothing is saved"
    clock[0], asked = 5.0, loop.sink.asked
    await loop.say(targets=pool_of((TargetGroup.of([*NAMES, "new:1"]),)))
    assert loop.sink.asked == asked, "the lease is over"


async def test_lists_that_the_last_leader_did_not_have_are_not_acted_on(tmp_path: Path) -> None:
    first = Loop(tmp_path)
    await first.say((A, B), TARGETS)
    term = Leadership(alone=False, clock=lambda: 0.0)
    newer = pool_of((TargetGroup.of([*NAMES, "new:1"]),))
    hears(term, lists={"x": {"s": fingerprint_of(newer)}})
    term.lead("us", 10**10, 5.0)
    loop = Loop(tmp_path, memory=first.store.load(), leadership=term)
    await loop.say((A, B))
    assert (loop.reason(), loop.sink.asked) == ("targets_unknown", 0)
    await loop.say(targets=newer)
    assert (loop.reason(), set.union(*loop.sink.targets().values())) == ("", {*NAMES, "new:1"})


async def overtaken(folder: Path, **options: Any) -> tuple[Loop, Leadership]:
    """A controller that follows, whose leader has told of a list with one target more than it has read."""
    term, newer = Leadership(alone=False, clock=lambda: 0.0), pool_of((TargetGroup.of([*NAMES, "new:1"]),))
    loop = Loop(folder, leadership=term, **options)
    term.follow("other", 8)
    hears(term, lists={"x": {"s": fingerprint_of(TARGETS)}})
    await loop.say((A, B), TARGETS)
    hears(term, lists={"x": {"s": fingerprint_of(newer)}})
    return loop, term


async def test_a_new_leader_with_an_older_list_asks_its_source_before_it_takes_anything_away(tmp_path: Path) -> None:
    term, newer = Leadership(alone=False, clock=lambda: 0.0), pool_of((TargetGroup.of([*NAMES, "new:1"]),))
    loop = Loop(tmp_path, leadership=term)
    loop.sink.pulled = True  # as http_sd, which followers serve, too
    term.follow("other", 8)
    hears(term, lists={"x": {"s": fingerprint_of(TARGETS)}})
    await loop.say((A, B), TARGETS)
    assert loop.decided
    hears(term, lists={"x": {"s": fingerprint_of(newer)}})
    await loop.reconciler.cycle()
    assert (loop.decided, loop.sink.held) == (False, {}), "who comes keeps what it has"
    assert loop.cells["s"].wanted.is_set(), "the source is asked at once"
    began = time.monotonic()
    term.lead("us", 10, 5.0)
    await loop.reconciler.cycle()
    assert (loop.reason(), loop.decided, loop.sink.held) == ("targets_unknown", False, {})
    assert term.told.lists["x"]["s"] == fingerprint_of(newer), "and whoever leads next knows what there was"
    loop.cells["s"].put(Unknown("it hangs"))
    loop.cells["s"].put(Known(TARGETS), began=began - 60.0)
    await loop.reconciler.cycle()
    assert (loop.reason(), loop.sink.held) == ("targets_unknown", {}), "that was asked before the last leader told of more"
    await loop.say(targets=newer)
    assert (loop.reason(), loop.decided) == ("", True)
    assert set.union(*loop.sink.targets().values()) == {*NAMES, "new:1"}


async def test_a_source_is_asked_again_for_each_list_that_the_leader_tells_of(tmp_path: Path) -> None:
    loop, term = await overtaken(tmp_path)
    await loop.reconciler.cycle()
    wanted = loop.cells["s"].wanted
    assert wanted.is_set()
    wanted.clear()
    await loop.reconciler.cycle()
    assert not wanted.is_set(), "it is asked"
    hears(term, lists={"x": {"s": fingerprint_of(pool_of((TargetGroup.of([*NAMES, "newer:1"]),)))}})
    await loop.reconciler.cycle()
    assert wanted.is_set(), "the answer to the first question may be the list before"


async def test_an_answer_without_a_part_is_no_newer_list(tmp_path: Path) -> None:
    loop, term = await overtaken(tmp_path)
    term.lead("us", 10, 5.0)
    loop.cells["s"].put(Known(TARGETS), trouble="one of two URLs fails")
    await loop.reconciler.cycle()
    assert loop.reason() == "targets_unknown", "the new target may be one of the part that fails"
    await loop.say(targets=TARGETS)
    assert loop.reason() == "", "every part says so"


async def test_a_part_that_fails_holds_nothing_of_a_leader_that_had_the_last_leaders_list(tmp_path: Path) -> None:
    loop, term = await overtaken(tmp_path)
    newer, other = (pool_of((TargetGroup.of([*NAMES, *more]),)) for more in (["new:1"], ["new:1", "new:2"]))
    loop.cells["s"].put(Known(newer), trouble="one of two URLs fails")
    await loop.reconciler.cycle()
    term.lead("us", 10, 5.0)
    loop.cells["s"].put(Known(other), trouble="one of two URLs fails")
    await loop.reconciler.cycle()
    assert (loop.reason(), loop.decided) == ("", True)
    assert set.union(*loop.sink.targets().values()) == {*NAMES, "new:1", "new:2"}


async def test_a_new_leader_whose_source_says_less_afterwards_believes_it(tmp_path: Path) -> None:
    loop, term = await overtaken(tmp_path)
    await loop.say(targets=TARGETS)
    term.lead("us", 10, 5.0)
    await loop.reconciler.cycle()
    assert (loop.reason(), loop.decided) == ("", True)
    assert term.told.lists["x"]["s"] == fingerprint_of(TARGETS)


@pytest.mark.parametrize("said", [Empty(), Known(pool_of((TargetGroup.of(NAMES[:2]),)))], ids=["nothing", "less"])
async def test_an_answer_that_is_doubted_is_no_reason_to_go_on_with_an_older_list(
    tmp_path: Path, said: Known[TargetPool] | Empty
) -> None:
    loop, term = await overtaken(tmp_path, guard=Guard(Rules(join_delay_s=0.0)))
    term.lead("us", 10, 5.0)
    asked = loop.sink.asked
    loop.cells["s"].put(said)
    await loop.reconciler.cycle()
    assert (loop.reason(), loop.decided, loop.sink.asked) == ("targets_unknown", False, asked)
    assert term.told.lists["x"]["s"].targets == len(NAMES) + 1, "and whoever leads next knows what there was"
    await loop.say(targets=pool_of((TargetGroup.of([*NAMES, "new:1"]),)))
    assert (loop.reason(), loop.decided) == ("", True)


async def test_a_list_that_is_older_than_the_last_leaders_is_taken_when_a_person_says_so(tmp_path: Path) -> None:
    loop, term = await overtaken(tmp_path)
    term.lead("us", 10, 5.0)
    await loop.reconciler.cycle()
    assert [one.reason for one in loop.reconciler.judge.release("x")] == ["targets_unknown"]
    for _ in range(2):
        await loop.reconciler.cycle()
        assert (loop.reason(), loop.decided) == ("", True)
    assert set.union(*loop.sink.targets().values()) == set(NAMES)


async def test_a_first_list_is_compared_with_that_of_the_last_leader(tmp_path: Path) -> None:
    term = Leadership(alone=False, clock=lambda: 0.0)
    hears(term, lists={"x": {"s": fingerprint_of(TARGETS)}})
    term.lead("us", 4, 5.0)
    loop = Loop(tmp_path, leadership=term, guard=Guard(Rules(join_delay_s=0.0)))
    await loop.say((A, B), pool_of((TargetGroup.of(NAMES[:3]),)))
    assert (loop.reason(), loop.sink.asked) == ("source_shrank", 0)
    assert loop.reconciler.release()
    await loop.reconciler.cycle()
    assert set.union(*loop.sink.targets().values()) == set(NAMES[:3])


async def test_what_a_person_released_at_the_leader_is_let_go_by_the_others_when_they_hold_it_too(tmp_path: Path) -> None:
    clock = [0.0]
    first, term = Leadership(alone=False, clock=lambda: clock[0]), Leadership(alone=False, clock=lambda: clock[0])
    guard = Guard(Rules(join_delay_s=0.0))
    leading, following = (Loop(tmp_path / n, leadership=one, guard=guard) for n, one in (("1", first), ("2", term)))
    following.sink.pulled = True  # as http_sd, which followers serve, too
    first.lead("first", 4, 1e9)
    term.follow("first", 4)
    hears(term, released={})  # the first note that it reads
    short, shorter = (pool_of((TargetGroup.of(NAMES[:n]),)) for n in (3, 2))
    for loop in (leading, following):
        await loop.say((A, B), TARGETS)
    await leading.say(targets=short)
    assert leading.reconciler.release()
    await leading.reconciler.cycle()
    assert leading.reasons() == []
    assert set(first.told.released) == {"x"}

    hears(term, released=first.told.released)
    await following.say(targets=shorter)
    assert following.reasons() == ["source_shrank"], "that is more than was released"
    await following.say(targets=short)
    assert following.reasons() == []
    assert set.union(*following.sink.targets().values()) == set(NAMES[:3])

    await following.say(targets=TARGETS)
    await following.say(targets=short)
    assert following.reasons() == ["source_shrank"], "it was for one verdict"

    await following.say(targets=TARGETS)
    term.shared.release("x", first.told.released["x"])
    assert term.shared.lately_released("x")
    clock[0] = RELEASED_S
    assert not term.shared.lately_released("x")
    first.shared.to_tell()
    assert first.told.released == {}
    await following.say(targets=short)
    assert following.reasons() == ["source_shrank"], "it was for a minute"


async def test_who_begins_to_lead_looks_first_and_takes_nothing_that_another_leader_gave(tmp_path: Path) -> None:
    term = Leadership(alone=False, clock=lambda: 0.0)
    loop = Loop(tmp_path, leadership=term, handover=Handover(30.0))
    term.follow("first", 4)
    await loop.say((A, B), TARGETS)
    mine = {name: {t for g in json.loads(s.body) for t in g["targets"]} for name, s in loop.slices.items()}
    assert loop.reconciler.placement is not None
    pool = loop.reconciler.placement.pool
    ids = {target(pool, row).address: int(id_) for row, id_ in enumerate(pool.ids)}

    def seen(addresses: set[str]) -> Seen:
        return seen_with([ids[a] for a in addresses], time.monotonic())

    term.lead("us", 10, 5.0)
    loop.facts.members.put(Empty())
    await loop.reconciler.cycle()
    assert loop.reconciler.moves.waiting == set(), "held: nobody is asked"
    loop.facts.members.put(Known((A, B)))
    loop.see({}, None)
    await loop.reconciler.cycle()
    loop.see({A.id: seen(mine[A.id])}, None)
    await loop.reconciler.cycle()
    assert loop.sink.asked == 0, "it has not seen yet what all of them have"
    assert loop.reconciler.moves.waiting == {A.id, B.id}
    swapped = {A.id: seen(mine[B.id]), B.id: seen(mine[A.id])}
    loop.see(swapped, time.monotonic())
    await loop.reconciler.cycle()
    assert loop.sink.targets() == {A.id: set(NAMES), B.id: set(NAMES)}, "all that is scraped goes on being so"
    right = {A.id: seen(set(NAMES)), B.id: seen(set(NAMES))}
    loop.see(right, time.monotonic())
    await loop.reconciler.cycle()
    assert loop.sink.targets() == mine


async def test_a_single_controller_without_its_state_takes_nothing_that_it_gave_before(tmp_path: Path) -> None:
    loop = Loop(tmp_path, handover=Handover(30.0))
    await begun(loop, (A,))
    placement = loop.reconciler.placement
    assert placement is not None
    had = {A.id: seen_with(placement.pool.ids.tolist(), time.monotonic())}

    again = Loop(tmp_path / "lost", handover=Handover(30.0))
    await again.say((A, B), TARGETS)
    assert again.sink.asked == 0, "it has not seen yet what they have"
    again.see(had, time.monotonic())
    await again.reconciler.cycle()
    assert again.sink.targets()[A.id] == set(NAMES), "A has it until B scrapes it"
    scraping(again, A, B)
    await again.reconciler.cycle()
    assert again.sink.targets()[A.id].isdisjoint(again.sink.targets()[B.id])


@pytest.mark.parametrize("restarted", [False, True])
async def test_neither_a_reload_nor_a_restart_before_the_look_spares_the_look(tmp_path: Path, *, restarted: bool) -> None:
    loop = Loop(tmp_path, handover=Handover(30.0))
    await loop.say((A, B), TARGETS)
    memory = loop.store.load() if restarted else loop.reconciler.memory
    assert memory is not None
    assert memory.planned
    again = Loop(tmp_path / "after", memory=memory, handover=Handover(30.0))
    await again.say((A, B), TARGETS)
    assert (loop.sink.asked, again.sink.asked) == (0, 0), "it has not seen yet what they have"
    again.see({A.id: seen_with(TARGETS.ids.tolist(), time.monotonic())}, time.monotonic())
    await again.reconciler.cycle()
    assert again.sink.targets()[A.id] == set(NAMES), "A has it until B scrapes it"
    saved = again.store.load()
    assert saved is not None
    assert not saved.unlooked


async def test_who_begins_to_lead_and_must_hold_pushes_nothing(tmp_path: Path) -> None:
    term = Leadership(alone=False, clock=lambda: 0.0)
    loop = Loop(tmp_path, leadership=term)
    term.follow("first", 4)
    await loop.say((A, B), TARGETS)
    loop.facts.members.put(Empty())
    term.lead("us", 10, 5.0)
    await loop.reconciler.cycle()
    await loop.reconciler.cycle()
    assert (loop.reason(), loop.sink.asked) == ("no_scrapers", 0)
    await loop.say((A, B))
    assert set.union(*loop.sink.targets().values()) == set(NAMES)


async def test_a_single_controller_goes_once_above_an_epoch_that_a_receiver_has(tmp_path: Path) -> None:
    newer = Outcome(A.id, "refused", "it has generation 70.3, refuses 7.1", Generation(70, 3))
    loop = Loop(tmp_path)
    loop.sink.refused = [newer]
    await loop.say((A, B), TARGETS)
    loop.sink.refused = []
    await loop.reconciler.cycle()
    assert {s.generation.epoch for s in loop.slices.values()} == {72}
    loop.sink.refused = [newer._replace(fenced_by=Generation(90, 3))]
    await loop.reconciler.cycle()
    await loop.reconciler.cycle()
    assert loop.reconciler.memory.generation.epoch == 72, "another controller was started later"


async def test_who_leads_since_the_middle_of_a_cycle_pushes_in_the_next(tmp_path: Path) -> None:
    term = Leadership(alone=False, clock=lambda: 0.0)
    loop = Loop(tmp_path, leadership=term)
    term.follow("first", 8)
    await loop.say((A, B), TARGETS)
    save = loop.store.save

    async def saved(memory: Memory) -> None:
        term.lead("us", 20, 5.0)
        await save(memory)

    loop.store.save = saved  # type: ignore[method-assign]
    await loop.say(targets=pool_of((TargetGroup.of([*NAMES, "new:1"]),)))
    assert (term.leads(), loop.sink.asked) == (True, 0)
    await loop.reconciler.cycle()
    assert loop.sink.asked == 1
    assert loop.reconciler.memory.generation.epoch == 20


async def test_how_long_a_change_waited_is_counted_by_followers_too(tmp_path: Path) -> None:
    term = Leadership(alone=False, clock=lambda: 0.0)
    loop = Loop(tmp_path, leadership=term)
    loop.sink.pulled = True  # as http_sd
    term.follow("first", 8)
    loop.facts.members.put(Known((A, B)))
    loop.cells["s"].put(Known(TARGETS))
    await loop.reconciler.cycle(time.monotonic())
    count = loop.reconciler._metrics.registry.get_sample_value("promring_delivery_lag_seconds_count", {"fleet": "x"})
    assert count == 1


async def test_the_line_about_the_ring_says_who_joined_and_who_left(tmp_path: Path) -> None:
    events = Events()
    log.configure(stream=io.StringIO(), keep=events.keep)
    loop = Loop(tmp_path)
    await loop.say((A, B), TARGETS)
    await loop.say(members=(B,))
    await loop.say(members=(A, B))
    said = [e.fields for e in events.since() if e.msg == "node_update_reshard"]
    assert [(one["left"], one["joined"]) for one in said] == [(A.id, ""), ("", A.id)]


@pytest.mark.parametrize(("replicas", "targets", "reason"), [(1, NAMES, "policy"), (2, NAMES[:-1], "targets")])
def test_a_policy_that_changed_by_a_reload_is_the_reason_although_equal_lists_were_read_again(
    replicas: int, targets: list[str], reason: str
) -> None:
    def put(policy: Policy, names: list[str]) -> tuple[Memory, Placement]:
        pool = pool_of((TargetGroup.of(names),))
        placed = place(pool, Ring((A, B), 64), policy)
        slices = {A.id: Slice("x", A, Generation(1, 1), b"[]", 0)}
        return Memory(members=(A, B), services={"x": ServiceMemory({"s": pool}, slices)}), placed

    before, _ = put(Policy(64, replication_factor=2), list(NAMES))
    after, placed = put(Policy(64, replication_factor=replicas), list(targets))
    assert why_reshard(before, after, (), placed) == reason


async def test_who_leads_no_more_calls_nobody_deliverable_again(tmp_path: Path) -> None:
    clock = [0.0]
    term = Leadership(alone=False, clock=lambda: clock[0])
    term.lead("us", 3, 100.0)
    loop = Loop(tmp_path, leadership=term)
    with structlog.testing.capture_logs() as lines:
        loop.couriers._log = structlog.get_logger()
        await loop.say((A, B), TARGETS)
        loop.sink.broken_for = B.id
        for n in range(4):
            await loop.say(targets=pool_of((TargetGroup.of([*NAMES, f"new{n}:1"]),)))
        assert loop.reconciler.dispatcher.cut_off == {B.id}
        clock[0] = 200.0
        await loop.reconciler.cycle()
        assert not loop.reconciler.dispatcher.cut_off
    said = [line["event"] for line in lines]
    assert "scraper_undeliverable" in said
    assert "scraper_deliverable_again" not in said
