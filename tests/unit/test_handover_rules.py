"""Each rule of a hand-over by itself, on placements that are written down: who holds on, and what ends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from promring.core.claims import Claims, Taken
from promring.core.coverage import Seen
from promring.core.evidence import Evidence, Handover
from promring.core.fragment import identities
from promring.core.handover import owned_now, schedule, waiting_for, without_room
from promring.core.pool import pool_of
from promring.model import NEVER_ENDS, Placement, Scraper, TargetGroup, TargetPool

ABCD = tuple(Scraper(name, name, 1) for name in "abcd")
POLICY = Handover(30.0)
Written = Mapping[str, str]
"""By target: the owners, one letter each; ``-`` is nobody."""


def listed(*names: str) -> TargetPool:
    return pool_of([TargetGroup.of(list(names))])


def row_of(pool: TargetPool, name: str) -> int:
    return [str(one) for one in identities(pool)].index(name)


def placed(owners: Written, **more: object) -> Placement:
    pool = listed(*owners)
    table = np.array([["abcd".find(letter) for letter in owners[str(name)]] for name in identities(pool)], dtype=np.int32)
    return replace(Placement(ABCD, pool, table), **more)  # type: ignore[arg-type]


def slices(placement: Placement) -> dict[str, str]:
    """By target, who has it in its slice."""
    return {
        str(name): "".join(sorted("abcd"[i] for i in row if i >= 0))
        for name, row in zip(identities(placement.pool), placement.owners.tolist(), strict=True)
    }


def had(pool: TargetPool, *some: tuple[str, str, float, float]) -> Claims:
    """Target, scraper, since and until."""
    rows = [row_of(pool, name) for name, _, _, _ in some]
    scrapers = np.array(["abcd".index(scraper) for _, scraper, _, _ in some], dtype=np.int32)
    since, until = np.array([one[2] for one in some]), np.array([one[3] for one in some])
    return Claims(tuple("abcd"), pool.ids[rows], scrapers, since, until)


def sees(pool: TargetPool, at: float, *, up: str = "", down: str = "", dropped: str = "") -> Seen:
    """It asked the targets ``up`` and ``down`` (one letter each), the first ones with success; 5 s is the interval."""
    ids = np.array([pool.ids[row_of(pool, name)] for name in up + down], dtype=np.uint64)
    order = np.argsort(ids)
    good = np.array([True] * len(up) + [False] * len(down), dtype=bool)
    gone = np.sort(np.array([pool.ids[row_of(pool, name)] for name in dropped], dtype=np.uint64))
    return Seen(at, ids[order], np.full(len(ids), at), good[order], 5.0, dropped=gone)


def took(at: float, scrapers: str) -> dict[tuple[str, str], Taken]:
    return {("", name): Taken().and_then(at, at) for name in scrapers}


SLOW = Seen(1.0, np.empty(0, dtype=np.uint64), np.empty(0), np.empty(0, dtype=bool), 40.0)


@pytest.mark.parametrize(
    ("evidence", "seconds"),
    [
        (Evidence(), 130.0),  # Prometheus' own interval
        (Evidence({"a": SLOW}), 90.0),  # its own
        (Evidence({"a": replace(SLOW, interval_s=0.0)}), 130.0),
        (Evidence({"b": SLOW, "c": replace(SLOW, interval_s=100.0)}), 210.0),  # the longest of the others
        (Evidence({"a": SLOW, "b": replace(SLOW, interval_s=100.0)}), 90.0),
        (Evidence({"a": SLOW}, intervals={("s", "a"): 20.0}), 50.0),  # that of this service
        (Evidence({"a": SLOW}, intervals={("r", "a"): 20.0, ("s", "b"): 20.0}), 90.0),
        (Evidence({"a": replace(SLOW, interval_s=5.0)}), 30.0),  # at least the overlap
    ],
)
def test_a_scraper_had_every_chance_two_intervals_after_it_took_its_slice(evidence: Evidence, seconds: float) -> None:
    assert evidence.overlap_s(POLICY, "s", "a") == seconds
    assert evidence.overlap_s(Handover(30.0, confirm=False), "s", "a") == 30.0


@pytest.mark.parametrize(
    ("evidence", "seconds"),
    [
        (Evidence(), 125.0),
        (Evidence({"a": replace(SLOW, interval_s=5.0)}), 15.0),
        (Evidence({"a": SLOW}, intervals={("s", "a"): 20.0}), 45.0),
        (Evidence({"a": replace(SLOW, interval_s=0.0), "b": replace(SLOW, interval_s=5.0)}), 125.0),  # who knows
        (Evidence({"a": replace(SLOW, interval_s=0.0), "b": replace(SLOW, interval_s=100.0)}), 205.0),
    ],
)
def test_a_scrape_proves_something_for_two_intervals_and_of_an_interval_that_nobody_told_two_long_ones(
    evidence: Evidence, seconds: float
) -> None:
    assert evidence.fresh_s("s", "a") == seconds


@pytest.mark.parametrize(
    ("served", "who"),
    [
        ({}, "b"),  # nobody comes here for a list
        ({"": Taken((10.0,), (11.0,))}, "b"),
        ({"": Taken()}, "ab"),  # the list with it is not served yet: the scraper may come for an older one
        ({"": Taken((9.0, 22.0), (9.0, 22.0))}, "ab"),  # it came for an older one at 21, perhaps, and applies it by 31
        ({"other": Taken()}, "b"),
    ],
)
def test_a_scrape_without_a_list_proves_something_when_no_older_list_can_be_on_its_way(
    served: dict[str, Taken], who: str
) -> None:
    wanted = placed({"x": "b", "y": "a"})
    before = had(wanted.pool, ("x", "a", 0.0, 40.0), ("x", "b", 10.0, NEVER_ENDS), ("y", "a", 0.0, NEVER_ENDS))
    evidence = Evidence({name: sees(wanted.pool, 25.0, up="x") for name in "ab"}, served=served)
    assert slices(schedule(wanted, before, evidence, POLICY, 26.0)[1]) == {"x": who, "y": "a"}


def test_a_hold_of_which_nothing_is_known_ends_an_overlap_after_it_began() -> None:
    wanted = placed({"x": "b", "y": "a"})
    claims, now = schedule(
        wanted, had(wanted.pool, ("x", "a", 0.0, NEVER_ENDS), ("y", "a", 0.0, NEVER_ENDS)), Evidence(), POLICY, 10.0
    )
    assert slices(now) == {"x": "ab", "y": "a"}
    assert (claims.held, claims.ends_next) == (1, 40.0)
    again, _ = schedule(wanted, claims, Evidence(), POLICY, 20.0)
    assert again.ends_next == 40.0


@pytest.mark.parametrize(
    ("owners", "replicas", "expected"),
    [
        ({"x": "b-", "y": "cd"}, 2, {"x": "ab", "y": "cd"}),  # one of its two owners is there to take it
        ({"x": "--", "y": "cd"}, 2, {"x": "", "y": "cd"}),  # nobody will: there is nothing to wait for
        ({"x": "-d", "y": "c-"}, 1, {"x": "d", "y": "c"}),  # who only tries it is no owner to wait for
        ({"x": "a", "y": "c"}, 1, {"x": "a", "y": "c"}),
    ],
)
def test_a_hold_is_for_a_target_that_has_an_owner(owners: Written, replicas: int, expected: dict[str, str]) -> None:
    wanted = placed(owners)
    before = had(wanted.pool, ("x", "a", 0.0, NEVER_ENDS))
    assert slices(schedule(wanted, before, Evidence(), POLICY, 10.0, replicas=replicas)[1]) == expected


def test_a_target_without_an_owner_ends_no_other_hold_and_a_short_overlap_is_one() -> None:
    wanted = placed({"x": "--", "y": "cd"})
    before = had(wanted.pool, ("x", "a", 0.0, NEVER_ENDS), ("y", "a", 0.0, NEVER_ENDS))
    assert slices(schedule(wanted, before, Evidence(), Handover(0.5), 10.0, replicas=2)[1]) == {"x": "", "y": "acd"}


def test_the_first_scraper_is_an_owner_like_any_other() -> None:
    wanted = placed({"x": "a", "y": "c"})
    before = had(wanted.pool, ("x", "b", 0.0, NEVER_ENDS))
    assert slices(schedule(wanted, before, Evidence(), POLICY, 10.0)[1]) == {"x": "ab", "y": "c"}


@pytest.mark.parametrize(
    ("reaching", "until", "who"),
    [
        ("", (50.0, 60.0), "ab"),  # nobody knows which of them has it
        ("", (60.0, 50.0), "ab"),
        ("ab", (60.0, 50.0), "a"),  # by name: all controllers choose the same one
        ("ab", (50.0, 60.0), "a"),
        ("b", (50.0, 60.0), "b"),  # it is seen reaching it
        ("a", (60.0, 50.0), "a"),
    ],
)
def test_of_several_who_hold_on_as_many_stay_as_there_are_owners_when_they_are_seen_scraping_it(
    reaching: str, until: tuple[float, float], who: str
) -> None:
    wanted = placed({"x": "c", "y": "d"})
    pool = wanted.pool
    before = had(pool, ("x", "a", 0.0, until[0]), ("x", "b", 0.0, until[1]))
    evidence = Evidence({name: sees(pool, 9.0, up="x") for name in reaching})
    assert slices(schedule(wanted, before, evidence, POLICY, 10.0)[1])["x"] == who + "c"
    two = placed({"x": "cd", "y": "cd"})
    assert slices(schedule(two, before, evidence, POLICY, 10.0, replicas=2)[1])["x"] == "abcd"
    alike = had(pool, *(("x" if n < 2 else "y", "ab"[n % 2], 0.0, until[n % 2]) for n in range(4)))
    evidence = Evidence({name: sees(pool, 9.0, up="xy") for name in reaching})
    assert slices(schedule(wanted, alike, evidence, POLICY, 10.0)[1]) == {"x": who + "c", "y": who + "d"}


@pytest.mark.parametrize(
    ("some", "took_it", "who"),
    [
        ((("a", 0.0, 50.0), ("b", 0.0, 60.0), ("d", 0.0, 70.0)), "", "ab"),  # they have had it longer
        ((("a", 0.0, 70.0), ("b", 0.0, 60.0), ("d", 0.0, 50.0)), "", "bd"),
        ((("a", 0.0, 90.0), ("b", 6.0, 60.0), ("d", 7.0, 50.0)), "", "ab"),
        ((("a", 0.0, 50.0), ("b", 6.0, 60.0), ("d", 7.0, 70.0)), "bd", "bd"),
        ((("a", 0.0, 50.0), ("b", 6.0, 60.0), ("d", 7.0, 70.0)), "d", "ad"),
    ],
)
def test_where_nobody_is_seen_scraping_it_twice_as_many_hold_on(
    some: tuple[tuple[str, float, float], ...], took_it: str, who: str
) -> None:
    wanted = placed({"x": "c"})
    before = had(wanted.pool, *(("x", *one) for one in some))
    evidence = Evidence(taken=took(7.5, took_it))
    assert slices(schedule(wanted, before, evidence, POLICY, 10.0)[1])["x"] == "".join(sorted(who + "c"))
    two = placed({"x": "ca"})
    others = had(two.pool, *(("x", name, 0.0, 50.0) for name in "bd"))
    assert slices(schedule(two, others, Evidence(), POLICY, 10.0, replicas=2)[1])["x"] == "abcd"
    one_of_two = placed({"x": "c-"})
    every = had(one_of_two.pool, *(("x", name, 0.0, 50.0) for name in "abd"))
    for up in ("", "x"):
        evidence = Evidence({"a": sees(one_of_two.pool, 9.0, up=up)} if up else {})
        assert slices(schedule(one_of_two, every, evidence, POLICY, 10.0, replicas=2)[1])["x"] == "abcd"
    both = Evidence({name: sees(one_of_two.pool, 9.0, up="x") for name in "ad"})
    assert slices(schedule(one_of_two, every, both, POLICY, 10.0, replicas=2)[1])["x"] == "acd"


def test_a_trial_of_another_target_lets_nobody_hold_on() -> None:
    wanted = placed({"x": "c-", "y": "ca"})
    before = had(wanted.pool, *(("x", name, 0.0, until) for name, until in zip("abd", (50.0, 60.0, 70.0), strict=True)))
    assert slices(schedule(wanted, before, Evidence(), POLICY, 10.0)[1])["x"] == "abc"


def test_where_scrapers_are_not_asked_one_holds_on() -> None:
    wanted = placed({"x": "c"})
    before = had(wanted.pool, ("x", "a", 0.0, 50.0), ("x", "b", 0.0, 60.0))
    policy = Handover(30.0, confirm=False)
    assert slices(schedule(wanted, before, Evidence(), policy, 10.0)[1])["x"] == "ac"


@pytest.mark.parametrize(("asked_at", "who"), [(5.0, "b"), (4.9, "ab")])
@pytest.mark.parametrize("up", [True, False])
def test_a_scrape_of_long_ago_proves_nothing(asked_at: float, who: str, up: bool) -> None:
    """b scraped x when it had it, and stopped: at the look its last scrape is older than two intervals of 5 s, and 5 s."""
    wanted = placed({"x": "b"})
    before = had(wanted.pool, ("x", "b", 1.0, NEVER_ENDS), ("x", "a", 0.0, 90.0))
    seen = replace(sees(wanted.pool, 20.0, up="x"), scraped_at=np.array([asked_at]), up=np.array([up]))
    evidence = Evidence({"b": seen, "a": sees(wanted.pool, 20.0, **{"up" if up else "down": "x"})}, took(2.0, "ab"))
    assert slices(schedule(wanted, before, evidence, POLICY, 21.0)[1])["x"] == who


def test_who_is_seen_to_lack_it_does_not_hold_on_beside_another_one() -> None:
    wanted = placed({"x": "c"})
    before = had(wanted.pool, ("x", "a", 0.0, 50.0), ("x", "b", 0.0, 60.0), ("x", "d", 0.0, 70.0))
    evidence = Evidence({name: sees(wanted.pool, 9.0) for name in "ab"})
    assert slices(schedule(wanted, before, evidence, POLICY, 10.0)[1])["x"] == "cd"


@pytest.mark.parametrize(("reaching", "who"), [("", "ab"), ("b", "b"), ("a", "a")])
def test_of_several_who_hold_on_one_that_has_taken_its_slice_comes_before_one_that_has_not(reaching: str, who: str) -> None:
    wanted = placed({"x": "c"})
    before = had(wanted.pool, ("x", "a", 0.0, 50.0), ("x", "b", 6.0, 60.0))
    taken = {("", "a"): Taken((-1.0,), (-1.0,)), ("", "b"): Taken((7.0,), (7.0,))}
    evidence = Evidence({name: sees(wanted.pool, 9.0, up="x") for name in reaching}, taken)
    assert slices(schedule(wanted, before, evidence, POLICY, 10.0)[1])["x"] == who + "c"


@pytest.mark.parametrize(("looked_at", "who"), [(14.0, "ad"), (15.0, "d")])
def test_one_that_was_looked_at_before_it_applied_its_list_is_not_known_to_lack_what_is_in_it(
    looked_at: float, who: str
) -> None:
    """x went from a to d, which says nothing, and on to b. What is not in the list of a yet may come any moment."""
    wanted = placed({"x": "b", "y": "b"})
    before = had(wanted.pool, ("x", "a", 1.0, 90.0), ("x", "d", 16.0, NEVER_ENDS), ("y", "b", 0.0, NEVER_ENDS))
    evidence = Evidence({"a": sees(wanted.pool, looked_at)}, took(5.0, "a"))
    assert slices(schedule(wanted, before, evidence, POLICY, 17.0)[1])["x"] == "".join(sorted("b" + who))


def test_of_several_who_hold_on_one_that_has_had_it_longer_stays_also_if_it_holds_on_for_longer() -> None:
    wanted = placed({"x": "c"})
    before = had(wanted.pool, ("x", "a", 0.0, 90.0), ("x", "b", 6.0, 60.0), ("x", "d", 6.0, 50.0))
    assert slices(schedule(wanted, before, Evidence(), POLICY, 10.0)[1])["x"] == "acd"


def test_claims_of_targets_with_more_and_fewer_owners_are_told_apart() -> None:
    wanted = placed({"x": "ab", "y": "--"})
    claims, _ = schedule(wanted, had(wanted.pool, ("x", "a", 3.0, NEVER_ENDS)), Evidence(), POLICY, 10.0, replicas=2)
    of_x = wanted.pool.ids[row_of(wanted.pool, "x")]
    assert claims.ids.tolist() == [of_x, of_x]
    assert claims.rows(wanted.pool).tolist() == [row_of(wanted.pool, "x")] * 2
    assert dict(zip(claims.scrapers.tolist(), claims.since.tolist(), strict=True)) == {0: 3.0, 1: 10.0}
    assert claims.until.tolist() == [NEVER_ENDS, NEVER_ENDS]


def test_what_is_held_is_remembered_beside_what_is_owned() -> None:
    wanted = placed({"x": "b", "y": "a"})
    before = had(wanted.pool, ("x", "a", 1.0, NEVER_ENDS), ("y", "a", 2.0, NEVER_ENDS))
    claims, _ = schedule(wanted, before, Evidence(), POLICY, 10.0)
    x, y = row_of(wanted.pool, "x"), row_of(wanted.pool, "y")
    rows, scrapers = claims.rows(wanted.pool).tolist(), claims.scrapers.tolist()
    assert set(zip(rows, scrapers, claims.since.tolist(), claims.until.tolist(), strict=True)) == {
        (x, 1, 10.0, NEVER_ENDS),
        (y, 0, 2.0, NEVER_ENDS),
        (x, 0, 1.0, 40.0),
    }
    assert claims.ids.tolist() == wanted.pool.ids[rows].tolist()


def test_claims_of_other_scrapers_and_of_targets_that_are_gone_are_forgotten() -> None:
    both = listed("x", "y", "z")
    before = Claims(
        ("d", "gone"),
        both.ids[[row_of(both, "x"), row_of(both, "y"), row_of(both, "z")]],
        np.array([0, 1, 0], dtype=np.int32),
        np.array([1.0, 2.0, 3.0]),
        np.full(3, NEVER_ENDS),
    )
    claims, now = schedule(placed({"x": "a", "y": "b"}), before, Evidence(), POLICY, 10.0)
    assert slices(now) == {"x": "ad", "y": "b"}
    assert claims.held == 1
    assert sorted(claims.since.tolist()) == [1.0, 10.0, 10.0]
    assert claims.scrapers.dtype == now.owners.dtype == np.int32


class Told(NamedTuple):
    """What is known ``at`` a time of ``a``, which had the target, and of ``b``, which was given it at 10 and ``took`` it."""

    a: Mapping[str, str] | None = None
    b: Mapping[str, str] | None = None
    took: float | None = None
    at: float = 16.0
    looked_at: float = 15.0
    asked_at: float | None = None
    silent: str = ""
    answering: float | None = None
    pushes: bool = False

    def evidence(self, pool: TargetPool) -> Evidence:
        seen = {}
        if self.a is not None:
            seen["a"] = sees(pool, 15.0, **self.a)
        if self.b is not None:
            b = sees(pool, self.looked_at, **self.b)
            seen["b"] = b if self.asked_at is None else replace(b, scraped_at=np.full(len(b.ids), self.asked_at))
        taken = {} if self.took is None else took(self.took, "b")
        answering = {} if self.answering is None else {"b": self.answering}
        return Evidence(seen, taken, tuple(self.silent), answering, self.pushes, {("", "b"): 5.0})


UP, DOWN, DROPPED, NOTHING = {"up": "x"}, {"down": "x"}, {"dropped": "x"}, dict[str, str]()


@pytest.mark.parametrize(
    ("what", "told", "held"),
    [
        ("nothing is known", Told(at=999.0), True),
        ("it scrapes it since it took its slice", Told(b=UP, took=11.0), False),
        ("it scraped it just when it was given it", Told(b=UP, took=11.0, asked_at=10.0), False),
        ("it scraped it before", Told(b=UP, took=11.0, asked_at=9.9), True),
        ("it is looked at just when it took it", Told(b=UP, took=15.0), False),
        ("it took it a moment later", Told(b=UP, took=15.1), True),
        ("not taken, looked at ten seconds after", Told(b=UP, looked_at=20.0, at=21.0), False),
        ("not taken, looked at nearly ten seconds after", Told(b=UP, looked_at=19.9, at=21.0), True),
        ("not taken, scraped just ten seconds after", Told(b=UP, looked_at=22.0, asked_at=20.0, at=23.0), False),
        ("not taken, scraped too early", Told(b=UP, looked_at=22.0, asked_at=19.9, at=23.0), True),
        ("not taken, and lists are pushed", Told(b=UP, looked_at=22.0, at=23.0, pushes=True), True),
        ("taken, and lists are pushed", Told(b=UP, took=11.0, pushes=True), False),
        ("it fails, and who has it is not seen", Told(b=DOWN, took=11.0), True),
        ("it fails, and so does who has it", Told(a=DOWN, b=DOWN, took=11.0), False),
        ("it fails, and who has it never asked", Told(a=NOTHING, b=DOWN, took=11.0), False),
        ("it fails what the other one reaches", Told(a=UP, b=DOWN, took=11.0, at=999.0), True),
        ("it fails, and who reaches it does not answer any more", Told(a=UP, b=DOWN, took=11.0, silent="a"), True),
        ("its time is over, and who reached it is silent", Told(a=UP, b=NOTHING, took=11.0, at=999.0, silent="a"), False),
        ("both drop it", Told(a=DROPPED, b=DROPPED, took=11.0), False),
        ("both drop it, in an older slice", Told(a=DROPPED, b=DROPPED), True),
        ("both drop it, ten seconds after", Told(a=DROPPED, b=DROPPED, looked_at=20.0, at=21.0), False),
        ("it drops another one", Told(a=NOTHING, b={"dropped": "y"}, took=11.0), True),
        ("its time is over", Told(took=20.0, at=50.0), False),
        ("its time is nearly over", Told(took=20.0, at=49.9), True),
        ("its time is nearly over since it answers", Told(took=20.0, answering=25.0, at=54.9), True),
        ("its time is over since it answers", Told(took=20.0, answering=25.0, at=55.0), False),
        ("it answered before it took it", Told(took=20.0, answering=15.0, at=50.0), False),
        ("its time is over, but it is silent", Told(took=20.0, silent="b", at=999.0), True),
        ("its time is over, and it was not seen with it", Told(b=NOTHING, took=11.0, at=41.0), False),
        ("the same, but who has it lists it", Told(a=DOWN, b=NOTHING, took=11.0, at=999.0), True),
        ("the same, but who has it drops it", Told(a=DROPPED, b=NOTHING, took=11.0, at=999.0), False),
        ("who has it is seen without it, and its time is over", Told(a=NOTHING, at=999.0), True),
        ("who has it lists it, and the other drops it", Told(a=DOWN, b=DROPPED, took=11.0, at=999.0), False),
        ("who has it lists it, the other has not been looked at since", Told(a=DOWN, b=NOTHING, took=16.0, at=46.0), False),
        ("the same, but who has it reaches it", Told(a=UP, b=NOTHING, took=11.0, at=999.0), True),
        (
            "who has it reaches it, what the other does since cannot be seen",
            Told(a=UP, b=NOTHING, took=16.0, at=46.0),
            False,
        ),
    ],
)
def test_what_ends_a_hold(what: str, told: Told, held: bool) -> None:
    """At 10 the target x goes from a to b; y is with b all the time."""
    wanted = placed({"x": "b", "y": "b"})
    before = had(wanted.pool, ("x", "a", 0.0, NEVER_ENDS), ("y", "b", 0.0, NEVER_ENDS))
    claims, _ = schedule(wanted, before, Evidence(), POLICY, 10.0)
    after, now = schedule(wanted, claims, told.evidence(wanted.pool), POLICY, told.at)
    assert slices(now) == {"x": "ab" if held else "b", "y": "b"}, what
    assert after.held == held


@pytest.mark.parametrize(
    ("told", "held"),
    [
        (Told(b=UP, took=11.0), True),
        (Told(a=DOWN, b=DOWN, took=11.0, at=40.9), True),
        (Told(a=UP, took=11.0, at=41.0), False),
        (Told(took=11.0, silent="b", at=41.0), False),
    ],
)
def test_where_scrapers_are_not_asked_only_time_ends_a_hold(told: Told, held: bool) -> None:
    policy, wanted = Handover(30.0, confirm=False), placed({"x": "b", "y": "b"})
    before = had(wanted.pool, ("x", "a", 0.0, 40.0), ("x", "b", 10.0, NEVER_ENDS))
    assert schedule(wanted, before, told.evidence(wanted.pool), policy, told.at)[0].held == held


@pytest.mark.parametrize(
    ("seen_by", "at", "who"),
    [
        ("bc", 16.0, "bc"),  # both scrape it
        ("b", 16.0, "abc"),  # one of two
        ("bd", 16.0, "bc"),  # another one that tries it counts as well
        ("b", 41.0, "bc"),  # the time of both is over
    ],
)
def test_a_target_of_two_owners_is_held_until_two_scrape_it(seen_by: str, at: float, who: str) -> None:
    wanted = placed({"x": "bcd", "y": "bcd"})
    pool = wanted.pool
    begun = [("x", name, 10.0, NEVER_ENDS) for name in "bcd"] + [("y", name, 0.0, NEVER_ENDS) for name in "bcd"]
    claims = had(pool, ("x", "a", 0.0, 40.0), *begun)
    known = Evidence(
        {name: sees(pool, 15.0, up="xy") for name in seen_by}, took(11.0, "bcd"), intervals={("", n): 5.0 for n in "bcd"}
    )
    assert slices(schedule(wanted, claims, known, POLICY, at, replicas=2)[1])["x"].replace("d", "") == who


def test_the_time_of_the_slowest_owner_counts_and_not_of_who_only_tries() -> None:
    wanted = placed({"x": "bcd", "y": "bcd"})
    begun = [("x", name, 10.0, NEVER_ENDS) for name in "bcd"]
    claims = had(wanted.pool, ("x", "a", 0.0, 40.0), *begun)
    taken = {("", "b"): Taken().and_then(11.0, 11.0), ("", "c"): Taken().and_then(20.0, 20.0)}
    known = Evidence({}, taken, intervals={("", name): 5.0 for name in "bcd"})
    for at, who in ((49.9, "abcd"), (50.0, "bcd")):
        assert slices(schedule(wanted, claims, known, POLICY, at, replicas=2)[1])["x"] == who


def test_who_is_asked_to_end_a_hold_is_its_owners_and_who_holds_on() -> None:
    wanted = placed({"x": "a", "y": "c", "z": "d"})
    pool = wanted.pool
    claims = had(
        pool, ("x", "b", 0.0, 40.0), ("x", "a", 10.0, NEVER_ENDS), ("y", "c", 0.0, NEVER_ENDS), ("z", "d", 0.0, NEVER_ENDS)
    )
    assert waiting_for(claims, wanted) == {"a", "b"}
    assert waiting_for(replace(claims, until=np.full(len(claims), NEVER_ENDS)), wanted) == set()
    elsewhere = placed({"y": "c", "z": "d"})
    assert waiting_for(claims, elsewhere) == {"b"}, "the target is gone"
    nobody = placed({"x": "--", "y": "c-", "z": "d-"})
    assert waiting_for(claims, nobody) == {"b"}


def test_what_has_no_room_is_shown_with_who_keeps_it() -> None:
    wanted = placed({"x": "b-", "y": "--", "z": "c-"}, wanted=np.array([2, 2, 1], dtype=np.int32))
    numbers = {name: 2 if name != "z" else 1 for name in "xyz"}
    wanted = replace(wanted, wanted=np.array([numbers[str(name)] for name in identities(wanted.pool)], dtype=np.int32))
    pool = wanted.pool
    owners = [("x", "b", 0.0, NEVER_ENDS), ("z", "c", 0.0, NEVER_ENDS)]
    kept = had(
        pool,
        *owners,
        ("x", "a", 0.0, NEVER_ENDS),
        ("y", "a", 0.0, NEVER_ENDS),
        ("y", "d", 0.0, NEVER_ENDS),
        ("z", "a", 0.0, 40.0),
    )
    assert without_room(kept, wanted) == {"a": 2, "d": 1}
    shown = owned_now(kept, wanted)
    assert slices(shown) == {"x": "ab", "y": "ad", "z": "c"}
    given_up = had(pool, ("z", "c", 0.0, NEVER_ENDS), ("x", "a", 0.0, NEVER_ENDS), ("y", "a", 0.0, NEVER_ENDS))
    assert slices(owned_now(given_up, wanted)) == {"x": "a", "y": "a", "z": "c"}, "b has no claim on x: it gave it up"
    everything = placed({"x": "b", "y": "a", "z": "c"})
    assert owned_now(kept, everything) is everything
    assert without_room(kept, everything) == {}
    few = placed({"x": "-", "y": "-"})
    gone = had(listed("v", "x"), ("v", "b", 0.0, NEVER_ENDS), ("x", "a", 0.0, NEVER_ENDS))
    assert without_room(gone, few) == {"a": 1}, "v is in no list any more"
    assert slices(owned_now(gone, few)) == {"x": "a", "y": ""}
    both = had(few.pool, ("x", "a", 0.0, NEVER_ENDS), ("x", "b", 0.0, NEVER_ENDS))
    one = replace(placed({"x": "--", "y": "cd"}), wanted=np.array([1, 1], dtype=np.int32))
    assert slices(owned_now(both, one))["x"] == "a", "no more than it shall have"


def test_without_a_capacity_nobody_keeps_a_target_for_want_of_room() -> None:
    wanted = placed({"x": "-", "y": "b"})
    before = had(wanted.pool, ("x", "a", 0.0, NEVER_ENDS), ("y", "b", 0.0, NEVER_ENDS))
    assert slices(schedule(wanted, before, Evidence(), POLICY, 10.0)[1]) == {"x": "", "y": "b"}
    room = np.array([5, 5, 5, 5])
    claims, now = schedule(wanted, before, Evidence(), POLICY, 10.0, capacities=room)
    assert slices(now) == {"x": "a", "y": "b"}
    assert (claims.held, claims.ends_next) == (0, NEVER_ENDS)


def test_a_hold_that_stays_for_want_of_room_leaves_the_others_their_places() -> None:
    wanted = placed({"x": "c-", "y": "d-"})
    before = had(wanted.pool, ("x", "a", 0.0, NEVER_ENDS), ("x", "b", 5.0, 40.0), ("y", "d", 0.0, NEVER_ENDS))
    claims, now = schedule(wanted, before, Evidence(), POLICY, 10.0, replicas=2, capacities=np.array([5, 5, 5, 5]))
    assert slices(now) == {"x": "abc", "y": "d"}
    assert claims.held == 1


def test_those_who_hold_on_stand_beside_the_owners_in_columns_of_their_own() -> None:
    wanted = placed({"x": "c", "y": "d", "z": "a"})
    pool = wanted.pool
    before = had(
        pool,
        ("z", "b", 0.0, NEVER_ENDS),
        ("x", "a", 0.0, NEVER_ENDS),
        ("y", "a", 0.0, NEVER_ENDS),
        ("y", "b", 1.0, NEVER_ENDS),
    )
    _, now = schedule(wanted, before, Evidence({"a": sees(pool, 9.0, up="y")}), POLICY, 10.0)
    assert now.owners.shape == (3, 2)
    assert slices(now) == {"x": "ac", "y": "ad", "z": "ab"}
    assert now.owners[:, 0].tolist() == wanted.owners[:, 0].tolist()
    two = placed({"x": "ca", "y": "da", "z": "ab"})
    every = had(
        two.pool, *((name, one, 0.0, NEVER_ENDS) for name, both in (("x", "bd"), ("y", "bc"), ("z", "cd")) for one in both)
    )
    _, now = schedule(two, every, Evidence(), POLICY, 10.0, replicas=2)
    assert slices(now) == {"x": "abcd", "y": "abcd", "z": "abcd"}
    assert now.owners.dtype == np.int32


@pytest.mark.parametrize("overlap_s", [0.0, 30.0])
def test_of_one_owner_each_a_move_is_seen_in_another_list_and_among_other_scrapers(overlap_s: float) -> None:
    policy = Handover(overlap_s)
    first, _ = schedule(placed({"w": "a", "x": "a", "y": "b"}), had(listed("w")), Evidence(), policy, 0.0)
    wanted = placed({"x": "b", "y": "b", "z": "a"})
    fewer = replace(wanted, scrapers=ABCD[1:], owners=wanted.owners - 1)
    claims, now = schedule(wanted, first, Evidence(), policy, 10.0)
    assert slices(now) == {"x": "ab" if overlap_s else "b", "y": "b", "z": "a"}
    ids = {name: wanted.pool.ids[row_of(wanted.pool, name)] for name in "xyz"}
    since = {
        (one, by): at
        for one, by, at in zip(claims.ids.tolist(), claims.scrapers.tolist(), claims.since.tolist(), strict=True)
    }
    assert since[ids["y"], 1] == 0.0, "it has it since then"
    assert since[ids["x"], 1] == since[ids["z"], 0] == 10.0
    gone = replace(fewer, owners=np.maximum(fewer.owners, 0))
    left, _ = schedule(gone, first, Evidence(), policy, 10.0)
    assert left.scrapers.dtype == claims.scrapers.dtype == np.int32
    moved = replace(fewer, owners=np.array([[1 if str(n) == "y" else 0] for n in identities(wanted.pool)], dtype=np.int32))
    assert schedule(moved, first, Evidence(), policy, 10.0)[0].scrapers.dtype == np.int32, "also when it holds"
    assert left.held == 0, "a is dead: it is not waited for"
    assert sorted(left.since.tolist()) == [0.0, 10.0, 10.0]


def test_what_had_one_owner_each_may_get_two_or_none() -> None:
    first = placed({"x": "a", "y": "b"})
    claims, _ = schedule(first, had(listed("w")), Evidence(), POLICY, 0.0)
    assert claims.made_in == (first.pool, None), "its rows need not be remembered"
    two, now = schedule(placed({"x": "ac", "y": "bd"}), claims, Evidence(), POLICY, 10.0, replicas=2)
    assert slices(now) == {"x": "ac", "y": "bd"}
    assert sorted(two.since.tolist()) == [0.0, 0.0, 10.0, 10.0]
    none, _ = schedule(placed({"x": "-", "y": "-"}), claims, Evidence(), POLICY, 10.0)
    assert len(none) == 0


@pytest.mark.parametrize(("regained_at", "kept"), [(5.0, "ad"), (12.0, "abd"), (10.0, "ad")])
def test_who_got_a_target_again_may_have_lost_it_in_between_so_one_more_holds_on(regained_at: float, kept: str) -> None:
    """``a`` was seen scraping it at 10. When it has it since then only, that was by an earlier slice, and the slices between
    the two, without the target, may still be on their way to it.
    """
    wanted = placed({"x": "d"})
    claims = had(wanted.pool, ("x", "a", regained_at, 100.0), ("x", "b", 0.0, 100.0), ("x", "d", 0.0, NEVER_ENDS))
    evidence = Evidence({name: sees(wanted.pool, 10.0, up="x") for name in "ab"}, took(11.0, "ab"))
    _, now = schedule(wanted, claims, evidence, POLICY, 13.0)
    assert slices(now) == {"x": kept}
    later = Evidence({name: sees(wanted.pool, 14.0, up="x") for name in "ab"}, took(12.5, "ab"))
    _, now = schedule(wanted, claims, later, POLICY, 15.0)
    assert slices(now) == {"x": "ad"}, "it is seen scraping it again"
