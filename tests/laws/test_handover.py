"""Make before break, in fake time: who holds on to what, and until when."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from promring.core.handover import NO_CLAIMS, Handover, Receipt, schedule, waiting_for
from promring.core.placement import Policy, place
from promring.core.pool import identities
from promring.core.ring import Ring
from promring.model import Members, Placement, Scraper, TargetPool
from tests.laws.strategies import addresses, members, pool_of

OVERLAP = 30.0
POLICY = Handover(OVERLAP)
A, B, C = (Scraper(f"{name}:1", name, 1) for name in "abc")


def placed(pool: TargetPool, scrapers: Members, replicas: int = 1) -> Placement:
    return place(pool, Ring(scrapers, 16), Policy(16, 1.1, replication_factor=replicas))


def holders(placement: Placement) -> dict[str, set[str]]:
    ids = [s.id for s in placement.scrapers]
    return {
        name: {ids[i] for i in row if i >= 0}
        for name, row in zip(identities(placement.pool), placement.owners.tolist(), strict=True)
    }


def seen(placement: Placement, scraper: Scraper, at: float) -> dict[str, Receipt]:
    """``scraper`` scrapes everything that the placement gives it."""
    number = placement.scrapers.index(scraper)
    mine = (placement.owners == number).any(axis=1)
    return {scraper.id: Receipt(at, np.sort(placement.pool.ids[mine]))}


def test_a_moved_target_stays_until_the_new_owner_scrapes_it() -> None:
    pool = pool_of([f"t{n}:1" for n in range(40)])
    two, three = placed(pool, (A, B)), placed(pool, (A, B, C))
    claims, now = schedule(two, NO_CLAIMS, {}, POLICY, 0.0)
    assert (claims.held, now) == (0, two)
    claims, now = schedule(three, claims, {}, POLICY, 10.0)
    was, wanted = holders(two), holders(three)
    assert holders(now) == {name: was[name] | wanted[name] for name in was}
    moved = [name for name in was if was[name] != wanted[name]]
    assert claims.held == len(moved) > 0
    assert claims.ends_next == 40.0
    assert C.id in waiting_for(claims, three)
    assert waiting_for(NO_CLAIMS, three) == set()

    early = seen(three, C, 9.9)
    assert schedule(three, claims, early, POLICY, 11.0)[0].held == claims.held, "seen before it got them"
    receipts = {k: v for s in (A, B, C) for k, v in seen(three, s, 12.0).items()}
    claims, now = schedule(three, claims, receipts, POLICY, 13.0)
    assert (claims.held, holders(now)) == (0, wanted)


def test_without_a_receipt_it_stays_for_the_overlap_and_no_longer() -> None:
    pool = pool_of([f"t{n}:1" for n in range(40)])
    claims, _ = schedule(placed(pool, (A, B)), NO_CLAIMS, {}, POLICY, 0.0)
    claims, _ = schedule(placed(pool, (A, B, C)), claims, {}, POLICY, 10.0)
    held = claims.held
    for at in (15.0, 39.9):
        claims, _ = schedule(placed(pool, (A, B, C)), claims, {}, POLICY, at)
        assert (claims.held, claims.ends_next) == (held, 40.0)
    claims, now = schedule(placed(pool, (A, B, C)), claims, {}, POLICY, 40.0)
    assert (claims.held, holders(now)) == (0, holders(placed(pool, (A, B, C))))


def test_a_dead_owner_is_not_waited_for_and_a_gone_target_not_held() -> None:
    pool = pool_of([f"t{n}:1" for n in range(40)])
    claims, _ = schedule(placed(pool, (A, B, C)), NO_CLAIMS, {}, POLICY, 0.0)
    alone = placed(pool, (A,))
    dead, now = schedule(alone, claims, {}, POLICY, 1.0)
    assert (dead.held, holders(now)) == (0, holders(alone))
    fewer = placed(pool_of([f"t{n}:1" for n in range(20)]), (A, B))
    _, now = schedule(fewer, claims, {}, POLICY, 1.0)
    assert len(now.pool) == 20


def test_what_has_not_reached_its_new_owner_is_not_taken_from_the_old_one() -> None:
    pool = pool_of([f"t{n}:1" for n in range(40)])
    claims, _ = schedule(placed(pool, (A, B)), NO_CLAIMS, {}, POLICY, 0.0)
    three = placed(pool, (A, B, C))
    claims, _ = schedule(three, claims, {}, POLICY, 10.0)
    to_c = {name for name, owners in holders(three).items() if owners == {C.id}}
    late, now = schedule(three, claims, {}, POLICY, 500.0, [C.id])
    assert late.held == len(to_c)
    assert all(len(holders(now)[name]) == 2 for name in to_c)
    assert schedule(three, late, {}, POLICY, 501.0)[0].held == 0


def test_no_overlap_is_no_hand_over() -> None:
    pool = pool_of([f"t{n}:1" for n in range(40)])
    claims, _ = schedule(placed(pool, (A, B)), NO_CLAIMS, {}, Handover(0.0), 0.0)
    three = placed(pool, (A, B, C))
    claims, now = schedule(three, claims, {}, Handover(0.0), 1.0)
    assert (claims.held, holders(now)) == (0, holders(three))


def test_a_drained_scraper_holds_everything_until_it_is_taken_over() -> None:
    pool = pool_of([f"t{n}:1" for n in range(40)])
    claims, _ = schedule(placed(pool, (A, B)), NO_CLAIMS, {}, POLICY, 0.0)
    off = Scraper(B.id, B.host, B.port, weight=0.0)
    drained = placed(pool, (A, off))
    claims, now = schedule(drained, claims, {}, POLICY, 1.0)
    assert all(A.id in owners for owners in holders(now).values())
    assert claims.held == sum(B.id in owners for owners in holders(now).values()) > 0
    _, now = schedule(drained, claims, seen(drained, A, 2.0), POLICY, 3.0)
    assert all(owners == {A.id} for owners in holders(now).values())


@settings(max_examples=60)
@given(addresses, st.lists(members(least=1, most=6), min_size=2, max_size=6), st.sampled_from([1, 2]), st.data())
def test_never_fewer_than_the_living_who_have_it_and_never_more_than_twice_the_owners(
    names: list[str], fleets: list[Members], replicas: int, data: st.DataObject
) -> None:
    """I2, over any sequence of fleets, receipts and waits: who had a target and lives keeps it until every new owner has
    been seen scraping it or its time is over, and nobody has it who neither owns it nor had it.
    """
    claims, now, pool = NO_CLAIMS, 0.0, pool_of(names)
    before: dict[str, set[str]] = {}
    receipts: dict[str, Receipt] = {}
    since: dict[tuple[str, str], float] = {}
    for fleet in fleets:
        now += data.draw(st.sampled_from([0.5, 5.0, 31.0]))
        wanted = placed(pool, fleet, replicas)
        live = {s.id for s in wanted.scrapers}
        claims, placement = schedule(wanted, claims, receipts, POLICY, now)
        after, owners = holders(placement), holders(wanted)
        for name in names:
            assert owners[name] <= after[name]
            assert after[name] - owners[name] <= before.get(name, set()) & live
            assert len(after[name]) <= 2 * max(replicas, len(owners[name]))
            lost = (before.get(name, set()) & live) - after[name]
            if lost and len(before[name] - owners[name]) <= len(owners[name]):
                over = all(now - since.get((name, who), now) >= OVERLAP for who in lost)
                proved = all(o in receipts for o in owners[name])
                assert over or proved
        for name, who in itertools.product(names, live):
            if who in after[name] and who not in owners[name]:
                since.setdefault((name, who), now)
            else:
                since.pop((name, who), None)
        before = after
        now += 0.1
        for scraper in placement.scrapers:
            if data.draw(st.booleans()):
                receipts |= seen(placement, scraper, now)
