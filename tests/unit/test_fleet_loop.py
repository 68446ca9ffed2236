"""The loop of a fleet with several services: what is one's own stays one's own, what is shared is shared."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import ItemsView, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import structlog

from promring.core.claims import Taken
from promring.core.evidence import Handover
from promring.core.joined import FleetPool, salt_of
from promring.core.learning import SMOOTHED, Figures, Learning
from promring.core.placement import Policy
from promring.core.pool import fingerprint_of, pool_of
from promring.core.sight import Sight
from promring.core.standing import Rules
from promring.core.trials import AFTER
from promring.core.verdicts import Guard, Hold, Lists
from promring.delivery import Leads, Outcome, always
from promring.election.leadership import Leadership
from promring.fleet.deliveries import ServiceDeliveries
from promring.fleet.dispatcher import UNDELIVERABLE_AFTER, Dispatcher
from promring.fleet.facts import FactBoard, Pace
from promring.fleet.planner import Placing, Planner
from promring.fleet.reconcile import Reconciler
from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.fleet.weighing import Weighing
from promring.loads.learner import Known as Learnt
from promring.model import NONE_FAILING, Empty, Failing, Known, Owners, Scraper, Slice, TargetGroup, TargetPool, Unknown
from promring.telemetry import log
from promring.telemetry.metrics import Metrics
from tests.seeing import owned, seen_with
from tests.telling import hears
from tests.waiting import until

FLEET = "main"
A, B, C = (Scraper(f"{name}:1", name, 1) for name in "abc")
SERVICES = ("db", "node", "web")


def listed(*names: str, count: int = 20) -> TargetPool:
    return pool_of([TargetGroup.of([f"{name}{n}:1" for name in names for n in range(count)])])


@dataclass
class Sink:
    """``broken_for``: scrapers that take nothing."""

    broken_for: set[str] = field(default_factory=set)
    means: str = "memory"
    pulled: bool = False
    held: dict[str, Slice] = field(default_factory=dict)

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        outcomes = []
        for one in slices:
            name = one.scraper.id
            same = self.held.get(name) is one
            if name in self.broken_for:
                outcomes.append(Outcome(name, "failed", "the folder is not there"))
                continue
            self.held[name] = one
            outcomes.append(Outcome(name, "same" if same else "written"))
        return outcomes


class FleetLoop:
    """A reconciler of three services with everything it needs."""

    def __init__(
        self,
        folder: Path,
        *,
        policy: Policy | None = None,
        replicas: Mapping[str, int] | None = None,
        handover: Handover | None = None,
        memory: Memory | None = None,
        leadership: Leadership | None = None,
        learns: bool = False,
    ) -> None:
        self.facts = FactBoard()
        self.cells = {name: self.facts.add(name, ["s"], 3).cells["s"] for name in SERVICES}
        self.sinks = {name: Sink() for name in SERVICES}
        self.leadership = leadership = leadership or Leadership()
        metrics, memory = Metrics(), memory or Memory()
        self.couriers = {
            name: ServiceDeliveries(FLEET, name, [sink], leadership, self.facts.wake, metrics, log.get())
            for name, sink in self.sinks.items()
        }
        self.dispatcher = Dispatcher(self.couriers, {}, leadership, self.facts.wake, log.get(), memory.undelivered)
        placing = {name: Placing(None, (replicas or {}).get(name, 1), salt_of(FLEET, name)) for name in SERVICES}
        self.store = Store(folder, FLEET, log.get())
        self.reconciler = Reconciler(
            FLEET,
            rules=Rules(join_delay_s=0.0),
            guards={name: Guard() for name in SERVICES},
            handover=handover or Handover(0.0, confirm=False),
            pace=Pace(60.0, 0.0),
            facts=self.facts,
            planner=Planner(policy or Policy(), placing, None, memory.members, log.get()),
            dispatcher=self.dispatcher,
            leadership=leadership,
            store=self.store,
            memory=memory,
            metrics=metrics,
            log=log.get(),
            weighing=Weighing(leadership=leadership, wake=self.facts.wake, log=log.get(), learns=learns),
        )

    def learn(self, heavy: int) -> None:
        """So many of the targets that the first scraper has of `db` have 1,000 series, the others have 10."""
        placement = self.reconciler.placement
        assert placement is not None
        pool = placement.pool
        assert isinstance(pool, FleetPool)
        crowded = np.flatnonzero(placement.owners[pool.rows("db"), 0] == 0)[:heavy]
        values = {name: np.full(len(part.pool), 10.0) for name, part in pool.parts.items()}
        values["db"][crowded] = 1000.0
        figures = {name: Figures(part.pool.ids, values[name]) for name, part in pool.parts.items()}
        learning = Learning()
        for _ in range(SMOOTHED):
            learning = learning.reading(pool, figures, self.reconciler.memory.loads)
        self.reconciler.weighing.receive(Learnt(learning, learning.book(1000), pool))

    @property
    def owners(self) -> Owners:
        placement = self.reconciler.placement
        assert placement is not None
        return placement.owners

    async def say(self, members: Sequence[Scraper] | None = None, **lists: TargetPool) -> None:
        if members is not None:
            self.facts.members.put(Known(tuple(members)))
        for name, pool in lists.items():
            self.cells[name].put(Known(pool) if len(pool) else Empty())
        await self.reconciler.cycle()

    def targets(self, service: str) -> dict[str, set[str]]:
        held = self.sinks[service].held
        return {name: {t for g in json.loads(one.body) for t in g["targets"]} for name, one in held.items()}

    def slices(self, service: str) -> Mapping[str, Slice]:
        return self.reconciler.memory.of(service).slices


async def all_of(folder: Path, **more: object) -> FleetLoop:
    loop = FleetLoop(folder, **more)  # type: ignore[arg-type]
    await loop.say((A, B), db=listed("d"), node=listed("n"), web=listed("w"))
    return loop


async def test_every_service_is_delivered_and_the_bound_is_over_all_of_them(tmp_path: Path) -> None:
    loop = await all_of(tmp_path, policy=Policy(64, 1.0))
    counts = dict.fromkeys((A.id, B.id), 0)
    for name, letter in (("db", "d"), ("node", "n"), ("web", "w")):
        found = loop.targets(name)
        assert set.union(*found.values()) == {f"{letter}{n}:1" for n in range(20)}
        for scraper, some in found.items():
            counts[scraper] += len(some)
    assert set(counts.values()) == {30}


async def test_a_service_without_an_answer_waits_alone(tmp_path: Path) -> None:
    loop = FleetLoop(tmp_path)
    loop.cells["web"].put(Unknown("refused"))
    await loop.say((A, B), db=listed("d"), node=listed("n"))
    states = loop.reconciler.services
    assert isinstance(states["web"].verdict, Hold)
    assert states["web"].verdict.reason == "targets_unknown"
    assert [name for name in SERVICES if states[name].decided] == ["db", "node"]
    assert loop.sinks["web"].held == {}, "nothing is not the same as an empty slice"
    assert set.union(*loop.targets("db").values()) == {f"d{n}:1" for n in range(20)}
    await loop.say(web=listed("w"))
    assert states["web"].decided
    assert set.union(*loop.targets("web").values()) == {f"w{n}:1" for n in range(20)}


async def test_a_doubt_about_one_list_holds_that_list_and_no_other(tmp_path: Path) -> None:
    loop = await all_of(tmp_path)
    before = dict(loop.slices("db"))
    await loop.say(db=listed("d", count=2), node=listed("n", count=25))
    assert [one.reason for one in loop.reconciler.services["db"].verdict.withheld] == ["source_shrank"]
    assert isinstance(loop.reconciler.services["node"].verdict, Lists)
    assert not loop.reconciler.services["node"].verdict.withheld
    assert set.union(*loop.targets("node").values()) == {f"n{n}:1" for n in range(25)}
    assert set.union(*loop.targets("db").values()) == {f"d{n}:1" for n in range(20)}
    (let_go,) = loop.reconciler.release("db")
    assert let_go.reason == "source_shrank"
    await loop.reconciler.cycle()
    assert set.union(*loop.targets("db").values()) == {"d0:1", "d1:1"}
    assert before != dict(loop.slices("db"))


async def test_a_change_of_one_service_leaves_the_slices_of_the_others_the_very_same(tmp_path: Path) -> None:
    loop = await all_of(tmp_path, policy=Policy(64, None))
    before = {name: dict(loop.slices(name)) for name in SERVICES}
    await loop.say(node=listed("n", count=21))
    for name in ("db", "web"):
        assert all(one is before[name][scraper] for scraper, one in loop.slices(name).items())
    assert dict(loop.slices("node")) != before["node"]
    pools = loop.reconciler.planner._merged
    await loop.reconciler.cycle()
    assert all(loop.reconciler.planner._merged[name][1] is pools[name][1] for name in SERVICES), "nothing is merged again"


async def test_a_death_is_for_all_services_and_a_return_gives_back(tmp_path: Path) -> None:
    loop = await all_of(tmp_path)
    await loop.say((A,))
    for name, letter in (("db", "d"), ("node", "n"), ("web", "w")):
        assert loop.targets(name)[A.id] == {f"{letter}{n}:1" for n in range(20)}
    await loop.say((A, B))
    assert all(loop.targets(name)[B.id] for name in SERVICES)


async def test_replicas_are_a_services_own(tmp_path: Path) -> None:
    loop = await all_of(tmp_path, replicas={"db": 2}, policy=Policy(64, 1.1, None, 2))
    every = {f"d{n}:1" for n in range(20)}
    assert loop.targets("db") == {A.id: every, B.id: every}
    found = loop.targets("node")
    assert not found[A.id] & found[B.id]


async def test_who_takes_some_services_and_not_others_lives_and_only_those_wait(tmp_path: Path) -> None:
    loop = await all_of(tmp_path, handover=Handover(0.2, confirm=False))
    loop.sinks["db"].broken_for = {C.id}
    await loop.say((A, B, C))
    assert loop.reconciler.memory.claims.held
    for _ in range(UNDELIVERABLE_AFTER + 1):
        await loop.reconciler.cycle()
    assert not loop.dispatcher.cut_off
    assert loop.couriers["db"].undelivered[C.id] >= UNDELIVERABLE_AFTER
    deadline = time.monotonic() + 30.0
    while loop.slices("node")[A.id].targets + loop.slices("node")[B.id].targets + loop.slices("node")[C.id].targets > 20:
        assert time.monotonic() < deadline
        await loop.reconciler.cycle()
    assert loop.slices("node")[C.id].targets, "node is handed over to it"
    held = [loop.slices("db")[one.id].targets for one in (A, B)]
    assert sum(held) == 20, "what it has not taken of db stays with those who have it"
    loop.sinks["db"].broken_for = set()
    while loop.reconciler.memory.claims.held:
        assert time.monotonic() < deadline
        await loop.reconciler.cycle()
    assert sum(loop.slices("db")[one.id].targets for one in (A, B, C)) == 20


async def test_who_takes_nothing_of_any_service_counts_as_dead(tmp_path: Path) -> None:
    loop = await all_of(tmp_path)
    for sink in loop.sinks.values():
        sink.broken_for = {B.id}
    await loop.say(node=listed("n", count=22), db=listed("d", count=22), web=listed("w", count=22))
    for _ in range(UNDELIVERABLE_AFTER):
        await loop.reconciler.cycle()
    assert loop.dispatcher.cut_off == {B.id}
    await loop.reconciler.cycle()
    assert loop.slices("web")[A.id].targets == 22


async def test_what_is_saved_goes_on_after_a_restart_and_nothing_is_written_again(tmp_path: Path) -> None:
    loop = await all_of(tmp_path)
    saved = loop.store.load()
    assert {name: len(one.slices) for name, one in saved.services.items()} == dict.fromkeys(SERVICES, 2)
    again = FleetLoop(tmp_path, memory=saved)
    for name, one in saved.services.items():
        again.cells[name].restore(one.sources["s"], 1.0, "restored")
    again.facts.members.restore(saved.members, 1.0, "restored")
    await again.reconciler.cycle()
    for name in SERVICES:
        assert {n: s.body for n, s in again.slices(name).items()} == {n: s.body for n, s in loop.slices(name).items()}
    assert again.reconciler.memory.generation == loop.reconciler.memory.generation
    assert not any(state.decided for state in again.reconciler.services.values())


@pytest.mark.parametrize("service", SERVICES)
async def test_an_empty_list_of_one_service_empties_nothing(tmp_path: Path, service: str) -> None:
    loop = await all_of(tmp_path)
    before = loop.targets(service)
    loop.cells[service].put(Empty())
    await loop.reconciler.cycle()
    assert loop.targets(service) == before
    assert [one.reason for one in loop.reconciler.services[service].verdict.withheld] == ["source_empty"]


async def test_a_death_moves_what_that_one_had_and_its_return_brings_back_just_that(tmp_path: Path) -> None:
    loop = FleetLoop(tmp_path, policy=Policy(64, 1.05))
    loop.facts.put_listed((A, B, C))
    lists = {"db": listed("d", count=40), "node": listed("n", count=40), "web": listed("w", count=40)}
    await loop.say((A, B, C), **lists)
    before = {name: loop.targets(name) for name in SERVICES}
    await loop.say((A, C))
    for name in SERVICES:
        for one in (A, C):
            assert before[name][one.id] <= loop.targets(name)[one.id]
    await loop.say((A, B, C))
    assert {name: loop.targets(name) for name in SERVICES} == before


async def test_after_a_restart_the_dead_are_listed_still_and_nothing_moves(tmp_path: Path) -> None:
    loop = FleetLoop(tmp_path, policy=Policy(64, 1.05))
    loop.facts.put_listed((A, B, C))
    await loop.say((A, B, C), db=listed("d", count=40), node=listed("n", count=40), web=listed("w", count=40))
    await loop.say((A, C))
    saved = loop.store.load()
    assert saved.catalogue == (A, B, C)
    again = FleetLoop(tmp_path, policy=Policy(64, 1.05), memory=saved)
    again.facts.listed = saved.catalogue
    for name, one in saved.services.items():
        again.cells[name].restore(one.sources["s"], 1.0, "restored")
    again.facts.members.restore(saved.members, 1.0, "restored")
    await again.reconciler.cycle()
    for name in SERVICES:
        assert {n: s.body for n, s in again.slices(name).items()} == {n: s.body for n, s in loop.slices(name).items()}
    assert again.reconciler.memory.generation == loop.reconciler.memory.generation


async def test_a_drain_moves_what_that_one_had(tmp_path: Path) -> None:
    loop = FleetLoop(tmp_path, policy=Policy(64, 1.05))
    await loop.say((A, B, C), db=listed("d", count=40), node=listed("n", count=40), web=listed("w", count=40))
    before = {name: loop.targets(name) for name in SERVICES}
    loop.reconciler.drain(B.id)
    await loop.reconciler.cycle()
    for name in SERVICES:
        assert loop.targets(name)[B.id] == set()
        for one in (A, C):
            assert before[name][one.id] <= loop.targets(name)[one.id]
    loop.reconciler.drain(B.id, back=True)
    await loop.reconciler.cycle()
    assert {name: loop.targets(name) for name in SERVICES} == before


async def test_a_death_does_not_wait_for_the_debounce_and_a_new_target_does(tmp_path: Path) -> None:
    loop = await all_of(tmp_path)
    loop.reconciler._pace = Pace(60.0, 3600.0)
    loop.facts.take()
    running = asyncio.create_task(loop.reconciler.run())
    try:
        await asyncio.sleep(0)
        loop.facts.put_members(Known((A,)))
        await until(lambda: len(loop.slices("node")) == 1, "acted on at once", 30)
        loop.cells["node"].put(Known(listed("n", count=21)))
        await asyncio.sleep(0.1)
        assert loop.slices("node")[A.id].targets == 20, "what is not urgent waits for what else changes"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class ReadIn(dict[str, Taken]):
    """Notes the threads that go through it: one that grows meanwhile, since a scraper comes, ends that by an error."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def items(self) -> ItemsView[str, Taken]:  # type: ignore[override]
        self.threads.add(threading.get_ident())
        return super().items()


