"""Placing while some scrapers are held: they keep what they had, and get nothing new; everything else goes to others."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.admission import NOBODY_ASIDE, Aside
from promring.core.aside import place_around
from promring.core.claims import NO_CLAIMS, Claims
from promring.core.handover import Evidence, Handover, schedule
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


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(200, 1500))
def test_capacity_is_kept_by_load_where_targets_have_one(seed: int, most: int, capacity: int) -> None:
    policy = Policy(64, load_factor=None, capacity=capacity)
    loads = np.random.default_rng(seed).integers(1, most, 400, endpoint=True)  # drawn one by one they took most of the time
    before = place(POOL, ring(EIGHT), policy, loads)
    aside = Aside(frozenset(s.id for s in EIGHT[:3]), 1.0)
    after = place_around(POOL, ring(EIGHT[:7]), ring(EIGHT[:7]), policy, aside, claimed(before), loads=loads)
    got = {s.id: load for s, load in zip(after.scrapers, after.carried().values(), strict=True)}
    assert max(load for name, load in got.items() if name not in aside.scrapers) <= capacity
    assert all(owned(after, name) == owned(before, name) for name in aside.scrapers)


def test_with_nobody_aside_or_nobody_else_it_is_the_usual_placement() -> None:
    policy = Policy(64)
    usual = place(POOL, ring(EIGHT), policy)
    for aside in (NOBODY_ASIDE, Aside(frozenset(s.id for s in EIGHT), 1.0)):
        assert (place_around(POOL, ring(EIGHT), ring(EIGHT), policy, aside, NO_CLAIMS).owners == usual.owners).all()


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
