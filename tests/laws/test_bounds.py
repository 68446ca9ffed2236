"""Laws of placement with weights, loads, capacity, replicas and zones, in any combination."""

from __future__ import annotations

import hashlib
import math
import os
import random
import subprocess
import sys
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promring.core.difference import compare
from promring.core.fragment import identities
from promring.core.placement import Policy, place
from promring.core.plan import bodies
from promring.core.pool import build_pool
from promring.core.preview import preview
from promring.core.ring import Ring
from promring.model import Loads, Members, Placement, PlacementError, Scraper, TargetGroup, TargetPool
from promring.web.views.plans import described
from tests.laws.strategies import pool_of
from tests.seeing import without_ids

ZONES = ["", "a", "b", "c"]


@dataclass(frozen=True)
class Case:
    """A fleet, its targets with the zones that they ask for, their loads, and how to place."""

    members: Members
    targets: tuple[tuple[str, str], ...]
    load_of: dict[str, int] | None
    policy: Policy

    def pool(self) -> TargetPool:
        groups = [TargetGroup.of([name], {"zone": zone} if zone else {}) for name, zone in self.targets]
        return build_pool([groups], zone_label="zone")

    def loads(self, pool: TargetPool) -> Loads | None:
        if self.load_of is None:
            return None
        return np.array([self.load_of[name] for name in identities(pool)], dtype=np.int64)

    def placed(self) -> Placement:
        pool = self.pool()
        return place(pool, Ring(self.members, self.policy.virtual_nodes), self.policy, self.loads(pool))

    @property
    def able(self) -> Members:
        return tuple(s for s in self.members if s.weight)


weights = st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.0, 3.0])


@st.composite
def cases(draw: st.DrawFn, *, plain: bool = False) -> Case:
    ports = sorted(draw(st.sets(st.integers(1, 65535), min_size=1, max_size=7)))
    members = tuple(Scraper(f"10.0.0.1:{p}", "10.0.0.1", p, draw(st.sampled_from(ZONES)), draw(weights)) for p in ports)
    if not any(s.weight for s in members):
        members = (*members[:-1], replace(members[-1], weight=1.0))
    hosts = sorted(draw(st.sets(st.integers(1, 4000), max_size=120)))
    asked = draw(st.sampled_from([["", "a", "b"], ["a", "zz"], [""], ["b"]]))
    targets = tuple((f"10.1.{h // 250}.{h % 250}:9100", draw(st.sampled_from(asked))) for h in hosts)
    heavy = st.sampled_from([0, 1, 1, 2, 5, 7, 7, 40, 1000, 10**6])
    load_of = {name: draw(heavy) for name, _ in targets} if draw(st.booleans()) else None
    policy = Policy(
        virtual_nodes=draw(st.sampled_from([1, 8, 64])),
        load_factor=None if plain else draw(st.sampled_from([None, 1.0, 1.1, 2.0])),
        capacity=None if plain else draw(st.sampled_from([None, None, 0.5, 5.0, 30.0, 2000.0])),
        replication_factor=draw(st.sampled_from([1, 1, 2, 3, 9])),
    )
    return Case(members, targets, load_of, policy)


def carried(placement: Placement) -> list[int]:
    return list(placement.carried().values())


@given(cases())
def test_owners_are_different_and_as_many_as_can_be(case: Case) -> None:
    placement = case.placed()
    wanted = min(case.policy.replication_factor, len(case.able))
    assert placement.owners.shape == (len(case.targets), wanted)
    able = {i for i, s in enumerate(placement.scrapers) if s.weight}
    for row in placement.owners.tolist():
        owners = [i for i in row if i >= 0]
        assert len(set(owners)) == len(owners)
        assert set(owners) <= able, "one of weight 0 gets nothing"
        assert len(owners) == wanted or case.policy.capacity is not None
    assert sum(count for _, _, count in bodies(placement)) == int((placement.owners >= 0).sum())
    assert sum(placement.counts().values()) == int((placement.owners >= 0).sum())


