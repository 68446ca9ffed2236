"""What is believed of who comes for its list, and of who stays away: in fake time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from aiohttp.test_utils import make_mocked_request

from promring.delivery.askers import DECLINES_S, STILL_S, Asker, Askers
from promring.delivery.http_sd import SENT_S, HttpSdDelivery, Served
from promring.fleet.dispatcher import UNDELIVERABLE_AFTER
from promring.fleet.visitors import PATIENCE_S, SAYS_MOST_S, Visits
from promring.web.sd import AFTER_WAIT_S, REFRESH_INTERVAL, may_stay_away_s
from tests.unit.test_deliveries import SLICES, A, B, Clock, Given, clock, couriers, deliver, has_it, has_none

__all__ = ["clock"]
NOTHING_NEW_S = 300.0


async def goes_on(given: Given, clock: Clock, served: HttpSdDelivery, seconds: float, *who: str) -> None:
    """These come every 30 s."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 30.0
        for name in who:
            served.asked(name, has_it)
        await deliver(given)


@pytest.mark.parametrize("before", [(), (300.0, 300.0, 300.0, 20.0)])
async def test_who_waits_in_a_long_poll_of_five_minutes_is_not_away(clock: Clock, before: tuple[float, ...]) -> None:
    """``promring agent --wait 5m`` is allowed, and nothing new is said for so long."""
    served = HttpSdDelivery()
    given = couriers(served)
    await deliver(given)
    for gap in (*before, 1.0):
        clock.now += gap
        for one in (A, B):
            served.asked(one.id, has_it, says_s=NOTHING_NEW_S + AFTER_WAIT_S)
        await deliver(given)
    for _ in range(int(NOTHING_NEW_S / 10)):
        clock.now += 10.0
        await deliver(given)
    assert not given.cut_off
    clock.now += 3 * NOTHING_NEW_S
    await deliver(given, UNDELIVERABLE_AFTER)
    assert given.cut_off == {A.id, B.id}


async def test_one_look_does_not_bring_a_scraper_back_that_was_away_for_hours(clock: Clock) -> None:
    """Of a person who looks at its list, as the runbook says, or of an agent that ends again at once."""
    served = HttpSdDelivery()
    given = couriers(served)
    await deliver(given)
    await goes_on(given, clock, served, 300, A.id, B.id)
    await goes_on(given, clock, served, 7200, A.id)
    assert given.cut_off == {B.id}
    served.came(B.id)
    await deliver(given)
    await goes_on(given, clock, served, PATIENCE_S + 60.0, A.id)
    assert given.cut_off == {B.id}, "how long it was away is not how often it comes"
    await goes_on(given, clock, served, 60, A.id, B.id)
    assert not given.cut_off


async def test_who_is_always_one_list_behind_has_taken_the_one_before(clock: Clock) -> None:
    """A list that changes faster than an agent writes it: what the agent has was served until a moment ago."""
    served = HttpSdDelivery()
    given = couriers(served)
    for n in range(200):
        await deliver(given, slices=[replace(one, body=b"%d" % n) for one in SLICES])
        clock.now += 1.0
        for one in (A, B):
            sent, now = served._sent.get(one.id), served.get(one.id)
            assert now is not None
            served.asked(one.id, lambda s, sent=sent: sent is not None and s is sent.served)  # type: ignore[misc]
            served.sends(one.id, now)
        clock.now += 1.0
        assert not given.cut_off
        asker = served.askers._asked[A.id]
        assert asker.untaken_since is not None, "it does lack the newest"
        assert clock.now - asker.untaken_since <= 5.0
    assert given.one.receipts.taken[A.id].uptos[-1] == clock.now - 4.0, "what was decided until its list was served"


async def test_who_was_sent_a_list_and_names_another_one_has_taken_nothing(clock: Clock) -> None:
    served = HttpSdDelivery()
    given = couriers(served)
    await deliver(given)
    now = served.get(A.id)
    assert now is not None
    served.sends(A.id, now)
    assert not served.asked(A.id, has_none)
    assert A.id not in given.one.receipts.taken
    stranger = Served(replace(now.slice, body=b"x"))
    served.sends(A.id, stranger)
    assert not served.asked(A.id, lambda one: one is stranger), "only what is served is sent"


