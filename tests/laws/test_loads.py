"""Laws of learnt loads: what is told is what is known, noise moves nothing, and moves are worth it and seldom."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from promring.core.difference import compare
from promring.core.gain import APART_S, GAIN, fullest, gain
from promring.core.joined import FleetPool, Part
from promring.core.learning import READINGS, READINGS_ENOUGH, SMOOTHED, Figures, Learning
from promring.core.loads import ALIKE, LEVELS, TABLE, LoadBook, ServiceLoads, decode, encode, level_of
from promring.core.placement import Policy, place, place_living
from promring.core.ring import Ring
from promring.election.leadership import Leadership
from promring.fleet.weighing import Weighing
from promring.loads.learner import Known
from promring.model import Loads, Members, Placement, Scraper
from promring.telemetry import log
from tests.laws.strategies import pool_of

MEMBERS: Members = tuple(Scraper(f"s{n}:1", f"s{n}", 1) for n in range(5))
POLICY = Policy(64, 1.1)
RING = Ring(MEMBERS, POLICY.virtual_nodes)
figures = st.lists(st.integers(0, 200_000), min_size=1, max_size=80)


def fleet_pool(count: int) -> FleetPool:
    return FleetPool.of({"a": Part(pool_of([f"t{n}:1" for n in range(count)]))})


def placed(pool: FleetPool, loads: Loads | None) -> Placement:
    return place(pool, RING, POLICY, loads)


def read(pool: FleetPool, values: np.ndarray, learning: Learning | None = None, times: int = SMOOTHED) -> Learning:
    found = learning or Learning()
    for _ in range(times):
        found = found.reading(pool, {"a": Figures(pool.parts["a"].pool.ids, values.astype(float))}, None)
    return found


@given(figures)
def test_a_book_says_of_each_target_what_was_learnt_within_the_width_of_its_levels(values: list[int]) -> None:
    pool = fleet_pool(len(values))
    book = read(pool, np.array(values)).book(len(values))
    assert book is not None
    told, known = book.of(pool), np.maximum(np.array(values), 1)
    width = TABLE[np.minimum(level_of(known.astype(float)).astype(int) + ALIKE + 1, LEVELS - 1)] - known
    assert (np.abs(told - known) <= np.maximum(1, width)).all()
    again = decode(encode(book))
    assert again is not None
    assert again == book
    assert encode(again) == encode(book)


@given(figures, st.integers(0, 80))
def test_where_there_is_no_room_for_all_those_that_differ_most_are_told(values: list[int], most: int) -> None:
    pool = fleet_pool(len(values))
    learning = read(pool, np.array(values))
    whole, book = learning.book(len(values)), learning.book(most)
    assert whole is not None
    assert book is not None
    assert len(book.services["a"].halves) <= most
    left_out = np.setdiff1d(whole.services["a"].halves, book.services["a"].halves)
    if len(left_out) and len(book.services["a"].halves):
        typical = TABLE[whole.services["a"].typical]
        farthest = {
            name: np.abs(TABLE[whole.services["a"].levels[np.isin(whole.services["a"].halves, some)]] - typical)
            for name, some in (("told", book.services["a"].halves), ("left", left_out))
        }
        assert farthest["told"].min() >= farthest["left"].max()


@given(figures, st.randoms(use_true_random=False))
def test_noise_of_20_percent_changes_no_level_that_was_right(values: list[int], random: object) -> None:
    rng = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    pool, true = fleet_pool(len(values)), np.array(values) + 100.0
    learning = read(pool, true)
    before = learning.book(len(values))
    for _ in range(60):
        learning = read(pool, true * rng.uniform(0.8, 1.2, len(true)), learning, 1)
    assert before is not None
    assert before.same_loads(learning.book(len(values)))


@given(figures)
def test_a_load_that_really_changes_is_followed(values: list[int]) -> None:
    pool, true = fleet_pool(len(values)), np.array(values) + 100.0
    learning = read(pool, true * 2, read(pool, true), 4 * SMOOTHED + READINGS)
    book = learning.book(len(values))
    assert book is not None
    assert (np.abs(book.of(pool) / (2 * true) - 1) < 0.3).all()


@given(figures, figures)
def test_the_load_of_all_is_the_same_before_and_after_and_no_move_is_without_a_gain(
    before: list[int], after: list[int]
) -> None:
    count = min(len(before), len(after))
    pool = fleet_pool(count)
    old, new = (np.array(some[:count], dtype=np.int64) + 1 for some in (before, after))
    now, then = placed(pool, old), placed(pool, new)
    today = replace(now, loads=new)
    assert sum(today.carried().values()) == sum(then.carried().values()) == int(new.sum())
    found = gain(now, then, POLICY)
    assert found.before == fullest(today)
    assert found.after == fullest(then)
    if found.worth and not found.relieves:
        assert found.before - found.after >= GAIN
        assert found.moves


def book_of(pool: FleetPool, loads: list[int]) -> LoadBook:
    levels = level_of(np.array(loads, dtype=float))
    return LoadBook({"a": ServiceLoads.of(int(np.sort(levels)[len(levels) // 2]), pool.parts["a"].pool.ids, levels, 1000)})


class Fleet:
    """The part of the loop that places, in fake time."""

    def __init__(self, pool: FleetPool) -> None:
        self.pool, self.now = pool, 1000.0
        self.weighing = self.another()
        self.book: LoadBook | None = None
        self.moved_at: list[float] = []

    def another(self) -> Weighing:
        """Another leader, or the same one after a restart; its wall clock is some years on."""
        return Weighing(
            leadership=Leadership(),
            wake=lambda: None,
            log=log.get(),
            learns=True,
            clock=lambda: self.now + 1e9,
            monotonic=lambda: self.now,
        )

    async def cycle(self) -> None:
        async def place_by(loads: Loads | None, *, trial: bool = False) -> Placement:
            return placed(self.pool, loads)

        before = placed(self.pool, await self.weighing.loads(self.pool, self.book))
        newer = await self.weighing.newer(before, self.book, place_by, POLICY)
        if newer is None:
            return
        after = placed(self.pool, newer.of(self.pool))
        if not np.array_equal(before.owners, after.owners):
            self.moved_at.append(self.now)
            today = fullest(replace(before, loads=after.loads))
            assert today - fullest(after) >= GAIN, "a move without a gain"
        self.book = newer


rounds = st.lists(
    st.tuples(st.lists(st.integers(1, 50_000), min_size=30, max_size=30), st.integers(1, 900), st.booleans()),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40)
@given(rounds)
def test_loads_alone_move_targets_at_most_once_in_ten_minutes_whoever_leads(said: list[tuple[list[int], int, bool]]) -> None:
    fleet = Fleet(fleet_pool(30))
    for loads, wait_s, restarts in said:
        if restarts:
            fleet.weighing = fleet.another()
        known = Known(Learning(), book_of(fleet.pool, loads), fleet.pool)
        fleet.weighing.receive(known)
        asyncio.run(fleet.cycle())
        fleet.now += wait_s
    apart = np.diff(fleet.moved_at)
    assert (apart >= APART_S - 1e-6).all()


def test_a_follower_puts_nothing_in_force_by_itself() -> None:
    fleet = Fleet(fleet_pool(30))
    fleet.weighing = Weighing(leadership=Leadership(alone=False), wake=lambda: None, log=log.get(), learns=True)
    fleet.weighing.receive(Known(Learning(), book_of(fleet.pool, list(range(1, 31))), fleet.pool))
    asyncio.run(fleet.cycle())
    assert fleet.book is None


def test_the_loads_of_a_few_targets_are_placed_by_only_when_the_others_had_time_enough() -> None:
    pool = fleet_pool(40)
    ids = pool.parts["a"].pool.ids
    few = Figures(ids[:10], np.full(10, 5000.0))
    learning = Learning()
    for _ in range(READINGS_ENOUGH - 1):
        learning = learning.reading(pool, {"a": few}, None)
        assert not learning.is_ripe
    assert learning.reading(pool, {"a": few}, None).is_ripe, "those that are down may be so for ever"
    most = Figures(ids[:36], np.full(36, 50.0))
    learning = Learning()
    for _ in range(SMOOTHED):
        assert not learning.is_ripe
        learning = learning.reading(pool, {"a": most}, None)
    assert learning.is_ripe


def test_a_target_that_is_about_to_have_a_load_is_waited_for() -> None:
    pool = fleet_pool(40)
    ids = pool.parts["a"].pool.ids
    learning = Learning()
    for _ in range(3):
        learning = learning.reading(pool, {"a": Figures(ids[1:], np.full(39, 50.0))}, None)
    for _ in range(SMOOTHED):
        assert not learning.is_ripe
        learning = learning.reading(pool, {"a": Figures(ids, np.full(40, 50.0))}, None)
    assert learning.is_ripe


def test_skewed_series_on_20_scrapers_are_balanced_noise_moves_nothing_and_a_death_moves_what_it_had() -> None:
    rng, policy = np.random.default_rng(14), Policy(load_factor=1.10 * 0.99)
    every = tuple(sorted(Scraper(f"s{n:02}:1", f"s{n:02}", 1) for n in range(20)))
    pool, ring = fleet_pool(10_000), Ring(every, policy.virtual_nodes)
    series = np.clip(rng.pareto(1.1, 10_000), 0, 500) * 800 + 100
    learning = read(pool, series)
    book = learning.book(10_900)
    assert book is not None
    placement = place(pool, ring, policy, book.of(pool))
    true = np.bincount(placement.owners[:, 0], weights=series)
    assert true.max() / true.mean() <= 1.10
    by_count = np.bincount(place(pool, ring, policy).owners[:, 0], weights=series)
    assert by_count.max() / by_count.mean() > 1.2

    for _ in range(60):
        learning = read(pool, series * rng.uniform(0.8, 1.2, len(series)), learning, 1)
    noisy = learning.book(10_900)
    assert noisy is not None
    assert not gain(placement, place(pool, ring, policy, noisy.of(pool)), policy).worth

    living = Ring(every[1:], policy.virtual_nodes)
    moved = compare(placement, place_living(pool, living, ring, policy, book.of(pool))).load_moved
    assert moved <= 1.3 * placement.carried()["s00:1"]


def test_a_new_target_has_the_typical_load_of_its_service_and_a_new_service_that_of_the_others() -> None:
    pool = fleet_pool(5)
    book = read(pool, np.array([100, 200, 300, 4000, 50000])).book(5)
    assert book is not None
    more = FleetPool.of(
        {"a": Part(pool_of([*(f"t{n}:1" for n in range(5)), "new:1"])), "b": Part(pool_of(["other:1"]), salt=7)}
    )
    loads, known = book.of(more), set(pool.ids.tolist())
    new = [load for load, id_ in zip(loads.tolist(), more.ids.tolist(), strict=True) if id_ not in known]
    assert all(abs(load - 300) <= 3 for load in new)
    assert len(new) == 2
