"""Make before break, in fake time: who holds on to what, and until when."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from promring.core.claims import NO_CLAIMS, TAKEN_MOST, Claims, Departed, Taken, with_seen
from promring.core.coverage import NO_IDS, Seen
from promring.core.evidence import Evidence, Handover
from promring.core.fragment import identities
from promring.core.handover import owned_now, schedule, waiting_for, without_room
from promring.core.placement import Policy, place
from promring.core.ring import Ring
from promring.core.room import Held, keeping
from promring.model import Members, Placement, Scraper, TargetPool
from tests.laws.strategies import addresses, members, pool_of

OVERLAP = 30.0
POLICY = Handover(OVERLAP)
A, B, C = (Scraper(f"{name}:1", name, 1) for name in "abc")
NOTHING = Evidence()


def placed(pool: TargetPool, scrapers: Members, replicas: int = 1) -> Placement:
    return place(pool, Ring(scrapers, 16), Policy(16, 1.1, replication_factor=replicas))


def holders(placement: Placement) -> dict[str, set[str]]:
    ids = [s.id for s in placement.scrapers]
    return {
        name: {ids[i] for i in row if i >= 0}
        for name, row in zip(identities(placement.pool), placement.owners.tolist(), strict=True)
    }


def sees(placement: Placement, scraper: Scraper, at: float, *, asked_at: float | None = None, up: bool = True) -> Seen:
    """``scraper`` asks everything that the placement gives it."""
    ids = np.sort(placement.pool.ids[(placement.owners == placement.scrapers.index(scraper)).any(axis=1)])
    return Seen(at, ids, np.full(len(ids), at if asked_at is None else asked_at), np.full(len(ids), up), interval_s=5.0)


def taken(at: float, *scrapers: Scraper) -> dict[tuple[str, str], Taken]:
    """They took their slices then, with all that was decided until then."""
    return {("", s.id): Taken().and_then(at, at) for s in scrapers}


def moving(policy: Handover = POLICY) -> tuple[Claims, Placement, Placement]:
    """C joins A and B at 10: the claims then, what was wanted, what is."""
    pool = pool_of([f"t{n}:1" for n in range(40)])
    two, three = placed(pool, (A, B)), placed(pool, (A, B, C))
    claims, now = schedule(two, NO_CLAIMS, NOTHING, policy, 0.0)
    assert (claims.held, now) == (0, two)
    claims, now = schedule(three, claims, NOTHING, policy, 10.0)
    return claims, two, three


def held(three: Placement, claims: Claims, evidence: Evidence, at: float, policy: Handover = POLICY) -> int:
    return schedule(three, claims, evidence, policy, at)[0].held


def test_a_moved_target_stays_until_the_new_owner_scrapes_it() -> None:
    claims, two, three = moving()
    was, wanted = holders(two), holders(three)
    _, now = schedule(three, claims, NOTHING, POLICY, 10.0)
    assert holders(now) == {name: was[name] | wanted[name] for name in was}
    assert claims.held == sum(was[name] != wanted[name] for name in was) > 0
    assert waiting_for(claims, three) == {A.id, B.id, C.id}
    assert waiting_for(NO_CLAIMS, three) == set()
    good = Evidence({s.id: sees(three, s, 12.0) for s in (A, B, C)}, taken(11.0, A, B, C))
    claims, now = schedule(three, claims, good, POLICY, 13.0)
    assert (claims.held, holders(now)) == (0, wanted)


def test_what_proves_that_a_new_owner_scrapes() -> None:
    claims, two, three = moving()
    all_of_it, olds = claims.held, {s.id: sees(two, s, 15.0) for s in (A, B)}

    def after(c: Seen | None, took: float | None, silent: tuple[str, ...] = (), at: float = 16.0) -> int:
        seen = olds if c is None else {**olds, C.id: c}
        return held(three, claims, Evidence(seen, taken(11.0, A, B) | (taken(took, C) if took else {}), silent), at)

    assert after(sees(three, C, 15.0), 11.0) == 0
    assert after(sees(three, C, 15.0, asked_at=9.0), 11.0) == all_of_it, "scraped before it was given them"
    assert after(sees(three, C, 15.0), None) == all_of_it, "it has not taken its slice: that was an older one"
    assert after(sees(three, C, 21.0), None, at=22.0) == 0, "no older one can be applied that late"
    assert after(sees(three, C, 15.0), 15.5) == all_of_it, "seen before it took its slice"
    assert after(sees(three, C, 15.0, up=False), 11.0) == all_of_it, "it fails what the old owner reaches"
    assert after(sees(three, C, 15.0, up=False), 11.0, at=5000.0) == all_of_it, "and goes on doing so"
    assert after(None, 11.0, (C.id,), at=5000.0) == all_of_it, "it does not answer"
    assert after(None, None, at=5000.0) == all_of_it, "nobody knows whether it has its slice"
    assert after(sees(three, C, 15.0), 11.0, (C.id,)) == all_of_it, "it did, and does not any more"


def test_what_the_old_owner_fails_or_drops_needs_no_success() -> None:
    claims, two, three = moving()
    failing = {s.id: sees(two, s, 15.0, up=False) for s in (A, B)}
    c = sees(three, C, 15.0, up=False)
    assert held(three, claims, Evidence(failing | {C.id: c}, taken(11.0, A, B, C)), 16.0) == 0
    nothing = np.empty(0, dtype=np.uint64)
    dropping = {
        s.id: Seen(15.0, nothing, np.empty(0), np.empty(0, dtype=bool), dropped=np.sort(three.pool.ids)) for s in (A, B, C)
    }
    assert held(three, claims, Evidence(dropping, taken(11.0, A, B, C)), 16.0) == 0
    scraping = {s.id: sees(two, s, 15.0) for s in (A, B)} | {C.id: dropping[C.id]}
    assert held(three, claims, Evidence(scraping, taken(11.0, A, B, C)), 16.0) == claims.held, "only the new one drops them"


def test_who_was_called_dead_and_comes_back_holds_what_nobody_else_scrapes_yet() -> None:
    pool = pool_of([f"t{n}:1" for n in range(40)])
    three, two = placed(pool, (A, B, C)), placed(pool, (A, B))
    claims, _ = schedule(three, NO_CLAIMS, NOTHING, POLICY, 0.0)
    departed = Departed().and_then(claims, {A.id, B.id}, 10.0)
    left, _ = schedule(two, claims, NOTHING, POLICY, 10.0)
    drained = placed(pool, (A, B, replace(C, weight=0.0)))
    before = departed.back(left, {A.id, B.id, C.id}, 14.0)
    mine = len([name for name, who in holders(three).items() if C.id in who])
    unseen, _ = schedule(drained, before, NOTHING, POLICY, 14.0)
    assert unseen.held == mine > 0, "it never stopped scraping them, and nobody else has begun"
    seen = Evidence({s.id: sees(drained, s, 13.0) for s in (A, B)}, taken(11.0, A, B))
    assert schedule(drained, before, seen, POLICY, 14.0)[0].held == 0, "others scrape them since it was called dead"
    assert not Departed().and_then(claims, {A.id, B.id}, 10.0).and_then(left, {A.id, B.id}, 1000.0).left, "long ago"


def test_a_new_leader_lets_hold_what_relabelling_drops_and_not_what_was_not_seen() -> None:
    claims, two, _ = moving()
    a, b = (sees(two, scraper, 20.0) for scraper in (A, B))
    nothing, flags = np.empty(0), np.empty(0, dtype=bool)
    dropping = replace(a, ids=a.ids[:0], scraped_at=nothing, up=flags, dropped=a.ids)
    assert with_seen(claims, {A.id: dropping, B.id: b}, two.pool).held == claims.held
    one = replace(dropping, dropped=a.ids[:1])
    assert with_seen(claims, {A.id: one, B.id: b}, two.pool).held == claims.held, "it has none: it has just started"
    some = replace(one, ids=a.ids[1:2], scraped_at=a.scraped_at[1:2], up=a.up[1:2])
    assert 0 < with_seen(claims, {A.id: some, B.id: b}, two.pool).held < claims.held


def test_what_was_never_asked_is_no_try_after_a_restart_either() -> None:
    """A remembered claim begins at minus infinity, and so does a target that was never asked."""
    claims, two, three = moving()
    remembered = replace(claims, since=np.full(len(claims), -np.inf))
    never = replace(sees(three, C, 15.0, up=False), scraped_at=np.full(three.counts()[C.id], -np.inf))
    failing = {s.id: sees(two, s, 15.0, up=False) for s in (A, B)}
    evidence = Evidence(failing | {C.id: never}, taken(11.0, A, B, C))
    assert held(three, remembered, evidence, 16.0) == claims.held


def test_time_alone_is_enough_where_nothing_can_be_seen() -> None:
    claims, two, three = moving()
    olds = {s.id: sees(two, s, 15.0) for s in (A, B)}
    known = Evidence(olds, taken(20.0, A, B, C))
    for at in (20.0, 49.9):
        assert held(three, claims, known, at) == claims.held
    assert held(three, claims, known, 50.0) == 0, "overlap after it took its slice"
    later, _ = schedule(three, claims, known, POLICY, 21.0)
    assert later.ends_next == 50.0, "and the loop is told when to look again"
    slow = {name: replace(one, interval_s=60.0) for name, one in olds.items()}
    assert held(three, claims, Evidence(slow, taken(20.0, A, B, C)), 149.9) == claims.held, "the interval is longer"
    assert held(three, claims, Evidence(slow, taken(20.0, A, B, C)), 150.0) == 0
    assert held(three, claims, Evidence({}, taken(20.0, A, B, C)), 149.9) == claims.held, "unknown: Prometheus' default"


def test_time_does_not_run_while_the_new_owner_does_not_answer() -> None:
    """A replay that has just ended: it answers, and what it does cannot be seen yet."""
    claims, two, three = moving()
    olds = {s.id: sees(two, s, 15.0) for s in (A, B)}
    known = Evidence(olds, taken(20.0, A, B, C), answering={A.id: 1.0, B.id: 1.0, C.id: 90.0})
    assert held(three, claims, known, 119.9) == claims.held
    assert held(three, claims, known, 120.0) == 0


def test_without_confirmation_only_time_counts() -> None:
    policy = Handover(30.0, confirm=False)
    claims, _, three = moving(policy)
    assert held(three, claims, NOTHING, 5000.0, policy) == claims.held, "it has not taken its slice"
    known = Evidence({}, taken(20.0, A, B, C))
    assert (held(three, claims, known, 49.9, policy), held(three, claims, known, 50.0, policy)) == (claims.held, 0)


def test_a_slice_that_changes_all_the_time_does_not_keep_a_hand_over_waiting() -> None:
    claims, _, three = moving()
    history = Taken()
    for at in range(11, 60):
        history = history.and_then(at, at)
    known = Evidence({A.id: sees(three, A, 1.0)}, dict.fromkeys((("", A.id), ("", B.id), ("", C.id)), history))
    assert held(three, claims, known, 41.0) == 0, "30 s after the first that had it"
    for at in range(60, 5000):
        history = history.and_then(at, at)
    assert len(history.ats) <= TAKEN_MOST
    assert 11 <= history.since(np.array([10.0]))[0] < 3000, "some of the older ones are forgotten, and none counts too early"


def test_a_dead_owner_is_not_waited_for_and_a_gone_target_not_held() -> None:
    pool = pool_of([f"t{n}:1" for n in range(40)])
    claims, _ = schedule(placed(pool, (A, B, C)), NO_CLAIMS, NOTHING, POLICY, 0.0)
    alone = placed(pool, (A,))
    dead, now = schedule(alone, claims, NOTHING, POLICY, 1.0)
    assert (dead.held, holders(now)) == (0, holders(alone))
    fewer = placed(pool_of([f"t{n}:1" for n in range(20)]), (A, B))
    _, now = schedule(fewer, claims, NOTHING, POLICY, 1.0)
    assert len(now.pool) == 20


def test_no_overlap_is_no_hand_over() -> None:
    claims, _, _ = moving(Handover(0.0))
    assert claims.held == 0


def test_a_drained_scraper_holds_everything_until_it_is_taken_over() -> None:
    pool = pool_of([f"t{n}:1" for n in range(40)])
    claims, _ = schedule(placed(pool, (A, B)), NO_CLAIMS, NOTHING, POLICY, 0.0)
    off = replace(B, weight=0.0)
    drained = placed(pool, (A, off))
    claims, now = schedule(drained, claims, NOTHING, POLICY, 1.0)
    assert all(A.id in owners for owners in holders(now).values())
    assert claims.held == sum(B.id in owners for owners in holders(now).values()) > 0
    evidence = Evidence({A.id: sees(drained, A, 3.0)}, taken(2.0, A))
    _, now = schedule(drained, claims, evidence, POLICY, 4.0)
    assert all(owners == {A.id} for owners in holders(now).values())


def test_what_has_no_room_stays_with_a_live_scraper_that_has_it() -> None:
    pool, policy = pool_of([f"t{n}:1" for n in range(30)]), Policy(16, 1.1, capacity=15)
    before = place(pool, Ring((A, B, C), 16), policy)
    claims, now = schedule(before, NO_CLAIMS, NOTHING, POLICY, 0.0)
    after = place(pool, Ring((A, replace(B, weight=0.0), replace(C, weight=0.0)), 16), policy)
    lacking = len(after.unplaced())
    assert lacking == 15
    room = np.array([15, 15, 15])
    for at in (1.0, 500.0):
        evidence = Evidence({A.id: sees(now, A, at)}, taken(at - 0.5, A, B, C))
        claims, now = schedule(after, claims, evidence, POLICY, at + 0.5, capacities=room)
    assert all(holders(now).values()), "nothing that a live scraper has is dropped"
    assert holders(owned_now(claims, after)) == holders(now), "and this is what is shown"
    gone = replace(claims, until=np.where(claims.scrapers == 1, 600.0, claims.until))
    assert sum(not who for who in holders(owned_now(gone, after)).values()) == without_room(claims, after)[B.id]
    assert owned_now(claims, before) is before
    stuck = without_room(claims, after)
    assert stuck[B.id] + stuck[C.id] == lacking
    assert max(now.counts().values()) <= 15, "within its own capacity"
    tight, _ = schedule(after, claims, NOTHING, POLICY, 501.0, capacities=np.array([15, 3, 15]))
    assert without_room(tight, after)[B.id] <= 3


def test_of_two_who_could_keep_what_has_no_room_the_one_who_had_it_first_does() -> None:
    pool = pool_of(["t:1"])
    nobody = replace(placed(pool, (A, B)), owners=np.full((1, 1), -1, dtype=np.int32))
    rows, scrapers, most = np.array([0, 0]), np.array([0, 1], dtype=np.int32), np.array([1, 1])
    no = np.zeros(2, dtype=bool)
    for since, kept in (([5.0, 1.0], [False, True]), ([1.0, 5.0], [True, False])):
        _, stays = keeping(nobody, Held(rows, scrapers, np.array(since), no, no, no, no, no), 1, most)
        assert stays.tolist() == kept, "a hand-over to the other one had just begun"
        _, stays = keeping(nobody, Held(rows, scrapers, np.array(since), ~no, ~no, no, no, no), 1, most)
        assert stays.tolist() == [True, False], "both are seen scraping it: each controller chooses the same one"


def test_where_room_is_short_a_plan_that_was_not_taken_takes_nothing_from_who_scrapes_it() -> None:
    """``a`` was given what is placed on it, and took none of it; it scrapes the other half, as an earlier leader said."""
    pool = pool_of([f"t{n}:1" for n in range(20)])
    wanted = place(pool, Ring((A,), 16), Policy(16, 1.1, capacity=10))
    mine = wanted.owners[:, 0] == 0
    ids = np.sort(pool.ids[~mine])
    sight = Seen(5.0, ids, np.full(10, 4.0), np.ones(10, dtype=bool), interval_s=5.0)
    planned, _ = schedule(wanted, NO_CLAIMS, NOTHING, POLICY, 0.0)
    claims, now = schedule(
        wanted, with_seen(planned, {A.id: sight}, pool), Evidence({A.id: sight}), POLICY, 6.0, capacities=np.array([10])
    )
    assert {name for name, who in holders(now).items() if who} == {identities(pool)[n] for n in np.flatnonzero(~mine)}
    assert without_room(claims, wanted) == {A.id: 10}


def test_of_two_who_hold_on_the_one_that_is_seen_without_it_lets_go() -> None:
    pool = pool_of(["t:1"])
    one = replace(placed(pool, (A, B, C)), owners=np.array([[2]], dtype=np.int32))
    without = Seen(15.0, NO_IDS, NO_IDS.astype(float), NO_IDS.astype(bool))
    for first, stays in ((0, 1), (1, 0)):
        since = np.array([10.0, 10.0])
        since[first] = 5.0
        before = Claims(
            tuple(s.id for s in (A, B, C)), pool.ids[[0, 0]], np.array([0, 1], dtype=np.int32), since, np.array([50.0, 50.0])
        )
        _, now = schedule(one, before, NOTHING, POLICY, 20.0)
        assert holders(now)["t:1"] == {A.id, B.id, C.id}, "both, where nothing is known"
        evidence = Evidence({(A, B)[first].id: without})
        _, now = schedule(one, before, evidence, POLICY, 20.0)
        assert holders(now)["t:1"] == {C.id, (A, B)[stays].id}


def test_another_one_that_scrapes_it_counts_beside_an_owner_that_does_not() -> None:
    claims, two, three = moving()
    number = {s.id: i for i, s in enumerate(three.scrapers)}
    rows = np.flatnonzero((three.owners == number[C.id]).any(axis=1))
    helped = np.full((len(three.pool), 1), -1, dtype=np.int32)
    was = np.array([two.scrapers[i].id == B.id for i in two.owners[rows, 0]])
    helped[rows, 0] = np.where(was, number[A.id], number[B.id])
    tried = replace(three, owners=np.concatenate([three.owners, helped], axis=1))
    claims, _ = schedule(tried, claims, NOTHING, POLICY, 11.0)
    seen = {s.id: replace(sees(tried, s, 15.0)) for s in (A, B)} | {C.id: sees(three, C, 15.0, up=False)}
    assert held(tried, claims, Evidence(seen, taken(12.0, A, B, C)), 16.0) == 0


@settings(max_examples=60)
@given(addresses, st.lists(members(least=1, most=6), min_size=2, max_size=6), st.sampled_from([1, 2]), st.data())
def test_never_fewer_than_the_living_who_have_it_and_never_more_than_three_times_the_owners(
    names: list[str], fleets: list[Members], replicas: int, data: st.DataObject
) -> None:
    """I2, over any sequence of fleets, sights and waits: who had a target and lives keeps it until every new owner has
    been seen scraping it or its time is over, and nobody has it who neither owns it nor had it.
    """
    claims, now, pool = NO_CLAIMS, 0.0, pool_of(names)
    before: dict[str, set[str]] = {}
    known = Evidence()
    since: dict[tuple[str, str], float] = {}
    for fleet in fleets:
        now += data.draw(st.sampled_from([0.5, 5.0, 31.0]))
        wanted = placed(pool, fleet, replicas)
        live = {s.id for s in wanted.scrapers}
        claims, placement = schedule(wanted, claims, known, POLICY, now, replicas=replicas)
        after, owners = holders(placement), holders(wanted)
        for name in names:
            assert owners[name] <= after[name]
            assert after[name] - owners[name] <= before.get(name, set()) & live
            assert len(after[name]) <= 3 * max(replicas, len(owners[name]))
            lost = (before.get(name, set()) & live) - after[name]
            if lost and len(before[name] - owners[name]) <= len(owners[name]):
                over = all(now - since.get((name, who), now) >= OVERLAP for who in lost)
                proved = all(o in known.seen for o in owners[name])
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
                took = {("", scraper.id): known.taken.get(("", scraper.id), Taken()).and_then(now, now)}
                known = Evidence({**known.seen, scraper.id: sees(placement, scraper, now)}, {**known.taken, **took})
