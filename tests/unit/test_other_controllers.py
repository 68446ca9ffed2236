"""What one of several controllers knows of scrapers that come to another one, or that another one serves: when it ends. Fake
time.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from prometheus_client.core import GaugeMetricFamily

from promring.core.evidence import Handover
from promring.core.sight import Runs, Sight
from promring.delivery.http_sd import HttpSdDelivery
from promring.election.leadership import Leadership
from promring.election.loop import Election, Lease
from promring.fleet.asks import Asks
from promring.fleet.deliveries import ServiceDeliveries
from promring.fleet.departures import PROOF_S, Departures
from promring.fleet.dispatcher import UNDELIVERABLE_AFTER, Dispatcher
from promring.fleet.visitors import PATIENCE_S
from promring.model import Failing, Generation, Members, StoreError
from promring.telemetry import log
from promring.telemetry.metrics import Metrics
from promring.web.alerts.conditions import CONDITIONS
from promring.web.alerts.readings import Readings
from tests.ahead import Clock
from tests.fakes.lock import FakeLockServer
from tests.seeing import owned, seen_with
from tests.telling import hears
from tests.unit.test_fleet_loop import A as ONE
from tests.unit.test_fleet_loop import B as TWO
from tests.unit.test_fleet_loop import C as THREE
from tests.unit.test_fleet_loop import FleetLoop, listed
from tests.unit.test_reconcile import NAMES, TARGETS, A, B, Loop

LISTS = {name: listed(name[0], count=60) for name in ("db", "node", "web")}


def _now() -> float:
    return time.monotonic()


def term_of(*, leads: bool) -> Leadership:
    term = Leadership(alone=False, clock=_now)
    if leads:
        term.lead("us", 4, float("inf"))
    else:
        term.follow("one", 4)
    return term


class Serves:
    """A loop whose scrapers come for their slices. ``asks`` are those that come here."""

    def __init__(self, folder: Path, term: Leadership, handover: Handover = Handover(30.0)) -> None:  # noqa: B008 - frozen
        self.loop, self.served, self.asks = Loop(folder, leadership=term, handover=handover), HttpSdDelivery(), Asks()
        facts, moves = self.loop.facts, self.loop.reconciler.moves
        one = ServiceDeliveries("x", "x", [self.served], term, facts.wake, Metrics(), log.get())
        dispatcher = Dispatcher({"x": one}, {}, term, facts.wake, log.get())
        self.loop.reconciler.dispatcher = moves._dispatcher = dispatcher

    def departs(self) -> None:
        """The list had both."""
        self.loop.facts.put_listed((A, B))
        self.loop.reconciler.departures = Departures(
            (), log=log.get(), pulls=True, audited=True, asks=self.asks, waits_s=1.0
        )

    def come(self, *scrapers: str) -> None:
        for name in scrapers:
            self.asks.note_agent("x", name, has=True)
            self.served.asked(name, lambda _: True)
            self.served.came(name)

    def look(self, scraping: Members, silent: Collection[str] = ()) -> None:
        """The ``scraping`` scrape what they own, the others nothing; who is ``silent`` does not answer."""
        placement, now = self.loop.reconciler.in_force, time.monotonic()
        assert placement is not None
        asked = [s for s in (A, B) if s.id not in silent]
        found = {s.id: seen_with(owned(placement, s) if s in scraping else [], now) for s in asked}
        running = {"x": {s.id: Runs(now - 30.0, now) for s in asked}}
        names = tuple(s.id for s in asked)
        self.loop.reconciler.moves.receive(Sight(placement, found, (), {}, names, running, {("x", A.id): 15.0}, now))


def take_out_b(loop: Loop) -> None:
    loop.facts.put_listed((A,))
    loop.reconciler.departures.heard((A,), (B,), {A.id, B.id})


async def test_who_departed_at_the_leader_gets_no_empty_list_of_the_next_one(tmp_path: Path, clock: Clock) -> None:
    leader, follower = (Loop(tmp_path / str(leads), leadership=term_of(leads=leads)) for leads in (True, False))
    for loop in (leader, follower):
        loop.facts.put_listed((A, B))
        loop.reconciler.departures = Departures((), log=log.get(), waits_s=1.0)
        await loop.say((A, B), TARGETS)
        take_out_b(loop)
        for _ in range(5):
            await loop.say((A,))
            clock.ahead += 5.0
    assert leader.sink.targets() == {A.id: set(NAMES), B.id: set()}
    assert leader.reconciler.departures.scrapers == (), "a person takes its file over"
    for _ in range(10):
        clock.ahead += 60.0
        follower.leadership.follow("one", 4)
        await follower.say((A,))
    theirs = b"a list that a person wrote since"
    follower.sink.held = {A.id: leader.sink.held[A.id], B.id: theirs}
    follower.leadership.lead("us", 6, float("inf"))
    for _ in range(10):
        clock.ahead += 5.0
        await follower.say((A,))
    assert follower.sink.held[B.id] == theirs


@pytest.mark.parametrize("leads", [True, False])
async def test_who_departs_and_asks_nobody_here_ends_when_it_is_seen_scraping_nothing(
    tmp_path: Path, clock: Clock, *, leads: bool
) -> None:
    """It took its empty list of another controller, or its jobs were taken out of its configuration first."""
    one = Serves(tmp_path, term_of(leads=leads))
    one.departs()
    await one.loop.say((A, B), TARGETS)
    take_out_b(one.loop)
    departures, began = one.loop.reconciler.departures, clock.ahead
    while departures.scrapers and clock.ahead < began + 3600.0:
        clock.ahead += 15.0
        one.come(A.id)
        one.look((A,))
        await one.loop.say((A,))
    assert PROOF_S <= clock.ahead - began < 600.0


@pytest.mark.parametrize("leader", ["us", ""])
async def test_who_departs_and_cannot_be_asked_stays_where_nobody_else_leads(
    tmp_path: Path, clock: Clock, leader: str
) -> None:
    """Nobody else empties it, while the lease has lapsed."""
    term = term_of(leads=True)
    one = Serves(tmp_path, term)
    one.departs()
    await one.loop.say((A, B), TARGETS)
    take_out_b(one.loop)
    for _ in range(240):
        clock.ahead += 15.0
        if not leader:
            term.follow("", 4)
        one.come(A.id)
        one.look((A,), silent={B.id})
        await one.loop.say((A,))
    assert [s.id for s in one.loop.reconciler.departures.scrapers] == [B.id]


@pytest.mark.parametrize("confirm", [False, True])
@pytest.mark.parametrize("serves", [False, True])
@pytest.mark.parametrize("leads", [False, True])
async def test_a_hand_over_by_time_ends_at_a_follower_too(
    tmp_path: Path, clock: Clock, *, leads: bool, serves: bool, confirm: bool
) -> None:
    """Nobody can be seen. A follower gives nothing to anybody, and counts what the leader gives as taken in time."""
    term, handover = term_of(leads=leads), Handover(30.0, confirm=confirm)
    one = Serves(tmp_path, term, handover) if serves else None
    loop = Loop(tmp_path, leadership=term, handover=handover) if one is None else one.loop
    for _ in range(3):
        clock.ahead += 31.0
        await loop.say((A, B), TARGETS)
    hears(term, drained={"x": frozenset({B.id})})
    began, held_s = clock.ahead, 0.0
    while clock.ahead < began + 1800.0:
        if not leads:
            term.follow("one", 4)
        elif one is not None:
            one.come(A.id, B.id)
        await loop.say((A, B))
        held_s = clock.ahead - began if loop.reconciler.memory.claims.held else held_s
        clock.ahead += 10.0
    assert not loop.reconciler.memory.claims.held
    assert held_s + 10.0 >= (30.0 if leads else PATIENCE_S)


async def test_who_was_drained_long_ago_gets_nothing_back_of_the_next_leader(tmp_path: Path, clock: Clock) -> None:
    term = term_of(leads=False)
    loop = Loop(tmp_path, leadership=term, handover=Handover(30.0, confirm=False))
    await loop.say((A, B), TARGETS)
    hears(term, drained={"x": frozenset({B.id})})
    for _ in range(100):
        clock.ahead += 600.0
        term.follow("one", 4)
        await loop.say((A, B))
    loop.sink.held[B.id] = b"[]\n"
    term.lead("us", 6, float("inf"))
    for _ in range(5):
        await loop.say((A, B))
        assert not loop.sink.targets()[B.id]
        clock.ahead += 1.0


@pytest.mark.parametrize("pulled", [False, True])
async def test_who_refuses_a_service_keeps_what_it_has_at_a_follower_too(tmp_path: Path, *, pulled: bool) -> None:
    follower = FleetLoop(tmp_path, leadership=term_of(leads=False))
    for sink in follower.sinks.values():
        sink.pulled = pulled
    await follower.say((ONE, TWO, THREE), **LISTS)
    had = follower.slices("db")[TWO.id].targets
    assert had > 10
    hears(follower.leadership, failing={"main": Failing((), (("db", TWO.id),))})
    await follower.reconciler.cycle()
    assert follower.slices("db")[TWO.id].targets == had


@pytest.mark.parametrize("lapses", [0, 3])
async def test_a_lease_that_lapses_does_not_make_who_refuses_wait_longer(tmp_path: Path, clock: Clock, lapses: int) -> None:
    term = Leadership(alone=False, clock=_now)
    loop = FleetLoop(tmp_path, leadership=term)

    async def cycles(count: int = UNDELIVERABLE_AFTER + 2) -> None:
        for _ in range(count):
            clock.ahead += 3.0
            await loop.reconciler.cycle()

    term.lead("us", 4, float("inf"))
    await loop.say((ONE, TWO, THREE), **LISTS)
    loop.sinks["db"].broken_for = {TWO.id}
    await loop.say((ONE, TWO, THREE), **{**LISTS, "db": listed("d", count=61)})
    await cycles()
    for lapse in range(lapses):
        clock.ahead += 600.0
        term.follow("", 4 + 2 * lapse)
        await cycles(2)
        term.lead("us", 6 + 2 * lapse, float("inf"))
        await cycles()
    assert loop.dispatcher.failing == Failing((), (("db", TWO.id),))
    loop.sinks["db"].broken_for = set()
    await cycles(2)
    assert not loop.dispatcher.failing.refusing, "it never took the service in between, so it gets its share at once"


async def test_who_is_drained_is_told_when_the_note_that_has_it_was_written() -> None:
    now = [1000.0]
    server = FakeLockServer(lambda: now[0])
    term = Leadership(alone=False, clock=lambda: now[0])
    nothing: Mapping[str, frozenset[str]] = {}
    election = Election(
        server.candidate(5.0),
        Lease("us", 5.0),
        term,
        informed=lambda: True,
        highest=lambda: 0,
        drained=lambda: nothing,
        log=log.get(),
    )
    for _ in range(2):
        await election._round()
    assert (term.leads(), term.shared.drains_are_noted) == (True, True)
    term.shared.drain("main", frozenset({B.id}))
    server.down = True
    with pytest.raises(StoreError):
        await election._round()
    assert not term.shared.drains_are_noted, "the store is out of reach: another leader would not know of it"
    server.down = False
    await election._round()
    assert term.shared.drains_are_noted


def test_the_patience_with_agents_that_have_a_newer_slice_is_forgotten_in_time() -> None:
    now = [0.0]
    term, waited = Leadership(alone=False, clock=lambda: now[0]), list[float]()
    for event in range(5):
        term.lead("us", 4 + 2 * event, float("inf"))
        newest, began = Generation(term.epoch + 1, 1), now[0]
        while not term.agent_has(newest):
            now[0] += 5.0
        waited.append(now[0] - began)
        now[0] += 60.0 if event < 2 else 86400.0
    assert waited == [10.0, 20.0, 40.0, 10.0, 10.0]


@pytest.mark.parametrize(("lock", "fires"), [(0.0, True), (1.0, False)])
def test_one_of_several_controllers_does_not_judge_who_asks_no_more(lock: float, *, fires: bool) -> None:
    name = "promring_scraper_last_ask_timestamp_seconds"
    asked, several = GaugeMetricFamily(name, "x", labels=["fleet", "scraper"]), GaugeMetricFamily("promring_lock", "x")
    asked.add_metric(["main", A.id], 1000.0)
    several.add_metric([], lock)
    readings = Readings({}, [name, "promring_lock"])
    readings.take([asked, several], 2000.0)
    assert bool(CONDITIONS["PromringScraperNotAsking"](readings)) is fires
