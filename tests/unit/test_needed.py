"""How many scrapers a load needs within the capacity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
