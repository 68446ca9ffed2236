"""Controllers without a lock: who was locked out by one that is gone goes on by itself."""

from __future__ import annotations

import itertools

from promring.election.leadership import HEARD_OF_LEADER_S, STEP, Leadership
from promring.election.rivals import EPOCH_OF_AGENTS_MOST, HEARD_S, SILENT_MOST_S, SILENT_S
from promring.model import NONE_FAILING, Failing, Fingerprint, Generation, Scraper
from tests.telling import hears


class Case:
    def __init__(self, *, alone: bool = True) -> None:
        self.now = 1000.0
        self.term = Leadership(alone=alone, clock=lambda: self.now, epoch=100)

    def refused(self, epoch: int, n: int = 1, at: float = 0.0, service: str = "s") -> bool:
        self.now = 1000.0 + at
        return self.term.outranked(service, Generation(epoch, n))


def test_it_takes_over_when_the_other_one_has_been_silent_for_its_time() -> None:
    case = Case()
    assert not case.refused(200)
    assert (case.term.locked_out_by, case.term.takes_over_in("s")) == (Generation(200, 1), SILENT_S)
    assert not case.refused(200, at=SILENT_S - 0.1)
    assert case.refused(200, at=SILENT_S)
    assert (case.term.epoch, case.term.locked_out_by, case.term.outranked_by) == (200 + STEP, None, 0)


def test_one_that_goes_on_writing_is_left_alone() -> None:
    case = Case()
    for second in range(100):
        assert not case.refused(200, n=second, at=float(second * 5))
    assert case.term.epoch == 100


def test_of_two_that_live_each_waits_twice_as_long_as_the_last_time() -> None:
    case, epoch, waits, at = Case(), 200, [], 0.0
    for _ in range(11):
        assert not case.refused(epoch, at=at)
        waits.append(case.term.takes_over_in("s"))
        at += waits[-1] or 0.0
        assert case.refused(epoch, at=at)
        epoch = case.term.epoch + STEP
    assert waits == [min(SILENT_S * 2**n, SILENT_MOST_S) for n in range(11)]


def test_after_a_long_time_without_another_one_the_waits_are_short_again() -> None:
    case = Case()
    case.refused(200)
    assert case.refused(200, at=SILENT_S)
    later = 3 * SILENT_MOST_S
    case.refused(300, at=later)
    assert case.refused(300, at=later + 2 * SILENT_S)
    assert case.refused(400, at=later + 3 * SILENT_S) is False
    assert case.term.takes_over_in("s") == 2 * SILENT_S


def test_receivers_that_take_what_they_are_given_lock_nobody_out() -> None:
    case = Case()
    case.refused(200)
    case.term.rivals.forget("s")
    assert case.term.locked_out_by is None
    assert not case.refused(200, at=2 * SILENT_S), "it begins again"


def test_with_a_lock_nothing_is_taken_over() -> None:
    case = Case(alone=False)
    assert not case.refused(200)
    assert not case.refused(200, at=10 * SILENT_S)
    assert (case.term.epoch, case.term.outranked_by, case.term.locked_out_by) == (100, 200, None)


def test_what_is_configured_no_more_is_told_to_nobody() -> None:
    term = Leadership(alone=False, clock=lambda: 0.0)
    term.lead("us", 1, 1e9)
    term.shared.drain("gone", frozenset({"a:1"}))
    term.shared.drain("stays", frozenset({"b:1"}))
    for service in ("old", "new"):
        term.shared.publish_fingerprints(service, {"list": Fingerprint(1, "f")})
    term.shared.placed_over("gone", (Scraper("a:1", "a", 1),), ("a:1",))
    term.shared.keep_only({"stays"}, {"new"})
    assert term.told.drained == {"stays": frozenset({"b:1"})}
    assert (list(term.told.lists), dict(term.told.down), dict(term.told.waiting)) == (["new"], {}, {})


