"""Facts: what is kept of an answer, and when the loop is woken."""

from __future__ import annotations

import asyncio
import operator
import time

import pytest

from promring.core.pool import pool_of
from promring.core.standing import History, Rules
from promring.fleet import facts
from promring.fleet.facts import Cell, FactBoard
from promring.model import Answer, Empty, Fact, Known, Members, Scraper, TargetGroup, TargetPool, Unknown
from tests.judging import Act, Facts, Guard, judge
from tests.sim.faketime import Clock, FakeLoop

A, B = (Scraper("a:1", "a", 1),), (Scraper("b:1", "b", 1),)


async def test_no_answer_and_an_empty_one_keep_the_last_good_value_and_its_time() -> None:
    now = [100.0]
    board = FactBoard(clock=lambda: now[0])
    board.members.put(Known(A))
    now[0] = 200.0
    board.members.put(Unknown("refused"))
    fact = board.newest().members
    assert (fact.good, fact.good_at, fact.asked_at, fact.stale) == (Known(A), 100.0, 200.0, True)
    board.members.put(Empty())
    fact = board.newest().members
    assert (fact.newest, fact.good) == (Empty(), Known(A))


async def test_only_a_difference_wakes_the_loop() -> None:
    board = FactBoard()
    assert board.take() is None
    board.members.put(Known(A))
    assert await board.wait(0)
    assert board.take() is not None
    for _ in range(3):
        board.members.put(Known(tuple(A)))
    assert not await board.wait(0.01)
    board.members.put(Unknown("one"))
    assert board.take() is not None
    board.members.put(Unknown("two"))
    assert board.take() is None
    board.members.put(Known(A))
    assert board.take() is not None
    board.members.put(Known(B))
    assert board.take() is not None


async def test_an_equal_list_keeps_its_identity_so_nothing_is_computed_again() -> None:
    board = FactBoard()
    board.members.put(Known(A))
    first = board.newest().members.good
    board.members.put(Known((Scraper("a:1", "a", 1),)))
    assert board.newest().members.good is first


async def test_lists_are_told_apart_by_identity() -> None:
    board = FactBoard()
    cell = board.add("x", ["s"]).cells["s"]
    one, equal = pool_of((TargetGroup.of(["a:1"]),)), pool_of((TargetGroup.of(["a:1"]),))
    cell.put(Known(one))
    assert board.take() is not None
    cell.put(Known(one))
    assert board.take() is None
    cell.put(Known(equal))
    assert board.take() is not None


async def test_a_restored_value_is_stale_until_an_answer_comes() -> None:
    board = FactBoard()
    board.members.restore(A, 50.0, "not asked yet")
    fact = board.newest().members
    assert (fact.good, fact.good_at, fact.stale) == (Known(A), 50.0, True)
    board.members.put(Known(A))
    assert not board.newest().members.stale


async def test_an_answer_that_is_partly_from_before_is_stale_and_its_time_stands_still() -> None:
    now = [100.0]
    board = FactBoard(clock=lambda: now[0])
    cell = board.add("x", ["s"]).cells["s"]
    groups = pool_of((TargetGroup.of(["a:1"]),))
    cell.put(Known(groups))
    now[0] = 200.0
    cell.put(Known(groups), "a.json: vanished")
    fact = board.newest().services["x"]["s"]
    assert (fact.good, fact.good_at, fact.stale, fact.trouble) == (Known(groups), 100.0, True, "a.json: vanished")
    cell.put(Known(groups))
    fact = board.newest().services["x"]["s"]
    assert (fact.good_at, fact.stale) == (200.0, False)


async def test_while_there_is_nothing_why_is_news() -> None:
    board = FactBoard()
    cell = board.add("x", ["s"]).cells["s"]
    cell.put(Unknown("refused"))
    assert board.take() is not None
    cell.put(Unknown("refused"))
    assert board.take() is None
    cell.put(Unknown("no such module"))
    assert board.take() is not None


# --- what confirms ---------------------------------------------------------------------------------------------------

FULL = pool_of((TargetGroup.of([f"t{n}:1" for n in range(60)]),))
HALF = pool_of((TargetGroup.of([f"t{n}:1" for n in range(30)]),))
ONE: Members = (Scraper("a:1", "a", 1),)


class Told:
    """A source's cell at one refresh interval, and a guard that judges after each answer, in fake time."""

    def __init__(self, refresh_s: float, guard: Guard | None = None) -> None:
        self.guard = guard or Guard(Rules(join_delay_s=0))
        self.now, self.rings = 1000.0, 0
        self.cell: Cell[TargetPool] = Cell(self._ring, time.time, operator.is_, self.guard.confirmations, lambda: self.now)
        self.refresh_s, self.planned, self.again_at = refresh_s, FULL, float("inf")
        self.history = History.of(ONE)
        self.verdict: Act | None = None

    def _ring(self) -> None:
        self.rings += 1

    def says(self, what: Answer[TargetPool], for_s: float, trouble: str = "", remembered: bool = False) -> float | None:
        """Answers ``what`` at each interval for so long; seconds until it was believed, None when it was not."""
        began = self.now
        while self.now - began <= for_s:
            self.cell.put(what, trouble, remembered)
            self.judged()
            if self.planned is not FULL:
                return self.now - began
            asked_again_at = self.now + self.refresh_s
            while self.again_at < asked_again_at:
                self.now = self.again_at
                self.judged()
                if self.planned is not FULL:
                    return self.now - began
            self.now = asked_again_at
        return None

    def judged(self) -> None:
        facts = Facts(Fact(Known(ONE), 1.0, Known(ONE), 1.0), {"s": self.cell.fact})
        judgement = judge(facts, self.history, self.guard, self.now, planned={"s": self.planned})
        assert isinstance(judgement.verdict, Act)
        self.verdict, self.planned, self.again_at = judgement.verdict, judgement.verdict.sources["s"], judgement.again_at


