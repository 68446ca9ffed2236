"""The election in fake time, on a store in memory that loses answers, refuses, and has something else in the note."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from promring.consul.lock import ConsulLockSettings
from promring.election.leadership import STEP, Leadership
from promring.election.loop import AGAIN_S, PATIENCE_S, RIGHTS_S, Election, Lease
from promring.model import Generation
from promring.telemetry import log
from tests.fakes.lock import FakeLockServer
from tests.sim.faketime import FakeLoop

TTL_S = 5.0


@dataclass
class One:
    """A controller's part in the election, and what it comes to."""

    leadership: Leadership
    election: Election
    informed: bool
    task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.election.run())

    async def die(self) -> None:
        """As by kill -9: nothing is released."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def stop(self) -> None:
        await self.die()
        await self.election.release()


class Ground:
    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.server = FakeLockServer(clock)
        self.made: list[One] = []
        self.lapses: list[str] = []
        """Whose lease ended unrenewed, each time."""

    def one(self, name: str, *, highest: int = 0, informed: bool = True, ttl_s: float = TTL_S) -> One:
        leadership = Leadership(alone=False, clock=self.clock)
        made = One(
            leadership,
            Election(
                self.server.candidate(ttl_s),
                Lease(name, ttl_s),
                leadership,
                informed=lambda: made.informed,
                highest=lambda: max(highest, leadership.epoch),
                drained=dict,
                log=log.get(),
                lapsed=lambda: self.lapses.append(name),
            ),
            informed,
        )
        self.made.append(made)
        return made

    def leaders(self) -> list[One]:
        return [one for one in self.made if one.leadership.leads()]

    @property
    def note(self) -> Any:
        return json.loads(self.server.note or b"{}")

    async def until(self, condition: Callable[[], bool], at_most_s: float = 20.0) -> float:
        """The seconds of fake time that it takes."""
        started = self.clock()
        while not condition():
            assert self.clock() - started < at_most_s
            await asyncio.sleep(0.01)
        return self.clock() - started


def in_fake_time(play: Callable[[Ground], Awaitable[None]]) -> None:
    loop = FakeLoop()

    async def played() -> None:
        ground = Ground(loop.time)
        try:
            await play(ground)
        finally:
            for one in ground.made:
                await one.die()

    try:
        loop.run_until_complete(played())
    finally:
        loop.close()


def test_an_answer_that_is_lost_locks_nobody_out_and_brings_no_old_epoch() -> None:
    async def play(ground: Ground) -> None:
        first, second = ground.one("one"), ground.one("two")
        first.start()
        await ground.until(first.leadership.leads)
        await first.die()
        ground.server.lost = 2  # of taking the lock, and of writing the note
        second.start()
        await ground.until(second.leadership.leads)
        assert second.leadership.epoch > first.leadership.epoch
        assert ground.note["epoch"] == second.leadership.epoch
        assert not first.leadership.leads()

    in_fake_time(play)


@pytest.mark.parametrize("how", ["killed", "stopped", "cut off"])
def test_another_leads_in_a_higher_epoch_within_a_ttl(how: str) -> None:
    async def play(ground: Ground) -> None:
        first, second = ground.one("one"), ground.one("two")
        first.start()
        await ground.until(first.leadership.leads)
        second.start()
        await asyncio.sleep(3)
        match how:
            case "killed":
                await first.die()
            case "stopped":
                await first.stop()
            case "cut off":
                ground.server.down = True
                await ground.until(lambda: not ground.leaders(), Lease("", TTL_S).lease_s + 0.1)
                await asyncio.sleep(60)
                assert not ground.leaders(), "nobody leads without a store"
                await first.die()
                ground.server.down = False
        took = await ground.until(second.leadership.leads)
        assert took <= (0.5 if how == "stopped" else TTL_S + 0.5)
        assert second.leadership.epoch >= first.leadership.epoch + STEP

    in_fake_time(play)


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_epochs_climb_when_the_lock_is_removed_or_the_store_lost_its_data(how: str) -> None:
    async def play(ground: Ground) -> None:
        one = ground.one("one")
        one.start()
        await ground.until(one.leadership.leads)
        one.leadership.shared.drain("x", frozenset({"a:1"}))
        before = one.leadership.epoch
        ground.server.remove() if how == "removed" else ground.server.forget()
        await ground.until(lambda: one.leadership.leads() and one.leadership.epoch >= before + STEP)
        assert ground.note["epoch"] == one.leadership.epoch

    in_fake_time(play)


@pytest.mark.row("K13", did="a leader that is frozen for longer than its lease")
def test_a_frozen_leader_is_none_when_it_thaws_and_follows() -> None:
    async def play(ground: Ground) -> None:
        frozen, second = ground.one("frozen"), ground.one("second")
        frozen.start()
        await ground.until(frozen.leadership.leads)
        await frozen.die()  # it does nothing
        second.start()
        await ground.until(second.leadership.leads)
        assert not frozen.leadership.leads(), "before it has asked anybody"
        frozen.start()
        await ground.until(lambda: frozen.leadership.leader == "second")
        assert ground.leaders() == [second]

    in_fake_time(play)


def test_who_may_not_take_the_lock_leads_once_it_may() -> None:
    async def play(ground: Ground) -> None:
        one = ground.one("one")
        ground.server.denied = True
        one.start()
        await asyncio.sleep(30)
        assert not ground.leaders()
        ground.server.denied = False
        await ground.until(one.leadership.leads, 1.0)

    in_fake_time(play)


def test_epochs_never_repeat_while_three_lead_in_turn() -> None:
    async def play(ground: Ground) -> None:
        epochs: list[int] = []
        for n in range(3):
            ground.one(f"{n}").start()
        for turn in range(9):
            await ground.until(lambda: len(ground.leaders()) == 1)
            (leader,) = ground.leaders()
            epochs.append(leader.leadership.epoch)
            await (leader.stop() if turn % 2 else leader.die())
            await ground.until(lambda was=leader: any(one is not was for one in ground.leaders()))  # type: ignore[misc]
            leader.start()
        assert epochs == sorted(set(epochs))

    in_fake_time(play)


@pytest.mark.parametrize(
    "note",
    [b"", b"x", b"[]", b"{}", b'{"epoch": -1}', b'{"epoch": 100000000000000000000}', b'{"epoch": "7"}', b"[" * 100_000],
    ids=["nothing", "no JSON", "a list", "an empty object", "below zero", "too high", "a text", "deep"],
)
def test_whatever_stands_in_the_note_somebody_leads(note: bytes) -> None:
    async def play(ground: Ground) -> None:
        ground.server.put(note)
        one = ground.one("one", highest=41)
        one.start()
        await ground.until(one.leadership.leads)
        before = one.leadership.epoch
        assert before >= 43
        ground.server.put(b'{"leader": "nobody", "epoch": 3}')  # by hand, while it is locked
        await ground.until(lambda: ground.note.get("leader") == "one")
        assert one.leadership.leads()
        assert one.leadership.epoch == before

    in_fake_time(play)


def test_a_drain_survives_a_stop_at_once_and_the_next_leader_has_it() -> None:
    async def play(ground: Ground) -> None:
        one, next_one = ground.one("one"), ground.one("next")
        one.start()
        await ground.until(one.leadership.leads)
        one.leadership.shared.drain("x", frozenset({"a:1"}))
        await one.stop()
        assert ground.note["drained"] == {"x": ["a:1"]}
        next_one.start()
        await ground.until(next_one.leadership.leads)
        assert next_one.leadership.told.drained == {"x": frozenset({"a:1"})}

    in_fake_time(play)


def test_who_knows_less_leads_only_when_nobody_else_does_for_long() -> None:
    async def play(ground: Ground) -> None:
        stale, knowing = ground.one("stale", informed=False), ground.one("knowing")
        stale.start()
        await asyncio.sleep(PATIENCE_S - 1)
        assert not stale.leadership.leads()
        knowing.start()
        await ground.until(knowing.leadership.leads, 1.0)
        await asyncio.sleep(2 * PATIENCE_S)
        assert not stale.leadership.leads(), "it saw the lock held: its patience begins when that ends"
        await knowing.die()
        assert await ground.until(stale.leadership.leads, 2 * PATIENCE_S) > PATIENCE_S

    in_fake_time(play)


def test_a_receiver_with_a_higher_epoch_makes_the_leader_climb() -> None:
    async def play(ground: Ground) -> None:
        one = ground.one("one")
        one.start()
        await ground.until(one.leadership.leads)
        one.leadership.outranked("s", Generation(one.leadership.epoch + 100, 1))
        above = one.leadership.epoch + 100
        await ground.until(lambda: one.leadership.epoch > above, 1.0)
        assert one.leadership.leads()

    in_fake_time(play)


@pytest.mark.parametrize(("ttl_s", "lease_s"), [(60.0, 4.0), (5.0, 4.0), (2.0, 1.6)])
def test_the_lease_is_short_however_long_the_ttl_where_a_store_may_free_the_lock_early(ttl_s: float, lease_s: float) -> None:
    settings = ConsulLockSettings(check_ttl=ttl_s)
    assert Lease("x", settings.ttl_s, settings.lease_most_s).lease_s == pytest.approx(lease_s)


def test_the_loads_of_the_leader_come_to_the_others_and_to_who_leads_after_it() -> None:
    book = bytes(range(256))

    async def play(ground: Ground) -> None:
        first, second = ground.one("one"), ground.one("two")
        first.start()
        await ground.until(first.leadership.leads)
        second.start()
        first.leadership.shared.placed_by("main", book)
        await ground.until(lambda: second.leadership.told.loads == {"main": book})
        await first.die()
        await ground.until(second.leadership.leads)
        assert second.leadership.told.loads == {"main": book}
        second.leadership.shared.placed_by("main", b"")
        await ground.until(lambda: ground.note["loads"] == {"main": ""})

    in_fake_time(play)


@pytest.mark.parametrize("leads", [True, False])
def test_a_right_that_is_taken_away_is_named_while_the_lock_goes_on(leads: bool) -> None:
    async def play(ground: Ground) -> None:
        first, second = ground.one("one"), ground.one("two")
        first.start()
        await ground.until(first.leadership.leads)
        second.start()
        one = first if leads else second
        with structlog.testing.capture_logs() as lines:
            await asyncio.sleep(2 * RIGHTS_S)
            assert one.leadership.lacking == ""
            ground.server.lacking = "the token must have: session write"
            await asyncio.sleep(5 * RIGHTS_S)
            assert one.leadership.lacking == ground.server.lacking
            ground.server.lacking = ""
            await asyncio.sleep(2 * RIGHTS_S)
            assert one.leadership.lacking == ""
        said = [line["event"] for line in lines if "right" in line["event"]]
        assert said == ["lock_right_missing"] * 2 + ["lock_right_back"] * 2, "once for each"
        assert first.leadership.leads()

    in_fake_time(play)


def test_asking_for_rights_never_costs_the_lease() -> None:
    async def play(ground: Ground) -> None:
        first = ground.one("one")
        ground.server.rights_take_s = 3600.0
        first.start()
        await ground.until(first.leadership.leads)
        for _ in range(int(3 * RIGHTS_S * 10)):
            await asyncio.sleep(0.1)
            assert first.leadership.leads()

    in_fake_time(play)


@pytest.mark.parametrize(("ttl_s", "answers_take_s"), [(5.0, 0.5), (5.0, 0.7), (5.0, 0.9), (15.0, 2.5), (60.0, 5.0)])
def test_a_store_that_answers_slowly_does_not_cost_the_lease(ttl_s: float, answers_take_s: float) -> None:
    """A round is a read and a write, and what they took is a part of it. A longer TTL is for a slower store."""

    async def play(ground: Ground) -> None:
        ground.server.answers_take_s = answers_take_s
        first, other = ground.one("one", ttl_s=ttl_s), ground.one("two", ttl_s=ttl_s)
        first.start()
        await ground.until(first.leadership.leads)
        other.start()
        for _ in range(int(3 * RIGHTS_S * 10)):
            await asyncio.sleep(0.1)
            assert first.leadership.leads()
        assert not other.leadership.leads()

    in_fake_time(play)


def test_a_lease_that_ends_before_the_answer_that_renews_it_comes_is_said() -> None:
    async def play(ground: Ground) -> None:
        first = ground.one("one")
        first.start()
        await ground.until(first.leadership.leads)
        with structlog.testing.capture_logs() as lines:
            ground.server.answers_take_s = 1.9
            await ground.until(lambda: not first.leadership.leads())
            await ground.until(first.leadership.leads)
        (said,) = [line for line in lines if line["event"] == "lease_lapsed"]
        assert 0.0 < said["for_s"] < 5.0
        assert set(ground.lapses) == {"one"}

    in_fake_time(play)


def test_a_store_that_shows_the_lock_as_ours_and_takes_no_note_is_not_flooded() -> None:
    async def play(ground: Ground) -> None:
        first = ground.one("one")
        first.start()
        await ground.until(first.leadership.leads)
        ground.server.takes_nothing, before = True, ground.server.reads
        await asyncio.sleep(60)
        assert ground.server.reads - before < 60 / AGAIN_S + 2
        assert not first.leadership.leads(), "its lease is over"
        ground.server.takes_nothing = False
        await ground.until(first.leadership.leads)

    in_fake_time(play)
