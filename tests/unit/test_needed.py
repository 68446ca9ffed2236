"""How many scrapers a load needs within the capacity."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promring.core.joined import FleetPool, Part
from promring.core.needed import Needed, scrapers_needed
from promring.core.placement import Policy, place
from promring.core.ring import Ring
from promring.model import Members, Placement, Scraper
from tests.laws.strategies import pool_of


def scrapers(count: int, zones: int = 0, weight: float = 1.0) -> Members:
    names = [f"z{n % zones}" if zones else "" for n in range(count)]
    return tuple(sorted(Scraper(f"s{n:03}:1", f"s{n:03}", 1, zone, weight) for n, zone in enumerate(names)))


def placed(loads: list[int], members: Members, policy: Policy) -> Placement:
    pool = pool_of([f"t{n}:1" for n in range(len(loads))])
    return place(pool, Ring(members, policy.virtual_nodes), policy, np.array(loads, dtype=np.int64))


def needed(loads: list[int], members: Members, policy: Policy) -> Needed | None:
    return scrapers_needed(placed(loads, members, policy), policy)


def test_without_a_capacity_nobody_can_say() -> None:
    assert needed([1, 2], scrapers(2), Policy(16)) is None


@pytest.mark.parametrize(
    ("loads", "members", "policy", "expected"),
    [
        ([], scrapers(2), Policy(16, capacity=10), (0, 0, None)),
        ([1] * 40, scrapers(9), Policy(16, capacity=10), (4, 5, None)),
        ([1] * 41, scrapers(2), Policy(16, capacity=10), (5, 6, None)),
        ([6] * 4, scrapers(2), Policy(16, capacity=10), (4, 5, None)),  # two of 6 do not fit on one of 10
        ([100, 5, 5], scrapers(2), Policy(16, capacity=10), (2, 3, None)),  # the heavy one is alone on one
        ([1] * 40, scrapers(6, zones=3), Policy(16, capacity=10), (4, 5, 6)),
        ([1] * 40, scrapers(6, zones=2), Policy(16, capacity=10), (4, 5, 8)),
        ([1] * 40, scrapers(3, weight=2.0), Policy(16, capacity=10), (2, 3, None)),
        ([1] * 4, scrapers(3), Policy(16, capacity=10, replication_factor=3), (3, 4, None)),
    ],
)
def test_a_load_needs_so_many_and_more_to_lose_one_or_a_zone(
    loads: list[int], members: Members, policy: Policy, expected: tuple[int, int, int | None]
) -> None:
    found = needed(loads, members, policy)
    assert found is not None
    assert (found.needed, found.after_scraper, found.after_zone) == expected


def test_newer_loads_than_those_of_the_plan_count() -> None:
    policy = Policy(16, capacity=10)
    placement = placed([1] * 10, scrapers(3), policy)
    found = scrapers_needed(placement, policy, np.full(10, 3, dtype=np.int64))
    assert found is not None
    assert (found.load, found.needed) == (30, 4)  # three of 3 on each, not three and a third


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(12, 40))
def test_fewer_are_never_enough_and_the_placement_needs_at_most_one_more(loads: list[int], capacity: int) -> None:
    policy = Policy(64, capacity=capacity)
    found = needed(loads, scrapers(1), policy)
    assert found is not None
    if found.needed > 1:
        assert sum(loads) > 0
        fewer = -(-sum(loads) // capacity)  # the bound that no packing can beat
        assert found.needed >= fewer
    if found.needed:
        assert not placed(loads, scrapers(found.needed + 1), policy).unplaced().size


def test_targets_that_count_one_each_are_counted_once_for_each_owner() -> None:
    policy = Policy(16, capacity=10, replication_factor=2)
    pool = pool_of([f"t{n}:1" for n in range(41)])
    found = scrapers_needed(place(pool, Ring(scrapers(3), 16), policy), policy)
    assert found is not None
    assert (found.load, found.needed, found.scrapers) == (82, 9, 3)
    parts = {"a": Part(pool, replicas=1), "b": Part(pool_of(["x:1", "y:1"]), replicas=3)}
    of_two = scrapers_needed(place(FleetPool.of(parts), Ring(scrapers(3), 16), policy), policy)
    assert of_two is not None
    assert of_two.load == 47, "each service as often as it says"
    heavier = scrapers_needed(place(pool, Ring(scrapers(3), 16), policy), policy, np.full(41, 3, dtype=np.int64))
    assert heavier is not None
    assert heavier.load == 246


def test_it_is_about_the_commonest_weight_of_those_that_can_take_targets() -> None:
    weights = (3.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0)
    members = tuple(replace(s, weight=w, draining=w == 3.0) for s, w in zip(scrapers(7), weights, strict=True))
    policy = Policy(16, capacity=10)
    placement = placed([1] * 40, members, policy)
    found = scrapers_needed(placement, policy)
    assert found is not None
    assert (found.weight, found.each, found.scrapers, found.needed) == (2.0, 20, 4, 2), "of equally common ones the greater"
    most = scrapers_needed(replace(placement, scrapers=members[1:-1]), policy)
    assert most is not None
    assert most.weight == 2.0
    ones = scrapers_needed(replace(placement, scrapers=(*members[1:3], members[3])), policy)
    assert ones is not None
    assert (ones.weight, ones.needed) == (1.0, 4)
    assert scrapers_needed(replace(placement, scrapers=members[:1]), policy) is None, "nobody can take anything"


def test_a_zone_can_be_lost_only_where_there_are_two_and_no_zone_is_none() -> None:
    policy = Policy(16, capacity=10)
    for names, after_zone in ((("x", "x"), None), (("x", ""), None), (("x", "y", ""), 8)):
        members = tuple(replace(s, zone=zone) for s, zone in zip(scrapers(len(names)), names, strict=True))
        found = needed([1] * 40, members, policy)
        assert found is not None
        assert found.after_zone == after_zone


@pytest.mark.parametrize("zones", [2, 3, 5])
def test_so_many_spread_evenly_over_the_zones_are_just_enough_without_the_fullest(zones: int) -> None:
    for count in range(1, 25):
        found = needed([10] * count, scrapers(zones, zones=zones), Policy(16, capacity=10))
        assert found is not None
        most = found.after_zone
        assert most is not None
        assert most - math.ceil(most / zones) >= count > most - 1 - math.ceil((most - 1) / zones)


def heaviest_onto_emptiest(loads: list[int], count: int, each: int) -> bool:
    rooms = [each] * count
    for load in sorted(loads, reverse=True):
        emptiest = rooms.index(max(rooms, default=0)) if rooms else -1
        if emptiest < 0 or rooms[emptiest] < load:
            return False
        rooms[emptiest] -= load
    return True


@given(st.lists(st.integers(1, 12), max_size=40), st.integers(2, 60))
def test_it_is_the_least_that_a_packing_of_the_heaviest_onto_the_emptiest_needs(loads: list[int], each: int) -> None:
    """One that fills a scraper is on one of its own. None is light here: each is above a 64th of the capacity."""
    pool = pool_of([f"t{n}:1" for n in range(len(loads))])
    nobody = np.full((len(loads), 1), -1, dtype=np.int32)
    placement = Placement(scrapers(1), pool, nobody, None, np.array(loads, dtype=np.int64))
    found = scrapers_needed(placement, Policy(16, capacity=each))
    assert found is not None
    rest = [load for load in loads if load < each]
    count = -(-sum(rest) // each)
    while not heaviest_onto_emptiest(rest, count, each):
        count += 1
    assert found.needed == count + len(loads) - len(rest)


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ([1] * 1280, 20),  # light ones fill a scraper to the last
        ([1] * 1281, 21),
        ([40, 1], 1),
        ([40, *[1] * 24], 1),
        ([40, *[1] * 25], 2),
        ([33, 33, *[1] * 62], 2),  # of those that fill the rest none is above 1
        ([33, 33, *[1] * 63], 3),
        ([64, 64, 1], 3),
        ([0, 0, 0], 1),
        ([640], 1),
    ],
)
def test_targets_up_to_a_64th_of_the_capacity_fill_what_the_others_leave(loads: list[int], expected: int) -> None:
    found = needed(loads, scrapers(1), Policy(16, capacity=64))
    assert found is not None
    assert found.needed == expected


def test_where_there_is_no_room_for_the_heaviest_light_target_none_fits() -> None:
    found = needed([127, 127, 2], scrapers(1), Policy(16, capacity=128))
    assert found is not None
    assert found.needed == 3


def test_beyond_a_hundred_thousand_scrapers_nobody_looks_for_the_last_one() -> None:
    """A packing of so many takes seconds, and there is no such fleet."""
    pool = replace(pool_of([f"t{n}:1" for n in range(50)]), replicas=np.full(50, 3666, dtype=np.int32))
    nobody = Placement(scrapers(1), pool, np.full((50, 1), -1, dtype=np.int32), None, np.full(50, 6))
    found = scrapers_needed(nobody, Policy(16, capacity=11))
    assert found is not None
    assert 100_000 < found.needed < 102_000


def test_light_targets_above_one_leave_less_than_the_heaviest_of_them_free_on_each() -> None:
    for rest, expected in ((50, 2), (56, 3)):  # two of 100 of a capacity of 128 leave 28 each: one of 2 stops at 27
        found = needed([100, 100, *[2] * (rest // 2)], scrapers(1), Policy(16, capacity=128))
        assert found is not None
        assert found.needed == expected