INTERVALS = (1.0, 5.0, 60.0, 299.0, 300.0)


@pytest.mark.parametrize("refresh_s", INTERVALS)
@pytest.mark.parametrize(("what", "hold_s"), [(Known(HALF), 300.0), (Empty(), 3600.0)], ids=["half", "empty"])
def test_a_doubt_ends_after_its_time_and_enough_answers_whatever_the_interval(
    refresh_s: float, what: Answer[TargetPool], hold_s: float
) -> None:
    case = Told(refresh_s)
    case.says(Known(FULL), 2 * refresh_s)
    took = case.says(what, 3 * hold_s)
    assert took == pytest.approx(max(hold_s, 2 * refresh_s), abs=0.01)


@pytest.mark.parametrize("refresh_s", INTERVALS)
@pytest.mark.parametrize("what", [Known(HALF), Empty()], ids=["half", "empty"])
def test_failures_confirm_nothing_and_their_time_does_not_count(refresh_s: float, what: Answer[TargetPool]) -> None:
    case = Told(refresh_s)
    case.says(Known(FULL), 0)
    assert case.says(what, 0) is None
    assert case.says(Unknown("500"), 4000) is None, "what it said once is not confirmed by its failures"
    assert case.verdict is not None
    assert case.verdict.withheld, "the doubt is not over because the source fails"
    assert case.says(what, 0) is None, "nor by the first answer after them"
    assert case.says(Known(HALF), 4000, "b.json: vanished") is None
    assert case.says(Known(HALF), 4000, "b.json: vanished", True) is None
    assert case.says(Known(FULL), refresh_s) is None
    assert not case.verdict.withheld, "it was a slip"


def test_a_source_that_fails_now_and_then_is_believed_in_the_end() -> None:
    case, took = Told(10.0), None
    case.says(Known(FULL), 0)
    began = case.now
    for _ in range(100):
        took = case.says(Known(HALF), 40.0)
        if took is not None:
            break
        assert case.says(Unknown("500"), 0) is None
    assert took is not None
    assert 300 < case.now - began < 500


def test_an_answer_of_other_content_begins_anew_and_one_in_another_order_does_not() -> None:
    case = Told(60.0)
    case.says(Known(FULL), 0)
    assert case.says(Known(HALF), 240) is None
    other = pool_of((TargetGroup.of([f"t{n}:1" for n in range(29)]),))
    assert case.says(Known(other), 240) is None
    same = pool_of((TargetGroup.of([f"t{n}:1" for n in reversed(range(29))]),))
    assert case.says(Known(same), 240) is not None


def test_a_file_that_is_read_three_times_in_a_moment_has_said_it_once() -> None:
    case = Told(0.2, Guard(Rules(join_delay_s=0), shrink_hold_s=1.5))
    case.says(Known(FULL), 0)
    assert case.says(Known(HALF), 1.9) is None
    assert case.cell.fact.repeats == 2
    assert case.says(Known(HALF), 1.0) is not None


@pytest.mark.parametrize(
    ("rung", "settled"),
    [
        ([], 0.2),
        ([0.1], 0.3),
        ([0.1, 0.25], 0.45),
        ([0.1, 0.31], 0.3),
        ([n / 10 for n in range(50)], 1.0),
    ],
    ids=["alone", "another", "two more", "one that is too late", "without end"],
)
def test_what_goes_on_changing_waits_for_one_cycle_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, rung: list[float], settled: float
) -> None:
    """``rung``: when something more changes, seconds after the first."""
    loop = FakeLoop()
    monkeypatch.setattr(facts, "time", Clock(loop))

    async def played() -> float:
        board, began = FactBoard(loop.time), loop.time()
        board.wake()
        for after_s in rung:
            loop.call_at(began + after_s, board.wake)
        await board.settle(0.2)
        return loop.time() - began

    try:
        assert loop.run_until_complete(played()) == pytest.approx(settled, abs=1e-6)
    finally:
        loop.close()


def test_what_was_quiet_while_the_cycle_before_went_on_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = FakeLoop()
    monkeypatch.setattr(facts, "time", Clock(loop))

    async def played() -> float:
        board = FactBoard(loop.time)
        board.wake()
        await asyncio.sleep(0.5)
        began = loop.time()
        await board.settle(0.2)
        return loop.time() - began

    try:
        assert loop.run_until_complete(played()) == 0.0
    finally:
        loop.close()
