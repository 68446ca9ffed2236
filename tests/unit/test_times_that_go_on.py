"""What has to be so for some time: a moment without an answer, a reload or a restart does not begin it anew, and the time
for which the process stood still does not count.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from promring.core.pool import pool_of
from promring.core.standing import History, Rules, Standing, State
from promring.election.leadership import Leadership
from promring.fleet.state import Memory
from promring.model import Reply, Scraper, TargetGroup, Unknown
from promring.runtime.pulse import BEAT_S, STILL_S, Pulse
from tests.judging import Guard
from tests.unit.test_reconcile import NAMES, TARGETS, A, B, Loop

C = Scraper("c:1", "c", 1)
TEN = tuple(Scraper(f"{name}:1", name, 1) for name in "abcdefghij")
SHORT = pool_of((TargetGroup.of(NAMES[:5]),))


class Clock:
    ahead = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found, real = Clock(), time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + found.ahead)
    return found


def guard(*, join_s: float = 0.0, leave_s: float = 0.0, hold_s: float = 60.0, shrinks: bool = False) -> Guard:
    rules = Rules(join_delay_s=join_s, leave_delay_s=leave_s, panic_hold_s=hold_s)
    return Guard(rules, shrink_threshold=0.7 if shrinks else 0.0, shrink_hold_s=300.0, confirmations=3)


def hosts(loop: Loop) -> str:
    return "".join(s.host for s in loop.reconciler.history.members)


async def again(folder: Path, loop: Loop, guard: Guard, *, restarted: bool) -> Loop:
    """The next loop, after its first cycle: before it there is no answer."""
    reconciler = loop.reconciler
    if restarted:
        await loop.store.save(replace(reconciler.memory, history=reconciler.history))
        memory = loop.store.load()
    else:
        memory = replace(reconciler.memory, history=reconciler.history)
    found = Loop(folder, memory=memory, leadership=loop.leadership, guard=guard)
    found.facts.listed = loop.facts.listed
    await found.reconciler.cycle()
    return found


async def in_a_panic(folder: Path, guard: Guard, reply: Reply) -> Loop:
    """Four of ten live; the ones that are gone answer direct probes so, but for two dead ones."""
    loop = Loop(folder, guard=guard)
    loop.reconciler.judge.history = History.of(TEN)
    await loop.say(TEN, TARGETS)
    await loop.say(TEN[:4])
    assert loop.reason() == "panic"
    probed(loop, reply)
    await loop.reconciler.cycle()
    return loop


def probed(loop: Loop, reply: Reply) -> None:
    for scraper in TEN[4:]:
        dead = reply is Reply.ANSWERS and scraper.host in "ef"
        loop.facts.put_probed(scraper.id, Reply.REFUSES if dead else reply)


# --- over a moment without an answer, a reload, a restart ------------------------------------------------------------


@pytest.mark.parametrize("by", ["an answer that fails", "a reload", "a restart"])
async def test_a_living_scraper_that_consul_calls_dead_is_not_dropped_by(tmp_path: Path, clock: Clock, by: str) -> None:
    loop = await in_a_panic(tmp_path, guard(join_s=5.0), Reply.ANSWERS)
    clock.ahead += 3600.0
    await loop.reconciler.cycle()
    assert hosts(loop) == "abcdghij"
    if by == "an answer that fails":
        loop.facts.members.put(Unknown("time-out"))
        await loop.reconciler.cycle()
    else:
        loop = await again(tmp_path / "again", loop, guard(join_s=5.0), restarted=by == "a restart")
    assert hosts(loop) == "abcdghij"
    assert "".join(s.host for s in loop.facts.suspects) == "ghij", "they are asked on"
    await loop.say(TEN[:4])
    assert hosts(loop) == "abcdghij"


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_panic_ends_over_reloads_and_restarts(tmp_path: Path, clock: Clock, *, restarted: bool) -> None:
    loop = await in_a_panic(tmp_path, guard(), Reply.SILENT)
    clock.ahead += 50.0
    await loop.say(TEN[:4])
    loop = await again(tmp_path / "again", loop, guard(), restarted=restarted)
    await loop.say(TEN[:4])
    probed(loop, Reply.SILENT)
    clock.ahead += 9.0
    await loop.say(TEN[:4])
    assert hosts(loop) == "abcdefghij", "59 s of 60"
    clock.ahead += 2.0
    await loop.say(TEN[:4])
    assert hosts(loop) == "abcd"


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_leave_delay_ends_over_reloads_and_restarts(tmp_path: Path, clock: Clock, *, restarted: bool) -> None:
    loop = Loop(tmp_path, guard=guard(leave_s=60.0))
    loop.reconciler.judge.history = History.of((A, B, C))
    await loop.say((A, B, C), TARGETS)
    await loop.say((A, B))
    clock.ahead += 50.0
    await loop.say((A, B))
    loop = await again(tmp_path / "again", loop, guard(leave_s=60.0), restarted=restarted)
    clock.ahead += 100.0  # without an answer
    await loop.say((A, B))
    assert hosts(loop) == "abc", "it was gone for 50 s of 60, as far as anybody knows"
    clock.ahead += 10.0
    await loop.say((A, B))
    assert hosts(loop) == "ab"


@pytest.mark.parametrize("restarted", [False, True])
async def test_who_waits_for_having_left_often_waits_for_the_rest(tmp_path: Path, clock: Clock, *, restarted: bool) -> None:
    loop, now = Loop(tmp_path, guard=guard(join_s=5.0)), time.monotonic()
    often = Standing(C, State.JOINING, now, joined_at=now - 30.0, left_at=now - 20.0, flaps=6)
    loop.reconciler.judge.history = History({**History.of((A, B)).standings, C.id: often})
    await loop.say((A, B, C), TARGETS)
    clock.ahead += 180.0
    await loop.say((A, B, C))
    loop = await again(tmp_path / "again", loop, guard(join_s=5.0), restarted=restarted)
    await loop.say((A, B, C))
    clock.ahead += 115.0
    await loop.say((A, B, C))
    assert hosts(loop) == "ab", "295 s of 300"
    clock.ahead += 10.0
    await loop.say((A, B, C))
    assert hosts(loop) == "abc"


async def test_who_waits_at_the_leader_waits_on_while_that_is_reloaded(tmp_path: Path) -> None:
    """Else a follower lets in at once who waits at the leader for five minutes."""
    term, rules = Leadership(alone=False, clock=lambda: 0.0), Guard(Rules())
    term.lead("us", 10, 5.0)
    loop = Loop(tmp_path, memory=Memory(members=(A,), history=History.of((A,))), leadership=term, guard=rules)
    loop.facts.put_listed((A, B))
    await loop.say((A, B), TARGETS)
    assert term.waiting == {"x": (B.id,)}
    await again(tmp_path / "again", loop, rules, restarted=False)
    assert (term.down, term.waiting) == ({"x": (B,)}, {"x": (B.id,)})


async def test_a_release_is_not_used_up_by_a_moment_without_an_answer(tmp_path: Path) -> None:
    loop = await in_a_panic(tmp_path, guard(hold_s=600.0), Reply.SILENT)
    assert loop.reconciler.release(), "a person is told that it is let go"
    loop.facts.members.put(Unknown("time-out"))
    await loop.reconciler.cycle()
    await loop.say(TEN[:4])
    assert hosts(loop) == "abcd"


# --- while the process stands still ----------------------------------------------------------------------------------


async def test_a_pulse_tells_how_long_the_process_stood_still_and_before_anything_else_goes_on() -> None:
    now, stood = [100.0], list[float]()
    pulse = Pulse(stood.append, lambda: now[0])
    pulse.beat()
    running = asyncio.create_task(pulse.run())
    await asyncio.sleep(0)
    now[0] += BEAT_S + STILL_S - 0.1
    pulse.beat()
    assert not stood, "it was busy"
    now[0] += 300.0
    pulse.beat()
    pulse.beat()
    assert stood == [300.0]
    running.cancel()


async def stand_still(loop: Loop, clock: Clock, seconds: float) -> None:
    """The loop, whose pulse runs, is stopped for so long: its cycle goes on first."""
    running = asyncio.create_task(loop.reconciler.pulse.run())
    await asyncio.sleep(0)
    clock.ahead += seconds
    await loop.reconciler.cycle()
    running.cancel()
    await asyncio.wait([running])


async def test_who_is_silent_in_a_panic_is_asked_again_after_it_stood_still(tmp_path: Path, clock: Clock) -> None:
    loop = await in_a_panic(tmp_path, guard(), Reply.SILENT)
    clock.ahead += 5.0
    await stand_still(loop, clock, 120.0)
    assert hosts(loop) == "abcdefghij", "it has waited for 5 s of 60"
    assert not loop.facts.probed
    clock.ahead += 56.0
    await loop.say(TEN[:4])
    assert hosts(loop) == "abcdefghij", "nobody was asked since"
    probed(loop, Reply.SILENT)
    await loop.say(TEN[:4])
    assert hosts(loop) == "abcd"


async def test_a_list_is_not_believed_because_it_stood_still(tmp_path: Path, clock: Clock) -> None:
    loop = Loop(tmp_path, guard=guard(shrinks=True))
    await loop.say((A, B), TARGETS)
    for _ in range(4):
        clock.ahead += 5.0
        await loop.say(targets=SHORT)
    assert loop.reasons() == ["source_shrank"]
    await stand_still(loop, clock, 300.0)
    assert loop.reasons() == ["source_shrank"], "it was said for 15 s of 300"
    clock.ahead += 290.0
    await loop.say(targets=SHORT)
    assert loop.reasons() == []


async def test_nobody_comes_in_because_it_stood_still(tmp_path: Path, clock: Clock) -> None:
    loop = Loop(tmp_path, guard=guard(join_s=30.0))
    loop.reconciler.judge.history = History.of((A, B))
    await loop.say((A, B), TARGETS)
    await loop.say((A, B, C))
    await stand_still(loop, clock, 300.0)
    assert hosts(loop) == "ab"
    clock.ahead += 31.0
    await loop.say((A, B, C))
    assert hosts(loop) == "abc"