async def test_a_scraper_may_come_for_its_slice_while_a_plan_is_made_of_what_was_taken(tmp_path: Path) -> None:
    loop = await all_of(tmp_path)
    taken = loop.couriers["db"].receipts.taken = ReadIn()
    await loop.say((A, B, C))
    assert taken.threads == {threading.get_ident()}


async def refused_db(loop: FleetLoop, scraper: Scraper) -> None:
    """``scraper`` takes nothing more of ``db``, and that was tried often enough to be believed."""
    loop.sinks["db"].broken_for = {scraper.id}
    await loop.say(db=listed("d", count=25))
    for _ in range(UNDELIVERABLE_AFTER + 2):
        await loop.reconciler.cycle()


async def test_a_scraper_that_refuses_one_service_is_named_and_others_get_what_is_new_of_it(tmp_path: Path) -> None:
    loop = FleetLoop(tmp_path, policy=Policy(64, None))
    await loop.say((A, B, C), db=listed("d"), node=listed("n"), web=listed("w"))
    before = {name: loop.targets(name) for name in SERVICES}
    with structlog.testing.capture_logs() as lines:
        loop.dispatcher._log = structlog.get_logger()
        await refused_db(loop, B)
    said = [line for line in lines if line["event"] == "services_undeliverable"]
    assert [(line["scraper"], line["services"]) for line in said] == [(B.id, "db")]
    now = loop.targets("db")
    assert now[A.id] | now[B.id] | now[C.id] == {f"d{n}:1" for n in range(25)}
    assert now[B.id] == before["db"][B.id], "it keeps what it has"
    assert {name: loop.targets(name) for name in ("node", "web")} == {name: before[name] for name in ("node", "web")}


