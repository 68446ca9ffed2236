"""The pool of a fleet, beside what its services' own lists say: row by row, whatever the services and the placement."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.joined import (
    FleetPool,
    FleetShares,
    Part,
    carried_over,
    part_of,
    rows_between,
    salt_of,
    salted,
    same_owners,
    touched,
)
from promring.core.plan import EMPTY_BODY, shares
from promring.core.pool import merge, pool_of
from promring.model import Placement, Scraper, TargetGroup, TargetPool

SCRAPERS = tuple(Scraper(name, name, 0) for name in "abcdef")
SERVICES = ("dns", "main", "node", "web")
seeds = st.integers(0, 2**32)


def listed(rng: np.random.Generator) -> TargetPool:
    """A few targets, some of them twice with another label; some lists ask for zones."""
    some = [TargetGroup.of([f"t{n}:1"], {"v": str(v)}) for n in range(6) for v in range(2) if rng.random() < 0.4]
    some += [TargetGroup.of([f"z{n}:1"], {"zone": f"z{rng.integers(3)}"}) for n in range(3) if rng.random() < 0.4]
    return merge([pool_of(some)], None, "zone" if rng.random() < 0.3 else None)


def drawn(rng: np.random.Generator, near: FleetPool | None = None) -> FleetPool:
    """Services in any order. Of ``near`` some have the same list, and some another salt than there."""
    parts = {}
    for name in rng.permutation(SERVICES).tolist():
        if rng.random() < 0.25:
            continue
        had = near.parts.get(name) if near is not None and rng.random() < 0.6 else None
        salt = salt_of("main", name) if rng.random() < 0.8 else salt_of("other", name)
        parts[name] = Part(had.pool if had else listed(rng), int(rng.integers(1, 4)), salt)
    return FleetPool.of(parts)


def placed(rng: np.random.Generator, pool: TargetPool, near: Placement | None = None) -> Placement:
    """``near``: another placement of some of the same services, whose owners most rows have."""
    some = tuple(s for s in SCRAPERS if rng.random() < 0.8) or SCRAPERS[:1]
    columns = int(rng.integers(1, 4))
    if near is not None and rng.random() < 0.7:
        some, columns = near.scrapers if rng.random() < 0.5 else some, near.owners.shape[1] + int(rng.random() < 0.2)
    owners = np.full((len(pool), columns), -1, dtype=np.int32)
    for row in owners:
        them = rng.permutation(len(some))[:columns]
        row[: len(them)] = np.where(rng.random(len(them)) < 0.3, -1, them)
    if near is not None:
        numbers = {s.id: i for i, s in enumerate(some)}
        named = np.array([*(numbers.get(s.id, -1) for s in near.scrapers), -1], dtype=np.int32)[near.owners]
        before = carried_over(named, near.pool, pool, -1)[:, :columns]
        kept = rng.random(len(pool)) < rng.choice([0.8, 1.0])
        owners[kept] = -1
        owners[kept, : before.shape[1]] = before[kept]
    loads = rng.integers(1, 9, len(pool)) if rng.random() < 0.5 else None
    wanted = rng.integers(1, 4, len(pool)).astype(np.int32) if rng.random() < 0.5 else None
    return Placement(some, pool, owners, None, loads, wanted)


def test_zones_are_numbers_in_one_list_of_names_and_a_list_without_targets_asks_for_none() -> None:
    asking = merge([pool_of([TargetGroup.of(["t1:1"], {"zone": "z1"}), TargetGroup.of(["t2:1"])])], None, "zone")
    empty, plain = merge([pool_of([])], None, "zone"), pool_of([TargetGroup.of(["t3:1"])])
    pool = FleetPool.of({"a": Part(empty), "b": Part(plain), "c": Part(asking)})
    assert pool.zones is not None
    assert (pool.zone_names, pool.zones.dtype, zones_of(pool)) == (("", "z1"), np.dtype(np.int32), ["", *zones_of(asking)])


def zones_of(pool: TargetPool) -> list[str]:
    return [""] * len(pool) if pool.zones is None else [pool.zone_names[zone] for zone in pool.zones.tolist()]


@given(seeds)
def test_each_row_is_a_target_of_a_service_in_order_of_services_and_then_of_its_list(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(4):
        pool = drawn(rng)
        again, done = FleetPool.of(dict(reversed(list(pool.parts.items())))), 0
        assert pool.names == again.names == tuple(sorted(pool.parts)) == tuple(pool.parts)
        for name in pool.names:
            part, rows = pool.parts[name], pool.rows(name)
            assert (rows.start, rows.stop) == (done, done + len(part.pool))
            assert pool.keys[rows].tolist() == part.pool.keys.tolist()
            assert salted(pool.ids[rows], part.salt).tolist() == part.pool.ids.tolist()
            assert pool.digests[rows].tolist() == part.pool.digests.tolist()
            assert pool.replicas is not None
            assert pool.replicas[rows].tolist() == [part.replicas] * len(part.pool)
            assert zones_of(pool)[rows] == zones_of(part.pool)
            fragments = [part.pool.fragment(row) for row in range(len(part.pool))]
            assert [pool.fragment(row) for row in range(rows.start, rows.stop)] == fragments
            done = rows.stop
        assert len(pool) == done == pool.starts[-1]
        assert pool.rows("nobody") == slice(0, 0)
        assert [again.ids.tolist(), again.keys.tolist()] == [pool.ids.tolist(), pool.keys.tolist()]
        assert list(pool.parts_in_order) == [pool.parts[name].pool for name in pool.names]
        ids, order = pool.by_id()
        assert ids.tolist() == sorted(pool.ids.tolist()) == pool.ids[slice(None) if order is None else order].tolist()
        assert (pool.zones is None) == all(part.pool.zones is None for part in pool.parts.values())
        assert list(pool.zone_names) == sorted(pool.zone_names), "in the same order in every process: places depend on it"


def test_the_ids_of_a_service_are_another_ones_for_each_name_and_its_own_where_the_fleet_has_its_name() -> None:
    pool = pool_of([TargetGroup.of([f"t{n}:1" for n in range(9)])])
    assert salt_of("x", "x") == 0
    assert len({salt_of("x", name) for name in SERVICES} - {0}) == len(SERVICES)
    alone = FleetPool.of({"x": Part(pool)})
    assert alone.ids is alone.keys is pool.ids, "no copy of a list that is the whole fleet"
    salt = salt_of("x", "y")
    assert salted(salted(pool.ids, salt), salt).tolist() == pool.ids.tolist()
    assert not np.isin(salted(pool.ids, salt), pool.ids).any()


def test_a_fleet_without_services_has_no_targets_and_one_pool_is_another_only_with_the_same_lists() -> None:
    nothing, few = FleetPool.of({}), pool_of([TargetGroup.of(["t1:1"], {"v": "1"})])
    assert (len(nothing), nothing.names, nothing.by_service(np.arange(0))) == (0, (), [])
    assert (nothing.keys.dtype, nothing.ids.dtype, nothing.digests.dtype) == (np.dtype(np.uint64),) * 3
    pool, same = FleetPool.of({"x": Part(few)}), FleetPool.of({"x": Part(few)})
    assert pool == same == pool != nothing
    assert pool != FleetPool.of({"x": Part(pool_of([TargetGroup.of(["t1:1"], {"v": "2"})]))}), "with another label"
    assert pool != FleetPool.of({"x": Part(few, 2)})
    assert pool != few


@given(seeds)
def test_rows_are_told_apart_by_service(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(4):
        pool = drawn(rng)
        rows = np.flatnonzero(rng.random(len(pool)) < rng.choice([0.1, 0.9]))
        found = {name: rows[cut].tolist() for name, cut in pool.by_service(rows)}
        mine = {name: [row for row in rows.tolist() if row in range(len(pool))[pool.rows(name)]] for name in pool.names}
        assert found == {name: some for name, some in mine.items() if some}


@given(seeds)
def test_a_target_is_found_in_another_pool_by_its_id_in_the_fleet_and_what_was_known_of_it_with_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(6):
        before = drawn(rng)
        after = before if rng.random() < 0.1 else drawn(rng, before)
        pairs: list[tuple[TargetPool, TargetPool]] = [(before, after)]
        names = sorted(before.parts.keys() & after.parts.keys())
        pairs += [(before.parts[name].pool, after.parts[name].pool) for name in names]
        pairs += [(before.parts[name].pool, after) for name in names] + [(before, after.parts[name].pool) for name in names]
        for then, now in pairs:
            place_of = {one: row for row, one in enumerate(then.ids.tolist())}
            expected = [place_of.get(one, len(then)) for one in now.ids.tolist()]
            between = rows_between(now, then)
            assert (between.tolist(), between.dtype.kind) == (expected, "i")
            count = np.arange(len(then), dtype=np.uint16)
            carried = carried_over(count, then, now, 7777)
            assert (carried.tolist(), carried.dtype) == (np.append(count, 7777)[expected].tolist(), count.dtype)
            pair = np.stack([count, count + 1], axis=1).astype(np.int32)
            assert carried_over(pair, then, now, -1).tolist() == np.append(pair, [[-1, -1]], axis=0)[expected].tolist()


@given(seeds)
def test_a_service_has_its_rows_of_a_placement_and_slices_of_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(3):
        pool = drawn(rng)
        whole = placed(rng, pool)
        cut, number = FleetShares(whole), range(len(whole.scrapers))
        assert part_of(whole, "nobody") is None
        for name in pool.names:
            part, rows = part_of(whole, name), pool.rows(name)
            assert part is not None
            assert part_of(part, name) is None, "that is no fleet"
            assert (part.pool, part.scrapers) == (pool.parts[name].pool, whole.scrapers)
            for of_part, of_all in ((part.owners, whole.owners), (part.loads, whole.loads), (part.wanted, whole.wanted)):
                assert (of_part is None) == (of_all is None)
                assert of_part is None or of_all is None or of_part.tolist() == of_all[rows].tolist()
            alone = shares(part)
            assert [cut.of(i, name).tolist() for i in number] == [alone.of(i).tolist() for i in number]
            assert cut.bodies(number, name) == [cut.body(i, name) for i in number] == [alone.body(i) for i in number]


def cells(placement: Placement, service: str) -> dict[str, set[tuple[int, ...]]]:
    """By scraper: which targets of a service it owns, as the how manieth owner."""
    part, found = part_of(placement, service), defaultdict[str, set[tuple[int, ...]]](set)
    assert part is not None
    for row, column in np.argwhere(part.owners >= 0).tolist():
        found[placement.scrapers[part.owners[row, column]].id].add((row, column))
    return found


@given(seeds)
def test_what_is_said_to_be_as_before_is_and_what_is_not_is_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(6):
        before = placed(rng, drawn(rng))
        assert isinstance(before.pool, FleetPool)
        pool = before.pool if rng.random() < 0.2 else drawn(rng, before.pool)
        after = placed(rng, pool, before)
        had, has = FleetShares(before), FleetShares(after)
        numbers = {s.id: i for i, s in enumerate(before.scrapers)}
        was = np.array([numbers.get(s.id, -1) for s in after.scrapers])
        for name in pool.names:
            there = before.pool.parts.get(name)
            bodies = [has.body(i, name) for i in range(len(was))]
            known = [i >= 0 and there is not None and had.body(i, name) == bodies[n] for n, i in enumerate(was.tolist())]
            assert has.unchanged(had, was, name).tolist() == known
            same_list = there is not None and there.pool is pool.parts[name].pool
            alike = same_list and before.scrapers == after.scrapers and cells(before, name) == cells(after, name)
            assert same_owners(before, after, name) == same_owners(after, before, name) == alike
            others = touched(before, after, name)
            assert (others is None) == (not same_list or before.owners.shape[1] != after.owners.shape[1])
            if others is not None:
                then, now = cells(before, name), cells(after, name)
                new = {i for i, s in enumerate(after.scrapers) if s.id not in numbers}
                changed = {i for i, s in enumerate(after.scrapers) if then[s.id] != now[s.id]}
                assert others - {-1} == new | changed


def test_of_a_placement_of_one_list_or_of_a_service_that_is_gone_nothing_is_said_to_be_as_before() -> None:
    pool = pool_of([TargetGroup.of([f"t{n}:1" for n in range(4)])])
    owners = np.zeros((4, 1), dtype=np.int32)
    alone, fleet, none = (
        Placement(SCRAPERS[:2], some, owners[: len(some)])
        for some in (pool, FleetPool.of({"x": Part(pool)}), FleetPool.of({}))
    )
    for one, other in ((alone, fleet), (fleet, alone), (fleet, none), (none, fleet), (alone, alone), (none, none)):
        assert not same_owners(one, other, "x")
        assert touched(one, other, "x") is None
    unchanged = FleetShares(fleet).unchanged(FleetShares(none), np.array([0, 1]), "x")
    assert (unchanged.tolist(), unchanged.dtype) == ([False, False], np.dtype(np.bool_))
    assert FleetShares(fleet).body(1, "x") == EMPTY_BODY
    renamed = replace(fleet, scrapers=SCRAPERS[1:3])
    assert (same_owners(fleet, fleet, "x"), same_owners(fleet, renamed, "x")) == (True, False)
    assert touched(fleet, fleet, "x") == set()
    relabelled = pool_of([TargetGroup.of([f"t{n}:1" for n in range(4)], {"v": "1"})])
    assert not same_owners(fleet, replace(fleet, pool=FleetPool.of({"x": Part(relabelled)})), "x"), "other bytes"


@given(seeds)
def test_columns_of_nobody_at_the_end_make_no_other_owners(seed: int) -> None:
    """A service with more owners a target widens the table of all."""
    rng = np.random.default_rng(seed)
    for _ in range(4):
        one = placed(rng, drawn(rng))
        assert isinstance(one.pool, FleetPool)
        if rng.random() < 0.3:
            one.owners[:] = -1
        nobody = np.full((len(one.pool), int(rng.integers(1, 3))), -1, dtype=np.int32)
        wider, other = (replace(one, owners=np.hstack([one.owners, nobody])) for _ in range(2))
        where = rng.random(len(one.pool)) < 0.2
        other.owners[where, -1] = 0
        for name in one.pool.names:
            assert same_owners(one, wider, name)
            assert same_owners(wider, one, name)
            alike = not where[one.pool.rows(name)].any()
            assert same_owners(one, other, name) == same_owners(other, one, name) == same_owners(wider, other, name) == alike