async def test_a_list_that_nobody_names_for_long_is_let_go(clock: Clock) -> None:
    served = HttpSdDelivery()
    given = couriers(served)
    await deliver(given)
    for one in (A, B):
        now = served.get(one.id)
        assert now is not None
        served.sends(one.id, now)
    clock.now += SENT_S - 1.0
    await deliver(given, slices=[replace(one, body=b"x") for one in SLICES])
    assert served._sent.keys() == {A.id, B.id}
    clock.now += 1.0
    await deliver(given, slices=[replace(one, body=b"y") for one in SLICES])
    assert served._sent == {}


def test_who_took_its_list_elsewhere_and_asks_again_hours_later_lacks_it_since_now() -> None:
    now = 1000.0
    one = Askers(lambda: now)
    one.asked("a:1", has=False, why="x: has generation 9.5, refuses the older 8.9")
    now += 7200.0
    one.asked("a:1", has=False)
    assert dict(one.items()) == {"a:1": Asker(now, now, again=True)}
    now += STILL_S - 1.0
    one.asked("a:1", has=False)
    assert dict(one.items()) == {"a:1": Asker(now, now - STILL_S + 1.0, again=True)}


def test_who_declined_hours_ago_and_asks_again_does_not_decline() -> None:
    now = 1000.0
    one = Askers(lambda: now)
    one.asked("a:1", has=False, why="x: No space left on device", declines=True)
    now += DECLINES_S
    assert one.asked("a:1", has=False), "that it declines no more is news"
    assert one.declining() == {}, "nobody offered it anything here"
    one.asked("a:1", has=False, why="x: No space left on device", declines=True)
    one.asked("a:1", has=False, had_until=now)
    assert one.declining() == {}, "it took something"


async def test_one_question_of_an_agent_that_declined_hours_ago_does_not_make_its_scraper_dead(clock: Clock) -> None:
    served = HttpSdDelivery()
    served.askers = Askers(clock.monotonic)
    given = couriers(served, alone=False)
    await deliver(given)
    served.asked(B.id, has_none, why="x: No space left on device", declines=True)
    await deliver(given, UNDELIVERABLE_AFTER)
    assert given.cut_off == {B.id}
    clock.now += 2 * DECLINES_S
    await deliver(given, UNDELIVERABLE_AFTER)
    assert not given.cut_off
    clock.now += 7200.0
    served.asked(B.id, has_none)
    await deliver(given, UNDELIVERABLE_AFTER)
    assert not given.cut_off


def test_who_looked_at_a_url_once_does_not_ask_again_and_again() -> None:
    """So the alert of scrapers that ask no more does not fire for a person in a fleet whose scrapers read files."""
    now = 1000.0
    one = Askers(lambda: now)
    for later_s in (0.0, 0.1):
        now += later_s
        one.asked("a:1", has=True)
    assert not dict(one.items())["a:1"].again, "one page asks twice"
    now += 30.0
    one.asked("a:1", has=True)
    now += 86400.0
    assert dict(one.items()) == {"a:1": Asker(pytest.approx(now - 86400.0), again=True)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "wait_s", "away_s"),
    [
        (None, 0.0, 0.0),
        ("300", 0.0, 900.0),
        ("60.5", 0.0, 181.5),
        (None, 300.0, 300.0 + AFTER_WAIT_S),
        ("5m", 0.0, 0.0),
        ("-1", 0.0, 0.0),
        ("nan", 0.0, 0.0),
        ("1e999", 0.0, math.inf),
    ],
)
def test_who_asks_says_how_long_it_may_stay_away(header: str | None, wait_s: float, away_s: float) -> None:
    """As Prometheus does of its ``refresh_interval``; what is absurd is bounded (``SAYS_MOST_S``)."""
    headers = {} if header is None else {REFRESH_INTERVAL: header}
    assert may_stay_away_s(make_mocked_request("GET", "/sd/x/a:1", headers), wait_s) == away_s
    assert Visits(0.0, says_s=away_s).patience_s <= SAYS_MOST_S