def test_a_controller_goes_above_what_its_agents_have_once_that_has_not_changed_for_a_while() -> None:
    case = Case()
    assert not case.term.agent_has(Generation(300, 4))
    case.now += SILENT_S - 1
    assert not case.term.agent_has(Generation(300, 7)), "another agent has a newer one: another controller may write it"
    case.now += SILENT_S - 1
    assert not case.term.agent_has(Generation(300, 4))
    case.now += 1
    assert case.term.agent_has(Generation(300, 4))
    assert (case.term.epoch, case.term.locked_out_by) == (300 + STEP, None)
    case.now += 100
    assert not case.term.agent_has(Generation(300, 7)), "said before it heard of that"


def test_what_agents_said_long_ago_is_over() -> None:
    case = Case()
    assert not case.term.agent_has(Generation(300, 4))
    case.now += HEARD_S + 1
    assert not case.term.agent_has(Generation(300, 4))
    assert case.term.epoch == 100


def test_strangers_who_say_that_they_have_newer_slices_are_heeded_ever_more_seldom() -> None:
    case, climbed_at = Case(), list[float]()
    for _ in range(24 * 3600):
        case.now += 1
        if case.term.agent_has(Generation(case.term.epoch + 1, 1)):
            climbed_at.append(case.now)
    waits = [b - a for a, b in itertools.pairwise(climbed_at)]
    assert len(climbed_at) < 32
    assert waits[-1] >= SILENT_MOST_S
    for absurd in (EPOCH_OF_AGENTS_MOST, 10**14, 10**18 - 1):
        other = Case()
        for _ in range(100):
            other.now += 10
            assert not other.term.agent_has(Generation(absurd, 1))
        assert other.term.epoch == 100


def test_a_leader_with_a_lock_raises_its_epoch_for_its_agents_and_a_follower_does_not() -> None:
    case = Case(alone=False)
    case.term.lead("me", 100, lease_ends_at=1e9)
    for _ in range(2):
        case.term.agent_has(Generation(300, 4))
        case.now += SILENT_S
    assert (case.term.epoch, case.term.outranked_by) == (100, 300), "which the lock's next round goes above"
    follower = Case(alone=False)
    for _ in range(3):
        assert not follower.term.agent_has(Generation(300, 4))
        follower.now += SILENT_S
    assert follower.term.outranked_by == 0


def test_what_a_leader_told_is_heeded_while_the_lock_is_seen_and_not_by_who_leads() -> None:
    now = [100.0]
    term = Leadership(alone=False, clock=lambda: now[0])
    assert not term.hears()
    term.follow("first", 4)
    now[0] += HEARD_OF_LEADER_S - 0.1
    assert term.hears()
    now[0] += 0.1
    assert not term.hears(), "the lock gives no answer since"
    term.follow("first", 4)
    assert term.hears()
    term.follow("", 0)
    assert not term.hears(), "nobody leads"
    term.follow("first", 4)
    term.lead("us", 6, now[0] + 4.0)
    assert not term.hears()
    assert not Leadership().hears()


def test_what_was_told_of_a_fleet_that_has_another_name_now_is_not_told_on() -> None:
    """It would count again as soon as a fleet has that name once more."""
    case = Case(alone=False)
    case.term.lead("us", 100, 9e9)
    stale, other = Failing(("gone:1",)), Failing(("other:1",))
    hears(case.term, failing={"before": stale, "others": other})
    case.term.shared.placed_without("main", Failing(("a:1",)))
    assert case.term.told.failing.keys() == {"before", "others", "main"}, "its fleets are not known yet"
    case.term.shared.fleets = frozenset({"main", "others"})
    case.term.shared.placed_without("main", NONE_FAILING)
    assert case.term.told.failing == {"others": other}


def test_who_leads_is_not_known_when_the_lock_was_not_seen_for_long() -> None:
    case = Case(alone=False)
    case.term.follow("other", 200)
    assert case.term.known_leader == "other"
    case.now += HEARD_OF_LEADER_S
    assert case.term.known_leader == ""
    case.term.lead("us", 202, case.now + 5.0)
    assert case.term.known_leader == "us"
    case.now += 5.0
    assert case.term.known_leader == ""