async def test_a_scraper_that_is_reached_again_after_its_host_was_gone_refuses_no_service(tmp_path: Path) -> None:
    """Its services are delivered one after the other; those that are still to come failed since the host was gone."""
    loop = FleetLoop(tmp_path, policy=Policy(64, None))
    await loop.say((A, B, C), db=listed("d"), node=listed("n"), web=listed("w"))
    for sink in loop.sinks.values():
        sink.broken_for = {B.id}
    await loop.say(db=listed("d", count=25), node=listed("n", count=25), web=listed("w", count=25))
    for _ in range(UNDELIVERABLE_AFTER + 1):
        await loop.reconciler.cycle()
    assert loop.dispatcher.failing == Failing((B.id,))
    with structlog.testing.capture_logs() as lines:
        loop.dispatcher._log = structlog.get_logger()
        loop.sinks["db"].broken_for = set()
        await loop.reconciler.cycle()
        assert loop.dispatcher.failing == NONE_FAILING
        loop.sinks["node"].broken_for = set()
        for _ in range(UNDELIVERABLE_AFTER - 2):
            await loop.reconciler.cycle()
        assert events_of(lines) == ["scraper_deliverable_again"]
        for _ in range(UNDELIVERABLE_AFTER + 1):
            await loop.reconciler.cycle()
    assert loop.dispatcher.failing == Failing((), (("web", B.id),)), "it really refuses this one"
    assert events_of(lines) == ["scraper_deliverable_again", "services_undeliverable"]


