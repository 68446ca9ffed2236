"""The bounds of the second opinion: how often, how many, how long, and what counts as tried."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import pytest

from promring.core import second_opinion
from promring.core.coverage import Seen
from promring.core.joined import FleetPool, Part, salt_of
from promring.core.placement import Policy, place
from promring.core.ring import Ring
from promring.core.second_opinion import (
    SAMPLE,
    SICK_FORGOTTEN_S,
    SICK_MOST_S,
    SICK_S,
    SecondOpinions,
    Sick,
)
from promring.core.trials import AFTER, PAUSE_MOST_S, PAUSE_S, Trial
from promring.model import Members, Placement, Scraper
from tests.laws.strategies import pool_of
from tests.seeing import owned, seen_with

LOOK_S = 30.0
Unreachable = Mapping[str, Collection[int]]


def fleet(names: str) -> Members:
    return tuple(Scraper(f"{name}:1", name, 1) for name in names)


def plain(count: int, members: Members) -> tuple[Placement, Ring]:
    """On a plain ring each target is with the first in its preference, whoever else comes or goes."""
    ring = Ring(members, 64)
    return place(pool_of([f"t{n}:1" for n in range(count)]), ring, Policy(64, None)), ring


def look(placement: Placement, at: float, unreachable: Unreachable) -> dict[str, Seen]:
    return {s.id: seen_with(owned(placement, s), at, down=unreachable.get(s.id, ())) for s in placement.scrapers}


class Fleet:
    """Scrapers that scrape what they shall, looked at again and again."""

    def __init__(self, count: int, members: Members) -> None:
        self.placement, self.ring = plain(count, members)
        self.opinions, self.at = SecondOpinions(), 0.0
        self.every = self.placement.pool.ids.tolist()

    def home(self, key: int) -> str:
        row = self.every.index(key)
        number = int(self.placement.owners[row, 0])
        return self.placement.scrapers[number].id

    def order(self, key: int) -> list[str]:
        return [s.id for s in self.ring.preference(key)]

    def of(self, scraper: str) -> list[int]:
        return [key for key in self.every if self.home(key) == scraper]

    def looked(self, times: int, unreachable: Unreachable, *, after_s: float = LOOK_S) -> SecondOpinions:
        for _ in range(times):
            self.at += after_s
            seen = look(self.opinions.applied(self.placement), self.at, unreachable)
            self.opinions = self.opinions.judged(self.placement, self.ring, seen, self.at)
        return self.opinions


THREE, SIX = fleet("abc"), fleet("abcdef")


def dead(*keys: int, members: Members = SIX) -> Unreachable:
    return {s.id: set(keys) for s in members}


# --- one target ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "without weight"])
def test_when_the_one_that_tries_it_can_take_nothing_any_more_the_next_tries(*, gone: bool) -> None:
    some = Fleet(12, THREE)
    key = some.every[0]
    home, first, second = some.order(key)
    some.looked(AFTER, {home: {key}})
    assert some.opinions.trials[key].scraper == first
    left = tuple(replace(s, weight=0.0) if s.id == first else s for s in THREE if not (gone and s.id == first))
    some.placement, some.ring = plain(12, left)
    assert some.home(key) == home
    some.looked(1, {home: {key}})
    assert some.opinions.trials[key].scraper == second


def test_only_failures_in_a_row_end_a_trial() -> None:
    some = Fleet(12, THREE)
    key = some.every[0]
    owner = {some.home(key): {key}}
    some.looked(AFTER, owner)
    for _ in range(3):
        some.looked(AFTER - 1, dead(key))
        assert key in some.looked(1, owner).trials
    assert key not in some.looked(AFTER, dead(key)).trials


def test_the_pause_of_a_target_that_nobody_reaches_doubles_up_to_four_hours() -> None:
    some = Fleet(12, THREE)
    key, pauses = some.every[0], []
    some.looked(AFTER, dead(key))
    for _ in range(7):
        some.looked(AFTER, dead(key))
        assert key not in some.opinions.trials
        pauses.append(some.opinions.again_at[key][0] - some.at)
        some.looked(1, dead(key), after_s=pauses[-1] - 1.0)
        assert key not in some.opinions.trials
        some.looked(1, dead(key), after_s=1.0)
        assert key in some.opinions.trials, "at the second, and not before"
    assert pauses == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S, 8 * PAUSE_S, 16 * PAUSE_S, PAUSE_MOST_S, PAUSE_MOST_S]


def test_pauses_of_targets_and_scrapers_go_on_under_other_ids_and_names() -> None:
    sick = Sick(900.0, SICK_S, 4, 4, 4, 4)
    known = SecondOpinions(again_at={1: (7.0, 8.0), 2: (9.0, 9.0)}, scrapers={"a": sick, "b": sick}, beyond=2)
    assert known.of({1: 11}, ()).again_at == {11: (7.0, 8.0)}
    assert known.renamed({"a": "z"}).scrapers == {"z": sick}
    both = known.and_those_of(SecondOpinions({5: 1}, {6: Trial("a", 1.0)}, {2: (1.0, 1.0), 3: (4.0, 4.0)}, {"c": sick}, 3))
    assert both == SecondOpinions(
        {5: 1}, {6: Trial("a", 1.0)}, {**known.again_at, 3: (4.0, 4.0)}, {**known.scrapers, "c": sick}, 5
    )


def test_with_replicas_a_target_fails_only_when_all_of_its_owners_were_seen_to_fail() -> None:
    ring = Ring(SIX, 64)
    placement = place(pool_of([f"t{n}:1" for n in range(12)]), ring, Policy(64, None, replication_factor=2))
    key = int(placement.pool.ids[0])
    one, other = (placement.scrapers[i].id for i in placement.owners[0].tolist())
    third = next(s.id for s in ring.preference(key) if s.id not in (one, other))

    def known(unreachable: Unreachable, *unseen: str) -> SecondOpinions:
        opinions = SecondOpinions()
        for n in range(1, AFTER + 1):
            seen = look(placement, n * LOOK_S, unreachable)
            seen[third] = seen_with(
                [*owned(placement, ring.scrapers[ring.members.index(third)]), key], n * LOOK_S, down=[key]
            )
            opinions = opinions.judged(placement, ring, {k: v for k, v in seen.items() if k not in unseen}, n * LOOK_S)
        return opinions

    assert known({one: {key}, other: {key}}).trials[key].scraper == third
    for opinions in (known({one: {key}}), known({other: {key}}), known({one: {key}, other: {key}}, other)):
        assert opinions == SecondOpinions()


def test_a_target_without_owner_for_lack_of_room_is_not_one_that_fails() -> None:
    placement, ring = plain(12, THREE)
    placement = replace(placement, owners=np.full_like(placement.owners, -1))
    opinions = SecondOpinions()
    for n in range(1, AFTER + 2):
        opinions = opinions.judged(placement, ring, look(placement, n * LOOK_S, {}), n * LOOK_S)
    assert opinions == SecondOpinions()


def test_a_scrape_or_a_drop_from_before_the_trial_is_no_failure_of_it() -> None:
    some = Fleet(12, THREE)
    key = some.every[0]
    home, other = some.order(key)[:2]
    some.looked(AFTER, {home: {key}})
    began = some.opinions.trials[key].since
    keys, beside = np.array([key], dtype=np.uint64), [key - 1, key + 1]  # floats are not fine enough for ids

    def judged(at: float, *, asked_at: float = 0.0, drops: bool = False) -> int:
        seen = look(some.placement, at, {home: {key}})
        seen[other] = seen_with([] if drops else [key, *beside], at, down=[key], asked_at=asked_at)
        seen[other] = replace(seen[other], dropped=keys if drops else keys[:0])
        return some.opinions.judged(some.placement, some.ring, seen, at).trials[key].failed

    assert judged(began + 5.0, asked_at=began) == 0
    assert judged(began + 5.0, asked_at=began + 0.5) == 1
    assert judged(began, drops=True) == 0
    assert judged(began + 0.5, drops=True) == 1
    unseen = look(some.placement, began + 5.0, {home: {key}})
    del unseen[other]
    assert some.opinions.judged(some.placement, some.ring, unseen, began + 5.0).trials[key].failed == 0


def test_whoever_is_next_tries_also_where_a_replica_lacks_for_want_of_room_but_none_that_drains() -> None:
    some = Fleet(24, THREE)
    key = next(key for key in some.every if some.order(key)[1] == "c:1")
    home, _, third = some.order(key)
    nobody = np.full((24, 1), -1, dtype=np.int32)
    some.placement = replace(some.placement, owners=np.concatenate([some.placement.owners, nobody], axis=1))
    assert some.looked(AFTER, {home: {key}}).trials[key].scraper == "c:1"
    some.opinions = SecondOpinions()
    some.ring = Ring(tuple(replace(s, draining=s.id == "c:1") for s in THREE), 64)
    assert some.looked(AFTER, {home: {key}}).trials[key].scraper == third


def test_every_target_of_a_small_service_may_be_tried_at_once() -> None:
    some = Fleet(24, THREE)
    assert set(some.looked(AFTER, dead(*some.every)).trials) == set(some.every)
    assert some.every[0] < 2**63 < some.every[-1], "ids of both halves of the numbers"


# --- how many --------------------------------------------------------------------------------------------------------


def test_a_tenth_of_a_service_is_tried_at_once_those_with_the_smallest_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    some = Fleet(120, THREE)
    monkeypatch.setattr(second_opinion, "TRIALS_LEAST", 2)
    some.looked(AFTER, dead(*some.every))
    assert list(some.opinions.trials) == sorted(some.every)[:12]
    assert some.opinions.beyond == 108


def test_while_so_many_are_tried_and_reached_no_other_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    some = Fleet(12, THREE)
    monkeypatch.setattr(second_opinion, "TRIALS_LEAST", 2)
    keys = [key for name in "abc" for key in some.of(f"{name}:1")[:1]]  # one of each: nobody is suspected
    owners = {some.home(key): {key} for key in keys}
    for looks in (AFTER, 1, 1):
        assert list(some.looked(looks, owners).trials) == sorted(keys)[:2]
        assert some.opinions.beyond == 1


def test_a_suspected_scraper_has_some_tried_at_once_beside_the_limit_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    some = Fleet(120, SIX)
    monkeypatch.setattr(second_opinion, "TRIALS_LEAST", 2)
    monkeypatch.setattr(second_opinion, "TRIALS_SHARE", 0.0)
    blind, mine = "a:1", sorted(some.of("a:1"))
    others = sorted(some.of("b:1"))[:3]  # too few of its own to be suspected
    unreachable = {**dead(*others), blind: {*mine, *others}}
    first = some.looked(1, unreachable)
    assert set(first.trials) == set(mine[:SAMPLE])
    assert len(mine) < SAMPLE * 2
    some.looked(AFTER - 1, unreachable)
    assert not set(others) & set(some.opinions.trials), "the limit is reached by those"
    assert some.opinions.beyond >= len(others)


def test_the_sample_of_a_suspected_scraper_is_of_all_its_services() -> None:
    pool, ring = pool_of([f"t{n}:1" for n in range(150)]), Ring(SIX, 64)
    fleet_pool = FleetPool.of({name: Part(pool, salt=salt_of("main", name)) for name in ("db", "node")})
    placement = place(fleet_pool, ring, Policy(64, None))
    seen = look(placement, LOOK_S, {"a:1": owned(placement, SIX[0])})
    trials = SecondOpinions().judged(placement, ring, seen, LOOK_S).trials
    assert len(trials) == SAMPLE
    rows = np.sort(np.flatnonzero(np.isin(fleet_pool.ids, np.array(list(trials), dtype=np.uint64))))
    assert [name for name, _ in fleet_pool.by_service(rows)] == ["db", "node"]


def test_of_the_others_as_many_begin_as_the_limit_says_beside_a_suspected_scraper(monkeypatch: pytest.MonkeyPatch) -> None:
    some = Fleet(120, SIX)
    monkeypatch.setattr(second_opinion, "TRIALS_LEAST", 2)
    monkeypatch.setattr(second_opinion, "TRIALS_SHARE", 0.0)
    others = sorted(key for key in some.of("b:1") if key > some.of("a:1")[0])[:3]
    some.looked(AFTER - 1, dead(*others))
    mine = some.of("a:1")
    some.looked(1, {**dead(*others), "a:1": [*mine, *others]})
    assert set(some.opinions.trials) == {*sorted(mine)[:SAMPLE], *others[:2]}
    assert some.opinions.beyond == 1


def test_not_more_than_some_hundreds_begin_at_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    some = Fleet(120, SIX)
    monkeypatch.setattr(second_opinion, "NEW_MOST", 5)
    mine = some.of("a:1")
    assert len(some.looked(1, {"a:1": mine}).trials) == 5
    assert some.opinions.beyond == min(SAMPLE, len(mine)) - 5


# --- who is suspected, and sick --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asks", "fails", "suspected"), [(6, 3, True), (7, 3, False), (2, 2, False), (3, 3, True), (9, 5, True)]
)
def test_who_fails_three_and_half_of_what_it_asks_is_suspected(asks: int, fails: int, suspected: bool) -> None:
    placement, ring = plain(120, SIX)
    mine = owned(placement, placement.scrapers[0])[:asks]
    seen = look(placement, LOOK_S, {})
    seen["a:1"] = seen_with(mine, LOOK_S, down=mine[:fails])
    opinions = SecondOpinions().judged(placement, ring, seen, LOOK_S)
    assert set(opinions.trials) == (set(mine[:fails]) if suspected else set())
    assert not {trial.scraper for trial in opinions.trials.values()} & {"a:1"}


@pytest.mark.parametrize(("blind", "suspected"), [("abc", True), ("abcd", False), ("ab", True)])
def test_when_more_than_half_of_the_scrapers_fail_it_is_not_them(blind: str, *, suspected: bool) -> None:
    some = Fleet(120, SIX)
    some.looked(1, {f"{name}:1": some.every for name in blind})
    assert bool(some.opinions.trials) == suspected
    assert not {trial.scraper[0] for trial in some.opinions.trials.values()} & set(blind)


def test_who_asks_nothing_is_not_counted_among_those_that_do_not_fail() -> None:
    placement, ring = plain(120, SIX)
    seen = {s.id: seen_with(owned(placement, s), LOOK_S, down=owned(placement, s)) for s in SIX[:2]}
    seen |= {s.id: seen_with([], LOOK_S) for s in SIX[2:]}
    assert not SecondOpinions().judged(placement, ring, seen, LOOK_S).trials


@pytest.mark.parametrize(
    ("fails", "tried", "reached", "sick"),
    [
        (8, 4, 2, True),
        (8, 4, 1, False),
        (8, 2, 2, False),
        (8, 3, 3, True),
        (3, 3, 2, True),
        (8, 8, 4, True),
        (8, 8, 3, False),
    ],
)
def test_who_fails_what_others_mostly_reach_is_sick_and_the_numbers_are_told(
    fails: int, tried: int, reached: int, sick: bool
) -> None:
    placement, ring = plain(120, SIX)
    mine = owned(placement, placement.scrapers[0])[:fails]
    seen = look(placement, LOOK_S, {})
    seen["a:1"] = seen_with([*mine, 1, 2, 3], LOOK_S, down=[*mine, 1, 2, 3])  # and three that are no targets any more
    seen["b:1"] = seen_with([*owned(placement, placement.scrapers[1]), *mine[:tried]], LOOK_S, down=mine[reached:tried])
    opinions = SecondOpinions().judged(placement, ring, seen, LOOK_S)
    expected = Sick(LOOK_S + SICK_S, SICK_S, fails, fails, tried, reached)
    assert opinions.scrapers == ({"a:1": expected} if sick else {})


@pytest.mark.parametrize(("asks", "sick"), [(8, False), (7, True), (0, True)])
def test_who_asks_all_that_it_was_called_sick_for_and_reaches_it_is_well_at_once(asks: int, sick: bool) -> None:
    """Most scrapers began to fail in the middle of a look, and it was asked first after that; or another controller leads,
    and lets it have its targets. Who has fewer of them than then has proved nothing.
    """
    placement, ring = plain(120, SIX)
    mine = owned(placement, placement.scrapers[0])[:8]
    seen = look(placement, LOOK_S, {})
    seen["a:1"] = seen_with(mine, LOOK_S, down=mine)
    seen["b:1"] = seen_with([*owned(placement, placement.scrapers[1]), *mine[:4]], LOOK_S)
    opinions = SecondOpinions().judged(placement, ring, seen, LOOK_S)
    assert set(opinions.sick(LOOK_S)) == {"a:1"}
    seen = look(placement, 2 * LOOK_S, {})
    seen["a:1"] = seen_with(mine[:asks], 2 * LOOK_S)
    opinions = opinions.judged(placement, ring, seen, 2 * LOOK_S)
    assert set(opinions.sick(2 * LOOK_S)) == ({"a:1"} if sick else set())
    assert opinions.scrapers["a:1"].pause_s == SICK_S, "the next one is longer all the same"


def test_who_was_sick_is_well_also_by_a_clock_that_stood_still_and_its_next_pause_is_longer() -> None:
    some = Fleet(120, SIX)
    blind = {"a:1": some.every}
    some.looked(2, blind)
    found = some.opinions.scrapers["a:1"]
    assert set(some.opinions.sick(found.until - 1.0)) == {"a:1"}
    some.looked(1, {}, after_s=found.pause_s)
    assert some.opinions.scrapers == {"a:1": replace(found, over=True)}
    assert some.opinions.sick(found.until - 1.0) == {}, "as a restart may read it, long after it was saved"
    some.looked(2, blind)
    again = some.opinions.scrapers["a:1"]
    assert (again.pause_s, set(some.opinions.sick(some.at))) == (2 * SICK_S, {"a:1"})


def test_a_sick_scraper_has_its_whole_pause_and_the_next_is_twice_as_long_up_to_an_hour() -> None:
    some = Fleet(120, SIX)
    blind = {"a:1": some.every}
    some.looked(2, blind)
    pauses = []
    for _ in range(6):
        found = some.opinions.scrapers["a:1"]
        pauses.append(found.pause_s)
        assert found.until == some.at + found.pause_s
        some.looked(1, blind, after_s=found.pause_s - 1.0)
        assert some.opinions.scrapers["a:1"] == found, "not longer for failing meanwhile"
        assert set(some.opinions.sick(some.at)) == {"a:1"}
        some.looked(1, blind, after_s=1.0)
    assert pauses == [SICK_S, 2 * SICK_S, 4 * SICK_S, 8 * SICK_S, SICK_MOST_S, SICK_MOST_S]


@pytest.mark.parametrize(("after_s", "pause_s"), [(SICK_FORGOTTEN_S - 1.0, 2 * SICK_S), (SICK_FORGOTTEN_S, SICK_S)])
def test_that_it_was_sick_is_forgotten_after_an_hour(after_s: float, pause_s: float) -> None:
    some = Fleet(120, SIX)
    blind = {"a:1": some.every}
    until = some.looked(2, blind).scrapers["a:1"].until
    some.looked(1, {}, after_s=until - some.at)
    assert some.opinions.sick(some.at) == {}
    some.at = until + after_s - 2 * LOOK_S
    assert some.looked(2, blind).scrapers["a:1"].pause_s == pause_s


def test_targets_that_its_relabelling_denies_count_as_failed_once() -> None:
    placement, ring = plain(120, SIX)
    mine = sorted(owned(placement, placement.scrapers[0]))
    seen = look(placement, LOOK_S, {})
    few = np.array([*mine[:3], 1], dtype=np.uint64)  # one of them is no target any more
    seen["a:1"] = replace(seen_with(mine[:6], LOOK_S, down=mine[:3]), denied=few, dropped=few)
    assert set(SecondOpinions().judged(placement, ring, seen, LOOK_S).trials) == set(mine[:3])
    seen["a:1"] = replace(seen_with(mine[:7], LOOK_S, down=mine[:3]), denied=few, dropped=few)
    assert not SecondOpinions().judged(placement, ring, seen, LOOK_S).trials, "three of seven, not six of ten"
    seen["a:1"] = replace(seen_with(mine[3:6], LOOK_S), denied=few, dropped=few)
    assert set(SecondOpinions().judged(placement, ring, seen, LOOK_S).trials) == set(mine[:3])


# --- what a trial is given -------------------------------------------------------------------------------------------


def test_a_trial_adds_one_owner_where_it_can_and_nothing_elsewhere() -> None:
    placement, _ = plain(12, THREE)
    keys, index = placement.pool.ids.tolist(), {s.id: n for n, s in enumerate(placement.scrapers)}
    owners = [placement.scrapers[i].id for i in placement.owners[:, 0].tolist()]
    assert keys[0] < 2**63 < keys[11], "of both halves of the numbers"
    first, last = (next(name for name in index if name != owners[row]) for row in (0, 11))
    trials = {keys[0]: Trial(first, 0.0), keys[11]: Trial(last, 0.0), keys[2]: Trial(owners[2], 0.0), 5: Trial(first, 0.0)}
    trials |= {key: Trial("gone:1", 0.0) for key in keys[3:9]}
    for capacities in (None, np.full(3, 100, dtype=np.int64)):
        applied = SecondOpinions(trials=trials).applied(placement, capacities)
        assert applied.owners[:, 0].tolist() == placement.owners[:, 0].tolist()
        assert applied.owners[:, 1].tolist() == [index[first], *[-1] * 10, index[last]]
        assert applied.owners.dtype == placement.owners.dtype == np.int32


@pytest.mark.parametrize(("room", "given"), [(4, 0), (5, 1), (9, 1), (10, 2)])
def test_a_trial_takes_its_load_of_the_room(room: int, given: int) -> None:
    placement, _ = plain(12, THREE)
    placement = replace(placement, loads=np.full(12, 5, dtype=np.int64))
    keys = placement.pool.ids.tolist()
    others = [row for row in range(12) if placement.owners[row, 0] != 0][:3]
    trials = {keys[row]: Trial(placement.scrapers[0].id, 0.0) for row in others}
    capacities = np.array(list(placement.carried().values()), dtype=np.int64) + room
    applied = SecondOpinions(trials=trials).applied(placement, capacities)
    assert [row for row in range(12) if applied.owners[row, 1] == 0] == others[:given]
    counted = SecondOpinions(trials=trials).applied(replace(placement, loads=None), np.full(3, 12, dtype=np.int64))
    assert int((counted.owners[:, 1] == 0).sum()) == min(3, 12 - placement.counts()[placement.scrapers[0].id])
