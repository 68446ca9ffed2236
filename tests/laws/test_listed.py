"""Laws of a placement over all that are listed: a death moves what that one had, and its return brings back just that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.joined import FleetPool, Part, salt_of
from promring.core.placement import Policy, capacities, place, place_living
from promring.core.pool import pool_of
from promring.core.ring import Ring
from promring.model import Placement, Scraper, TargetGroup

POLICIES = [Policy(64, None), Policy(64, 1.1), Policy(64, 1.25, None, 2), Policy(64, 1.5, 60.0), Policy(64, None, None, 3)]
sizes = st.lists(st.integers(0, 80), min_size=1, max_size=3)


def scrapers(weights: Sequence[float], zones: int) -> tuple[Scraper, ...]:
    return tuple(Scraper(f"s{n:02}:1", f"s{n:02}", 1, f"z{n % zones}", weight) for n, weight in enumerate(weights))


def pool(counts: Sequence[int], replicas: int) -> FleetPool:
    names = "abc"[: len(counts)]
    parts = {}
    for name, count in zip(names, counts, strict=True):
        some = pool_of([TargetGroup.of([f"{name}{n}:1" for n in range(count)])])
        parts[name] = Part(some, max(1, replicas - (name == "b")), salt_of("main", name))
    return FleetPool.of(parts)


def owners(placement: Placement) -> list[set[str]]:
    ids = [s.id for s in placement.scrapers]
    return [{ids[i] for i in row if i >= 0} for row in placement.owners.tolist()]


fleets = st.tuples(
    sizes,
    st.lists(st.sampled_from([1.0, 1.0, 1.0, 2.0, 0.5]), min_size=3, max_size=9),
    st.integers(1, 3),
    st.sampled_from(POLICIES),
    st.randoms(use_true_random=False),
)


@given(fleet=fleets, drained=st.booleans())
def test_a_death_or_a_drain_moves_what_that_one_had_and_its_return_brings_back_just_that(
    fleet: tuple[list[int], list[float], int, Policy, object], *, drained: bool
) -> None:
    counts, weights, zones, policy, rng = fleet
    every = scrapers(weights, zones)
    targets, listed = pool(counts, policy.replication_factor), Ring(every, policy.virtual_nodes)
    whole = place(targets, listed, policy)
    gone = every[rng.randrange(len(every))]  # type: ignore[attr-defined]
    left = (
        tuple(replace(s, weight=0.0) if s is gone else s for s in every)
        if drained
        else tuple(s for s in every if s is not gone)
    )
    after = place_living(targets, Ring(left, policy.virtual_nodes), listed, policy)
    for had, has in zip(owners(whole), owners(after), strict=True):
        assert gone.id not in has
        if gone.id not in had:
            assert had == has, "what it had not stays where it is"
        else:
            assert had - {gone.id} <= has, "and so do the other replicas"
    back = place_living(targets, listed, listed, policy)
    assert np.array_equal(back.owners, whole.owners)


@given(fleet=fleets, dead=st.integers(0, 6))
def test_the_bounds_hold_for_the_living(fleet: tuple[list[int], list[float], int, Policy, object], dead: int) -> None:
    counts, weights, zones, policy, rng = fleet
    every = scrapers(weights, zones)
    gone = set(rng.sample(range(len(every)), min(dead, len(every) - 1)))  # type: ignore[attr-defined]
    living = tuple(s for n, s in enumerate(every) if n not in gone)
    targets = pool(counts, policy.replication_factor)
    ring, listed = (Ring(some, policy.virtual_nodes) for some in (living, every))
    placed = place_living(targets, ring, listed, policy)
    assert placed.scrapers == living
    most = capacities([s.weight for s in living], policy)
    carried = list(placed.carried().values())
    if most is not None:
        assert all(load <= limit for load, limit in zip(carried, most.tolist(), strict=True))
    else:
        assert not placed.unplaced().size, "everything has all its owners"
    if placed.limits is not None:
        assert all(load <= limit for load, limit in zip(carried, placed.limits.tolist(), strict=True))
    for had, wanted in zip(placed.owners.tolist(), placed.wanted.tolist(), strict=True):  # type: ignore[union-attr]
        some = [one for one in had if one >= 0]
        assert len(some) == len(set(some)) <= wanted


def test_limits_are_whole_numbers_of_the_share() -> None:
    every = scrapers([1.0] * 1000, 1)
    placed = place(pool([100_000], 1), Ring(every, 16), Policy(16, 1.1))
    assert placed.limits is not None
    assert set(placed.limits.tolist()) == {math.ceil(Fraction("1.1") * 100)}, "110, and not 111"


@given(fleet=fleets)
def test_it_is_the_same_in_any_order_of_deaths(fleet: tuple[list[int], list[float], int, Policy, object]) -> None:
    counts, weights, zones, policy, rng = fleet
    every = scrapers(weights, zones)
    living = tuple(sorted(rng.sample(every, max(1, len(every) // 2))))  # type: ignore[attr-defined]
    targets, listed = pool(counts, policy.replication_factor), Ring(every, policy.virtual_nodes)
    one, other = (place_living(targets, Ring(living, policy.virtual_nodes), listed, policy) for _ in range(2))
    assert np.array_equal(one.owners, other.owners)
