"""Laws of a fleet's pool: several services on the same scrapers, placed at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.claims import NO_CLAIMS, Taken
from promring.core.coverage import Seen
from promring.core.difference import compare
from promring.core.evidence import Evidence, Handover
from promring.core.fragment import target
from promring.core.handover import schedule, without_room
from promring.core.joined import FleetPool, FleetShares, Part, carried_over, part_of, rows_between, salt_of, same_owners
from promring.core.placement import Policy, place
from promring.core.plan import rows_of, shares
from promring.core.pool import merge, pool_of
from promring.core.ring import Ring
from promring.core.sight import together
from promring.model import Scraper, TargetGroup, TargetPool

FLEET = "main"


def named(names: list[str]) -> TargetPool:
    return pool_of([TargetGroup.of(names)])


def scrapers(count: int, zones: int = 1) -> tuple[Scraper, ...]:
    return tuple(sorted(Scraper(f"s{n:02}:1", f"s{n:02}", 1, f"z{n % zones}" if zones > 1 else "") for n in range(count)))


def joined(services: dict[str, list[str]], replicas: dict[str, int] | None = None) -> FleetPool:
    return FleetPool.of(
        {name: Part(named(some), (replicas or {}).get(name, 1), salt_of(FLEET, name)) for name, some in services.items()}
    )


targets = st.lists(st.integers(0, 400), max_size=60, unique=True).map(lambda numbers: [f"t{n}:1" for n in numbers])
fleets = st.dictionaries(st.sampled_from(["a", "b", "c", "dd"]), targets, min_size=1, max_size=4)
POLICIES = [Policy(64, None), Policy(64, 1.1), Policy(64, 1.0), Policy(64, 1.25, 40.0)]


@given(services=fleets, count=st.integers(1, 7), policy=st.sampled_from(POLICIES))
def test_every_target_of_every_service_has_one_owner_and_nobody_has_more_than_its_share_of_all(
    services: dict[str, list[str]], count: int, policy: Policy
) -> None:
    pool = joined(services)
    placed = place(pool, Ring(scrapers(count), policy.virtual_nodes), policy)
    total = sum(map(len, services.values()))
    assert len(pool) == total == len(np.unique(pool.ids))
    carried = placed.carried().values()
    if policy.capacity is None:
        assert sum(carried) == total
        if policy.load_factor is not None:
            assert max(carried, default=0) <= np.ceil(policy.load_factor * total / count)
    else:
        assert sum(carried) == min(total, int(policy.capacity) * count)
    for name, some in services.items():
        part = part_of(placed, name)
        assert part is not None
        assert len(part.pool) == len(some)


@given(services=fleets, count=st.integers(1, 7), policy=st.sampled_from(POLICIES))
def test_slices_are_the_lists_cut_into_pieces(services: dict[str, list[str]], count: int, policy: Policy) -> None:
    pool = joined(services)
    placed = place(pool, Ring(scrapers(count), policy.virtual_nodes), policy)
    cut = FleetShares(placed)
    for name in services:
        part = part_of(placed, name)
        assert part is not None
        alone = shares(part)
        assert cut.unchanged(cut, np.arange(count), name).all()
        assert cut.bodies(range(count), name) == [alone.body(i) for i in range(count)]
        for i in range(count):
            assert cut.of(i, name).tolist() == alone.of(i).tolist()
            assert cut.body(i, name) == alone.body(i)
    assert all(pool.fragment(row) for row in range(len(pool)))


@given(some=targets, count=st.integers(1, 7), policy=st.sampled_from([*POLICIES, Policy(64, 1.1, None, 2)]))
def test_a_fleet_of_one_service_is_placed_as_its_list_alone(some: list[str], count: int, policy: Policy) -> None:
    ring = Ring(scrapers(count, 2), policy.virtual_nodes)
    alone = place(named(some), ring, policy)
    pool = FleetPool.of({"x": Part(named(some), policy.replication_factor, salt_of("x", "x"))})
    assert np.array_equal(pool.ids, named(some).ids), "its ids are those of its list"
    assert np.array_equal(place(pool, ring, policy).owners, alone.owners)


@given(services=fleets, count=st.integers(2, 7), nodes=st.sampled_from([1, 64]))
def test_one_address_in_two_services_goes_to_one_scraper_where_nothing_is_bounded(
    services: dict[str, list[str]], count: int, nodes: int
) -> None:
    placed = place(joined(services), Ring(scrapers(count), nodes), Policy(nodes, None))
    owner: dict[str, set[int]] = {}
    for name in services:
        part = part_of(placed, name)
        assert part is not None
        for row in range(len(part.pool)):
            owner.setdefault(target(part.pool, row).address, set()).add(int(part.owners[row, 0]))
    assert all(len(who) == 1 for who in owner.values())


@given(
    services=fleets,
    count=st.integers(1, 6),
    replicas=st.dictionaries(st.sampled_from(["a", "b", "c", "dd"]), st.integers(1, 3)),
)
def test_each_service_has_its_own_number_of_replicas_on_different_scrapers(
    services: dict[str, list[str]], count: int, replicas: dict[str, int]
) -> None:
    policy = Policy(64, 1.1, None, 3)
    placed = place(joined(services, replicas), Ring(scrapers(count, 3), 64), policy)
    assert not placed.unplaced().size
    for name in services:
        part = part_of(placed, name)
        assert part is not None
        for owners in part.owners.tolist():
            mine = [one for one in owners if one >= 0]
            assert len(mine) == len(set(mine)) == min(replicas.get(name, 1), count)


@given(services=fleets, count=st.integers(2, 6), more=targets)
def test_a_change_of_one_service_leaves_the_others_alone_where_nothing_is_bounded(
    services: dict[str, list[str]], count: int, more: list[str]
) -> None:
    ring, policy = Ring(scrapers(count), 64), Policy(64, None)
    before = joined(services)
    changed = FleetPool.of({**before.parts, "a": Part(named(more), 1, salt_of(FLEET, "a"))})
    old, new = place(before, ring, policy), place(changed, ring, policy)
    assert all(same_owners(old, new, name) for name in services if name != "a")
    assert all(move.source is None or move.destination is None for move in compare(old, new).moves)


@given(services=fleets, later=fleets, same=st.booleans(), policy=st.sampled_from(POLICIES), series=st.booleans())
def test_what_is_made_from_what_was_there_before_is_what_it_is_without(
    services: dict[str, list[str]], later: dict[str, list[str]], policy: Policy, *, same: bool, series: bool
) -> None:
    """The owners, with equal keys in several services too, and what a column of the rows says of the rows of now."""
    before = joined(services)
    parts = joined(later).parts
    if same:  # some services have the very same list
        parts = {**parts, **dict(list(before.parts.items())[::2])}
    made, ring = FleetPool.of(parts), Ring(scrapers(5), 64)
    loads = np.arange(len(made), dtype=np.int64) % 7 if series else None
    place(before, ring, policy)  # the ring remembers the lists
    assert np.array_equal(place(made, ring, policy, loads).owners, place(made, Ring(scrapers(5), 64), policy, loads).owners)
    column = np.arange(len(before), dtype=np.int32)
    expected = np.append(column, np.int32(-1))[rows_between(made, before)]
    assert carried_over(column, before, made, -1).tolist() == expected.tolist()


@given(steps=st.lists(st.tuples(fleets, st.integers(1, 5)), min_size=2, max_size=5), overlap_s=st.sampled_from([0.0, 30.0]))
def test_a_step_from_one_owner_each_is_the_step_that_any_claims_would_make(
    steps: list[tuple[dict[str, list[str]], int]], overlap_s: float
) -> None:
    claims = plain = NO_CLAIMS
    pool: FleetPool | None = None
    for number, (services, count) in enumerate(steps):
        parts = joined(services).parts
        if pool is not None:
            parts = {name: pool.parts.get(name, part) if number % 2 else part for name, part in parts.items()}
        pool = FleetPool.of(parts)
        wanted = place(pool, Ring(scrapers(count), 64), Policy(64, 1.1))
        asked = (Evidence(), Handover(overlap_s, confirm=False), 20.0 * number)
        claims, holders = schedule(wanted, claims, *asked)
        plain, others = schedule(wanted, replace(plain, made_in=None), *asked)
        assert claims == plain
        assert claims.since.tolist() == plain.since.tolist()
        assert claims.until.tolist() == plain.until.tolist()
        assert claims.rows(pool).tolist() == rows_of(pool, claims.ids).tolist()
        assert holders.owners.tolist() == others.owners.tolist()
        assert without_room(claims, wanted) == {}


def test_zones_of_services_with_and_without_are_one_list() -> None:
    with_zones = merge([pool_of([TargetGroup.of(["t1:1"], {"zone": "z1"}), TargetGroup.of(["t2:1"])])], None, "zone")
    pool = FleetPool.of({"a": Part(named(["t3:1"])), "b": Part(with_zones, 1, salt_of(FLEET, "b"))})
    assert pool.zone_names == ("", "z1")
    placed = place(pool, Ring(scrapers(4, 2), 64), Policy(64, 1.5))
    part = part_of(placed, "b")
    assert part is not None
    (row,) = [row for row in range(2) if target(part.pool, row).address == "t1:1"]
    assert placed.scrapers[part.owners[row, 0]].zone == "z1"


def test_a_hand_over_ends_for_the_service_whose_slice_was_taken_and_for_no_other() -> None:
    two, three = scrapers(2), scrapers(3)
    pool = joined({"a": [f"t{n}:1" for n in range(40)], "b": [f"t{n}:1" for n in range(40)]})
    policy, overlap = Policy(64, None), Handover(30.0, confirm=False)
    before, after = (place(pool, Ring(some, 64), policy) for some in (two, three))
    claims, _ = schedule(before, NO_CLAIMS, Evidence(), overlap, 0.0)
    claims, _ = schedule(after, claims, Evidence(), overlap, 10.0)
    held = claims.held
    new = three[-1].id
    taken = {("a", s.id): Taken().and_then(11.0, 11.0) for s in three}
    taken |= {("b", s.id): Taken().and_then(11.0, 11.0) for s in two}
    claims, in_force = schedule(after, claims, Evidence(taken=taken), overlap, 60.0)
    assert held > claims.held > 0
    a, b = part_of(in_force, "a"), part_of(in_force, "b")
    assert a is not None
    assert b is not None
    assert ((a.owners >= 0).sum(axis=1) == 1).all(), "it has taken the slice of a"
    moved = (b.owners[:, 0] == 2) if new == in_force.scrapers[2].id else None
    assert moved is not None
    assert ((b.owners >= 0).sum(axis=1)[moved] == 2).all(), "not that of b"


def test_what_a_scraper_does_of_several_services_is_told_apart_by_the_ids_of_the_fleet() -> None:
    pool = joined({"a": ["t1:1", "t2:1"], "b": ["t1:1"]})

    def seen(service: str, interval_s: float, at: float) -> Seen:
        ids = np.sort(pool.parts[service].pool.ids)
        return Seen(100.0, ids, np.full(len(ids), at), np.ones(len(ids), dtype=bool), interval_s)

    found = together({"a": seen("a", 10.0, 60.0), "b": seen("b", 60.0, 60.0)}, {n: p.salt for n, p in pool.parts.items()})
    assert sorted(found.ids.tolist()) == sorted(pool.ids.tolist())
    assert (np.diff(found.ids.astype(object)) > 0).all()
    of_a, of_b = (found.of(pool.ids[pool.rows(name)])[0] > -np.inf for name in ("a", "b"))
    assert not of_a.any(), "40 s ago is long for an interval of 10 s"
    assert of_b.all()
