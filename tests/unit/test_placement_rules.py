"""What a placement refuses, and its bounds in numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from promring.core.joined import FleetPool, Part
from promring.core.placement import LOAD_MOST, LOADS_MOST, Policy, capacities, check_loads, place, place_living
from promring.core.pool import pool_of
from promring.core.ring import Ring
from promring.model import Members, PlacementError, Scraper, TargetGroup, TargetPool


def scrapers(count: int, *weights: float, zones: str = "") -> Members:
    return tuple(
        Scraper(f"s{n:03}:1", f"s{n:03}", 1, zones[n] if zones else "", weights[n] if weights else 1.0) for n in range(count)
    )


def listed(count: int, first: int = 0) -> TargetPool:
    return pool_of([TargetGroup.of([f"t{n}:1" for n in range(first, first + count)])])


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"load_factor": 0.99}, "load_factor"),
        ({"load_factor": 1000.1}, "load_factor"),
        ({"load_factor": math.nan}, "load_factor"),
        ({"capacity": 0.0}, "capacity"),
        ({"capacity": -1.0}, "capacity"),
        ({"capacity": math.inf}, "capacity"),
        ({"replication_factor": 0}, "replication_factor"),
        ({"virtual_nodes": 0}, "virtual_nodes"),
    ],
)
def test_a_policy_with_numbers_that_are_none_is_refused(wrong: dict[str, float], key: str) -> None:
    with pytest.raises(PlacementError, match=key):
        Policy(**wrong)  # type: ignore[arg-type]


def test_a_policy_may_go_to_its_bounds() -> None:
    for policy in (Policy(1, 1.0, 0.1, 1), Policy(load_factor=1000.0), Policy(load_factor=None, capacity=1e300)):
        assert policy.virtual_nodes >= 1


@pytest.mark.parametrize(
    ("loads", "said"),
    [
        (np.array([1, 2], dtype=np.int64), "shape"),
        (np.array([1, 2, 3], dtype=np.int32), "int64"),
        (np.array([1, -1, 3], dtype=np.int64), "t.:1.*from 0 to .*not -1"),
        (np.array([1, 2, LOAD_MOST + 1], dtype=np.int64), f"not {LOAD_MOST + 1}"),
    ],
)
def test_loads_that_are_none_are_refused(loads: np.ndarray, said: str) -> None:
    for policy in (Policy(), Policy(load_factor=None)):
        with pytest.raises(PlacementError, match=said):
            place(listed(3), Ring(scrapers(2), 8), policy, loads)


def test_loads_may_go_to_their_bounds_one_by_one_and_together() -> None:
    check_loads(listed(3), np.array([0, LOAD_MOST, 1], dtype=np.int64))
    many = LOADS_MOST // LOAD_MOST
    alike = replace(listed(1), ids=np.zeros(many + 1, dtype=np.uint64), keys=np.zeros(many + 1, dtype=np.uint64))
    loads = np.full(many + 1, LOAD_MOST, dtype=np.int64)
    loads[-1] = 0
    check_loads(alike, loads)
    loads[-1] = 1
    with pytest.raises(PlacementError, match="together"):
        check_loads(alike, loads)


def test_the_capacity_of_a_scraper_is_by_its_weight_in_whole_numbers() -> None:
    assert capacities([1.0, 2.0, 0.5, 0.01, 0.0], Policy(capacity=10.5)).tolist() == [10, 21, 5, 1, 0]  # type: ignore[union-attr]
    assert capacities([1.0], Policy(capacity=1e300)).tolist() == [LOADS_MOST]  # type: ignore[union-attr]
    assert capacities([1.0], Policy()) is None


def test_a_capacity_bounds_a_ring_without_a_load_factor_and_what_is_left_has_no_owner() -> None:
    placed = place(listed(30), Ring(scrapers(3, 1.0, 2.0, 0.0), 64), Policy(64, None, 5.0))
    assert list(placed.carried().values()) == [5, 10, 0]
    assert placed.limits is not None
    assert placed.limits.tolist() == [5, 10, 0]
    assert len(placed.unplaced()) == 15
    plain = place(listed(30), Ring(scrapers(3), 64), Policy(64, None))
    assert plain.limits is None
    assert not len(plain.unplaced())


@pytest.mark.parametrize(
    ("count", "factor", "weights"),
    [
        (10, 1.1, (1.0, 1.0, 1.0)),
        (100, 1.1, (1.0,) * 7),
        (7, 1.0, (1.0, 0.5, 2.0)),
        (30, 1.5, (1.0, 1.0)),
        (1000, 1.01, (3.0, 1.0, 0.0)),
    ],
)
def test_the_limits_are_whole_numbers_next_to_the_share_and_together_the_load_factor(
    count: int, factor: float, weights: tuple[float, ...]
) -> None:
    placed = place(listed(count), Ring(scrapers(len(weights), *weights), 64), Policy(64, factor))
    assert placed.limits is not None
    assert int(placed.limits.sum()) == math.ceil(round(factor * count, 6))
    for limit, weight in zip(placed.limits.tolist(), weights, strict=True):
        share = factor * count * weight / sum(weights)
        assert math.floor(share + 1e-9) <= limit <= math.ceil(share - 1e-9)
    assert all(carried <= limit for carried, limit in zip(placed.carried().values(), placed.limits.tolist(), strict=True))


def test_those_who_lack_less_to_the_next_whole_number_have_it_more_often() -> None:
    weights = (1.0, 1.2) * 150
    placed = place(listed(900), Ring(scrapers(300, *weights), 4), Policy(4, 1.0))
    assert placed.limits is not None
    shares = [900 * weight / sum(weights) for weight in weights]  # 2.7 and 3.3
    above = [limit > share for limit, share in zip(placed.limits.tolist(), shares, strict=True)]
    assert sum(above[::2]) > 90 > 60 > sum(above[1::2])


def test_a_target_heavier_than_a_share_stands_alone_and_raises_no_limit() -> None:
    loads = np.array([1000, *[1] * 20], dtype=np.int64)
    placed = place(listed(21), Ring(scrapers(4), 64), Policy(64, 1.1), loads)
    assert placed.limits is not None
    assert max(placed.limits.tolist()) < 1000
    owner = int(placed.owners[0, 0])
    assert list(placed.carried().values())[owner] == 1000
    assert len(placed.giants()) == 1


@pytest.mark.parametrize(("light", "raised"), [(0, False), (1, True)])
def test_only_what_weighs_something_stands_beside_a_giant_and_raises_the_limit(light: int, raised: bool) -> None:
    """Each of two scrapers has both targets, and the second one's share is a quarter of all."""
    loads = np.array([9, light], dtype=np.int64)
    placed = place(listed(2), Ring(scrapers(2, 3.0, 1.0), 64), Policy(64, 1.0, replication_factor=2), loads)
    assert placed.limits is not None
    assert placed.limits.dtype == np.int64
    assert (placed.limits[1] == 9 + light) == raised
    assert raised or placed.limits[1] <= 5


