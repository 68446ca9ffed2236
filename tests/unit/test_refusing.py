"""Scrapers that refuse a service, over time."""

from __future__ import annotations

from promring.fleet.refusing import AGAIN_FIRST_S, AGAIN_MOST_S, Refusing

PAIR = ("db", "b:1")
BOTH = {PAIR, ("web", "b:1")}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_takes_it_again_and_refuses_it_again_waits_longer_each_time() -> None:
    clock = Clock()
    refusing = Refusing(clock=clock)
    waited = []
    for _ in range(9):
        assert refusing.now({PAIR}, BOTH) == {PAIR}
        began = clock.now
        while refusing.now((), BOTH):
            clock.now += 10.0
        waited.append(clock.now - began)
    assert waited[:4] == [0.0, AGAIN_FIRST_S, 2 * AGAIN_FIRST_S, 4 * AGAIN_FIRST_S]
    assert waited[-1] == AGAIN_MOST_S


def test_who_has_taken_it_for_long_is_forgiven_and_who_is_gone_refuses_nothing() -> None:
    clock = Clock()
    refusing = Refusing(clock=clock)
    for _ in range(2):
        refusing.now({PAIR}, BOTH)
        refusing.now((), BOTH)
    assert refusing.now((), BOTH) == {PAIR}
    assert refusing.now((), {("web", "b:1")}) == set(), "it was not asked: it left, or we do not lead"
    clock.now += AGAIN_FIRST_S + AGAIN_MOST_S
    refusing.now((), BOTH)
    assert refusing.now({PAIR}, BOTH) == {PAIR}
    assert refusing.now((), BOTH) == set(), "at once, as the first time"


def test_who_refused_before_a_restart_refuses_until_it_takes_it() -> None:
    refusing = Refusing({PAIR})
    assert refusing.now({PAIR}, BOTH) == {PAIR}
    assert refusing.now((), BOTH) == set()
