"""Controllers without a lock: who was locked out by one that is gone goes on by itself."""

from __future__ import annotations

from promring.election.leadership import SILENT_MOST_S, SILENT_S, STEP, Leadership
from promring.model import Fingerprint, Generation, Scraper


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
    case.term.heard_of_nobody("s")
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
    term.drain("gone", frozenset({"a:1"}))
    term.drain("stays", frozenset({"b:1"}))
    for service in ("old", "new"):
        term.publish_fingerprints(service, {"list": Fingerprint(1, "f")})
    term.placed_over("gone", (Scraper("a:1", "a", 1),))
    term.keep_only({"stays"}, {"new"})
    assert term.drained == {"stays": frozenset({"b:1"})}
    assert (list(term.lists), dict(term.down)) == (["new"], {})