def events_of(lines: Sequence[Mapping[str, object]]) -> list[object]:
    return [line["event"] for line in lines if "deliverable" in str(line["event"])]


class Picky(Sink):
    """``B`` takes no slice with ``bad`` in it."""

    bad: bytes = b"-"

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        self.broken_for = {one.scraper.id for one in slices if self.bad in one.body and one.scraper.id == B.id}
        return await super().deliver(slices, leads)


async def test_a_scraper_that_refuses_only_what_is_new_to_it_does_not_make_targets_go_to_and_fro(tmp_path: Path) -> None:
    loop = FleetLoop(tmp_path, policy=Policy(64, None))
    picky = Picky()
    loop.couriers["db"].deliveries = [picky]
    await loop.say((A, B, C), db=listed("d"), node=listed("n"), web=listed("w"))
    picky.bad = next(f'"{t}"'.encode() for t in sorted(await _new_of(tmp_path, B)))
    await loop.say(db=listed("d", count=40))
    with structlog.testing.capture_logs() as lines:
        loop.reconciler._log = structlog.get_logger()
        for _ in range(60):
            await loop.reconciler.cycle()
    assert len([line for line in lines if line["event"] == "reshard"]) < 6


async def _new_of(folder: Path, scraper: Scraper) -> set[str]:
    """Which of twenty further targets of ``db`` come to ``scraper``."""
    fresh = FleetLoop(folder / "fresh", policy=Policy(64, None))
    await fresh.say((A, B, C), db=listed("d"), node=listed("n"), web=listed("w"))
    before = fresh.targets("db")[scraper.id]
    await fresh.say(db=listed("d", count=40))
    return fresh.targets("db")[scraper.id] - before