@given(cases())
def test_nobody_carries_more_than_its_limit_and_capacity_but_for_one_giant_alone(case: Case) -> None:
    placement = case.placed()
    if placement.limits is None:
        assert case.policy.load_factor is None
        assert case.policy.capacity is None
        return
    total = sum(carried(placement))
    for i, (scraper, load) in enumerate(zip(placement.scrapers, carried(placement), strict=True)):
        mine = np.flatnonzero((placement.owners == i).any(axis=1))
        heavy = mine if placement.loads is None else mine[placement.loads[mine] > 0]
        giant = len(heavy) == 1 and heavy[0] in placement.giants()
        heaviest = 1 if placement.loads is None else int(placement.loads[mine].max(initial=0))
        if case.policy.load_factor is not None and case.policy.replication_factor == 1 and case.policy.capacity is None:
            fair = case.policy.load_factor * total * scraper.weight / sum(s.weight for s in case.members)
            assert load <= fair + heaviest + 1 or giant
        if case.policy.capacity is not None and scraper.weight:
            assert load <= max(1, math.floor(case.policy.capacity * scraper.weight)) or giant


@given(cases(), st.booleans())
def test_what_has_no_owner_finds_no_room_anywhere(case: Case, tight: bool) -> None:
    if tight:  # just about enough for everybody
        total = sum(case.load_of.values()) if case.load_of else len(case.targets)
        owners = min(case.policy.replication_factor, len(case.able))
        capacity = max(1.0, total * owners / sum(s.weight for s in case.able))
        case = replace(case, policy=replace(case.policy, capacity=capacity))
    placement = case.placed()
    assert case.policy.capacity is not None or not placement.unplaced().size
    loads = placement.loads if placement.loads is not None else np.ones(len(placement.pool), dtype=np.int64)
    now = carried(placement)
    for row in placement.unplaced().tolist():
        for i, scraper in enumerate(placement.scrapers):
            if scraper.weight and i not in placement.owners[row]:
                assert case.policy.capacity is not None
                assert now[i] + loads[row] > max(1, math.floor(case.policy.capacity * scraper.weight))
                assert now[i] > 0, "nobody is idle while a target, however heavy, has no owner"


@given(cases())
def test_the_fair_share_is_kept_where_targets_count_one_and_have_one_owner(case: Case) -> None:
    policy = replace(case.policy, replication_factor=1, capacity=None, load_factor=1.1)
    placement = replace(case, policy=policy, load_of=None).placed()
    everybody = sum(s.weight for s in case.members)
    total = Fraction("1.1") * len(case.targets)
    assert placement.limits is not None
    assert int(placement.limits.sum()) == math.ceil(total), "together just what the factor says"
    for limit, scraper, load in zip(placement.limits.tolist(), placement.scrapers, carried(placement), strict=True):
        share = total * Fraction(scraper.weight) / Fraction(everybody)
        assert math.floor(share) <= limit <= math.ceil(share)
        assert load <= limit


@given(cases(), st.data())
def test_a_scraper_more_lowers_limits_and_raises_none_and_a_target_more_raises_one_or_two(
    case: Case, data: st.DataObject
) -> None:
    """Where all have one weight."""
    members = tuple(replace(s, weight=1.0) for s in case.members)
    policy = Policy(8, data.draw(st.sampled_from([1.0, 1.1, 2.0])))
    targets = tuple((name, "") for name, _ in case.targets)
    case = replace(case, members=members, targets=targets, load_of=None, policy=policy)
    more = replace(case, targets=(*targets, ("10.9.9.9:9100", "")))
    joined = replace(case, members=tuple(sorted([*members, Scraper("z:1", "z", 1)])))
    now, with_target, with_scraper = (one.placed() for one in (case, more, joined))
    assert now.limits is not None
    assert with_target.limits is not None
    assert with_scraper.limits is not None
    raised = with_target.limits - now.limits
    assert 0 <= raised.min() <= raised.max() <= math.ceil(float(policy.load_factor or 0))
    assert raised.sum() <= math.ceil(float(policy.load_factor or 0))
    limits = dict(zip((s.id for s in with_scraper.scrapers), with_scraper.limits.tolist(), strict=True))
    assert all(limits[s.id] <= limit for s, limit in zip(now.scrapers, now.limits.tolist(), strict=True))


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_targets_and_scrapers_does_not_matter(case: Case, rng: random.Random) -> None:
    members, targets = list(case.members), list(case.targets)
    rng.shuffle(members)
    rng.shuffle(targets)
    other = replace(case, members=tuple(members), targets=tuple(targets)).placed()
    assert [body for _, body, _ in bodies(case.placed())] == [body for _, body, _ in bodies(other)]


