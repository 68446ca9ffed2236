"""Who begins to lead looks first what the scrapers have."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Collection

import numpy as np
import pytest

from promring.core.claims import Taken
from promring.core.pool import pool_of
from promring.fleet import held_back, takeover
from promring.fleet.held_back import TAKING_S, HeldBack
from promring.fleet.takeover import LOOK_MOST_S, SILENT_S, TakeOver
from promring.model import NEVER_ENDS, TargetGroup
from promring.telemetry import log
from tests.sim.faketime import Clock, FakeLoop


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    made = FakeLoop()
    for module in (takeover, held_back):
        monkeypatch.setattr(module, "time", Clock(made))
    return made


def over(one: TakeOver, shown: Collection[tuple[str, str]] = ()) -> None:
    one.done(("a", "b", "c"), shown, 40.0)


@pytest.mark.parametrize("needed", [True, False])
def test_a_look_is_needed_from_when_it_may_act(loop: FakeLoop, *, needed: bool) -> None:
    one = TakeOver(log.get(), needed=needed)
    assert one.pending is needed
    assert not one.has_looked(loop.time(), can_look=True)
    one.begin()
    assert not one.has_looked(loop.time() + 1, can_look=True), "nothing may be changed yet"
    one.may_act()
    assert not one.has_looked(loop.time() - 1, can_look=True), "that look was before"
    assert one.has_looked(loop.time(), can_look=True)
    over(one)
    assert not one.pending
    loop.close()


def test_who_does_not_answer_is_waited_for_but_not_for_ever(loop: FakeLoop) -> None:
    one = TakeOver(log.get(), needed=False)
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
    one = TakeOver(log.get(), needed=False)
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
    one = TakeOver(log.get(), needed=False)
    pending = []
    for behind in ({"apps", "nodes"}, {"apps"}):
        one.knows(behind)
        pending.append(one.pending)
    one.may_act()
    assert one.has_looked(loop.time(), can_look=True)
    over(one)
    one.knows({"apps"})
    assert [*pending, one.pending] == [False, True, False]
    loop.close()


def test_what_was_taken_of_the_loop_before_a_reload_counts_until_it_has_looked() -> None:
    """Without it a scraper that had just taken its slice, and not yet applied it, counted as one that does not have it."""
    pair, other = ("db", "a:1"), ("db", "b:1")
    before, now = Taken((10.0,), (15.0,)), Taken((30.0,), (31.0,))
    reloaded = TakeOver(log.get(), needed=True)
    reloaded.taken = {pair: before, other: before}
    known = reloaded.all_taken({pair: now})
    assert known == {pair: Taken((10.0, 30.0), (15.0, 31.0)), other: before}
    assert known[pair].since(np.array([10.0, 11.0])).tolist() == [15.0, 31.0]
    over(reloaded)
    assert reloaded.all_taken({pair: now}) == {pair: now}


def test_of_whom_nothing_is_seen_after_a_start_without_a_state_waits(loop: FakeLoop, said: io.StringIO) -> None:
    """Until it is seen, or the others have had the time to scrape what it may have. Of ``web`` nobody shows anything."""
    one = TakeOver(log.get(), needed=True)
    one.may_act()
    one.in_force({"db", "web"}, pool_of(()))
    over(one, {("db", "a"), ("db", "gone"), ("web", "gone")})
    back, until = one.held_back, loop.time() + TAKING_S + 40.0
    assert back.until == {("db", "b"): until, ("db", "c"): until}
    assert [back.waits("db", name) for name in "abc"] == [False, True, True]
    assert not back.waits("web", "b")
    assert back.why("b") == back.why("b", "db") != ""
    assert back.why("b").startswith("nobody has seen yet what b has of db: nothing new of that for up to ")
    assert (back.why("a"), back.why("b", "web")) == ("", "")
    assert back.ended({("db", "a")}, loop.time()) == set()
    back.end(back.ended({("db", "b"), ("web", "c")}, loop.time()))
    assert back.until == {("db", "c"): until}
    assert back.ends_next(loop.time()) == until
    loop.run_until_complete(asyncio.sleep(TAKING_S + 40.0))
    assert not back.waits("db", "c"), "also while the guard lets nothing be decided"
    assert back.ends_next(loop.time()) == NEVER_ENDS
    back.end(back.ended((), loop.time()))
    assert back.until == {}
    assert said.getvalue().count("scrapers_held_back") == 1
    assert said.getvalue().count("scrapers_let_go") == 2
    loop.close()


@pytest.mark.parametrize(("needed", "hands_over"), [(False, True), (True, False)])
def test_a_new_leader_and_who_hands_nothing_over_holds_nobody_back(*, needed: bool, hands_over: bool) -> None:
    one = TakeOver(log.get(), needed=needed, hands_over=hands_over)
    one.begin()
    one.may_act()
    one.in_force({"db"}, pool_of(()))
    over(one, {("db", "a")})
    assert one.held_back.until == {}


def test_only_the_first_look_at_a_service_holds_back() -> None:
    """Its list may come later than those of others."""
    one = TakeOver(log.get(), needed=True)
    one.in_force({"db"}, pool_of(()))
    over(one, {("db", "a"), ("db", "b"), ("db", "c")})
    one.begin()
    over(one, {("db", "a")})
    assert one.held_back.until == {}
    one.in_force({"db", "web"}, pool_of(()))
    over(one, {("db", "a"), ("web", "a"), ("web", "b")})
    assert one.held_back.until.keys() == {("web", "c")}


def test_at_the_very_first_start_nobody_is_held_back() -> None:
    back = HeldBack(log.get())
    back.begin(("db",), ("a", "b"), (), 1.0)
    assert back.until == {}


def test_a_look_that_began_before_other_targets_were_in_force_does_not_count(loop: FakeLoop) -> None:
    """Nobody knows who has the new ones: these would be taken from who has them at once."""
    one = TakeOver(log.get(), needed=False)
    pools = [pool_of([TargetGroup.of([f"t{n}:1" for n in range(count)])]) for count in (1, 2)]
    one.in_force({"db"}, pools[0])
    assert not one.pending, "nothing is waited for"
    one.begin()
    one.in_force({"db"}, pools[0])
    one.may_act()
    began = loop.time()
    assert one.has_looked(began, can_look=True)
    loop.run_until_complete(asyncio.sleep(1.0))
    one.in_force({"db"}, pools[0])
    assert one.has_looked(began, can_look=True), "nothing new"
    one.in_force({"db"}, pools[1])
    assert not one.has_looked(began, can_look=True)
    assert one.has_looked(loop.time(), can_look=True)
    loop.close()
