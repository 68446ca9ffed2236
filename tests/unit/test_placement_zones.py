"""Targets that ask for a zone; and placements that every version of promring must make alike."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from promring.core.joined import FleetPool, Part, salt_of
from promring.core.placement import Policy, place, place_living
from promring.core.pool import pool_of, selected
from promring.core.ring import Ring
from promring.model import Members, Placement, Scraper, TargetGroup, TargetPool

PLAIN = Policy(64, None)
NAMES = ("", "x", "y", "far")
NO_ZONE, X, Y, FAR = range(4)


def scrapers(zones: str, *weights: float) -> Members:
    """One in each of the ``zones``, ``-``: in none."""
    each = weights or (1.0,) * len(zones)
    return tuple(
        Scraper(f"s{n:03}:1", f"s{n:03}", 1, z.strip("-"), w) for n, (z, w) in enumerate(zip(zones, each, strict=True))
    )


def asking(wishes: Sequence[int]) -> TargetPool:
    pool = pool_of([TargetGroup.of([f"t{n}:1" for n in range(len(wishes))])])
    return replace(pool, zones=np.array(wishes, dtype=np.int32), zone_names=NAMES)


def zones_of(placed: Placement, column: int = 0) -> list[str | None]:
    return [placed.scrapers[i].zone if i >= 0 else None for i in placed.owners[:, column].tolist()]


WISHES = [(NO_ZONE, X, Y, FAR)[n % 4] for n in range(120)]


def test_a_target_that_asks_for_a_zone_goes_to_the_first_of_its_order_there_and_any_other_as_if_there_were_none() -> None:
    ring, pool = Ring(scrapers("xxyy-"), 64), asking(WISHES)
    usual = place(replace(pool, zones=None, zone_names=()), ring, PLAIN)
    for policy in (PLAIN, Policy(64, 1000.0)):
        placed = place(pool, ring, policy)
        for row, wish in enumerate(WISHES):
            order = ring.preference(int(pool.keys[row]))
            there = [s for s in order if s.zone == NAMES[wish]] if wish in (X, Y) else order
            assert placed.scrapers[placed.owners[row, 0]] == there[0]
            if wish not in (X, Y):
                assert placed.owners[row, 0] == usual.owners[row, 0]


@pytest.mark.parametrize("policy", [PLAIN, Policy(64, 3.0), Policy(64, None, 60.0)], ids=["plain", "share", "capacity"])
def test_a_zone_where_nobody_can_take_targets_is_no_zone(policy: Policy) -> None:
    pool = asking(WISHES)
    ring = Ring(scrapers("xxy-", 0.0, 0.0, 1.0, 1.0), 64)
    placed, zones = place(pool, ring, policy), zones_of(place(pool, ring, policy))
    assert {zones[row] for row, wish in enumerate(WISHES) if wish == Y} == {"y"}
    assert {zones[row] for row, wish in enumerate(WISHES) if wish == X} == {"y", ""}
    assert not placed.unplaced().size


@pytest.mark.parametrize("loads", [None, 3])
def test_a_zone_is_filled_to_its_share_with_the_smallest_keys_and_the_others_go_elsewhere(loads: int | None) -> None:
    pool, ring = asking([X] * 80 + [NO_ZONE] * 20), Ring(scrapers("xxyy"), 64)
    wishes = np.zeros(100, dtype=np.int32)
    wishes[::5] = NO_ZONE
    wishes[wishes == 0] = X
    wishes[::5] = NO_ZONE
    pool = replace(pool, zones=wishes)
    placed = place(pool, ring, Policy(64, 1.0), None if loads is None else np.full(100, loads, dtype=np.int64))
    zones = zones_of(placed)
    inside = [row for row in range(100) if wishes[row] == X and zones[row] == "x"]
    assert inside == np.flatnonzero(wishes == X)[:50].tolist()
    assert list(placed.carried().values()) == [25 * (loads or 1)] * 4
    assert [row for row in np.flatnonzero(wishes == NO_ZONE).tolist() if zones[row] == "x"] == []


def test_the_heaviest_have_the_room_of_their_zone_first() -> None:
    pool, ring = asking([X] * 30), Ring(scrapers("xy"), 64)
    loads = np.array([(7, 1, 3)[n % 3] for n in range(30)], dtype=np.int64)  # 110 together, 55 each
    placed = place(pool, ring, Policy(64, 1.0), loads)
    inside = np.array([zone == "x" for zone in zones_of(placed)])
    assert int(loads[inside].sum()) == 55
    assert sorted(loads[inside].tolist(), reverse=True) == [7] * 7 + [3, 3]
    assert np.flatnonzero(inside & (loads == 7)).tolist() == np.flatnonzero(loads == 7)[:7].tolist()


def test_what_others_have_there_already_is_no_room() -> None:
    """After a death: who lives keeps what it had, and the targets of the dead one have what is left in its zone."""
    every, pool = scrapers("xxxyyy"), asking([X] * 60 + [Y] * 60)
    wishes = [(X, Y)[n % 2] for n in range(120)]
    pool = replace(pool, zones=np.array(wishes, dtype=np.int32))
    policy, listed = Policy(64, 1.2), Ring(every, 64)
    before, after = place(pool, listed, policy), place_living(pool, Ring(every[1:], 64), listed, policy)
    assert zones_of(before) == [NAMES[wish] for wish in wishes]
    kept = before.owners[:, 0] > 0
    assert (after.owners[kept, 0] == before.owners[kept, 0] - 1).all()
    limits, carried = after.limits, list(after.carried().values())
    assert limits is not None
    assert all(load <= limit for load, limit in zip(carried, limits.tolist(), strict=True))
    inside = sum(load for load, s in zip(carried, after.scrapers, strict=True) if s.zone == "x")
    assert inside == sum(limits[:2].tolist()) < 60, "full, and the others are elsewhere"
    assert not after.unplaced().size


def test_only_the_first_owner_is_in_the_zone_and_the_next_one_in_another() -> None:
    pool, ring = asking([X] * 40), Ring(scrapers("xxyyzz"), 64)
    for policy in (Policy(64, None, replication_factor=2), Policy(64, 3.0, replication_factor=2)):
        placed = place(pool, ring, policy)
        assert set(zones_of(placed)) == {"x"}
        assert set(zones_of(placed, 1)) == {"y", "z"}


def test_the_second_owner_leaves_the_zone_of_the_first_only_while_another_zone_has_room() -> None:
    pool, ring = asking([NO_ZONE] * 30), Ring(scrapers("xxxy"), 64)
    placed = place(pool, ring, Policy(64, 1.0, 16.0, replication_factor=2))
    other = sum("y" in pair for pair in zip(zones_of(placed), zones_of(placed, 1), strict=True))
    assert other == 16, "as many as there is room for there"
    assert not placed.unplaced().size


# --- every version places alike --------------------------------------------------------------------------------------


def drawn(seed: int) -> tuple[TargetPool, Members, Policy, np.ndarray | None, int]:
    """Some fleet, with all that a placement knows, often with little room; and how many of its scrapers die."""
    rng = random.Random(seed)
    count, size = rng.randint(0, 150), rng.randint(2, 9)
    pool = pool_of([TargetGroup.of([f"t{n}:1" for n in range(count)])])
    if rng.random() < 0.6:
        wishes = np.array([rng.choice((0, 1, 1, 1, 2, 3)) for _ in range(count)], dtype=np.int32)
        pool = replace(pool, zones=wishes, zone_names=NAMES)
    if rng.random() < 0.3:
        pool = replace(pool, replicas=np.array([rng.randint(1, 3) for _ in range(count)], dtype=np.int32))
    zones = "".join(rng.choice("xy-") for _ in range(size))
    members = scrapers(zones, *(rng.choice((1.0, 1.0, 1.0, 2.0, 0.5, 0.0)) for _ in range(size - 1)), 1.0)
    loads = None
    if rng.random() < 0.6:
        loads = np.array([int(rng.choice((1, 1, 10, 1000)) * rng.paretovariate(1.2)) for _ in range(count)], dtype=np.int64)
    total = count if loads is None else int(loads.sum())
    factor = rng.choice((None, 1.0, 1.1, 1.1, 1.5))
    capacity = rng.choice((None, None, max(1, total) * rng.choice((0.7, 1.0, 1.3, 3.0)) / size))
    policy = Policy(rng.choice((1, 4, 32)), factor, capacity, rng.choice((1, 1, 2, 3)))
    return pool, members, policy, loads, rng.randint(0, size - 1)


def told(placed: Placement) -> bytes:
    limits = b"" if placed.limits is None else placed.limits.astype("<i8").tobytes()
    return placed.owners.astype("<i4").tobytes() + limits


ALIKE = {
    0: "6b634a1b651fa909",
    10: "a2e1aa76bfdba257",
    20: "a85c81a0edb2c32e",
    30: "caa4eed722c729a2",
    40: "d0c7a33e4710db77",
    50: "a950dd150fa7724d",
    60: "61aba91ca5ea9c85",
    70: "4a79aec231bbe68b",
    80: "74118ed05c394de1",
    90: "3d8e2bc4f72db7b6",
    100: "d0329376c838a8d0",
    110: "0d369113ba7ad876",
}


@pytest.mark.parametrize("first", ALIKE)
def test_every_version_places_alike_so_that_an_upgrade_moves_nothing(first: int) -> None:
    """Controllers of two versions must agree. Another digest needs a note in the changelog: it moves targets."""
    digest = hashlib.sha256()
    for seed in range(first, first + 10):
        pool, members, policy, loads, dead = drawn(seed)
        listed = Ring(members, policy.virtual_nodes)
        digest.update(told(place(pool, listed, policy, loads)))
        digest.update(told(place_living(pool, Ring(members[dead:], policy.virtual_nodes), listed, policy, loads)))
    assert digest.hexdigest()[:16] == ALIKE[first]


@pytest.mark.parametrize("first", [0, 15, 30])
def test_it_does_not_matter_into_which_services_the_targets_of_a_fleet_are_cut(first: int) -> None:
    """The bound is over all services together, and of all of them the smaller keys go first."""
    for seed in range(first, first + 15):
        pool, members, policy, loads, dead = drawn(seed)
        services = np.random.default_rng(seed).integers(1, 4, len(pool)) if pool.replicas is None else pool.replicas
        cut = [np.flatnonzero(services == n) for n in (1, 2, 3)]
        parts = {}
        for n, rows in enumerate(cut, 1):
            some = replace(selected(pool, rows), zones=None if pool.zones is None else pool.zones[rows])
            owners = policy.replication_factor if pool.replicas is None else n
            parts[f"s{n}"] = Part(replace(some, zone_names=pool.zone_names), owners, salt_of("fleet", f"s{n}"))
        order, fleet = np.concatenate(cut), FleetPool.of(parts)
        if pool.replicas is not None:
            policy = replace(policy, replication_factor=1)
        asked = None if loads is None else loads[order]
        listed = Ring(members, policy.virtual_nodes)
        for living in (listed, Ring(members[dead:], policy.virtual_nodes)):
            whole, found = (place_living(*some) for some in (
                (pool, living, listed, policy, loads), (fleet, living, listed, policy, asked)
            ))  # fmt: skip
            assert found.owners.tolist() == whole.owners[order].tolist(), seed
            assert (found.limits is None) == (whole.limits is None)
            assert found.limits is None or whole.limits is None or found.limits.tolist() == whole.limits.tolist()