@given(cases(plain=True))
def test_zones_are_kept_as_far_as_there_are_scrapers(case: Case) -> None:
    placement = case.placed()
    zones = [s.zone for s in placement.scrapers]
    live = {s.zone for s in case.able}
    wanted = dict(case.targets)
    for name, row in zip(identities(placement.pool), placement.owners.tolist(), strict=True):
        assert len({zones[i] for i in row}) == min(len(row), len(live))
        if wanted[name] in live - {""}:
            assert zones[row[0]] == wanted[name]


@given(cases(plain=True))
def test_without_zones_the_replicas_are_the_first_in_the_rings_order(case: Case) -> None:
    members = tuple(replace(s, zone="") for s in case.members)
    case = replace(case, members=members, targets=tuple((name, "") for name, _ in case.targets))
    placement = case.placed()
    ring = Ring(members, case.policy.virtual_nodes)
    for key, row in zip(placement.pool.keys.tolist(), placement.owners.tolist(), strict=True):
        assert [placement.scrapers[i] for i in row] == ring.preference(key)[: len(row)]


@given(cases(), cases())
def test_moves_add_up(one: Case, other: Case) -> None:
    old, new = one.placed(), replace(other, load_of=None).placed()
    was, now = owner_sets(old), owner_sets(new)
    plan = compare(old, new)
    gained = sum(len(now[n] - was.get(n, set())) for n in now)
    lost = sum(len(was[n] - now[n]) for n in was if n in now)
    assert sum(m.count for m in plan.moves if m.destination is not None) == gained
    assert sum(m.count for m in plan.moves if m.source is not None) == lost
    assert compare(new, new).moves == ()


def owner_sets(placement: Placement) -> dict[str, set[str]]:
    ids = [s.id for s in placement.scrapers]
    return {
        name: {ids[i] for i in row if i >= 0}
        for name, row in zip(identities(placement.pool), placement.owners.tolist(), strict=True)
    }


@given(cases())
def test_the_plan_of_the_plans_own_outcome_is_empty_and_a_preview_can_be_told(case: Case) -> None:
    pool = case.pool()
    found = preview(pool, case.members, case.policy, loads=case.loads(pool))
    assert found.plan.moves == ()
    said = described(found)
    assert said.moved == 0
    assert said.fits.all is not bool(found.after.unplaced().size)


@given(cases(plain=True), st.data())
def test_on_a_plain_ring_a_leave_takes_from_the_leaver_only(case: Case, data: st.DataObject) -> None:
    case = replace(case, targets=tuple((name, "") for name, _ in case.targets))
    case = replace(case, members=tuple(replace(s, zone="") for s in case.members))
    if len(case.able) < 2:
        return
    leaver = data.draw(st.sampled_from(case.able))
    was, now = (
        owner_sets(case.placed()),
        owner_sets(replace(case, members=tuple(s for s in case.members if s != leaver)).placed()),
    )
    for name in was:
        assert was[name] - now[name] <= {leaver.id}


# --- numbers of the design --------------------------------------------------------------------------------------------


