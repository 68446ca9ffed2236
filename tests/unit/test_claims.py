"""What is remembered of who has which target: receipts of slices, claims in other pools, who left and came back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from promring.core.claims import (
    APPLIED_S,
    DEPARTED_KEPT_S,
    NO_CLAIMS,
    TAKEN_MOST,
    Claims,
    Departed,
    Taken,
    among,
    by_scraper,
    never,
    together,
    with_seen,
)
from promring.core.coverage import Seen
from promring.core.joined import FleetPool, Part
from promring.core.pool import pool_of
from promring.model import LONG_AGO, NEVER_ENDS, TargetGroup, TargetPool

NOTHING = Seen(20.0, np.empty(0, dtype=np.uint64), np.empty(0), np.empty(0, dtype=bool))
UNSEEN = replace(NOTHING, dropped=np.array([7], dtype=np.uint64))
"""It drops something, and shows nothing of what is asked for."""


def named(*names: str) -> TargetPool:
    return pool_of([TargetGroup.of([f"{name}:1" for name in names])])


def receipts(*some: tuple[float, float]) -> Taken:
    history = Taken()
    for upto, at in some:
        history = history.and_then(upto, at)
    return history


def claims(pool: TargetPool, rows: list[int], scrapers: str, until: float = NEVER_ENDS, *, made_in: bool = False) -> Claims:
    """A claim for each letter of ``scrapers`` and its row; they are called ``a``, ``b``, ``c``."""
    numbers = np.array(["abc".index(letter) for letter in scrapers], dtype=np.int32)
    made = (pool, np.array(rows, dtype=np.int32)) if made_in else None
    return Claims(("a", "b", "c"), pool.ids[rows], numbers, np.zeros(len(rows)), np.full(len(rows), until), made)


def who_has(some: Claims, pool: TargetPool) -> set[tuple[str, int]]:
    return {(some.names[s], row) for s, row in zip(some.scrapers.tolist(), some.rows(pool).tolist(), strict=True)}


@pytest.mark.parametrize(
    ("came", "kept"),
    [
        ([(1, 1), (2, 3)], [(1, 1), (2, 3)]),
        ([(2, 2), (2, 3)], [(2, 2)]),  # nothing new in it
        ([(2, 2), (1, 3)], [(2, 2)]),  # an older slice says nothing of what came later
        ([(1, 1), (2, 1.5)], [(1, 1), (2, 1.5)]),  # the first is kept however soon the next one comes
        ([(1, 1), (2, 1.5), (3, 9)], [(1, 1), (3, 9)]),  # of two in one second the first is forgotten ...
        ([(1, 1), (2, 2), (3, 9)], [(1, 1), (2, 2), (3, 9)]),
        ([(1, 1), (2, 5), (3, 5.9), (4, 9)], [(1, 1), (2, 5), (4, 9)]),  # ... not the one before both
    ],
)
def test_receipts_tell_what_was_taken_when(came: list[tuple[float, float]], kept: list[tuple[float, float]]) -> None:
    history = receipts(*came)
    assert list(zip(history.uptos, history.ats, strict=True)) == kept


def test_of_many_receipts_every_second_of_the_older_half_is_forgotten() -> None:
    every = [(float(n), 2.0 * n) for n in range(TAKEN_MOST + 1)]
    assert receipts(*every[:TAKEN_MOST]).uptos == tuple(upto for upto, _ in every[:TAKEN_MOST])
    half = TAKEN_MOST // 2
    assert receipts(*every).uptos == tuple(upto for upto, _ in every[:half:2] + every[half:])


@pytest.mark.parametrize("made_in", [True, False])
def test_claims_find_their_targets_in_the_list_that_is_in_force_now(made_in: bool) -> None:
    before, now = named("x", "y", "z"), named("w", "z", "x")
    some = claims(before, [2, 0, 1], "aab", made_in=made_in)
    assert some.rows(before).tolist() == [2, 0, 1]
    expected = [now.ids.tolist().index(i) if i in now.ids.tolist() else 3 for i in before.ids[[2, 0, 1]].tolist()]
    assert some.rows(now).tolist() == expected
    alone = Claims(("a",), before.ids, np.zeros(3, dtype=np.int32), np.zeros(3), never(3), (before, None))
    assert set(alone.rows(now).tolist()) == {*expected}


def test_claims_are_the_same_when_the_same_scrapers_have_the_same_targets_and_the_same_ones_end() -> None:
    pool = named("x", "y")
    some = claims(pool, [0, 1], "ab")
    assert some == claims(pool, [0, 1], "ab", made_in=True)
    assert claims(pool, [0, 1], "ab", 5.0) == claims(pool, [0, 1], "ab", 6.0), "whenever they end"
    renamed = Claims(("a", "B", "c"), some.ids, some.scrapers, some.since, some.until)
    others = [claims(pool, [1, 0], "ab"), claims(pool, [0, 1], "ac"), claims(pool, [0, 1], "ab", 5.0), renamed]
    assert [some == other for other in others] == [False] * 4
    assert some != "ab"


TWO = FleetPool.of({"m": Part(named("x", "y", "z"), 1, 1), "n": Part(named("x", "y", "z"), 1, 2)})
"""Rows 0 to 2 are of ``m``, 3 to 5 of ``n``."""
BOTH = [("m", "a"), ("n", "a")]


def showing(pool: TargetPool, *rows: int) -> Seen:
    return Seen(20.0, np.sort(pool.ids[list(rows)]), np.full(len(rows), 19.0), np.full(len(rows), True))


@pytest.mark.parametrize(
    ("told", "rows", "ended"),
    [
        (BOTH, (2, 5), {0, 1, 3, 4}),
        ([("m", "a")], (2, 5), {0, 1}),
        ([("n", "a")], (2, 5), {3, 4}),
        ([("m", "b")], (2, 5), set()),
        ([], (2, 5), set()),
        (BOTH, (2,), {0, 1}),
        (BOTH, (0, 5), {1, 3, 4}),
    ],
)
def test_a_hold_that_was_not_seen_ends_for_the_services_of_which_something_was(
    told: list[tuple[str, str]], rows: tuple[int, ...], ended: set[int]
) -> None:
    held = claims(TWO, [4, 0, 5, 3, 2, 1], "aaaaaa", 50.0)
    owned = np.isin(held.rows(TWO), [2, 5])
    held = replace(held, until=np.where(owned, NEVER_ENDS, held.until))
    seen = {"a": showing(TWO, *rows)}
    assert who_has(with_seen(held, seen, TWO, told), TWO) == {("a", row) for row in range(6) if row not in ended}
    owners = claims(TWO, [4, 0, 2], "aaa")
    assert who_has(with_seen(owners, seen, TWO, told), TWO) >= who_has(owners, TWO), "an owner's is no hold"


@pytest.mark.parametrize(("shown", "dropped", "ended"), [((), (0, 3), set()), ((2,), (0,), {1}), ((2, 4), (0,), {1, 3, 5})])
def test_what_is_dropped_is_held_and_tells_nothing_of_the_rest(
    shown: tuple[int, ...], dropped: tuple[int, ...], ended: set[int]
) -> None:
    """A scraper that shows nothing of a service but what it drops has just started, or its job has another name."""
    held = claims(TWO, [0, 1, 2, 3, 4, 5], "aaaaaa", 50.0)
    seen = {"a": replace(showing(TWO, *shown), dropped=np.sort(TWO.ids[list(dropped)]))}
    assert who_has(with_seen(held, seen, TWO, BOTH), TWO) == {("a", row) for row in range(6) if row not in ended}


def test_a_hold_on_a_target_that_is_gone_is_nobodys_question() -> None:
    for pool, gone in (
        (FleetPool.of({"m": Part(named("x"), 1, 1)}), FleetPool.of({"m": Part(named("v"), 1, 1)})),
        (named("x"), named("v")),
    ):
        held = together([claims(gone, [0], "a", 50.0), claims(pool, [0], "a")])
        assert len(with_seen(held, {"a": showing(pool, 0)}, pool, [("m", "a")])) == 2


def test_a_server_that_shows_nothing_of_a_service_has_just_started_and_may_have_what_it_holds() -> None:
    held = claims(TWO, [0, 1, 3, 4], "abab", 50.0)
    for seen in (NOTHING, UNSEEN):
        assert who_has(with_seen(held, {"a": seen, "b": seen}, TWO, BOTH), TWO) == who_has(held, TWO)
    owned = together([held, claims(TWO, [2], "a")])
    left = who_has(with_seen(owned, {"a": showing(TWO, 2)}, TWO, BOTH), TWO)
    assert left == who_has(owned, TWO) - {("a", 0)}, "it has loaded its list of the other service"


def test_what_was_taken_of_two_loops_comes_one_after_the_other() -> None:
    before, now = receipts((1, 1), (2, 3)), receipts((4, 5))
    assert now.after(before) == receipts((1, 1), (2, 3), (4, 5))
    assert now.after(now) is now


def test_in_a_pool_of_one_service_without_a_name_whoever_was_seen_was_looked_at() -> None:
    pool = named("x", "y", "z")
    held = claims(pool, [0, 1, 2], "aba", 50.0)
    assert who_has(with_seen(held, {"a": showing(pool, 2)}, pool, ()), pool) == {("b", 1), ("a", 2)}


def test_what_was_taken_a_moment_before_a_look_is_held_although_it_was_not_seen_yet() -> None:
    held = replace(claims(TWO, [4, 1, 0, 3, 2, 5], "aaaaaa", 50.0), since=np.array([1.0, 2.0, 1.0, 2.0, 0.0, 0.0]))
    seen, shown = {"a": showing(TWO, 2, 5)}, {("a", 2), ("a", 5)}

    def left(taken: Taken, service: str = "m") -> set[tuple[str, int]]:
        return who_has(with_seen(held, seen, TWO, BOTH, {(service, "a"): taken}), TWO) - shown

    lately = seen["a"].at - APPLIED_S + 0.1
    assert left(receipts((1.0, 5.0), (2.0, lately))) == {("a", 1)}
    assert left(receipts((1.0, 5.0), (2.0, lately)), "n") == {("a", 3)}
    assert left(receipts((2.0, seen["a"].at))) == {("a", 0), ("a", 1)}
    for taken in (
        receipts((2.0, seen["a"].at - APPLIED_S)),
        receipts((2.0, seen["a"].at + 0.1)),
        receipts((0.5, lately)),
        Taken(),
    ):
        assert left(taken) == set(), "or from another controller"


def test_a_scraper_that_is_seen_with_more_than_its_claims_has_that_too() -> None:
    pool = named("x", "y", "z")
    seen = showing(pool, 0, 1, 2)
    found = with_seen(claims(pool, [0], "a"), {"a": seen, "d": seen}, pool)
    assert found.names == ("a", "b", "c", "d")
    assert who_has(found, pool) == {(name, row) for name in "ad" for row in range(3)}
    assert len(found) == 6
    assert sorted(found.since.tolist()) == [0.0] + [20.0] * 5
    assert found.scrapers.dtype == np.int32
    assert found.held == 0
    assert found.ends_next == NO_CLAIMS.ends_next == NEVER_ENDS


def test_who_left_is_remembered_for_ten_minutes_and_until_it_is_back() -> None:
    pool = named("x", "y", "z")
    given = replace(claims(pool, [0, 1, 2], "abc"), since=np.array([7.0, 8.0, 9.0]))
    departed = Departed().and_then(given, {"c"}, 10.0)
    assert who_has(departed.claims, pool) == {("a", 0), ("b", 1)}
    assert departed.left == {"a": 10.0, "b": 10.0}
    assert departed.and_then(claims(pool, [2], "c"), {"c"}, 10.0).left.keys() == {"a", "b"}
    assert departed.claims.scrapers.dtype == np.int32
    again = departed.and_then(replace(claims(pool, [2], "a"), names=("a",)), {"c"}, 11.0)
    assert (who_has(again.claims, pool), again.left) == ({("a", 2), ("b", 1)}, {"a": 11.0, "b": 10.0}), "what it had last"
    back = departed.back(NO_CLAIMS, {"a", "c"}, 20.0)
    assert who_has(back, pool) == {("a", 0)}
    assert back.since.tolist() == [20.0]
    assert departed.back(NO_CLAIMS, {"c"}, 20.0) is NO_CLAIMS
    after = departed.and_then(back, {"a", "c"}, 20.0)
    assert (who_has(after.claims, pool), after.left) == ({("b", 1)}, {"b": 10.0})
    assert after.and_then(back, {"a", "c"}, 30.0) is after
    renamed = after.renamed(["x", "y", "z"])
    assert (who_has(renamed.claims, pool), renamed.left) == ({("y", 1)}, {"y": 10.0})
    left = 10.0 + DEPARTED_KEPT_S
    assert set(after.and_then(back, {"a", "c"}, left - 0.5).left) == {"b"}
    late = after.and_then(back, {"a", "c"}, left)
    assert (len(late.claims), late.left) == (0, {})


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [([], [1], [False]), ([5], [4, 5, 6], [False, True, False]), ([1, 5, 9], [9, 10, 0, 1], [True, False, False, True])],
)
def test_which_ids_are_among_others(there: list[int], asked: list[int], found: list[bool]) -> None:
    assert among(np.array(there, dtype=np.uint64), np.array(asked, dtype=np.uint64)).tolist() == found


def test_the_rows_of_each_scraper_are_ascending_however_many_there_are() -> None:
    scrapers = np.arange(3000, dtype=np.int32) * 7 % 3
    assert [mine.tolist() for mine in by_scraper(scrapers, 4)] == [
        [row for row in range(3000) if scrapers[row] == number] for number in range(4)
    ]


def test_until_when_what_was_put_in_force_was_had_at_some_time() -> None:
    served = Taken().and_then(10.0, 11.0).and_then(20.0, 22.0)
    assert [served.upto(at) for at in (10.9, 11.0, 21.9, 22.0, 99.0)] == [LONG_AGO, 10.0, 10.0, 20.0, 20.0]
    assert Taken().upto(99.0) == LONG_AGO