def test_loads_that_fit_into_no_share_raise_the_limits_and_capacity_stops_that() -> None:
    loads = np.array([6, 6, 6], dtype=np.int64)  # two scrapers: a share of 9.9 holds only one of them
    placed = place(listed(3), Ring(scrapers(2), 64), Policy(64, 1.1), loads)
    assert placed.limits is not None
    assert sorted(placed.carried().values()) == [6, 12]
    assert sorted(placed.limits.tolist()) in ([9, 12], [10, 12])
    bounded = place(listed(3), Ring(scrapers(2), 64), Policy(64, 1.1, 11.0), loads)
    assert sorted(bounded.carried().values()) == [6, 6]
    assert len(bounded.unplaced()) == 1


def test_each_service_has_its_own_number_of_owners_and_an_empty_one_none() -> None:
    parts = {"a": Part(listed(10), 1, 1), "b": Part(listed(10, 50), 2, 2), "c": Part(listed(0), 3, 3)}
    pool = FleetPool.of(parts)
    for placed in (
        place(pool, Ring(scrapers(4), 64), Policy(64, 1.1)),
        place_living(pool, Ring(scrapers(4)[:3], 64), Ring(scrapers(4), 64), Policy(64, 1.1)),
    ):
        counts = (placed.owners >= 0).sum(axis=1).tolist()
        assert counts == [1] * 10 + [2] * 10
        assert all(len(set(row)) == len(row) for row in placed.owners.tolist()), "different ones"
    one_each = FleetPool.of({"a": parts["a"], "d": Part(listed(5, 80), 1, 4)})
    assert place(one_each, Ring(scrapers(4), 64), Policy(64, 1.1)).owners.shape == (15, 1)
    nothing = FleetPool.of({"c": Part(listed(0), 1, 3)})
    assert place(nothing, Ring(scrapers(4), 64), Policy(64, 1.1)).owners.shape == (0, 1)