def fleet(size: int, zones: int = 0) -> Members:
    return tuple(Scraper(f"10.0.0.{i}:9090", f"10.0.0.{i}", 9090, f"z{i % zones}" if zones else "") for i in range(size))


def names(count: int) -> list[str]:
    return [f"10.2.{i // 250}.{i % 250}:9100" for i in range(count)]


@pytest.mark.parametrize("size", [3, 20])
def test_one_new_target_moves_few_others(size: int) -> None:
    """At most three on average, at 1.10: one more target, again and again."""
    ring, policy = Ring(fleet(size), 512), Policy()
    every = names(2200)
    moved = 0
    before = place(pool_of(every[:2000]), ring, policy)
    for count in range(2001, 2201):
        after = place(pool_of(every[:count]), ring, policy)
        moved += compare(before, after).moved
        before = after
    assert moved / 200 <= 3


def test_a_long_tail_of_loads_is_balanced_within_the_factor() -> None:
    pool = pool_of(names(10_000))
    loads = (np.random.default_rng(1).pareto(1.5, len(pool)) * 100 + 50).astype(np.int64)
    placement = place(pool, Ring(fleet(20), 512), Policy(), loads)
    mean = loads.sum() / 20
    assert loads.max() < mean, "nobody is too heavy"
    assert max(carried(placement)) <= 1.10 * mean + 1


@pytest.mark.parametrize("factor", [2, 3])
def test_replicas_leave_as_little_moving_as_one_owner_does(factor: int) -> None:
    pool, policy = pool_of(names(5000)), Policy(replication_factor=factor)
    before = place(pool, Ring(fleet(12, zones=3), 512), policy)
    share = before.counts()["10.0.0.3:9090"]
    after = place(pool, Ring(tuple(s for s in fleet(12, zones=3) if s.id != "10.0.0.3:9090"), 512), policy)
    assert compare(before, after).moved <= 1.6 * share


def test_weights_share_the_targets_out() -> None:
    members = tuple(replace(s, weight=[1.0, 2.0, 4.0][i]) for i, s in enumerate(fleet(3)))
    counts = place(pool_of(names(7000)), Ring(members, 512), Policy(512, 1.05)).counts()
    for scraper in members:
        assert counts[scraper.id] == pytest.approx(1000 * scraper.weight, rel=0.1)


def of_all_kinds() -> Placement:
    """Weights, loads, capacity, replicas and zones at once."""
    members = tuple(replace(s, weight=[1.0, 2.0, 0.5][i % 3]) for i, s in enumerate(fleet(12, zones=3)))
    groups = [TargetGroup.of([name], {"zone": f"z{i % 4}"}) for i, name in enumerate(names(3000))]
    pool = build_pool([groups], zone_label="zone")
    loads = (np.arange(len(pool), dtype=np.int64) * 7919) % 1000 + 1
    return place(pool, Ring(members, 512), Policy(512, 1.1, 300_000, 2), loads)


# Kept for ever: another digest is another placement for everyone who upgrades.
GOLDEN = "b1b6b784b243cfc582594e8a59fb0a98f86ce2efdb3e4b9a90a41ec14827ec58"


def test_slices_of_all_kinds_have_the_bytes_that_they_always_had_in_every_process() -> None:
    code = "from tests.laws.test_bounds import digest_of_all_kinds; print(digest_of_all_kinds())"
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == digest_of_all_kinds() == GOLDEN


def digest_of_all_kinds() -> str:
    return hashlib.sha256(b"".join(without_ids(body) for _, body, _ in bodies(of_all_kinds()))).hexdigest()


