"""What has to be so for some time: a moment without an answer, a reload or a restart does not begin it anew, and the time
for which the process stood still does not count.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from promring.agent.fence import ALONE_S, Fence
from promring.core.pool import pool_of
from promring.core.standing import History, Rules, Standing, State
from promring.core.unresponsive import HANGS_S, Unresponsive
from promring.core.verdicts import Facts
from promring.delivery import Outcome
from promring.delivery.receiver import Envelope, Note
from promring.election.leadership import Leadership
from promring.fleet.departures import PROOF_S, WAITS_S, Departures
from promring.fleet.dispatcher import Dispatcher
from promring.fleet.refusing import AGAIN_FIRST_S, Refusing
from promring.fleet.state import Memory
from promring.fleet.term import FOUND_AGAIN_S
from promring.fleet.visitors import PATIENCE_S, Visitors
from promring.membership.listed import LISTED_STILL_S, Listed
from promring.membership.listing import Lineup
from promring.model import NONE_FAILING, Fact, Failing, Generation, Known, Members, Reply, Scraper, TargetGroup, Unknown
from promring.runtime.pulse import BEAT_S, STILL_S, Pulse
from promring.telemetry import log
from tests.ahead import Clock
from tests.judging import Guard
from tests.unit.test_reconcile import NAMES, TARGETS, A, B, Loop

C = Scraper("c:1", "c", 1)
TEN = tuple(Scraper(f"{name}:1", name, 1) for name in "abcdefghij")
SHORT = pool_of((TargetGroup.of(NAMES[:5]),))


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
    assert term.told.waiting == {"x": (B.id,)}
    await again(tmp_path / "again", loop, rules, restarted=False)
    assert (term.told.down, term.told.waiting) == ({"x": (B,)}, {"x": (B.id,)})


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


# --- what else a reload goes on with ---------------------------------------------------------------------------------


async def test_a_shorter_list_is_believed_although_there_are_reloads(tmp_path: Path, clock: Clock) -> None:
    """One that is asked each 15 s, and a reload each 4 minutes, as a management of configurations may do."""
    loop = Loop(tmp_path, guard=guard(shrinks=True))
    await loop.say((A, B), TARGETS)
    for turn in range(1, 41):
        clock.ahead += 15.0
        short = pool_of((TargetGroup.of(NAMES[:5]),))  # after a reload it is read anew
        loop.cells["s"].put(Known(short))
        await loop.reconciler.cycle()
        if not loop.reasons():
            assert 20 <= turn <= 22, f"believed after {turn * 15} s instead of 300"
            return
        if turn % 16 == 0:
            before = loop
            loop = await again(tmp_path / f"r{turn}", before, guard(shrinks=True), restarted=False)
            loop.facts.go_on_from(before.facts, {})
            await loop.say((A, B))
    raise AssertionError("never")


async def test_another_list_than_before_a_reload_is_to_be_said_as_often_as_any(tmp_path: Path, clock: Clock) -> None:
    loop = Loop(tmp_path, guard=guard(shrinks=True))
    await loop.say((A, B), TARGETS)
    for _ in range(10):
        clock.ahead += 28.0
        await loop.say(targets=SHORT)
    after = await again(tmp_path / "again", loop, guard(shrinks=True), restarted=False)
    after.facts.go_on_from(loop.facts, {})
    clock.ahead += 40.0
    await after.say((A, B), pool_of((TargetGroup.of(NAMES[:4]),)))
    assert after.reasons() == ["source_shrank"]


def test_who_departs_waits_and_is_dead_no_longer_because_of_a_reload(clock: Clock) -> None:
    def facts() -> Facts:
        members: Members = (A, B)
        known = Known(members)
        return Facts(Fact(known, 0.0, known, 0.0), {})

    def reloaded(before: Departures) -> Departures:
        after = Departures(before.remembered, log=log.get())
        after.go_on_from(before)
        return after

    departures = Departures((A,), log=log.get())
    departures.applied(facts(), coming={B.id})
    clock.ahead += WAITS_S - 1.0
    departures = reloaded(departures)
    departures.applied(facts(), coming={B.id})
    assert [s.draining for s in departures.scrapers] == [False]
    clock.ahead += 2.0
    departures.applied(facts(), coming={B.id})
    assert [s.draining for s in departures.scrapers] == [True]
    departures.put_probed(A.id, Reply.REFUSES)
    clock.ahead += PROOF_S - 1.0
    departures = reloaded(departures)
    departures.put_probed(A.id, Reply.REFUSES)
    assert not departures.end({}, (), {})
    clock.ahead += 2.0
    departures.put_probed(A.id, Reply.REFUSES)
    assert [s.id for s in departures.end({}, (), {})] == [A.id]


def test_who_is_missing_from_a_list_leaves_after_its_time_although_there_is_a_reload() -> None:
    before, after = (Lineup(60.0, may_be_short=True) for _ in range(2))
    before.heard((A, B), 0.0)
    before.heard((A,), 1.0)
    after.heard((A, B), 50.0)  # who lived before
    after.missed(before)
    after.heard((A,), 50.0)
    assert not after.decide(lambda _: True, 60.0)
    assert after.decide(lambda _: True, 61.0)
    after.missed(before)
    assert after.left.keys() == {B.id}


def test_who_left_the_catalogue_is_listed_no_longer_because_of_reloads() -> None:
    now = [0.0]
    before = Listed((A, B), lambda: now[0])
    before.heard((A,), ())
    now[0] = LISTED_STILL_S - 1.0
    after = Listed(before.members, lambda: now[0])
    after.go_on_from(before)
    after.heard((A,), ())
    assert [s.id for s in after.members] == [A.id, B.id]
    now[0] += 2.0
    assert [s.id for s in after.members] == [A.id]
    after.heard((A, B), ())
    assert [s.id for s in after.members] == [A.id, B.id], "it is back"


def test_who_refuses_connections_does_so_for_as_long_over_a_reload() -> None:
    before = Unresponsive().after({A.id}, {A.id}, {A.id: 0.0}, {}, 0.0).after({A.id}, {A.id}, {}, {A.id: Reply.HANGS}, 1.0)
    after = Unresponsive.of(before.answers).after_reload(before)
    after = after.after({A.id}, {A.id}, {}, {A.id: Reply.HANGS}, 170.0)
    assert not after.scrapers
    assert after.after({A.id}, {A.id}, {}, {A.id: Reply.HANGS}, 1.0 + HANGS_S).scrapers
    still = after.stood_still(100.0)
    assert not still.after({A.id}, {A.id}, {}, {A.id: Reply.HANGS}, 1.0 + HANGS_S).scrapers
    assert still.ends_next == after.ends_next + 100.0


def test_who_refused_a_service_again_and_again_waits_as_long_over_a_reload(clock: Clock) -> None:
    pair = "x", A.id
    before = Refusing()
    for n in range(6):  # refuses, takes, refuses, ...
        before.now({pair}, {pair})
        clock.ahead += 1.0
        before.now(set(), {pair})
        clock.ahead += AGAIN_FIRST_S * 2**n
        before.now(set(), {pair})
    before.now({pair}, {pair})
    after, fresh = Refusing([pair]), Refusing([pair])
    after.go_on_from(before)
    clock.ahead += 1.0
    assert after.now(set(), {pair}) == before.now(set(), {pair}) == {pair}
    assert fresh.now(set(), {pair}) == set(), "else it would have its share at once"


async def test_a_reload_does_not_go_above_another_controller_that_lives(tmp_path: Path) -> None:
    """Two without a lock, by mistake: the other one was started later, and goes on writing."""
    loop = Loop(tmp_path)
    await loop.say((A, B), TARGETS)  # receivers took ours
    loop.sink.refused = [Outcome(A.id, "refused", "it has generation 90.3, refuses 7.1", Generation(90, 3))]
    await loop.reconciler.cycle()
    epoch = loop.leadership.epoch
    assert loop.leadership.locked_out_by == Generation(90, 3), "it waits until that one is silent for 10 s"
    after = Loop(tmp_path / "again", memory=loop.reconciler.memory, leadership=loop.leadership)
    after.sink.refused = loop.sink.refused
    after.reconciler.dispatcher.go_on_from(loop.reconciler.dispatcher, {})
    await after.say((A, B), TARGETS)
    assert after.leadership.epoch == epoch


def test_who_comes_for_slices_is_not_away_because_the_process_stood_still(clock: Clock) -> None:
    visitors = Visitors()
    visitors.serve([A.id, B.id])
    visitors.saw([B.id], [B.id])
    for _ in range(3):
        clock.ahead += 60.0
        visitors.came(A.id)
    visitors.saw([B.id], [])
    clock.ahead += 300.0
    visitors.stood_still(300.0)
    assert visitors.away() == {B.id: PATIENCE_S}, "it ran its slice 180 s ago, but for the stand-still"
    assert visitors.present() == {A.id}
    visitors.serve([B.id])
    visitors.saw([B.id], [B.id])
    visitors.serve([A.id])
    assert visitors.present() == set(), "who gets no slice any more is forgotten"


def test_who_counts_as_failing_without_a_word_does_so_no_longer_because_of_reloads(tmp_path: Path, clock: Clock) -> None:
    def made(failing: Failing) -> Dispatcher:
        return Dispatcher({"x": Loop(tmp_path).couriers}, {}, Leadership(), lambda: None, log.get(), failing)

    before = made(Failing.of((), [("x", A.id)]))
    clock.ahead += FOUND_AGAIN_S - 1.0
    before._settle()
    assert before.failing.refusing == (("x", A.id),)
    after = made(before.failing)
    after.go_on_from(before, {})
    after.stood_still(10.0)
    clock.ahead += 10.0
    after._settle()
    assert after.failing.refusing == (("x", A.id),)
    clock.ahead += 2.0
    after._settle()
    assert after.failing == NONE_FAILING


def test_an_agent_that_stood_still_asks_around_again_before_it_takes_an_older_slice() -> None:
    now = [1000.0]
    fence = Fence(lambda: now[0])  # the poller's clock stands still with it
    have, offer = Note(Generation(9, 5), "aa", 10), Envelope(b"[]\n", "bb", Generation(9, 3), 10)
    fence.refused(offer.note, have, "older")
    assert fence.rule()(Path("x"), have, offer), "the leader may show a newer one within 10 s"
    now[0] += ALONE_S
    assert not fence.rule()(Path("x"), have, offer)


async def test_the_clock_of_a_process_that_stood_still_does_not_count_that() -> None:
    now = [100.0]
    pulse = Pulse(clock=lambda: now[0])
    running = asyncio.create_task(pulse.run())
    await asyncio.sleep(0)
    now[0] += 1.0
    assert pulse.awake() == 101.0
    now[0] += 300.0
    assert pulse.awake() == pulse.awake() == 101.0
    now[0] += 2.0
    assert pulse.awake() == 103.0
    running.cancel()
