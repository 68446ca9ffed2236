"""Who counts as alive while nobody listens at its address: by what it did, when it is asked directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from promring.core.closed import CLOSED_S, Closed
from promring.core.second_opinion import SecondOpinions
from promring.fleet import unreachable
from promring.fleet.facts import FactBoard
from promring.fleet.unreachable import REMEMBERED_S, Unreachable
from promring.model import Failing, Reply, Scraper
from promring.telemetry import log

A, B, C = (Scraper(f"{name}:1", name, 1) for name in "abc")
IDS = frozenset(s.id for s in (A, B, C))
ANSWERS, REFUSES, SILENT = Reply.ANSWERS, Reply.REFUSES, Reply.SILENT


def after(said: Sequence[tuple[float, Reply | None]], *, heard: bool = True) -> Closed:
    """After A, which was heard before or not, has done this at these times when it was asked directly; None: not asked."""
    found = Closed().after(IDS, IDS if heard else IDS - {A.id}, {}, 0.0)
    for at, reply in said:
        found = found.after(IDS, (), {} if reply is None else {A.id: reply}, at)
    return found


@pytest.mark.parametrize(
    ("what", "said", "closed"),
    [
        ("it refuses, for a moment", [(10.0, REFUSES), (10.0 + CLOSED_S - 0.1, REFUSES)], False),
        ("it refuses for long", [(10.0, REFUSES), (10.0 + CLOSED_S, REFUSES)], True),
        ("it is silent for long", [(10.0, SILENT), (999.0, SILENT)], False),
        ("it answered between", [(10.0, REFUSES), (60.0, ANSWERS), (61.0, REFUSES), (80.0, REFUSES)], False),
        ("it was silent between", [(10.0, REFUSES), (60.0, SILENT), (61.0, REFUSES), (80.0, REFUSES)], False),
        ("it answers again", [(10.0, REFUSES), (70.0, REFUSES), (71.0, ANSWERS)], False),
        ("it is there again, and not ready", [(10.0, REFUSES), (70.0, REFUSES), (71.0, SILENT)], False),
        ("it could not be asked since", [(10.0, REFUSES), (70.0, REFUSES), (71.0, None)], True),
        ("it was not asked between", [(10.0, REFUSES), (60.0, None), (61.0, REFUSES), (80.0, REFUSES)], False),
    ],
)
def test_who_refuses_for_a_minute_is_closed(what: str, said: Sequence[tuple[float, Reply | None]], *, closed: bool) -> None:
    assert after(said).scrapers == ({A.id} if closed else set()), what


def test_who_never_answered_is_not_closed() -> None:
    """The port of scraper_api may be wrong, or a firewall refuses."""
    found = after([(10.0, REFUSES), (999.0, REFUSES)], heard=False)
    assert (found.scrapers, found.since, found.suspects((A, B), {A.id})) == (frozenset(), {}, ())


def test_who_is_silent_is_asked_directly_and_so_is_who_is_closed() -> None:
    assert after([]).suspects((A, B, C), {B.id}) == (B,)
    closed = after([(10.0, REFUSES), (70.0, REFUSES)])
    assert closed.suspects((A, B, C), ()) == (A,)
    assert closed.suspects((B, C), {A.id}) == (), "it does not count as alive"


def test_who_does_not_count_as_alive_any_more_is_forgotten() -> None:
    closed = after([(10.0, REFUSES), (70.0, REFUSES)])
    left = closed.after(IDS - {A.id}, (), {A.id: REFUSES}, 71.0)
    assert (left.scrapers, left.since, A.id in left.heard) == (frozenset(), {}, False)
    assert closed.after(IDS - {A.id}, (), {}, 71.0).scrapers == frozenset(), "nor who is not asked any more"


def test_it_is_looked_again_when_the_next_is_closed() -> None:
    one = Closed().after(IDS, IDS, {A.id: REFUSES}, 10.0).after(IDS, (), {A.id: REFUSES, B.id: REFUSES}, 30.0)
    assert one.ends_next == 10.0 + CLOSED_S
    assert one.after(IDS, (), {A.id: REFUSES, B.id: REFUSES}, 70.0).ends_next == 30.0 + CLOSED_S
    assert Closed().ends_next == float("inf")


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(unreachable, "time", found)
    return found


def doubted(one: Unreachable, board: FactBoard, replies: Mapping[str, Reply]) -> list[str]:
    board.probed = replies
    return [s.id for s in one.doubts(board, (A, B, C))]


def test_who_is_closed_gets_nothing_until_it_answers(clock: Clock) -> None:
    one, board = Unreachable(SecondOpinions(), log=log.get()), FactBoard()
    board.answering = dict.fromkeys(IDS, 1.0)
    assert doubted(one, board, {}) == []
    board.answering, board.silent = {B.id: 1.0, C.id: 1.0}, frozenset({A.id})
    assert doubted(one, board, {}) == [A.id]
    assert doubted(one, board, {A.id: REFUSES}) == [A.id]
    assert one.found(Failing.of(["z:1"], [("x", "b:1")])) == Failing.of(["z:1"], [("x", "b:1")])
    assert one.ends_next == clock.now + CLOSED_S
    clock.now += CLOSED_S
    assert doubted(one, board, {A.id: REFUSES}) == [A.id]
    assert one.found(Failing.of(["z:1"], [("x", "b:1")])) == Failing.of([A.id, "z:1"], [("x", "b:1")])
    assert doubted(one, board, {A.id: ANSWERS}) == [A.id], "the audit has not seen it yet"
    assert one.found(Failing()) == Failing()


def test_a_restart_remembers_who_was_closed_until_it_answers_or_could_not_be_asked_for_long(clock: Clock) -> None:
    one, board = Unreachable(SecondOpinions(), Failing.of([A.id, B.id, C.id]), log=log.get()), FactBoard()
    assert doubted(one, board, {}) == [A.id, B.id, C.id]
    assert doubted(one, board, {A.id: REFUSES, B.id: ANSWERS}) == [A.id, C.id]
    clock.now += REMEMBERED_S
    assert doubted(one, board, {A.id: REFUSES}) == [A.id]
    assert one.found(Failing()).scrapers == (A.id,)
