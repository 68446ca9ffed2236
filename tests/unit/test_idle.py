"""Scrapers that do not have what they were given: when they are idle, for what, and when no more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from promring.core.claims import Claims, Taken
from promring.core.coverage import Seen
from promring.core.idle import (
    CANARIES,
    GIVEN_S,
    LASTS_S,
    TRIED,
    Idle,
    IdleJobs,
    Lacking,
    canaries,
    lacking,
    not_lacked_by_most,
    reached_elsewhere,
    sampled,
)
from promring.core.joined import FleetPool, Part, salt_of
from promring.core.placement import Policy, place
from promring.core.plan import rows_of
from promring.core.refusals import Refused, refused_now
from promring.core.ring import Ring
from promring.core.second_opinion import SecondOpinions
from promring.core.trials import AFTER, Bars, Trial, next_on_ring
from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.model import NEVER_ENDS, Failing, Keys, Placement, Scraper
from promring.telemetry import log
from tests.laws.strategies import pool_of
from tests.seeing import owned, seen_with

LOOK_S = 30.0
MEMBERS = tuple(Scraper(f"{name}:1", name, 1) for name in "abcd")
A, B, C, D = (s.id for s in MEMBERS)
RING = Ring(MEMBERS, 64)
PAIRS = {(service, s.id) for service in ("db", "node") for s in MEMBERS}
POOL = FleetPool.of(
    {
        name: Part(pool_of([f"{name}{n}:1" for n in range(count)]), 1, salt_of("f", name))
        for name, count in (("db", 40), ("node", 200))
    }
)
PLACED = place(POOL, RING, Policy(64))


def of_service(ids: Collection[int], service: str) -> set[int]:
    return set(ids) & set(POOL.ids[POOL.rows(service)].tolist())


class Fleet:
    """Four scrapers that have what their slices hold; ``without``: services that a scraper has no job for; ``dead``: ids
    that nobody reaches.
    """

    def __init__(self, placed: Placement = PLACED) -> None:
        self.placed, self.opinions, self.at = placed, SecondOpinions(), 1000.0
        self.without: dict[str, tuple[str, ...]] = {}
        self.dead: set[int] = set()
        self.unseen: set[tuple[str, str]] = set()
        self.holds: dict[str, set[int]] = {}
        """What a scraper still has from before, by id."""
        self.silent: set[str] = set()
        """Who does not answer."""
        self.strayed: set[str] = set()
        """Who has from elsewhere what it ``holds``: another controller gave it that."""
        self.more: dict[str, Mapping[str, object]] = {}
        """Attributes of what is seen of a scraper."""

    def has(self, placement: Placement, scraper: Scraper) -> set[int]:
        ids = set(owned(placement, scraper))
        for service in self.without.get(scraper.id, ()):
            ids -= of_service(ids, service)
        return ids

    def claims(self, in_force: Placement) -> Claims:
        """What the slices hold: who still has something from before holds on to it, but those who ``strayed``."""
        found = claims_of(in_force, 0.0)
        for name, ids in self.holds.items():
            more = np.array(sorted(ids if name not in self.strayed else ()), dtype=np.uint64)
            found = replace(
                found,
                ids=np.concatenate([found.ids, more]),
                scrapers=np.append(found.scrapers, np.full(len(more), found.names.index(name), dtype=np.int32)),
                since=np.append(found.since, np.zeros(len(more))),
                until=np.append(found.until, np.zeros(len(more))),
                made_in=None,
            )
        return found

    def looked(self, times: int = 1) -> SecondOpinions:
        for _ in range(times):
            self.at += LOOK_S
            in_force = self.opinions.applied(self.placed)
            seen = {}
            for scraper in MEMBERS:
                has = self.has(in_force, scraper) | self.holds.get(scraper.id, set())
                one = seen_with(has, self.at, down=self.dead)
                seen[scraper.id] = replace(one, **self.more.get(scraper.id, {}))  # type: ignore[arg-type]
            for name in self.silent:
                del seen[name]
            told = PAIRS - self.unseen
            taken = {pair: Taken((NEVER_ENDS,), (0.0,)) for pair in PAIRS}
            lacks = lacking(POOL, claims_of(in_force, 0.0), taken, seen, told)
            self.opinions = self.opinions.judged(self.placed, RING, seen, self.at, lacks, told, self.claims(in_force))
        return self.opinions


def claims_of(placement: Placement, since: float) -> Claims:
    rows, columns = np.nonzero(placement.owners >= 0)
    ids, owners = placement.pool.ids[rows], placement.owners[rows, columns]
    ends = np.full(len(rows), NEVER_ENDS)
    return Claims(tuple(s.id for s in placement.scrapers), ids, owners, np.full(len(rows), since), ends)


def test_others_get_all_that_a_scraper_without_the_job_had() -> None:
    fleet = Fleet()
    fleet.without = {A: ("db",)}
    lost = of_service(owned(PLACED, MEMBERS[0]), "db")
    assert len(lost) >= 3
    assert fleet.looked(1).trials == {}, "a server that just started answers before it has read its lists"
    assert fleet.looked(1).trials.keys() == lost, "they are few: others try all of them"
    opinions = fleet.looked(1)
    assert opinions.failing(fleet.at) == Failing(idle=(("db", A),))
    assert opinions.jobs.idle["db", A] == Idle(len(lost), len(lost))


IDLE = Failing(idle=(("db", A),))


def test_an_idle_scraper_keeps_what_it_is_seen_to_have() -> None:
    claims, pair = claims_of(PLACED, 0.0), ("db", A)
    seen = {A: seen_with({7, 8}, 1.0)}

    def has(seen: Mapping[str, Seen], before: Refused, failing: Failing = IDLE) -> Refused:
        return refused_now(failing, before, MEMBERS, claims, {pair: Taken((NEVER_ENDS,), (0.0,))}, seen, [pair])

    refused = has(seen, {})
    assert refused[pair].tolist() == [7, 8]
    assert has({A: seen_with({7}, 2.0)}, refused) is refused, "and it stays so"
    assert has({}, {})[pair].tolist() == []
    assert set(has(seen, {}, Failing(refusing=(pair,), idle=(pair,)))[pair].tolist()) == {7, 8, *owned(PLACED, MEMBERS[0])}


def test_canaries_are_the_first_that_the_ring_gives_it() -> None:
    first, (db, node) = RING.circle.owners(POOL), (POOL.rows(name) for name in ("db", "node"))
    found = canaries(POOL, RING, [("db", A), ("node", B), ("gone", C), ("db", "gone")])
    assert found.keys() == {("db", A), ("node", B), ("gone", C)}
    assert found["db", A].tolist() == sorted(POOL.ids[db][first[db] == 0].tolist())[:CANARIES]
    mine = sorted(POOL.ids[node][first[node] == 1].tolist())
    assert len(mine) > CANARIES
    assert found["node", B].tolist() == mine[:CANARIES]
    assert found["gone", C].tolist() == []
    assert canaries(POOL, Ring((replace(MEMBERS[0], weight=0.0),), 64), [("db", A)]) == {}


def test_where_the_ring_gives_it_nothing_the_first_of_the_service_are_its_canaries() -> None:
    one = FleetPool.of({"db": Part(pool_of(["db:1"]), 1, salt_of("f", "db"))})
    for scraper in MEMBERS:
        assert canaries(one, RING, [("db", scraper.id)])["db", scraper.id].tolist() == one.ids.tolist()


def test_an_idle_scraper_has_its_canaries_besides_where_it_is_able_and_has_room() -> None:
    found, placed = (
        canaries(POOL, RING, [("node", B)]),
        replace(PLACED, owners=np.where(PLACED.owners == 1, 2, PLACED.owners)),
    )
    chosen = np.isin(POOL.ids, found["node", B])
    assert chosen.sum() == CANARIES
    extra = SecondOpinions().applied(placed, None, found).owners[:, 1:]
    assert (extra[chosen] == 1).all()
    assert (extra[~chosen] == -1).all()
    room = np.array(list(placed.carried().values()), dtype=np.int64)
    room[1] += 3
    assert (SecondOpinions().applied(placed, room, found).owners[:, -1] == 1).sum() == 3
    drained = replace(placed, scrapers=tuple(replace(s, weight=0.0) if s.id == B else s for s in MEMBERS))
    assert SecondOpinions().applied(drained, None, found) is drained
    tried = SecondOpinions(trials={int(found["node", B][0]): Trial(D, 0.0), int(found["node", B][1]): Trial(B, 0.0)})
    both = tried.applied(placed, None, found).owners
    loaded = replace(placed, loads=np.full(len(POOL), 2, dtype=np.int64))
    room = np.array(list(loaded.carried().values()), dtype=np.int64)
    room[1] += 5
    assert (SecondOpinions().applied(loaded, room, found).owners[:, -1] == 1).sum() == 2, "each counts two"
    gone = {("node", B): np.array([int(POOL.ids.max()) + 1], dtype=np.uint64)}
    assert SecondOpinions().applied(placed, None, gone).owners.tolist() == [
        [one, -1] for one in placed.owners[:, 0].tolist()
    ]
    assert (SecondOpinions().applied(PLACED, None, found).owners[:, 1:] == -1).all(), "it owns them"
    nobody = SecondOpinions(trials={int(POOL.ids[0]): Trial("gone", 0.0)})
    assert (nobody.applied(PLACED).owners[:, 1:] == -1).all()
    rows = rows_of(POOL, found["node", B][:2])
    assert [sorted(both[row].tolist()) for row in rows] == [[1, 2, 3], [-1, 1, 2]], "a trial besides a canary; both in one"


def test_what_former_owners_still_scrape_is_not_tried_by_others() -> None:
    """A Prometheus may read its list once in five minutes: it joins, and the others keep what it shall have."""
    fleet = Fleet()
    fleet.without = {A: ("db",)}
    lost = of_service(owned(PLACED, MEMBERS[0]), "db")
    fleet.holds, fleet.dead = {B: lost}, lost
    assert fleet.looked(20).trials == {}
    assert not fleet.opinions.jobs.idle
    fleet.holds, fleet.dead = {}, set()
    assert fleet.looked(1).trials.keys() == lost, "now nobody does, and it has lacked them for long"
    assert fleet.looked(1).jobs.idle.keys() == {("db", A)}


def test_what_another_controller_tries_elsewhere_is_missing_as_before() -> None:
    """Where scrapers ask several controllers for their lists, the trials of one that follows are what others scrape. They
    counted as former owners, so nobody called the scraper idle, and what was too much for trials nobody had.
    """
    fleet = Fleet()
    fleet.without = {A: ("db",)}
    lost = of_service(owned(PLACED, MEMBERS[0]), "db")
    fleet.holds, fleet.strayed, fleet.silent = {B: lost}, {B}, {D}
    assert fleet.looked(3).jobs.idle.keys() == {("db", A)}


def test_who_has_no_such_job_is_idle_when_the_second_owner_of_each_target_has_it_too() -> None:
    each = {name: Part(part.pool, 2, part.salt) for name, part in POOL.parts.items()}
    fleet = Fleet(place(FleetPool.of(each), RING, Policy(64)))
    assert fleet.placed.owners.shape[1] == 2
    fleet.without = {A: ("db",)}
    opinions = fleet.looked(3)
    assert opinions.trials == {}, "others scrape them"
    assert opinions.jobs.idle.keys() == {("db", A)}


def test_of_a_large_job_a_few_are_tried_elsewhere() -> None:
    fleet = Fleet()
    fleet.without = {B: ("node",)}
    lost = of_service(owned(PLACED, MEMBERS[1]), "node")
    assert len(lost) > TRIED
    assert len(fleet.looked(2).trials) == TRIED
    assert fleet.looked(1).jobs.idle.keys() == {("node", B)}


def test_it_is_over_as_soon_as_the_scraper_has_them_again() -> None:
    fleet = Fleet()
    fleet.without = {A: ("db",)}
    fleet.looked(20)
    assert fleet.opinions.failing(fleet.at).idle == (("db", A),), "it goes on while it has none of its canaries"
    fleet.without = {}
    assert fleet.looked(1).jobs.idle, "one look is not enough"
    opinions = fleet.looked(1)
    assert (opinions.jobs, opinions.trials) == (IdleJobs(), {})


def test_what_cannot_be_seen_says_nothing_and_what_has_nothing_more_is_over() -> None:
    fleet = Fleet()
    fleet.without, fleet.unseen = {A: ("db",)}, {("db", A)}
    assert fleet.looked(5).jobs == IdleJobs()
    fleet.unseen = set()
    fleet.looked(3)
    assert fleet.opinions.jobs.idle
    fleet.unseen = {("db", A)}
    assert fleet.looked(5).jobs.idle, "it goes on while nothing is known"
    seen = {s.id: seen_with(owned(PLACED, s), fleet.at + 1) for s in MEMBERS}
    without = fleet.opinions.judged(PLACED, RING, seen, fleet.at + 1, {}, PAIRS)
    assert not without.jobs.idle, "its slice has nothing of that job any more: it gets its share again"
    gone = place(POOL, Ring(MEMBERS[1:], 64), Policy(64))
    assert not fleet.opinions.judged(gone, Ring(MEMBERS[1:], 64), {}, fleet.at + 1, {}, ()).jobs.idle


def test_when_most_have_no_such_job_or_nobody_reaches_them_it_is_not_the_scraper() -> None:
    fleet = Fleet()
    fleet.without = {A: ("db",), B: ("db",), C: ("db",)}
    assert fleet.looked(10).trials == {}
    assert not fleet.opinions.jobs.idle
    fleet.without = {A: ("db",), B: ("db",)}
    assert fleet.looked(3).jobs.idle.keys() == {("db", A), ("db", B)}, "half of them"
    others = Fleet()
    others.without, others.dead = {A: ("db",)}, set(POOL.ids.tolist())
    assert not others.looked(10).jobs.idle


def test_nobody_that_has_no_such_job_is_asked_to_try_and_everybody_else_is() -> None:
    fleet = Fleet()
    fleet.without = {A: ("node",), B: ("node",), C: ("db",)}
    trials, node = fleet.looked(2).trials, set(POOL.ids[POOL.rows("node")].tolist())
    assert {trial.scraper for key, trial in trials.items() if key in node} == {C, D}
    assert {trial.scraper for key, trial in trials.items() if key not in node} == {A, B, D}


def test_who_lacks_two_targets_is_not_called_idle_and_is_asked_to_try_no_others() -> None:
    """Two scrapers lost the job, one of them had few targets of it: it was given a third one to try, and nobody had that."""
    more = sorted(of_service(owned(PLACED, MEMBERS[3]), "db"))[2:]
    owners = PLACED.owners.copy()
    owners[rows_of(POOL, np.array(more, dtype=np.uint64))] = 2
    fleet = Fleet(replace(PLACED, owners=owners))
    fleet.without = {A: ("db",), D: ("db",)}
    found = fleet.looked(3)
    lost = of_service(owned(PLACED, MEMBERS[0]), "db")
    assert D not in {found.trials[key].scraper for key in lost}
    assert found.jobs.idle.keys() == {("db", A)}


def test_who_is_found_to_have_no_such_job_makes_way_for_the_next_that_tries() -> None:
    """Two controllers had begun to try a target at another moment each: one with a scraper that has no such job, either.
    There it stayed, until it was given up; nobody had it, since the other one's choice reads what the first one writes.
    """
    fleet, key = Fleet(), int(POOL.ids[POOL.rows("db")][0])
    owner, first, second, _ = [s.id for s in RING.preference(int(POOL.keys[POOL.rows("db").start]))]
    fleet.opinions = SecondOpinions(trials={key: Trial(first, fleet.at)}, jobs=IdleJobs(since={("db", first): 0.0}))
    fleet.without, fleet.holds = {owner: ("db",), first: ("db",)}, {first: {key}}
    fleet.strayed = {first}
    assert fleet.looked(1).trials[key].scraper == first, "it reaches this one"
    fleet.holds = {}
    assert fleet.looked(1).trials[key].scraper == second
    assert fleet.looked(5).trials[key] == Trial(second, fleet.at - 5 * LOOK_S, 0)


def test_another_one_is_asked_only_where_the_first_may_not_be_asked_any_more_or_lacks_it() -> None:
    row, key = int(POOL.rows("db").start), int(POOL.ids[POOL.rows("db").start])
    _, first, second, _ = [s.id for s in RING.preference(int(POOL.keys[row]))]

    def asked(bars: Bars) -> list[tuple[int, str]]:
        return list(next_on_ring(PLACED, RING, [key], bars, {key: Trial(first, 0.0)}))

    for bars in (Bars({first}, (), {}), Bars((), {("db", first)}, {}), Bars((), (), {first: ids(key)})):
        assert asked(bars) == [(key, second)]
    for bars in (Bars({second}, (), {}), Bars((), {("node", first)}, {}), Bars((), (), {second: ids(key)})):
        assert asked(bars) == []


def test_who_does_not_have_what_it_is_to_try_makes_way_and_after_three_it_is_given_up() -> None:
    fleet, key = Fleet(), int(POOL.ids[POOL.rows("db")][0])
    _, first, second, _ = [s.id for s in RING.preference(int(POOL.keys[POOL.rows("db").start]))]
    real = fleet.has
    fleet.has = lambda placement, scraper: real(placement, scraper) - {key}  # type: ignore[method-assign]
    assert [fleet.looked(times).trials[key].scraper for times in (AFTER, 1, 1)] == [first, second, first]
    assert fleet.looked(1).trials == {}
    assert fleet.opinions.again_at.keys() == {key}


def test_of_a_job_that_one_scraper_has_alone_others_try_what_it_lacks() -> None:
    alone = {("db", A): Lacking(2, np.array([1, 2], dtype=np.uint64)), ("db", B): Lacking(0, np.array([], dtype=np.uint64))}
    assert not_lacked_by_most(alone) == alone
    both = {**alone, ("db", B): alone["db", A]}
    lately = Lacking(0, np.array([], dtype=np.uint64))
    assert not_lacked_by_most({**both, ("db", C): lately, ("db", D): lately}) == {}
    four = {**both, ("db", C): Lacking(1, lately.ids), ("db", D): Lacking(1, lately.ids)}
    assert not_lacked_by_most(four) == four


def test_a_target_that_nobody_can_make_anything_of_is_tried_elsewhere_and_then_later() -> None:
    fleet, row = Fleet(), int(POOL.rows("node").start)
    bad = int(POOL.ids[row])
    real = fleet.has
    fleet.has = lambda placement, scraper: real(placement, scraper) - {bad}  # type: ignore[method-assign]
    assert fleet.looked(AFTER).trials.keys() == {bad}
    assert fleet.looked(AFTER - 1).trials.keys() == {bad}
    assert fleet.looked(1).trials == {}, "the other one does not have it, either"
    assert fleet.opinions.again_at.keys() == {bad}
    assert not fleet.opinions.jobs.idle


@pytest.mark.parametrize("how", ["dropped", "unlabelled", "hidden"])
def test_what_relabelling_drops_or_hides_is_not_lacking(how: str) -> None:
    fleet = Fleet()
    fleet.without = {A: ("db",)}
    lost = np.array(sorted(of_service(owned(PLACED, MEMBERS[0]), "db")), dtype=np.uint64)
    fleet.more = {A: {how: len(lost) if how == "hidden" else lost}}
    opinions = fleet.looked(10)
    assert not opinions.jobs.idle
    assert not opinions.jobs.since
    assert opinions.down == {}


def test_what_a_scraper_drops_of_another_list_than_its_slice_is_lacking() -> None:
    """Its new configuration was refused, and its old job of the same name keeps a part by a hash: without ids."""
    fleet = Fleet()
    fleet.without = {A: ("db",)}
    lost = np.array(sorted(of_service(owned(PLACED, MEMBERS[0]), "db")), dtype=np.uint64)
    fleet.more = {A: {"dropped_bare": lost}}
    assert ("db", A) in fleet.looked(10).jobs.idle


def test_a_list_is_given_some_time_to_be_applied_and_one_that_was_not_taken_is_not_lacking() -> None:
    claims = claims_of(PLACED, 100.0)
    seen = {A: seen_with((), 100.0 + GIVEN_S)}

    def lacks(taken: Taken) -> dict[tuple[str, str], Lacking]:
        return lacking(POOL, claims, {("db", A): taken}, seen, PAIRS)

    all_of_it = lacks(Taken((100.0,), (100.0,)))["db", A]
    assert all_of_it.most
    assert all_of_it.ids.tolist() == sorted(of_service(owned(PLACED, MEMBERS[0]), "db")), (
        "all controllers try the same first"
    )
    for taken in (Taken((100.0,), (100.1,)), Taken((99.0,), (99.0,)), Taken()):
        one = lacks(taken)["db", A]
        assert (one.given, len(one.ids), one.most) == (0, 0, False)
    gone = replace(claims, ids=np.append(claims.ids[:-1], np.uint64(5)))
    assert lacking(POOL, gone, {}, seen, PAIRS).keys() == {("db", A), ("node", A)}, (
        "what is no target any more is not lacking"
    )
    has_all = lacking(POOL, claims, {}, {A: seen_with(owned(PLACED, MEMBERS[0]), 100.0)}, PAIRS)["node", A]
    assert (has_all.given, len(has_all.ids)) == (len(of_service(owned(PLACED, MEMBERS[0]), "node")), 0)
    assert lacking(POOL, claims, {}, seen, {("node", A)}).keys() == {("node", A)}, "of the others nothing was told"


def test_a_few_are_enough_where_it_lacks_all_that_it_was_given() -> None:
    """Of a job with one or two targets at each scraper they would say nothing."""
    two = np.array([1, 2], dtype=np.uint64)
    lacks = {("db", A): Lacking(2, two), ("db", B): Lacking(2, two[:0]), ("node", A): Lacking(9, two[:0])}
    since = IdleJobs(since={("db", A): 0.0})
    assert since.suspects(lacks, LASTS_S) == set()
    assert since.suspects({**lacks, ("node", A): Lacking(2, two)}, LASTS_S) == {("db", A)}
    assert since.suspects({**lacks, ("node", A): Lacking(2, two)}, LASTS_S - 1) == set()


def test_what_is_known_goes_on_under_other_names() -> None:
    jobs = IdleJobs({("db", A): 1.0}, {("db", A): Idle(3, 4)})
    renamed = jobs.renamed({A: "x"})
    assert dict(renamed.since) == {("db", "x"): 1.0}
    assert renamed.idle.keys() == {("db", "x")}
    assert jobs.renamed({B: "x"}) == IdleJobs()
    assert jobs.and_those_of(renamed).idle.keys() == {("db", A), ("db", "x")}
    opinions = SecondOpinions(jobs=jobs)
    assert opinions.of({}, {"node"}).jobs == IdleJobs()
    assert opinions.of({}, {"db"}).jobs == jobs
    assert opinions.renamed({A: "x"}).failing(0.0).idle == (("db", "x"),)


def ids(*keys: int) -> Keys:
    return np.array(keys, dtype=np.uint64)


def test_most_is_half_and_at_least_one() -> None:
    assert [Lacking(4, ids(1, 2)).most, Lacking(5, ids(1, 2)).most] == [True, False]
    assert [Lacking(1, ids(1)).most, Lacking(0, ids()).most] == [True, False]
    assert Idle(3, 4).found("db") == "it had 1 of the 4 targets of db that it was given"


def test_three_targets_make_a_suspect_and_so_does_half_of_all_that_it_was_given() -> None:
    jobs = IdleJobs(since={("db", A): 0.0, ("node", A): 0.0})
    well = {("web", A): Lacking(20, ids())}
    assert jobs.suspects({("db", A): Lacking(3, ids(1, 2, 3)), **well}, LASTS_S) == {("db", A)}
    two = {("db", A): Lacking(2, ids(1, 2)), ("node", A): Lacking(2, ids(3, 4))}
    assert jobs.suspects({**two, ("web", A): Lacking(4, ids())}, LASTS_S) == two.keys(), "half of eight"
    assert jobs.suspects({**two, ("web", A): Lacking(5, ids())}, LASTS_S) == set()
    assert jobs.suspects({("db", A): Lacking(2, ids(1, 2))}, LASTS_S) == set(), "all of two are too few"


def test_since_when_it_lacks_most_goes_on_while_nothing_is_known_and_ends_when_it_has_more() -> None:
    jobs, most = IdleJobs(since={("db", A): 1.0}), {("db", A): Lacking(2, ids(1, 2))}
    assert jobs.after({}, (), (), 9.0).since == {("db", A): 1.0}
    assert jobs.after(most, (), PAIRS, 9.0).since == {("db", A): 1.0}
    fewer = {("db", A): Lacking(4, ids(1))}
    after = jobs.after(fewer, [("db", A)], PAIRS, 9.0)
    assert (after.since, after.idle) == ({}, {}), "nor is it idle, whatever others reach of what it lacks"


def test_what_is_known_of_it_stays_the_same_and_what_was_given_lately_says_nothing() -> None:
    known = Idle(9, 9, well=1)
    jobs = IdleJobs(idle={("db", A): known})
    most = {("db", A): Lacking(2, ids(1, 2))}
    assert jobs.after(most, [("db", A)], PAIRS, 9.0).idle == {("db", A): replace(known, well=0)}
    lately = {("db", A): Lacking(0, ids())}
    assert jobs.after(lately, (), PAIRS, 9.0).idle == {("db", A): replace(known, well=0)}
    has = {("db", A): Lacking(2, ids())}
    assert jobs.after(has, (), PAIRS, 9.0).idle == {}
    assert IdleJobs(idle={("db", A): replace(known, well=0)}).after(has, (), PAIRS, 9.0).idle == jobs.idle


def test_others_have_what_an_idle_one_lacks_and_need_not_try_it() -> None:
    idle = {("db", A): Idle(9, 9)}
    lacks = {("db", A): Lacking(3, ids(1, 2, 3)), ("db", B): Lacking(30, ids(*range(10, 40)))}
    assert sampled([("db", A)], lacks, idle) == set()
    assert sampled(lacks, lacks, idle) == set(range(10, 10 + TRIED))


def test_half_of_what_others_tried_is_enough_and_they_must_have_tried_some() -> None:
    pool = pool_of([f"t{n}:1" for n in range(6)])
    lacks = {("", A): Lacking(6, np.sort(pool.ids))}

    def reached(tried: Collection[int], good: Collection[int]) -> bool:
        flags = [np.isin(np.arange(6), list(some)) for some in (tried, good)]
        return reached_elsewhere(lacks, lacks, pool, *flags) == {("", A)}

    assert reached({0, 1, 2, 3}, {0, 1})
    assert not reached({0, 1, 2}, {0})
    assert not reached({0, 1}, {0, 1}), "two of six"
    assert reached({0, 1, 2}, {0, 1, 2})
    lacks = {("", A): Lacking(2, pool.ids[:2])}
    assert reached({0, 1}, {1}), "all that it lacks"
    assert not reached((), ())
    lacks = {("", A): Lacking(1, pool.ids[:1])}
    assert reached({0}, {0})
    lacks = {("", A): Lacking(0, ids())}
    assert not reached({0}, {0})


def test_who_follows_calls_those_idle_that_the_leader_does() -> None:
    jobs = IdleJobs({("db", B): 1.0}, {("db", A): Idle(3, 4, well=1), ("node", A): Idle(5, 5)})
    told = jobs.told([("db", A), ("db", C)])
    assert told == IdleJobs({("db", B): 1.0}, {("db", A): Idle(3, 4, well=1), ("db", C): Idle()})
    assert told.told([("db", C), ("db", A)]) is told
    assert Idle().found("db") == "the leader found that it does not have the targets of db that it was given"


async def test_who_is_idle_is_so_after_a_restart(tmp_path: Path) -> None:
    store, idle = Store(tmp_path, "f", log.get()), {("db", A): Idle(3, 4, well=1)}
    await store.save(Memory(opinions=SecondOpinions(jobs=IdleJobs(since={("db", A): 1.0}, idle=idle))))
    memory = Store(tmp_path, "f", log.get()).load()
    assert memory is not None
    assert memory.opinions.jobs == IdleJobs(idle={("db", A): Idle(3, 4)})
