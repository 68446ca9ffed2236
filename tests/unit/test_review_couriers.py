"""Findings of a review, as tests that fail."""

from __future__ import annotations

import pytest

from promring.core.handover import NEVER, Taken
from promring.couriers import PATIENCE_S, UNDELIVERABLE_AFTER
from promring.delivery.http_sd import HttpSdDelivery
from tests.unit.test_couriers import A, B, SLICES, Clock, Pushed, clock, couriers, deliver, has_since  # noqa: F401


async def test_a_change_does_not_cut_off_at_once_who_comes_to_another_controller(clock: Clock) -> None:
    """B reads at the follower. Its slice changes; until its next refresh it naturally runs the list before."""
    given = couriers(HttpSdDelivery(), alone=False)
    await deliver(given)
    clock.now += 3 * PATIENCE_S
    in_force_at = clock.now - 1
    for _ in range(8):  # it runs what it shall, and nothing changes for four minutes
        given.saw({A.id: in_force_at, B.id: in_force_at}, [], in_force_at)
        await deliver(given)
        clock.now += 30
    clock.now += 1.0  # another target: B's slice is another one
    given.saw({A.id: in_force_at}, [B.id], clock.now)
    for _ in range(UNDELIVERABLE_AFTER):
        await deliver(given)
        clock.now += 1.0
    assert not given.cut_off, "3 s after the change; it asks once a minute"


async def test_who_comes_to_another_controller_and_was_cut_off_comes_back(clock: Clock) -> None:
    given = couriers(HttpSdDelivery(), alone=False)
    await deliver(given)
    clock.now += 3 * PATIENCE_S
    given.saw({A.id: clock.now - 30}, [B.id], clock.now - 1)
    await deliver(given, UNDELIVERABLE_AFTER)
    assert given.cut_off == {B.id}
    clock.now += 30
    given.saw({A.id: clock.now - 60, B.id: clock.now - 20}, [], clock.now - 25)  # it runs what it shall
    await deliver(given)
    assert not given.cut_off, "outcome 'waiting' keeps the number for ever"


async def test_who_asks_every_five_minutes_and_is_seen_to_run_its_list_is_not_away(clock: Clock) -> None:
    """http_sd_configs.refresh_interval: 5m; the controller was restarted; nothing changes."""
    given = couriers(HttpSdDelivery())
    in_force_at = clock.now
    await deliver(given)
    for _ in range(8):  # an audit every 30 s
        clock.now += 30
        given.saw({A.id: 1010.0, B.id: 1010.0}, [], in_force_at)
        await deliver(given)
    await deliver(given, UNDELIVERABLE_AFTER)
    assert not given.cut_off, "it was seen to run what it shall 0 s ago"


async def test_who_looks_once_is_no_scraper(clock: Clock) -> None:
    """http_sd beside file; a person opens /sd/x/b once. (Decision 0023: who looks once is no scraper.)"""
    served, sink = HttpSdDelivery(), Pushed()
    given = couriers(served, sink)
    await deliver(given)
    served.came(B.id)
    for _ in range(5):
        clock.now += 60
        await deliver(given)
    assert has_since(given, B.id, 1030.0) < NEVER, "its file is written"
    assert not any(o.error for outcomes in given.outcomes.values() for o in outcomes)


async def test_what_is_remembered_of_scrapers_that_left_is_forgotten_with_pushes_too(clock: Clock) -> None:
    given = couriers(Pushed())
    await deliver(given)
    await given.deliver(SLICES[:1], remembered=False, pushes=True)
    assert set(given.taken) == {A.id}


def test_a_hand_over_longer_than_what_is_kept_ends_by_time() -> None:
    """overlap: 15m, or a scrape interval of 5 m (2 * 300 + 10 s) where nothing can be seen."""
    taken, begun = Taken(), 100.0
    dues = []
    for now in range(0, 7200, 60):
        taken = taken.and_then(float(now), float(now))
        dues.append((now, float(taken.since([begun])[0]) + 900.0))
    assert any(due <= now for now, due in dues if now > begun), "it never ends"