async def test_what_a_dead_scraper_had_does_not_wait_for_one_that_refuses_its_service(tmp_path: Path) -> None:
    loop = FleetLoop(tmp_path, policy=Policy(64, None))
    await loop.say((A, B, C), db=listed("d"), node=listed("n"), web=listed("w"))
    await refused_db(loop, B)
    await loop.say((B, C))
    assert loop.targets("db")[B.id] | loop.targets("db")[C.id] == {f"d{n}:1" for n in range(25)}
    assert set.union(*loop.targets("node").values()) == {f"n{n}:1" for n in range(20)}
    loop.sinks["db"].broken_for = set()
    await loop.say((A, B, C))
    await loop.reconciler.cycle()
    fresh = FleetLoop(tmp_path / "fresh", policy=Policy(64, None))
    await fresh.say((A, B, C), db=listed("d", count=25), node=listed("n"), web=listed("w"))
    assert loop.targets("db") == fresh.targets("db"), "it takes the service again, and has its share again"


async def test_a_service_that_most_refuse_stays_where_it_is_placed(tmp_path: Path) -> None:
    loop = await all_of(tmp_path)
    placed = loop.reconciler.planner.placed
    loop.sinks["db"].broken_for = {A.id, B.id}
    for _ in range(UNDELIVERABLE_AFTER + 2):
        await loop.reconciler.cycle()
    assert loop.reconciler.planner.placed is placed