def test_replicas_are_in_different_zones_while_there_are_enough() -> None:
    ring = Ring(scrapers(6, zones="aabbcc"), 64)
    for replicas, zones in ((2, 2), (3, 3), (4, 3)):
        placed = place(listed(60), ring, Policy(64, 1.5, replication_factor=replicas))
        found = {len({ring.scrapers[i].zone for i in row}) for row in placed.owners.tolist()}
        assert found == {zones}
        assert all(len(set(row)) == replicas for row in placed.owners.tolist())


@pytest.mark.parametrize(("weights", "said"), [((0.0, 0.0), "weight 0"), ((), "without scrapers")])
def test_nobody_to_own_a_target_is_an_error_that_says_why(weights: tuple[float, ...], said: str) -> None:
    ring, everybody = Ring(scrapers(len(weights), *weights), 8), Ring(scrapers(3), 8)
    with pytest.raises(PlacementError, match=said):
        place(listed(3), ring, Policy(8))
    with pytest.raises(PlacementError, match=said):
        place_living(listed(3), ring, everybody, Policy(8))


@pytest.mark.parametrize("load_factor", [None, 1.5])
def test_who_has_no_weight_is_no_owner_and_no_replica(load_factor: float | None) -> None:
    policy = Policy(64, load_factor, replication_factor=2)
    alone, two = Ring(scrapers(2, 1.0, 0.0), 64), Ring(scrapers(3, 1.0, 0.0, 1.0), 64)
    assert place(listed(9), alone, policy).owners.tolist() == [[0]] * 9
    assert {tuple(sorted(row)) for row in place(listed(9), two, policy).owners.tolist()} == {(0, 2)}
    living = place_living(listed(9), two, Ring(scrapers(3), 64), policy)
    assert {tuple(sorted(row)) for row in living.owners.tolist()} == {(0, 2)}
    assert living.owners.dtype == np.int32


def test_after_a_death_the_owners_that_live_are_first_and_a_new_one_is_behind_them() -> None:
    policy, every = Policy(64, 1.5, replication_factor=2), Ring(scrapers(5), 64)
    before, ring = place(listed(200), every, policy), Ring(scrapers(5)[1:], 64)
    after = place_living(listed(200), ring, every, policy)
    for old, new in zip(before.owners.tolist(), (after.owners + 1).tolist(), strict=True):
        left = [owner for owner in old if owner != 0]
        assert new[: len(left)] == left
        assert 0 not in new
    assert place_living(listed(200), every, every, policy).owners.tolist() == before.owners.tolist()
    limits = after.limits
    assert limits is not None
    assert (after.owners >= 0).all()
    assert all(count <= limit for count, limit in zip(after.carried().values(), limits.tolist(), strict=True))
