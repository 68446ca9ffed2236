"""Previews and gains by hand: what does not fit, what cannot be asked, and when other loads are worth a move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from promring.core.difference import compare
from promring.core.fragment import target
from promring.core.gain import GAIN, Gain, fullest, gain
from promring.core.placement import Policy, place, place_living
from promring.core.preview import CHANGES_MOST, NAMED_MOST, Fit, Preview, PreviewError, fit, preview
from promring.core.ring import TOKENS_MOST, Ring
from promring.model import Loads, Members, Owners, Placement, Scraper
from tests.laws.strategies import pool_of


def scrapers(count: int) -> Members:
    return tuple(Scraper(f"s{n:03}:1", f"s{n:03}", 1) for n in range(count))


def placed(
    owners: list[list[int]],
    loads: list[int] | None = None,
    limits: list[int] | None = None,
    wanted: list[int] | None = None,
    members: Members | None = None,
) -> Placement:
    def column(values: list[int] | None) -> Loads | None:
        return None if values is None else np.array(values, dtype=np.int64)

    table: Owners = np.array(owners, dtype=np.int32)
    shall = None if wanted is None else np.array(wanted, dtype=np.int32)
    pool = pool_of([f"t{n}:1" for n in range(len(owners))])
    return Placement(members or scrapers(3), pool, table, column(limits), column(loads), shall)


def addresses(placement: Placement, *rows: int) -> tuple[str, ...]:
    return tuple(target(placement.pool, row).address for row in rows)


def test_what_does_not_fit_is_counted_weighed_and_named() -> None:
    whole = placed([[0, 1], [2, -1]], wanted=[2, 1])
    assert fit(whole) == Fit()
    assert fit(whole).all
    short = placed([[0, -1], [-1, -1], [1, 2], [0, 2], [-1, -1]], [3, 5, 90, 1, 7], [4, 80, 100], [2, 2, 2, 2, 1])
    found = fit(short)
    assert found == Fit(3, 2, 15, addresses(short, 0, 1, 4), 1, addresses(short, 2))
    assert not found.all
    assert fit(replace(short, loads=None)).unplaced_load == 3
    many = placed([[-1]] * (NAMED_MOST + 2))
    assert fit(many).unplaced_targets == addresses(many, *range(NAMED_MOST))


def test_so_many_may_leave_and_join_and_no_more() -> None:
    members, pool = scrapers(CHANGES_MOST + 2), pool_of(["t:1"])
    ids, joining = [s.id for s in members], [Scraper(f"j{n}:1", "j", 1) for n in range(CHANGES_MOST + 1)]
    found = preview(pool, members, Policy(1), without=ids[:CHANGES_MOST], joining=joining[:CHANGES_MOST])
    assert found.after.scrapers == tuple(sorted((*members[CHANGES_MOST:], *joining[:CHANGES_MOST])))
    for leaving, coming in ((ids[:-1], []), ([], joining)):
        with pytest.raises(PreviewError, match=f"at most {CHANGES_MOST} scrapers may leave"):
            preview(pool, members, Policy(1), without=leaving, joining=coming)


def test_who_is_not_there_is_named_with_the_first_that_are() -> None:
    with pytest.raises(PreviewError) as found:
        preview(pool_of(["t:1"]), scrapers(NAMED_MOST), Policy(1), without=["x"])
    assert str(found.value).endswith(f"there is {', '.join(s.id for s in scrapers(NAMED_MOST))}")
    with pytest.raises(PreviewError, match=r"s019:1 and 1 more$"):
        preview(pool_of(["t:1"]), scrapers(NAMED_MOST + 1)[::-1], Policy(1), without=["x"])


def test_a_join_that_makes_the_ring_too_large_is_refused_and_a_leave_of_a_large_ring_is_not() -> None:
    nodes, pool = 2**15, pool_of([f"t{n}:1" for n in range(9)])
    one, half = Scraper("a:1", "a", 1), Scraper("b:1", "b", 1, weight=float(TOKENS_MOST // nodes - 1))
    assert preview(pool, (one,), Policy(nodes), joining=[half]).after.scrapers == (one, half), "just as many as may be"
    more = Scraper("c:1", "c", 1)
    with pytest.raises(PreviewError, match=f"would have {TOKENS_MOST + nodes} virtual nodes"):
        preview(pool, (one,), Policy(nodes), joining=[half, more])
    assert len(preview(pool, (one, half, more), Policy(nodes)).after.scrapers) == 3


def test_the_loads_and_the_placement_in_force_are_those_that_were_given() -> None:
    members, pool = scrapers(4), pool_of([f"t{n}:1" for n in range(60)])
    loads: Loads = np.arange(1, 61)
    policy = Policy(64, 1.1)
    found = preview(pool, members, policy, without=["s003:1"], loads=loads)
    assert max(found.after.carried().values()) <= np.ceil(1.1 * loads.sum() / 3)
    assert max(found.before.carried().values()) <= np.ceil(1.1 * loads.sum() / 4)
    before = place(pool, Ring(members[:2], 64), policy)
    assert preview(pool, members, policy, before=before).before is before
    heavy = tuple(replace(s, weight=9.0) for s in members[3:])
    listed = preview(pool, members[:3], policy, listed=heavy, loads=loads).before
    expected = place_living(pool, Ring(members[:3], 64), Ring((*members[:3], *heavy), 64), policy, loads)
    assert listed.owners.tolist() == expected.owners.tolist()


def test_only_owners_that_were_lost_for_want_of_room_have_no_room() -> None:
    before = placed([[0, 1], [0, 1], [0, -1], [0, 1], [1, -1]], wanted=[2, 2, 2, 2, 1])
    after = replace(before, owners=np.array([[-1, -1], [0, -1], [0, -1], [0, 1], [0, 2]], dtype=np.int32))
    assert Preview(before, after, compare(before, after)).no_room == 3
    fewer = replace(after, wanted=np.array([1, 1, 2, 2, 1], dtype=np.int32))
    assert Preview(before, fewer, compare(before, fewer)).no_room == 1, "of what is not wanted any more nothing lacks"
    other = replace(after, pool=pool_of([f"t{n}:1" for n in range(3)]), owners=after.owners[:3])
    other = replace(other, wanted=None)
    lost = sum(move.count for move in compare(before, other).moves if move.destination is None)
    assert Preview(before, other, compare(before, other)).no_room == lost > 0


# --- gain ------------------------------------------------------------------------------------------------------------

A, B, C = scrapers(3)


def test_the_fullest_is_measured_in_fair_shares() -> None:
    assert fullest(placed([[0], [0], [1], [2]], [0, 0, 0, 0])) == 1.0, "without load"
    assert fullest(placed([[-1]])) == 1.0
    assert fullest(placed([[0]], members=(replace(A, draining=True),))) == 1.0, "nobody has a share"
    assert fullest(placed([[0], [0], [1], [2]])) == 1.5
    assert fullest(placed([[0], [0], [1], [2]], [1, 2, 3, 3])) == 1.0
    assert fullest(placed([[0], [1], [2]], [9, 1, 2])) == 1.0, "nobody can have less of a giant"
    drains = (replace(A, draining=True), B)
    assert fullest(placed([[0], [0], [1]], members=drains)) == pytest.approx(1 / 3)
    heavier = (replace(A, weight=2.0), B, replace(C, weight=0.0))
    assert fullest(placed([[0], [0], [1]], members=heavier)) == 1.0
    assert fullest(placed([[0, 1], [0, 2], [0, -1]])) == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("now", "then", "loads", "capacity", "relieves"),
    [
        ([0, 0, 1], [0, 1, 2], [1, 1, 1], None, False),  # without a bound nothing is above it
        ([0, 0, 1], [0, 1, 2], [2, 2, 2], 3.0, True),
        ([0, 0, 1], [0, 1, 2], [2, 1, 2], 3.0, False),  # just full
        ([0, 0, 1], [1, 1, 0], [2, 2, 2], 3.0, False),  # as much as before, elsewhere
        ([0, 0, 1], [1, 2, 0], [4, 4, 4], 3.0, True),  # one alone may be heavier
        ([0, 1, 2], [1, 0, 2], [9, 1, 1], 3.0, False),
        ([0, 1, -1], [0, 1, 2], [1, 1, 1], None, True),
        ([0, 1, -1], [0, 1, 2], [1, 1, 0], None, False),
        ([0, 1, -1], [-1, 1, 0], [3, 1, 2], None, False),
        ([0, 0, -1], [1, 2, -1], [2, 2, 2], 3.0, True),
        ([0, 0, -1], [0, 0, 1], [2, 3, 1], 3.0, True),
        ([0, 0, 0], [0, 0, 1], [2, 2, 2], 3.0, True),
        ([0, 0, 1], [0, 0, 1], [2, 2, 2], 3.0, False),  # nothing moves
        ([0, -1, 1], [0, 0, 1], [2, 2, 2], 3.0, True),  # above by 1 is less trouble than 2 without an owner
        ([0, -1, 1], [0, 0, 1], [2, 2, 2], 2.0, False),
    ],
)
def test_moves_relieve_when_less_load_is_above_the_capacity_or_without_an_owner(
    now: list[int], then: list[int], loads: list[int], capacity: float | None, relieves: bool
) -> None:
    old, new = placed([[one] for one in now]), placed([[one] for one in then], loads)
    assert gain(old, new, Policy(16, capacity=capacity)).relieves is relieves


def test_a_move_is_worth_a_tenth_of_a_fair_share() -> None:
    def found(before: float, after: float) -> bool:
        return Gain(before, after, moves=True, relieves=False).worth

    assert found(1.5, 1.25)
    assert found(GAIN, 0.0)
    assert not found(1.5, 1.45)
    assert Gain(1.0, 1.0, moves=True, relieves=True).worth
    for one, other in (([[0, 1], [2, 1]], [[1, 0], [2, 1]]), ([[1, 0], [2, 1]], [[0, 1], [2, 1]])):
        assert not gain(placed(one), placed(other, [1, 1]), Policy(16)).moves, "the same owners in another order"
    assert gain(placed([[1, 0], [2, 1]]), placed([[0, 2], [1, 1]], [1, 1]), Policy(16)).moves


def test_a_target_that_is_alone_is_not_above_the_capacity_of_a_smaller_scraper_either() -> None:
    members = (A, B, replace(C, weight=0.4))
    old, new = placed([[0], [1], [1]], members=members), placed([[2], [1], [0]], [9, 2, 2], members=members)
    assert gain(old, new, Policy(16, capacity=3.0)).relieves