async def test_an_error_that_nobody_foresaw_in_one_delivery_stops_no_other(tmp_path: Path) -> None:
    loop = await all_of(tmp_path)

    async def broken(*_: object, **__: object) -> list[Outcome]:
        raise RuntimeError("not foreseen")

    loop.sinks["db"].deliver = broken  # type: ignore[method-assign]
    await loop.say(node=listed("n", count=30), db=listed("d", count=30))
    assert set.union(*loop.targets("node").values()) == {f"n{n}:1" for n in range(30)}


async def test_a_service_that_is_new_is_looked_at_before_it_is_pushed(tmp_path: Path) -> None:
    loop = FleetLoop(tmp_path, handover=Handover(5.0, confirm=True))
    loop.cells["web"].put(Unknown("refused"))
    await loop.say((A, B), db=listed("d"), node=listed("n"))
    placement = loop.reconciler.in_force
    assert placement is not None
    loop.facts.put_sight(Sight(placement, {}, (), {}, (), {}, {}, time.monotonic()), awaited=True)
    await loop.reconciler.cycle()
    assert loop.targets("db"), "looked at"
    await loop.say(web=listed("w"))
    assert loop.sinks["web"].held == {}, "nobody has looked who has what of it"
    placement = loop.reconciler.in_force
    assert placement is not None
    loop.facts.put_sight(Sight(placement, {}, (), {}, (), {}, {}, time.monotonic()), awaited=True)
    await loop.reconciler.cycle()
    assert loop.targets("web")


async def test_a_follower_that_lacks_a_service_of_the_leader_decides_nothing_of_the_others(tmp_path: Path) -> None:
    loop = FleetLoop(tmp_path, leadership=Leadership(alone=False))
    mark = fingerprint_of(listed("x"))
    hears(loop.leadership, lists={name: {"s": mark} for name in SERVICES})
    loop.cells["web"].put(Unknown("refused"))
    loop.facts.looked_at = time.monotonic() + 1e6
    await loop.say((A, B), db=listed("d"), node=listed("n"))
    await loop.reconciler.cycle()
    assert not any(state.decided for state in loop.reconciler.services.values())
    await loop.say(web=listed("w"))
    await loop.reconciler.cycle()
    assert all(state.decided for state in loop.reconciler.services.values())


async def test_a_controller_that_hears_of_a_death_before_the_leader_tells_it_makes_the_same_plan(tmp_path: Path) -> None:
    lists = {"db": listed("d", count=60), "node": listed("n", count=60), "web": listed("w", count=60)}
    loops = [FleetLoop(tmp_path / name, policy=Policy(8, 1.0), leadership=Leadership(alone=False)) for name in ("1", "2")]
    leader, follower = loops
    leader.leadership.lead("one", 2, float("inf"))
    follower.leadership.follow("one", 2)
    for loop in loops:
        loop.facts.put_listed((A, B, C))
        await loop.say((A, B, C), **lists)
        hears(follower.leadership, down=leader.leadership.told.down, waiting=leader.leadership.told.waiting)
    for _ in range(2):
        await follower.say((A, B))
    await leader.say((A, B))
    early, theirs = follower.reconciler.placement, leader.reconciler.placement
    assert early is not None
    assert theirs is not None
    assert (early.owners == theirs.owners).all()
    hears(follower.leadership, down=leader.leadership.told.down, waiting=leader.leadership.told.waiting)
    await follower.reconciler.cycle()
    assert follower.reconciler.placement is early


async def test_controllers_place_over_who_the_leader_says_is_listed_and_down(tmp_path: Path) -> None:
    """A controller that was started after a scraper left the catalogue does not know of it."""
    lists = {"db": listed("d", count=60), "node": listed("n", count=60), "web": listed("w", count=60)}
    leader = FleetLoop(tmp_path / "leader", policy=Policy(8, 1.0), leadership=Leadership(alone=False))
    leader.leadership.lead("one", 2, float("inf"))
    leader.facts.put_listed((A, B, C))
    await leader.say((A, B), **lists)
    fresh = FleetLoop(tmp_path / "fresh", policy=Policy(8, 1.0), leadership=Leadership(alone=False))
    fresh.leadership.follow("one", 2)
    await fresh.say((A, B), **lists)
    mine, theirs = leader.reconciler.placement, fresh.reconciler.placement
    assert mine is not None
    assert theirs is not None
    assert (mine.owners != theirs.owners).any(), "over other scrapers"

    hears(fresh.leadership, down=leader.leadership.told.down, waiting=leader.leadership.told.waiting)
    await fresh.reconciler.cycle()
    followed = fresh.reconciler.placement
    assert followed is not None
    assert (mine.owners == followed.owners).all()

    fresh.leadership.lead("fresh", 4, float("inf"))
    await fresh.reconciler.cycle()
    led = fresh.reconciler.placement
    assert led is not None
    assert (mine.owners == led.owners).all(), "a change of leader moves nothing"
    assert fresh.leadership.told.down == {FLEET: (C,)}


