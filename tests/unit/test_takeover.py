"""Who begins to lead looks first what the scrapers have."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from promring.core.claims import Taken
from promring.fleet import takeover
from promring.fleet.takeover import LOOK_MOST_S, SILENT_S, TakeOver
from tests.sim.faketime import Clock, FakeLoop


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    made = FakeLoop()
    monkeypatch.setattr(takeover, "time", Clock(made))
    return made


@pytest.mark.parametrize("needed", [True, False])
def test_a_look_is_needed_from_when_it_may_act(loop: FakeLoop, *, needed: bool) -> None:
    one = TakeOver(needed=needed)
    assert one.pending is needed
    assert not one.has_looked(loop.time(), can_look=True)
    one.begin()
    assert not one.has_looked(loop.time() + 1, can_look=True), "nothing may be changed yet"
    one.may_act()
    assert not one.has_looked(loop.time() - 1, can_look=True), "that look was before"
    assert one.has_looked(loop.time(), can_look=True)
    one.done()
    assert not one.pending
    loop.close()


def test_who_does_not_answer_is_waited_for_but_not_for_ever(loop: FakeLoop) -> None:
    one = TakeOver(needed=False)
    one.begin()
    one.may_act()
    began = loop.time()
    assert not one.has_looked(began, can_look=True, silent=True)
    assert one.has_looked(began, can_look=False, silent=True), "there is nothing to wait for"
    assert one.ends_at == began + SILENT_S
    loop.run_until_complete(asyncio.sleep(SILENT_S))
    assert one.has_looked(began, can_look=True, silent=True)
    one.held()
    assert not one.has_looked(began, can_look=True)
    loop.close()


def test_a_look_that_takes_longer_is_waited_for_but_not_for_ever(loop: FakeLoop) -> None:
    one = TakeOver(needed=False)
    one.begin()
    one.may_act()
    began = loop.time()
    loop.run_until_complete(asyncio.sleep(SILENT_S))
    assert not one.has_looked(began - 1, can_look=True), "what was seen before is not what they have now"
    assert one.ends_at == began + LOOK_MOST_S
    assert one.has_looked(began, can_look=True)
    loop.run_until_complete(asyncio.sleep(LOOK_MOST_S - SILENT_S))
    assert one.has_looked(began - 1, can_look=True)
    loop.close()


def test_a_list_that_the_last_leader_had_and_that_comes_now_needs_another_look(loop: FakeLoop) -> None:
    one = TakeOver(needed=False)
    pending = []
    for behind in ({"apps", "nodes"}, {"apps"}):
        one.knows(behind)
        pending.append(one.pending)
    one.may_act()
    assert one.has_looked(loop.time(), can_look=True)
    one.done()
    one.knows({"apps"})
    assert [*pending, one.pending] == [False, True, False]
    loop.close()


def test_what_was_taken_of_the_loop_before_a_reload_counts_until_it_has_looked() -> None:
    """Without it a scraper that had just taken its slice, and not yet applied it, counted as one that does not have it."""
    pair, other = ("db", "a:1"), ("db", "b:1")
    before, now = Taken((10.0,), (15.0,)), Taken((30.0,), (31.0,))
    reloaded = TakeOver(needed=True)
    reloaded.taken = {pair: before, other: before}
    known = reloaded.all_taken({pair: now})
    assert known == {pair: Taken((10.0, 30.0), (15.0, 31.0)), other: before}
    assert known[pair].since(np.array([10.0, 11.0])).tolist() == [15.0, 31.0]
    reloaded.done()
    assert reloaded.all_taken({pair: now}) == {pair: now}
