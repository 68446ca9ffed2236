"""Loads that are learnt, beside the same rules written for one target after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.joined import FleetPool, Part
from promring.core.learning import READINGS, SMOOTHED, STEP, Figures, Learning, Learnt
from promring.core.loads import TABLE, LoadBook, ServiceLoads, level_of
from promring.model import TargetPool
from tests.laws.strategies import pool_of

POOLS = [pool_of([f"t{n}:1" for n in some]) for some in (range(6), (0, 2, 3, 5, 7), range(3, 9), ())]
EVERY = sorted({*(int(one) for pool in POOLS for one in pool.ids), 5})
"""With one that no list has."""
BOOK = ServiceLoads.of(500, np.array(EVERY[:5], dtype=np.uint64), np.array([400, 500, 600, 700, 900], dtype=np.uint16), 9)

said = st.lists(st.tuples(st.sampled_from(EVERY), st.sampled_from([0.0, 0.5, 100.0, 120.0, 130.0, 1e4])), max_size=12)
runs = st.lists(st.tuples(said, st.integers(1, SMOOTHED + READINGS)), max_size=4)
"""What is said, and how often in a row."""


@dataclass
class One:
    value: float = math.nan
    count: int = 0
    level: int | None = None
    away: int = 0

    def read(self, figure: float) -> None:
        self.count += 1
        weight = max(1 / self.count, 2 / (SMOOTHED + 1))
        self.value = figure if self.count == 1 else self.value + (figure - self.value) * weight
        load = max(self.value, 1.0)
        if self.level is None:
            self.level = nearest(load) if self.count >= SMOOTHED else None
            return
        self.away = self.away + 1 if max(load / TABLE[self.level], TABLE[self.level] / load) >= STEP * (1 - 1e-9) else 0
        if self.away == READINGS:
            self.level, self.away = nearest(load), 0


def nearest(load: float) -> int:
    return int(level_of(np.array([load]))[0])


def new(id_: int, book: ServiceLoads | None) -> One:
    return One() if book is None else One(level=int(book.level_of(np.array([id_], dtype=np.uint64))[0]))


@given(st.lists(st.tuples(st.sampled_from(POOLS), runs), min_size=1, max_size=3), st.sampled_from([None, BOOK]))
def test_each_target_learns_by_itself_and_keeps_what_it_learnt_while_it_is_listed(
    steps: list[tuple[TargetPool, list[tuple[list[tuple[int, float]], int]]]], book: ServiceLoads | None
) -> None:
    learnt = Learnt.from_book(steps[0][0], book)
    model = {int(id_): new(int(id_), book) for id_ in steps[0][0].ids}
    for pool, run in steps:
        learnt = learnt.of(pool)
        model = {int(id_): model.get(int(id_), One()) for id_ in pool.ids}
        for figures, times in run:
            highest: dict[int, float] = {}
            for id_, value in figures:
                highest[id_] = max(value, highest.get(id_, 0.0))
            for _ in range(times):
                learnt = learnt.reading(told(figures))
                for id_, value in highest.items():
                    if id_ in model:
                        model[id_].read(value)
        agree(learnt, model)


def told(figures: list[tuple[int, float]]) -> Figures:
    return Figures(np.array([id_ for id_, _ in figures], dtype=np.uint64), np.array([value for _, value in figures]))


def agree(learnt: Learnt, model: Mapping[int, One]) -> None:
    every = list(model.values())
    assert np.allclose(learnt.values, [one.value for one in every], equal_nan=True)
    assert learnt.counts.tolist() == [one.count for one in every]
    assert learnt.known.tolist() == [one.level is not None for one in every]
    assert learnt.levels[learnt.known].tolist() == [one.level for one in every if one.level is not None]
    assert learnt.away.tolist() == [one.away for one in every]
    assert learnt.learnt == sum(one.count >= SMOOTHED for one in every)
    columns = (learnt.values, learnt.counts, learnt.levels, learnt.known, learnt.away)
    assert sum(column.itemsize for column in columns) == 13, "bytes a target"
    typical = 321
    loads = [
        TABLE[typical if one.level is None else one.level] if math.isnan(one.value) else np.rint(max(one.value, 1))
        for one in every
    ]
    assert learnt.loads(typical).tolist() == loads
    levels = sorted(one.level for one in every if one.level is not None)
    found = learnt.service_loads(100)
    assert (found is None) is (not levels)
    if found is not None:
        assert found.typical == levels[(len(levels) - 1) // 2]
        known = {id_: one.level for id_, one in model.items() if one.level is not None}
        ids = np.array(list(known), dtype=np.uint64)
        assert found == ServiceLoads.of(found.typical, ids, np.array(list(known.values()), dtype=np.uint16), 100)


def test_a_figure_that_is_exactly_a_step_away_is_a_step_away() -> None:
    """80 beside a level of 100: computed by logarithms that is a little less than a step."""
    book = ServiceLoads.of(0, POOLS[0].ids, level_of(np.full(6, 100.0)), 9)
    learnt, first = Learnt.from_book(POOLS[0], book), int(POOLS[0].ids[0])
    for figure in (*[100.0] * 4, 0.0):
        learnt = learnt.reading(told([(first, figure)]))
    assert (learnt.values[0], learnt.away[0]) == (80.0, 1)


def test_after_very_many_figures_a_target_learns_as_before() -> None:
    learnt = Learnt.nothing(POOLS[0])
    first = [(int(POOLS[0].ids[0]), 100.0)]
    for _ in range(300):
        learnt = learnt.reading(told(first))
    assert learnt.counts.tolist() == [255, 0, 0, 0, 0, 0]
    assert TABLE[learnt.levels[0]] == 100


def test_a_service_begins_with_what_the_book_in_force_says_of_it() -> None:
    pool = FleetPool.of({"a": Part(POOLS[0]), "b": Part(POOLS[1], salt=3)})
    learning = Learning().reading(pool, {}, LoadBook({"a": BOOK}))
    assert learning.services["a"].known.all()
    assert not learning.services["b"].known.any()
    assert learning.reading(pool, {}, LoadBook({"b": BOOK})).services["b"].known.sum() == 0, "once"
    less = learning.reading(FleetPool.of({"b": Part(POOLS[1], salt=3)}), {"b": told([(5, 1.0)])}, None)
    assert (list(less.services), less.readings) == (["b"], 2)


def after(fleet: FleetPool, figures: Mapping[str, Figures], times: int, learning: Learning | None = None) -> Learning:
    learning = learning or Learning()
    for _ in range(times):
        learning = learning.reading(fleet, figures, None)
    return learning


def of_all(pool: TargetPool, value: float = 100.0) -> Figures:
    return Figures(pool.ids, np.geomspace(value, value * 50, len(pool)))


def test_one_service_that_begins_to_be_known_is_waited_for_and_one_target_is_a_fleet() -> None:
    small, other = pool_of(["t1:1"]), pool_of(["t2:1"])
    assert not after(FleetPool.of({}), {}, SMOOTHED).is_ripe
    assert after(FleetPool.of({"a": Part(small)}), {"a": of_all(small)}, SMOOTHED).is_ripe
    fleet = FleetPool.of({"a": Part(POOLS[0]), "b": Part(POOLS[2]), "c": Part(other), "d": Part(pool_of(["t3:1"]))})
    most = {"a": of_all(POOLS[0]), "b": of_all(POOLS[2]), "d": of_all(pool_of(["t3:1"]))}
    ripe = after(fleet, most, SMOOTHED)
    assert ripe.is_ripe, "13 of 14"
    assert not after(fleet, {"c": of_all(other)}, 1, ripe).is_ripe, "one figure of the last one"


def test_where_there_is_no_room_for_all_the_smaller_service_is_told_first() -> None:
    fleet = FleetPool.of(
        {"a": Part(POOLS[0]), "b": Part(POOLS[1]), "c": Part(POOLS[1], salt=5), "d": Part(pool_of(["x:1"]))}
    )
    figures = {"a": of_all(POOLS[0]), "b": of_all(POOLS[1]), "c": of_all(POOLS[1])}
    learning = after(fleet, figures, SMOOTHED)
    whole = learning.book(100, 7.0)
    assert whole is not None
    assert whole.moved_at == 7.0
    room = {name: len(one.halves) for name, one in whole.services.items()}
    assert room == {"a": 5, "b": 4, "c": 4}, "nothing is known of d, and the typical one is not told"
    for most, expected in ((3, (0, 3, 0)), (6, (0, 4, 2)), (9, (1, 4, 4))):
        book = learning.book(most)
        assert book is not None
        assert tuple(len(book.services[name].halves) for name in "abc") == expected


def test_loads_are_those_of_the_newest_figures_and_typical_where_there_are_none() -> None:
    fleet = FleetPool.of({"a": Part(POOLS[0]), "b": Part(POOLS[1], salt=5), "d": Part(pool_of(["x:1"]))})
    nothing = after(fleet, {}, 1)
    assert (nothing.book(100), nothing.loads(fleet), nothing.learnt) == (None, None, 0)
    assert Learning().reading(fleet, {}, LoadBook({"a": BOOK})).loads(fleet) is None, "a book in force is no figure"
    learning = after(fleet, {"a": of_all(POOLS[0]), "b": of_all(POOLS[1], 1000.0)}, SMOOTHED)
    assert learning.learnt == 11
    book = learning.book(0)
    assert book is not None
    more = FleetPool.of({**fleet.parts, "e": Part(pool_of(["y:1"])), "a": Part(POOLS[2])})
    loads = learning.loads(more)
    assert loads is not None
    assert loads.dtype == np.int64
    known = dict(zip(POOLS[0].ids.tolist(), of_all(POOLS[0]).values, strict=True))
    typical = TABLE[book.services["a"].typical]
    assert loads[more.rows("a")].tolist() == [np.rint(known.get(id_, typical)) for id_ in POOLS[2].ids.tolist()]
    assert loads[more.rows("b")].tolist() == np.rint(of_all(POOLS[1], 1000.0).values).tolist()
    assert {*loads[more.rows("d")].tolist(), *loads[more.rows("e")].tolist()} == {TABLE[book.typical]}