LISTS = {"db": listed("d", count=60), "node": listed("n", count=60), "web": listed("w", count=60)}


async def test_learnt_loads_move_targets_at_the_leader_and_the_others_follow_and_lead_without_a_move(tmp_path: Path) -> None:
    leader = FleetLoop(tmp_path / "1", leadership=Leadership(alone=False), learns=True)
    leader.leadership.lead("one", 2, float("inf"))
    follower = FleetLoop(tmp_path / "2", leadership=Leadership(alone=False), learns=True)
    follower.leadership.follow("one", 2)
    for loop in (leader, follower):
        await loop.say((A, B, C), **LISTS)
        await loop.reconciler.cycle()
    before = leader.owners
    assert (before == follower.owners).all()

    leader.learn(heavy=12)
    await leader.reconciler.cycle()
    assert (leader.owners != before).any(), "the heavy ones are spread"
    book = leader.reconciler.memory.loads
    assert book is not None
    assert book.moved_at > 0
    follower.learn(heavy=3)
    await follower.reconciler.cycle()
    assert (follower.owners == before).all(), "who follows goes by what the leader says"
    hears(follower.leadership, loads=leader.leadership.told.loads)
    await follower.reconciler.cycle()
    assert (follower.owners == leader.owners).all()

    follower.leadership.lead("two", 4, float("inf"))
    follower.learn(heavy=30)
    for _ in range(3):
        await follower.reconciler.cycle()
    assert (follower.owners == leader.owners).all(), "within ten minutes of the last move of another leader"
    assert follower.leadership.told.loads == leader.leadership.told.loads


async def test_learnt_loads_outlive_a_restart(tmp_path: Path) -> None:
    loop = FleetLoop(tmp_path, learns=True)
    await loop.say((A, B, C), **LISTS)
    loop.learn(heavy=12)
    await loop.reconciler.cycle()
    after = loop.owners
    memory = loop.store.load()
    assert memory.loads == loop.reconciler.memory.loads
    again = FleetLoop(tmp_path, learns=True, memory=memory)
    await again.say((A, B, C), **LISTS)
    assert (again.owners == after).all()
    counting = FleetLoop(tmp_path, memory=memory)
    await counting.say((A, B, C), **LISTS)
    assert (counting.owners != after).any(), "loads: count takes each target for 1"


async def test_nothing_moves_by_loads_while_scrapers_are_held(tmp_path: Path) -> None:
    loop = FleetLoop(tmp_path, learns=True)
    await loop.say((A, B, C), **LISTS)
    before = loop.owners
    loop.learn(heavy=12)
    loop.facts.members.put(Unknown("refused"))
    await loop.reconciler.cycle()
    assert (loop.owners == before).all()


async def test_a_placement_that_an_error_kept_from_being_in_force_is_put_in_force_by_the_next_cycle(tmp_path: Path) -> None:
    loop = await all_of(tmp_path)
    moves, real = loop.reconciler.moves, loop.reconciler.moves.next_step

    async def broken(*_: object) -> None:
        raise RuntimeError("not foreseen")

    loop.facts.put_listed((A, B, C))
    moves.next_step = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(RuntimeError):
        await loop.say((A, B, C))
    moves.next_step = real  # type: ignore[method-assign]
    await loop.reconciler.cycle()
    assert loop.targets("node")[C.id], "the scraper that joined has its share"


def reasons(loop: FleetLoop) -> dict[str, int]:
    """How many reshards there were, by reason."""
    found = {}
    for metric in loop.reconciler._metrics.registry.collect():
        for sample in metric.samples:
            if sample.name == "promring_reshards_total":
                found[sample.labels["reason"]] = int(sample.value)
    return found


