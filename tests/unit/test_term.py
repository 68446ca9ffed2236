"""What one fleet makes of the leadership."""

from __future__ import annotations

from promring.election.leadership import Leadership
from promring.fleet.term import LISTED_STILL_S, Term
from promring.model import Scraper
from promring.telemetry import log

FLEET = "main"
A, B, C = (Scraper(f"{name}:1", name, 1) for name in "abc")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def leading_after_another(clock: Clock) -> Leadership:
    """The leader before it placed over ``C``, too, which is down."""
    leadership = Leadership(alone=False, clock=clock)
    leadership.follow("one", 2)
    leadership.share_down({FLEET: (C,)})
    leadership.lead("me", 4, float("inf"))
    return leadership


def test_a_lease_that_begins_in_the_middle_of_a_cycle_forgets_nobody_who_is_down() -> None:
    leadership = leading_after_another(Clock())
    term = Term(FLEET, leadership, log.get())
    assert set(term.catalogue((A, B))) == {A, B, C}, "before the loop has begun to lead"
    assert term.begins()
    assert set(term.catalogue((A, B))) == {A, B, C}


def test_a_reload_of_who_has_led_for_long_takes_who_is_down_and_listed_no_more_out_at_once() -> None:
    clock = Clock()
    leadership = leading_after_another(clock)
    assert Term(FLEET, leadership, log.get()).begins()
    clock.now += LISTED_STILL_S
    reloaded = Term(FLEET, leadership, log.get())
    assert reloaded.begins()
    assert reloaded.catalogue((A, B)) == (A, B)
