"""Who has taken which slice, and who counts as reached: pushes, visits, and what is seen. Fake time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from promring.core.claims import Taken
from promring.core.pool import pool_of
from promring.core.sight import Runs, Sight
from promring.delivery import Delivery, How, Leads, Outcome, always
from promring.delivery.askers import DECLINES_S, Askers
from promring.delivery.http_sd import HttpSdDelivery, Served
from promring.election.leadership import Leadership
from promring.fleet.deliveries import COUNTED_AGAIN_S, MANY, ServiceDeliveries
from promring.fleet.dispatcher import UNDELIVERABLE_AFTER, Dispatcher
from promring.fleet.receipts import NOTHING, RUNNING_S, SEEN_MORE, Receipts
from promring.fleet.term import FOUND_AGAIN_S
from promring.fleet.visitors import PATIENCE_S, Visitors
from promring.model import NEVER_ENDS, NONE_FAILING, Failing, Generation, Placement, Scraper, Slice
from promring.telemetry import log
from promring.telemetry.metrics import Metrics
from tests.waiting import until

A, B = (Scraper(f"{name}:1", name, 1) for name in "ab")
NOWHERE = Placement((), pool_of(()), np.empty((0, 1), dtype=np.int32))
SLICES = [Slice("x", scraper, Generation(1, 1), b'[\n{"targets":["t:1"]}\n]\n', 1) for scraper in (A, B)]


class Pushed:
    pulled = False

    def __init__(self, means: str = "pushed") -> None:
        self.means = means
        self.outcome: dict[str, How] = {A.id: "written", B.id: "written"}

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        return [
            Outcome(s.scraper.id, self.outcome[s.scraper.id], "why" * (self.outcome[s.scraper.id] == "failed"))
            for s in slices
        ]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    for name in (
        "promring.fleet.deliveries",
        "promring.fleet.receipts",
        "promring.fleet.visitors",
        "promring.delivery.http_sd",
        __name__,
    ):
        monkeypatch.setattr(f"{name}.time", found)
    return found


def has_it(_: Served) -> bool:
    """Whoever asks has what is served."""
    return True


def has_none(_: Served) -> bool:
    return False


class Given(Dispatcher):
    """Of a fleet with one service."""

    def __init__(
        self,
        deliveries: Sequence[Delivery],
        term: Leadership,
        heard: Collection[str] = (),
        before: Failing = NONE_FAILING,
    ) -> None:
        self.one = ServiceDeliveries("x", "x", deliveries, term, lambda: None, Metrics(), log.get(), heard)
        super().__init__({"x": self.one}, {}, term, lambda: None, log.get(), before)

    def see(self, asked: Collection[str], running: Mapping[str, float], upto: float) -> None:
        intervals = {("x", name): 15.0 for name in asked}
        runs = {name: Runs(since, time.monotonic()) for name, since in running.items()}
        self.saw(Sight(NOWHERE, {}, (), {}, asked, {"x": runs}, intervals, None), upto)


def couriers(*deliveries: Delivery, alone: bool = True, heard: Collection[str] = ()) -> Given:
    term = Leadership(alone=alone, clock=lambda: 0.0)
    if not alone:
        term.lead("us", 1, 1e9)
    return Given(deliveries, term, heard)


async def deliver(given: Given, times: int = 1, slices: Sequence[Slice] = SLICES) -> None:
    for _ in range(times):
        await given.deliver({"x": slices}, {"x"}, pushes=True, whole=True)


def has_since(given: Given, name: str, begun: float) -> float:
    return (
        float(given.one.receipts.taken[name].since(np.array([begun]))[0]) if name in given.one.receipts.taken else NEVER_ENDS
    )


async def test_what_is_pushed_is_taken_when_it_is_there(clock: Clock) -> None:
    sink = Pushed()
    given = couriers(sink)
    sink.outcome[B.id] = "failed"
    await deliver(given)
    assert (has_since(given, A.id, 999.0), has_since(given, B.id, 999.0)) == (1000.0, NEVER_ENDS)
    assert has_since(given, A.id, 1001.0) == NEVER_ENDS, "what is decided later is in no slice yet"
    clock.now, sink.outcome[B.id] = 1010.0, "same"
    await deliver(given)
    assert (has_since(given, A.id, 999.0), has_since(given, A.id, 1001.0), has_since(given, B.id, 1.0)) == (1000, 1010, 1010)


async def test_who_comes_for_its_list_has_it_when_it_has_come(clock: Clock) -> None:
    served = HttpSdDelivery()
    given = couriers(served)
    await deliver(given)
    assert has_since(given, A.id, 999.0) == NEVER_ENDS, "put into memory is not delivered"
    clock.now = 1030.0
    served.came(A.id)
    assert has_since(given, A.id, 999.0) == NEVER_ENDS, "who looks once is no scraper"
    clock.now = 1060.0
    served.came(A.id)
    assert has_since(given, A.id, 999.0) == 1060.0
    assert given.one.visitors.visits[A.id].every_s == 30.0
    assert has_since(given, B.id, 999.0) == NEVER_ENDS


async def test_who_cannot_take_what_it_is_offered_counts_as_not_reached(clock: Clock) -> None:
    served = HttpSdDelivery()
    given, rung = couriers(served), list[float]()
    given.one._wake = lambda: rung.append(clock.now)
    await deliver(given)
    for _ in range(2):
        clock.now += 5.0
        for one in (A, B):
            served.asked(one.id, has_it)
            served.came(one.id)
    await deliver(given)
    assert given.one.reached == {A.id, B.id}
    clock.now += 5.0
    served.asked(B.id, has_none, why="x: No space left on device", declines=True)
    assert rung == [clock.now], "the loop is told at once"
    served.asked(B.id, has_none, why="x: No space left on device", declines=False)
    await deliver(given, UNDELIVERABLE_AFTER, list(SLICES))
    assert given.cut_off == {B.id}
    assert [o.error for o in given.one.outcomes["http_sd"] if o.error] == ["x: No space left on device"]
    given.see([B.id], {B.id: clock.now - 9.0}, clock.now)
    await deliver(given)
    assert not given.cut_off, "who is seen to run it has it"
    given.see([B.id], {}, clock.now)
    await deliver(given, UNDELIVERABLE_AFTER)
    assert given.cut_off == {B.id}
    served.asked(B.id, has_it)
    served.came(B.id)
    await deliver(given)
    assert not given.cut_off


async def test_the_loop_is_told_of_declined_slices_once_a_second_and_of_the_last_one_too(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promring.fleet.deliveries.DECLINES_APART_S", 0.05)
    served = HttpSdDelivery()
    given, rung = couriers(served), list[bool]()
    await deliver(given)
    given.one._wake = lambda: rung.append(B.id in served.declining())
    for n in range(101):
        served.asked(B.id, [has_none, has_it][n % 2], declines=n % 2 == 0)
    assert rung == [True], "at once, and then not each time"
    served.asked(B.id, has_it)
    await until(lambda: rung == [True, False], "it is told that it declines no more")


async def test_who_declined_and_took_a_slice_of_another_controller_counts_as_not_reached_only_for_a_while(
    clock: Clock,
) -> None:
    served = HttpSdDelivery()
    served.askers = Askers(clock.monotonic)
    given = couriers(served, alone=False)
    await deliver(given)
    for _ in range(2):
        for one in (A, B):
            served.asked(one.id, has_none, declines=one is B)
        served.came(A.id)
        await deliver(given, UNDELIVERABLE_AFTER)
        assert given.cut_off == {B.id}
        clock.now += DECLINES_S - 1.0
    served.asked(A.id, has_it)
    served.came(A.id)
    await deliver(given)
    clock.now += 2.0
    assert given.cut_off == {B.id}
    given.see([B.id], {}, clock.now)
    await deliver(given)
    assert not given.cut_off, "it asks no more, so it has what it lacked, of another controller"


@pytest.mark.parametrize("alone", [True, False])
async def test_who_refused_a_service_of_the_leader_before_is_found_again_by_time(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, *, alone: bool
) -> None:
    monkeypatch.setattr("promring.fleet.dispatcher.time", clock)
    term = Leadership(alone=alone, clock=lambda: 0.0)
    term.lead("us", 1, 1e9)
    given = Given([HttpSdDelivery()], term, before=Failing.of((), [("x", B.id)]))
    await deliver(given)
    clock.now += FOUND_AGAIN_S - 1.0
    await deliver(given)
    assert given.failing.refusing == (("x", B.id),)
    clock.now += 2.0
    await deliver(given)
    assert given.failing.refusing == ((("x", B.id),) if alone else ()), "it may come to another controller"


async def only_a_comes(served: HttpSdDelivery, clock: Clock) -> Given:
    """B has not come for so long that it counts as dead."""
    given = couriers(served)
    await deliver(given)
    for _ in range(int(PATIENCE_S // 60) + 2):
        clock.now += 60.0
        served.came(A.id)
        await deliver(given, UNDELIVERABLE_AFTER)
    assert given.cut_off == {B.id}
    return given


async def test_who_stays_away_too_long_counts_as_dead_and_is_named(clock: Clock) -> None:
    served = HttpSdDelivery()
    given = await only_a_comes(served, clock)
    (why,) = [o.error for outcomes in given.one.outcomes.values() for o in outcomes if o.error]
    assert why == "has not taken its list for 180 s"
    served.came(B.id)
    clock.now += 1.0
    served.came(B.id)
    await deliver(given)
    assert not given.cut_off


async def test_who_stays_away_and_has_an_empty_slice_has_not_come_back_because_it_runs_nothing(clock: Clock) -> None:
    given = await only_a_comes(HttpSdDelivery(), clock)
    emptied = [SLICES[0], replace(SLICES[1], body=b"[]\n", targets=0)]
    for _ in range(2):
        await given.deliver({"x": emptied}, {"x"}, pushes=True, whole=True)
        given.see({A.id, B.id}, {A.id: clock.now, B.id: clock.now}, clock.now)
    assert given.cut_off == {B.id}


async def test_an_http_sd_beside_a_file_does_not_hide_that_the_file_never_arrives(clock: Clock) -> None:
    sink = Pushed()
    given = couriers(HttpSdDelivery(), sink)
    sink.outcome[B.id] = "failed"
    await deliver(given, UNDELIVERABLE_AFTER)
    assert given.cut_off == {B.id}


async def test_who_comes_has_what_it_came_for_and_not_what_lies_in_a_file(clock: Clock) -> None:
    served, sink = HttpSdDelivery(), Pushed()
    given = couriers(served, sink)
    await deliver(given)
    served.came(A.id)
    clock.now = 1005.0
    served.came(A.id)
    clock.now = 1020.0
    await deliver(given)
    assert has_since(given, A.id, 1010.0) == NEVER_ENDS, "its file is written, but it reads another list"
    assert has_since(given, B.id, 1010.0) == 1020.0


async def test_what_was_served_for_long_to_one_that_stays_away_should_have_been_taken(clock: Clock) -> None:
    """Of several controllers each knows only who comes to itself, and one without the job comes to none."""
    served = HttpSdDelivery()
    given, began = couriers(served, alone=False), clock.now
    await deliver(given)
    for _ in range(int(PATIENCE_S // 60) + 2):
        assert not given.one.receipts.offered().get(B.id, NOTHING).uptos or clock.now - began >= PATIENCE_S
        clock.now += 60.0
        served.came(A.id)
        await deliver(given)
    assert not given.one.receipts.taken.get(B.id), "it has not come: a hand-over to it goes by that"
    offered = given.one.receipts.offered()
    assert offered[A.id] is given.one.receipts.taken[A.id]
    assert offered[B.id].since(np.array([began, clock.now - PATIENCE_S + 1.0])).tolist() == [
        clock.now - PATIENCE_S,
        NEVER_ENDS,
    ]
    given.see({B.id}, {B.id: clock.now}, clock.now)
    assert B.id not in given.one.receipts.offered(), "it runs its slice: it has it from another controller"


async def test_where_slices_are_pushed_only_those_that_arrived_were_given(clock: Clock) -> None:
    sink = Pushed()
    given = couriers(HttpSdDelivery(), sink, alone=False)
    sink.outcome[B.id] = "failed"
    await deliver(given)
    clock.now += 2 * PATIENCE_S
    await deliver(given)
    assert set(given.one.receipts.offered()) == {A.id}


async def test_with_several_controllers_who_comes_to_another_one_is_not_away(clock: Clock) -> None:
    given = couriers(HttpSdDelivery(), alone=False)
    await deliver(given)
    clock.now += 3 * PATIENCE_S
    await deliver(given, UNDELIVERABLE_AFTER)
    assert not given.cut_off, "nothing tells"
    in_force_at, since = clock.now - 1.0, clock.now - 30.0
    given.see({A.id, B.id}, {A.id: since}, in_force_at)
    assert has_since(given, A.id, 999.0) == clock.now, "it was seen to run what it shall"
    assert has_since(given, A.id, in_force_at) == NEVER_ENDS, (
        "that is served since now: it may have come for an older one before"
    )
    clock.now += RUNNING_S
    given.see({A.id, B.id}, {A.id: since}, in_force_at)
    assert has_since(given, A.id, in_force_at) == clock.now
    await deliver(given, UNDELIVERABLE_AFTER)
    assert not given.cut_off, "it runs something else and has not come here: it may come to another controller"


async def test_who_has_run_what_it_shall_until_a_moment_ago_is_not_away(clock: Clock) -> None:
    given = couriers(HttpSdDelivery(), alone=True)
    await deliver(given)
    for _ in range(int(3 * PATIENCE_S // 30)):
        clock.now += 30.0
        given.see({A.id, B.id}, {A.id: 1000.0, B.id: 1000.0}, 1000.0)
    given.see({A.id, B.id}, {A.id: 1000.0}, clock.now)
    await deliver(given, UNDELIVERABLE_AFTER)
    assert not given.cut_off, "there is another list since now, and it comes for it once a minute"
    clock.now += PATIENCE_S
    given.see({A.id, B.id}, {A.id: 1000.0}, clock.now)
    await deliver(given, UNDELIVERABLE_AFTER)
    assert given.cut_off == {B.id}


async def test_what_was_seen_for_a_moment_only_is_not_believed(clock: Clock) -> None:
    given = couriers(HttpSdDelivery())
    await deliver(given)
    given.see({A.id, B.id}, {A.id: clock.now - 1.0}, clock.now)
    assert has_since(given, A.id, 999.0) == NEVER_ENDS, "it may have fetched a list that it has not applied yet"


@pytest.mark.parametrize("outcome", ["waiting", "withheld", "unsent"])
async def test_what_is_not_decided_is_neither_taken_nor_a_failure(clock: Clock, outcome: How) -> None:
    sink = Pushed()
    given = couriers(sink)
    sink.outcome[B.id] = outcome
    await deliver(given, UNDELIVERABLE_AFTER + 1)
    assert not given.cut_off
    assert B.id not in given.one.receipts.taken


async def test_a_change_does_not_cut_off_at_once_who_comes_to_another_controller(clock: Clock) -> None:
    """B reads at the follower. Its slice changes; until its next refresh it naturally runs the list before."""
    given = couriers(HttpSdDelivery(), alone=False)
    await deliver(given)
    clock.now += 3 * PATIENCE_S
    in_force_at = clock.now - 1
    for _ in range(8):  # it runs what it shall, and nothing changes for four minutes
        given.see({A.id, B.id}, {A.id: in_force_at, B.id: in_force_at}, in_force_at)
        await deliver(given)
        clock.now += 30
    clock.now += 1.0  # another target: B's slice is another one
    given.see({A.id, B.id}, {A.id: in_force_at}, clock.now)
    for _ in range(UNDELIVERABLE_AFTER):
        await deliver(given)
        clock.now += 1.0
    assert not given.cut_off, "3 s after the change; it asks once a minute"


async def test_who_was_cut_off_comes_back_when_it_is_seen_to_run_what_it_shall(clock: Clock) -> None:
    given = couriers(HttpSdDelivery(), alone=True)
    await deliver(given)
    clock.now += 3 * PATIENCE_S
    given.see({A.id, B.id}, {A.id: clock.now - 30}, clock.now - 1)
    await deliver(given, UNDELIVERABLE_AFTER)
    assert given.cut_off == {B.id}
    clock.now += 30
    given.see({A.id, B.id}, {A.id: clock.now - 60, B.id: clock.now - 20}, clock.now - 25)  # it runs what it shall
    await deliver(given)
    assert not given.cut_off, "outcome 'waiting' keeps the number for ever"


async def test_who_asks_every_five_minutes_and_is_seen_to_run_its_list_is_not_away(clock: Clock) -> None:
    """http_sd_configs.refresh_interval: 5m; the controller was restarted; nothing changes."""
    given = couriers(HttpSdDelivery())
    in_force_at = clock.now
    await deliver(given)
    for _ in range(8):  # an audit every 30 s
        clock.now += 30
        given.see({A.id, B.id}, {A.id: 1010.0, B.id: 1010.0}, in_force_at)
        await deliver(given)
    await deliver(given, UNDELIVERABLE_AFTER)
    assert not given.cut_off, "it was seen to run what it shall 0 s ago"


async def test_who_looks_once_is_no_scraper(clock: Clock) -> None:
    """http_sd beside file; a person opens /sd/x/b once. Who looks once is no scraper."""
    served, sink = HttpSdDelivery(), Pushed()
    given = couriers(served, sink)
    await deliver(given)
    served.came(B.id)
    for _ in range(5):
        clock.now += 60
        await deliver(given)
    assert has_since(given, B.id, 1030.0) < NEVER_ENDS, "its file is written"
    assert not any(o.error for outcomes in given.one.outcomes.values() for o in outcomes)


async def test_where_scrapers_may_come_to_another_controller_a_written_file_is_taken_by_who_is_seen_to_run_it(
    clock: Clock,
) -> None:
    """file beside http_sd, two controllers: B comes to the other one."""
    given = couriers(HttpSdDelivery(), Pushed(), alone=False)
    given.see({A.id, B.id}, {}, clock.now)
    in_force_at = clock.now
    for _ in range(10):
        clock.now += 1.0
        await deliver(given)
        await given.deliver({"x": SLICES}, {"x"}, pushes=True, whole=False)
    assert given.one.reached == {A.id, B.id}, "each has a file that is written"
    assert (has_since(given, A.id, in_force_at), has_since(given, B.id, in_force_at)) == (NEVER_ENDS, NEVER_ENDS)
    may_have = given.given["x", A.id].since(np.array([in_force_at]))[0]
    assert may_have == in_force_at + 1.0, "it may have had it since then: what it lacks much later it will not get"
    given.see({A.id, B.id}, {A.id: clock.now - 7.0}, in_force_at)
    await deliver(given)
    assert (has_since(given, A.id, in_force_at), has_since(given, B.id, in_force_at)) == (clock.now, NEVER_ENDS)


async def test_where_nothing_can_be_seen_a_written_file_is_taken_though_scrapers_may_come_too(clock: Clock) -> None:
    given = couriers(HttpSdDelivery(), Pushed(), alone=False)
    given.see({A.id}, {}, clock.now)
    await deliver(given)
    assert (has_since(given, A.id, 999.0), has_since(given, B.id, 999.0)) == (NEVER_ENDS, clock.now)
    given.see(set(), {}, clock.now)
    await deliver(given)
    assert has_since(given, A.id, 999.0) == NEVER_ENDS, (
        "it hangs now, and may read the other controller's list when it does not"
    )


async def test_after_a_reload_a_written_file_proves_nothing_of_a_scraper_that_was_seen_before_it(clock: Clock) -> None:
    given = couriers(HttpSdDelivery(), Pushed(), alone=False, heard={A.id})
    await deliver(given)
    assert (has_since(given, A.id, 999.0), has_since(given, B.id, 999.0)) == (NEVER_ENDS, clock.now), "nobody has looked yet"
    alone = couriers(Pushed(), heard={A.id})
    await deliver(alone)
    assert has_since(alone, A.id, 999.0) == clock.now, "it can read nothing else"


def test_of_scrapers_that_are_gone_few_are_remembered() -> None:
    one = Receipts(Visitors(), [True, False])
    one.sees(f"pod-{n}" for n in range(SEEN_MORE + 2))
    one.keep_only(["pod-0"])
    one.sees(f"pod-{n}" for n in range(2 * SEEN_MORE))
    one.keep_only([])
    assert len(one._seen) == 2 * SEEN_MORE, "no slice was given yet"
    one.sees(["pod-x"])
    one.keep_only(["pod-0"])
    assert one._seen == {"pod-0"}


async def test_what_is_pushed_in_two_ways_is_taken_when_both_have_it(clock: Clock) -> None:
    """ssh beside file: which of them the scraper reads is not known."""
    one, other = Pushed(), Pushed("other")
    given = couriers(one, other)
    other.outcome[B.id] = "failed"
    await deliver(given)
    assert (has_since(given, A.id, 999.0), has_since(given, B.id, 999.0)) == (clock.now, NEVER_ENDS)
    assert given.one.reached == {A.id, B.id}, "it is not cut off"
    given.see({A.id, B.id}, {B.id: clock.now - 7.0}, clock.now)
    assert has_since(given, B.id, 999.0) == clock.now, "it is seen to run it"


class Background(Pushed):
    def when_done(self, wake: Callable[[], None]) -> None:
        pass


@pytest.mark.parametrize(
    ("deliveries", "pushes"),
    [
        ([HttpSdDelivery()], False),
        ([Pushed()], True),
        ([Pushed(), HttpSdDelivery()], False),
        ([Background(), HttpSdDelivery()], True),
    ],
)
def test_older_slices_may_be_on_their_way_where_a_push_is_not_waited_for(deliveries: list[Delivery], pushes: bool) -> None:
    """With a file beside http_sd, who is seen to scrape a target long after it was given it counts as having it."""
    assert couriers(*deliveries, alone=False).pushes is pushes
    term = Leadership(alone=False, clock=lambda: 0.0)
    assert Given(deliveries, term).pushes is False, "who does not lead pushes nothing"


async def test_what_is_remembered_of_scrapers_that_left_is_forgotten_with_pushes_too(clock: Clock) -> None:
    given = couriers(Pushed())
    await deliver(given)
    await deliver(given, slices=SLICES[:1])
    assert set(given.one.receipts.taken) == {A.id}


def test_a_hand_over_longer_than_what_is_kept_ends_by_time() -> None:
    """overlap: 15m, or a scrape interval of 5 m (2 * 300 + 10 s) where nothing can be seen."""
    taken, begun = Taken(), 100.0
    dues = []
    for now in range(0, 7200, 60):
        taken = taken.and_then(float(now), float(now))
        dues.append((now, float(taken.since(np.array([begun]))[0]) + 900.0))
    assert any(due <= now for now, due in dues if now > begun), "it never ends"


class Counted(HttpSdDelivery):
    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        self.times += 1
        return await super().deliver(slices, leads)


@pytest.mark.parametrize(("scrapers", "again"), [(MANY, 0), (MANY - 1, 1)])
async def test_who_comes_for_many_slices_is_not_counted_at_each_change_of_another_service(
    clock: Clock, scrapers: int, again: int
) -> None:
    slices = [Slice("x", Scraper(f"{n}:1", str(n), 1), Generation(1, 1), b"[]\n", 0) for n in range(scrapers)]
    served = Counted()
    given = couriers(served)

    async def look(some: Sequence[Slice], *, whole: bool = False) -> int:
        before = served.times
        await given.deliver({"x": list(some)}, {"x"}, pushes=True, whole=whole)
        return served.times - before

    assert await look(slices) == 1
    assert [await look(slices) for _ in range(3)] == [again] * 3
    assert await look(slices, whole=True) == 1
    changed = [replace(slices[0], body=b"[] \n"), *slices[1:]]
    assert await look(changed) == 1, "another slice is given at once"
    for _ in range(2):
        clock.now += 1.0
        served.came("0:1")
    assert given.one.receipts.taken["0:1"].uptos, "who comes has it at once"
    clock.now += COUNTED_AGAIN_S
    assert await look(changed) == 1
    assert "0:1" in given.one.reached


async def test_a_look_at_some_says_nothing_of_the_others(clock: Clock) -> None:
    given = couriers(HttpSdDelivery())
    await deliver(given)
    given.see({A.id, B.id}, {A.id: clock.now - 30.0, B.id: clock.now - 30.0}, clock.now - 20.0)
    given.see({B.id}, {}, clock.now)
    assert (given.one.visitors.runs(A.id), given.one.visitors.runs(B.id)) == (True, False)
    assert has_since(given, A.id, clock.now - 10.0) == NEVER_ENDS, "what was put in force since then it was not seen to have"


async def test_a_sink_that_has_its_slices_is_looked_at_again_when_they_change_or_with_all_others(clock: Clock) -> None:
    sink = Pushed()
    given = couriers(sink)
    await deliver(given)
    sink.outcome[A.id] = "failed"  # what a look would find

    async def partly(slices: Sequence[Slice]) -> bool:
        return (await given.deliver({"x": slices}, {"x"}, pushes=True, whole=False))["x"]

    clock.now = 1010.0
    assert await partly(list(SLICES)), "the very same slices: nobody looks"
    assert has_since(given, A.id, 1005.0) == 1010.0, "and it has what is in force now"
    assert not await partly([SLICES[0], Slice("x", B, Generation(1, 2), b"[\n]\n", 0)])
    assert not await partly(SLICES), "what failed is tried again"
    sink.outcome[A.id] = "same"
    assert await partly(SLICES)
    sink.outcome[A.id] = "failed"
    assert await partly(SLICES)
    assert not (await given.deliver({"x": SLICES}, {"x"}, pushes=True, whole=True))["x"]


async def test_between_the_deliveries_of_many_services_others_have_their_turn() -> None:
    term, turns, done = Leadership(), 0, False
    services = {
        f"s{n}": ServiceDeliveries("x", f"s{n}", [Pushed()], term, lambda: None, Metrics(), log.get()) for n in range(20)
    }

    async def other() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    dispatcher = Dispatcher(services, {}, term, lambda: None, log.get())
    found = await dispatcher.deliver(dict.fromkeys(services, SLICES), set(services), pushes=True, whole=True)
    done = True
    await task
    assert all(found.values())
    assert turns >= len(services)


class Told:
    def __init__(self) -> None:
        self.rung: list[tuple[str, ...]] = []
        self.served: list[list[str]] = []
        self.services: list[HttpSdDelivery] = []

    def rang(self, scrapers: Collection[str], *, new: bool) -> None:
        self.rung.append(tuple(scrapers))
        self.served.append([str(found.slice.generation) for one in self.services if (found := one.get(A.id))])


async def test_who_waits_for_several_services_is_told_when_all_are_delivered() -> None:
    term, told = Leadership(), Told()
    told.services = [HttpSdDelivery() for _ in range(9)]
    for one in told.services:
        one.listeners.add(told)
    services = {
        f"s{n}": ServiceDeliveries("x", f"s{n}", [one], term, lambda: None, Metrics(), log.get())
        for n, one in enumerate(told.services)
    }
    dispatcher = Dispatcher(services, {}, term, lambda: None, log.get())
    for round_ in range(1, 3):
        told.rung, told.served = [], []
        slices = [Slice("x", scraper, Generation(1, round_), b"[]" + b"\n" * round_, 0) for scraper in (A, B)]
        await dispatcher.deliver(dict.fromkeys(services, slices), set(services), pushes=True, whole=True)
        assert told.rung == [(A.id, B.id)] * 9
        assert told.served == [[f"1.{round_}"] * 9] * 9, "when the first of them rings, all are there"
    told.rung = []
    await dispatcher.deliver(dict.fromkeys(services, slices), set(services), pushes=True, whole=True)
    assert told.rung == [], "the same slices are no news"