async def test_controllers_place_without_whom_the_leader_gives_nothing(tmp_path: Path) -> None:
    """Only the leader pushes, and so only it finds who cannot be given anything."""
    lists = {"db": listed("d", count=60), "node": listed("n", count=60), "web": listed("w", count=60)}
    loops = [FleetLoop(tmp_path / name, leadership=Leadership(alone=False)) for name in ("1", "2")]
    leader, follower = loops
    leader.leadership.lead("one", 2, float("inf"))
    follower.leadership.follow("one", 2)
    for loop in loops:
        await loop.say((A, B, C), **lists)
    for sink in leader.sinks.values():
        sink.broken_for = {C.id}
    leader.sinks["db"].broken_for = {B.id, C.id}
    for _ in range(UNDELIVERABLE_AFTER + 1):
        await leader.reconciler.cycle()
    assert leader.leadership.told.failing == {"main": Failing((C.id,), (("db", B.id),))}
    assert reasons(leader) == {"initial": 1, "failing": 1}
    hears(follower.leadership, failing=leader.leadership.told.failing)
    await follower.reconciler.cycle()
    mine = leader.reconciler.placement
    assert mine is not None
    assert (mine.owners == follower.owners).all()
    assert C.id not in [mine.scrapers[i].id for i in set(mine.owners[:, 0].tolist())]
    db_of_b = leader.slices("db")[B.id]
    assert db_of_b.targets, "it keeps what it has of the service that it refuses"
    for loop in loops:
        await loop.say((A, B, C), **{**lists, "db": listed("d", count=90)})
        assert loop.slices("db")[B.id].body == db_of_b.body, "and gets nothing new of it"
        assert loop.slices("web")[B.id].targets > 20

    theirs = follower.owners
    follower.leadership.lead("two", 4, float("inf"))
    await follower.reconciler.cycle()
    assert (follower.owners == theirs).all(), "until it has found it itself, or time has passed"


async def test_who_cannot_be_given_what_is_known_after_a_restart_until_a_delivery_says_otherwise(tmp_path: Path) -> None:
    loop = await all_of(tmp_path)
    everybody, lists = (A, B, C), {name: listed(name, count=30) for name in SERVICES}
    await loop.say(everybody, **lists)
    loop.sinks["db"].broken_for = {B.id}
    for sink in loop.sinks.values():
        sink.broken_for = {*sink.broken_for, C.id}
    more = {name: listed(name, count=36) for name in SERVICES}
    await loop.say(everybody, **more)
    for _ in range(UNDELIVERABLE_AFTER + 1):
        await loop.reconciler.cycle()
    assert loop.dispatcher.failing == Failing((C.id,), (("db", B.id),))
    before = {name: {n: s.body for n, s in loop.slices(name).items()} for name in SERVICES}

    again = FleetLoop(tmp_path, memory=loop.store.load())
    for name, sink in again.sinks.items():
        sink.broken_for = loop.sinks[name].broken_for
    for _ in range(2):
        await again.say(everybody, **more)
        assert again.dispatcher.failing == Failing((C.id,), (("db", B.id),))
        assert {name: {n: s.body for n, s in again.slices(name).items()} for name in SERVICES} == before
    for sink in again.sinks.values():
        sink.broken_for = set()
    await again.say(everybody, **{**more, "web": listed("web", count=39)})
    assert again.dispatcher.failing == Failing()


async def test_who_tries_a_target_besides_its_owner_goes_on_after_a_restart(tmp_path: Path) -> None:
    loop = await all_of(tmp_path)
    placement = loop.reconciler.placement
    assert placement is not None
    lost = owned(placement, A)[0]
    for _ in range(AFTER):
        seen = {s.id: seen_with(owned(placement, s), time.monotonic(), down=[lost]) for s in placement.scrapers}
        await loop.reconciler.look_at(seen)
    await loop.reconciler.cycle()
    assert loop.reconciler.saved
    in_force, tried = loop.reconciler.in_force, loop.reconciler.opinions.trials
    assert tried.keys() == {lost}
    assert in_force is not None
    assert lost in owned(in_force, B)

    again = FleetLoop(tmp_path, memory=loop.store.load())
    await again.say((A, B), db=listed("d"), node=listed("n"), web=listed("w"))
    after = again.reconciler.in_force
    assert after is not None
    assert lost in owned(after, B)
    placement = again.reconciler.placement
    assert placement is not None
    await again.reconciler.look_at({B.id: seen_with(owned(placement, B), time.monotonic())})
    assert again.reconciler.opinions.trials.keys() == {lost}, "what cannot be seen has not got better"
