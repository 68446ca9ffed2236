"""Placing while some scrapers are held: they keep what they had, and get nothing new; everything else goes to others."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from promring.core.admission import NOBODY_ASIDE, Aside
from promring.core.aside import _give_back, _within, place_around
from promring.core.claims import NO_CLAIMS, Claims
from promring.core.evidence import Evidence, Handover
from promring.core.handover import schedule
from promring.core.joined import FleetPool, Part, salt_of
from promring.core.placement import Policy, place
from promring.core.pool import pool_of
from promring.core.ring import Ring
from promring.model import Members, Placement, Scraper, TargetGroup, TargetPool

EIGHT: Members = tuple(Scraper(f"{c}:1", c, 1) for c in "abcdefgh")
POOL: TargetPool = pool_of((TargetGroup.of([f"t{n}:1" for n in range(400)]),))


def ring(members: Members) -> Ring:
    return Ring(members, 64)


def claimed(placed: Placement, at: float = 0.0) -> Claims:
    return schedule(placed, NO_CLAIMS, Evidence(), Handover(0.0, confirm=False), at)[0]


def owned(placed: Placement, scraper: str) -> set[int]:
    index = [s.id for s in placed.scrapers].index(scraper)
    return set(np.flatnonzero((placed.owners == index).any(axis=1)).tolist())


@given(st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=4), st.sampled_from("abcdefgh"), st.integers(1, 3))
def test_those_aside_keep_what_they_had_and_get_nothing_new(held: set[str], died: str, replicas: int) -> None:
    held -= {died}
    policy = Policy(64, replication_factor=replicas)
    before = place(POOL, ring(EIGHT), policy)
    left = tuple(s for s in EIGHT if s.host != died)
    aside = Aside(frozenset(f"{c}:1" for c in held), 1.0)
    after = place_around(POOL, ring(left), ring(left), policy, aside, claimed(before))
    for name in aside.scrapers:
        assert owned(after, name) == owned(before, name)
    assert (after.owners >= 0).all(), "everything has its owners"
    assert all(len(set(row)) == replicas for row in after.owners.tolist()), "different ones"


def test_what_came_to_them_while_others_were_missing_is_not_theirs() -> None:
    policy = Policy(64)
    before = place(POOL, ring(EIGHT), policy)
    early = claimed(before, 0.0)
    seven = place(POOL, ring(EIGHT[:7]), policy)
    late, _ = schedule(seven, early, Evidence(), Handover(0.0, confirm=False), 10.0)
    aside = Aside(frozenset({"g:1"}), 10.0)
    after = place_around(POOL, ring(EIGHT[:7]), ring(EIGHT[:7]), policy, aside, late)
    assert owned(after, "g:1") == owned(before, "g:1") != owned(seven, "g:1")


def test_capacity_is_kept_and_what_has_no_room_waits() -> None:
    policy = Policy(64, load_factor=None, capacity=60)
    before = place(POOL, ring(EIGHT), policy)
    aside = Aside(frozenset(s.id for s in EIGHT[:3]), 1.0)
    after = place_around(POOL, ring(EIGHT[:7]), ring(EIGHT[:7]), policy, aside, claimed(before))
    assert max(after.counts().values()) <= 60
    assert all(owned(after, name) == owned(before, name) for name in aside.scrapers)


def test_with_nobody_aside_or_nobody_else_it_is_the_usual_placement() -> None:
    policy = Policy(64)
    usual = place(POOL, ring(EIGHT), policy)
    other = claimed(place(POOL, ring(EIGHT[:5]), policy))
    for aside in (NOBODY_ASIDE, Aside(frozenset(s.id for s in EIGHT), 1.0)):
        for had in (NO_CLAIMS, other):
            assert (place_around(POOL, ring(EIGHT), ring(EIGHT), policy, aside, had).owners == usual.owners).all()
    short = Policy(64, load_factor=None, capacity=40)
    wanted = place(POOL, ring(EIGHT), short)
    assert (place_around(POOL, ring(EIGHT), ring(EIGHT), short, aside, claimed(usual)).owners == wanted.owners).all()


FLEET = FleetPool.of({name: Part(POOL, replicas=2, salt=salt_of("main", name)) for name in ("db", "node")})


@given(st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=4), st.sets(st.integers(0, 399)))
def test_who_refuses_a_service_keeps_what_it_has_of_it_gets_no_more_and_all_of_the_others(
    who: set[str], lost: set[int]
) -> None:
    policy = Policy(64)
    usual = place(FLEET, ring(EIGHT), policy)
    db = np.arange(*FLEET.rows("db").indices(len(FLEET)))
    has = np.delete(FLEET.ids[db], sorted(lost))
    refused = {("db", f"{c}:1"): has for c in who}
    after = place_around(FLEET, ring(EIGHT), ring(EIGHT), policy, NOBODY_ASIDE, NO_CLAIMS, refused)
    kept = set(db.tolist()) - set(db[sorted(lost)].tolist())
    for scraper in EIGHT:
        mine, before = owned(after, scraper.id), owned(usual, scraper.id)
        if scraper.host in who:
            assert mine & set(db.tolist()) == before & kept
            assert mine - set(db.tolist()) == before - set(db.tolist())
        else:
            assert mine >= before, "what others have stays there"
    assert (after.owners >= 0).all(), "everything has its owners"
    assert all(len(set(row)) == 2 for row in after.owners.tolist()), "different ones"


def test_who_is_aside_gets_nothing_new_also_when_the_only_other_one_refuses_a_service() -> None:
    policy, two = Policy(64), EIGHT[:2]
    usual = place(FLEET, ring(two), Policy(64))
    aside, refused = Aside(frozenset({"a:1"}), 1.0), {("db", "b:1"): FLEET.ids[:0]}
    after = place_around(FLEET, ring(two), ring(two), policy, aside, NO_CLAIMS, refused)
    assert owned(usual, "a:1")
    assert not owned(after, "a:1")
    assert owned(after, "b:1") == set(range(len(FLEET))), "it takes the other service, and nobody else is there for this one"


def test_each_of_all_scrapers_may_refuse_another_service() -> None:
    policy, two = Policy(64), EIGHT[:2]
    fleet = FleetPool.of({name: Part(POOL, salt=salt_of("main", name)) for name in ("db", "node")})
    refused = {("db", "a:1"): fleet.ids[:0], ("node", "b:1"): fleet.ids[:0]}
    after = place_around(fleet, ring(two), ring(two), policy, NOBODY_ASIDE, NO_CLAIMS, refused)
    assert owned(after, "a:1") == set(np.arange(*fleet.rows("node").indices(len(fleet))).tolist())
    assert owned(after, "b:1") == set(np.arange(*fleet.rows("db").indices(len(fleet))).tolist())


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_small_fleets_in_every_shape_keep_what_the_held_had_and_nobody_else_gets_too_much(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(4):
        check(rng)


def check(rng: np.random.Generator) -> None:
    count, replicas = int(rng.integers(3, 6)), int(rng.integers(1, 3))
    members = tuple(replace(s, weight=float(rng.choice([1.0, 1.0, 2.0]))) for s in EIGHT[:count])
    parts = {name: Part(some(int(rng.integers(1, 14))), n, salt_of("main", name)) for name, n in (("x", replicas), ("y", 1))}
    pool = FleetPool.of(parts)
    shall = np.repeat([replicas, 1], [len(part.pool) for part in parts.values()])
    loads = rng.integers(1, 5, len(pool)) if rng.random() < 0.5 else None
    total = len(pool) + len(parts["x"].pool) * (replicas - 1) if loads is None else int((loads * shall).sum())
    capacity = total / sum(s.weight for s in members) * rng.uniform(1.0, 1.8) if rng.random() < 0.7 else None
    policy = Policy(64, load_factor=None, capacity=capacity, replication_factor=replicas)
    before, left = place(pool, ring(members), policy, loads), members[:-1]
    aside = Aside(frozenset(s.id for s in left if rng.random() < 0.4), 1.0)
    had = {name: owned(before, name) for name in aside.scrapers}
    after = place_around(pool, ring(left), ring(members), policy, aside, claimed(before), loads=loads)
    others = [s.id for s in left if s.id not in aside.scrapers]
    assert all((row[n:] < 0).all() for row, n in zip(after.owners, shall.tolist(), strict=True))
    for row, owners in enumerate(after.owners.tolist()):
        names = [left[i].id for i in owners if i >= 0]
        assert len(set(names)) == len(names)
        holders = [name for name in aside.scrapers if row in had[name]]
        if others:
            assert set(names) & aside.scrapers <= set(holders)
            assert len(set(names) & aside.scrapers) == min(len(holders), int(shall[row]))
        if others and capacity is None:
            assert len(names) == min(int(shall[row]), len(others) + len(holders))
    for scraper, carried, held in zip(left, after.carried().values(), after.counts().values(), strict=True):
        if capacity is not None and scraper.id in others:
            assert carried <= int(capacity * scraper.weight) or held == 1


@cache
def some(count: int) -> TargetPool:
    return pool_of((TargetGroup.of([f"t{n}:1" for n in range(count)]),))


def test_who_gets_more_than_it_may_gives_back_the_last_rows_of_what_it_newly_got_and_no_more() -> None:
    owners = np.array([[0], [1], [0], [0], [0], [1], [0]], dtype=np.int32)
    new = np.array([[True], [True], [True], [False], [True], [False], [True]])

    def left(limits: list[int], loads: list[int] | None = None) -> list[int]:
        found = owners.copy()
        _within(found, new, limits, None if loads is None else np.array(loads))
        column: list[int] = found[:, 0].tolist()
        return column

    assert left([5, 2]) == [0, 1, 0, 0, 0, 1, 0]
    assert left([4, 2]) == [0, 1, 0, 0, 0, 1, -1]
    assert left([3, 2]) == [0, 1, 0, 0, -1, 1, -1]
    assert left([3, 1]) == [0, -1, 0, 0, -1, 1, -1]
    assert left([0, 2]) == [-1, 1, -1, 0, -1, 1, -1]
    assert left([11, 9], [1, 1, 4, 1, 3, 1, 2]) == [0, 1, 0, 0, 0, 1, 0]
    assert left([9, 9], [1, 1, 4, 1, 3, 1, 2]) == [0, 1, 0, 0, 0, 1, -1]
    assert left([8, 9], [1, 1, 4, 1, 3, 1, 2]) == [0, 1, 0, 0, -1, 1, -1]
    assert left([9, 9], [0, 0, 0, 0, 0, 0, 0]) == [0, 1, 0, 0, 0, 1, 0]


def test_who_refuses_and_is_not_there_any_more_changes_nothing() -> None:
    policy = Policy(64)
    refused = {("db", "gone:1"): FLEET.ids[:0]}
    found = place_around(FLEET, ring(EIGHT), ring(EIGHT), policy, NOBODY_ASIDE, NO_CLAIMS, refused)
    assert (found.owners == place(FLEET, ring(EIGHT), policy).owners).all()


def test_who_gets_back_what_it_had_takes_the_place_of_nobody_first_and_then_of_the_last_owner() -> None:
    owners = np.array([[1, -1], [1, 2], [1, 0], [1, -1], [3, 1], [1, 3], [3, 4], [1, 2]], dtype=np.int32)
    rows = np.array([True] * 7 + [False])
    wanted = np.array([2, 2, 2, 1, 2, 2, 2, 2], dtype=np.int32)
    expected = [[1, 0], [1, 0], [1, 0], [0, -1], [3, 0], [0, 3], [3, 4], [1, 2]]
    found = owners.copy()
    _give_back(found, 0, rows, [0, 3, 4], wanted)
    assert found.tolist() == expected
    found = owners.copy()
    _give_back(found, 0, rows, [0, 3, 4], None)
    assert found.tolist() == [*expected[:3], [1, 0], *expected[4:]]