@given(cases(), st.data())
def test_searching_for_a_free_group_finds_what_hopping_finds(case: Case, data: st.DataObject) -> None:
    """Where free groups are rare the ring is searched, not walked: a zone that is nearly gone must not make it slow."""
    ring = Ring(case.members, case.policy.virtual_nodes)
    circle = ring.circle.grouped(data.draw(st.sampled_from([ring.zones, ring.circle.groups])))
    there = np.unique(circle.groups[circle.present])
    if len(there) < 2:
        return
    keys = np.sort(np.array(data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20)), dtype=np.uint64))
    free = there[data.draw(st.integers(0, len(there) - 1))]
    taken = np.tile(there[there != free][:3], (len(keys), 1)).astype(np.int32)
    found = []
    for hops in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("promring.core.ring.HOPS", hops)
            found.append(circle.past(circle.first(keys), taken).tolist())
    assert found[0] == found[1]


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, 101.0])
def test_a_weight_that_is_none_is_named(weight: float) -> None:
    with pytest.raises(PlacementError, match=r"bad:1: its weight must be from 0 to 100, not"):
        Ring((Scraper("bad:1", "bad", 1, weight=weight),), 8)


@pytest.mark.parametrize(
    "numbers",
    [
        {"load_factor": math.nan},
        {"load_factor": 0.9},
        {"load_factor": math.inf},
        {"load_factor": 1e300},
        {"capacity": 0.0},
        {"capacity": math.nan},
        {"capacity": math.inf},
        {"replication_factor": 0},
        {"virtual_nodes": 0},
    ],
)
def test_a_policy_that_is_none_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(PlacementError, match=next(iter(numbers))):
        Policy(**numbers)  # type: ignore[arg-type]


def test_nobody_to_place_on_is_an_error_that_says_so() -> None:
    pool = pool_of(["t:1"])
    with pytest.raises(PlacementError, match="without scrapers"):
        place(pool, Ring((), 8), Policy())
    with pytest.raises(PlacementError, match="weight 0"):
        place(pool, Ring((Scraper("a:1", "a", 1, weight=0.0),), 8), Policy())
    with pytest.raises(PlacementError, match="two scrapers have the id a:1"):
        Ring((Scraper("a:1", "a", 1), Scraper("a:1", "a", 1, "z")), 8)


def test_loads_that_are_none_are_named() -> None:
    pool, ring = pool_of(["t:1", "u:1"]), Ring(fleet(2), 8)
    with pytest.raises(PlacementError, match=r'"u:1".*: its load must be from 0 to \d+, not -1'):
        place(pool, ring, Policy(), np.where(np.array(identities(pool)) == "u:1", -1, 1).astype(np.int64))
    with pytest.raises(PlacementError, match="int64 of shape"):
        place(pool, ring, Policy(), np.array([1.0, math.nan]))
    with pytest.raises(PlacementError, match="int64 of shape"):
        place(pool, ring, Policy(), np.array([1], dtype=np.int64))


def test_a_million_equal_keys_are_placed_and_bounded() -> None:
    host = [TargetGroup.of([f"h:{p}" for p in range(1, 60_001)], {"host": "h", "n": str(n)}) for n in range(2)]
    pool = build_pool([host], hash_labels=("host", "n"))
    assert len(set(pool.keys.tolist())) == 2
    counts = place(pool, Ring(fleet(4), 64), Policy()).counts()
    assert max(counts.values()) <= math.ceil(1.1 * 120_000 / 4)
    one = TargetPool(np.zeros(10**6, dtype=np.uint64), *(np.arange(10**6, dtype=np.uint64),) * 2, b"", np.arange(10**6 + 1))
    assert max(place(one, Ring(fleet(4), 64), Policy()).counts().values()) <= math.ceil(1.1 * 10**6 / 4)
    assert sorted(place(one, Ring(fleet(4), 64), Policy(64, None)).counts().values()) == [0, 0, 0, 10**6]


def test_all_zones_empty_but_one_take_everything_there() -> None:
    members = tuple(replace(s, zone="only") for s in fleet(3))
    groups = [TargetGroup.of([name], {"zone": "gone"}) for name in names(300)]
    placement = place(build_pool([groups], zone_label="zone"), Ring(members, 64), Policy(64, replication_factor=2))
    assert (placement.owners >= 0).all()
    assert max(placement.counts().values()) <= math.ceil(1.1 * 600 / 3)
