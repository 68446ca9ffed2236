"""Who counts as alive and answers nothing: by what it did, when it is asked directly."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from yarl import URL

from promring.core.second_opinion import SecondOpinions
from promring.core.unresponsive import HANGS_S, REFUSES_S, Answers, Unresponsive
from promring.fleet import health
from promring.fleet.facts import FactBoard
from promring.fleet.health import ScraperHealth
from promring.fleet.state import Memory
from promring.model import Failing, Reply, Scraper
from promring.runtime.tcp import accepts
from promring.telemetry import log

A, B, C = (Scraper(f"{name}:1", name, 1) for name in "abc")
IDS = frozenset(s.id for s in (A, B, C))
ANSWERS, REFUSES, HANGS, SILENT = Reply.ANSWERS, Reply.REFUSES, Reply.HANGS, Reply.SILENT


def heard() -> Unresponsive:
    return Unresponsive.of(Answers(tuple(sorted(IDS))))


def after(said: Sequence[tuple[float, Reply | None]], *, heard: bool = True) -> Unresponsive:
    """After A, which was heard before or not, has done this at these times when it was asked directly; None: not asked."""
    found = Unresponsive().after(IDS, (), IDS if heard else IDS - {A.id}, {}, 0.0)
    for at, reply in said:
        found = found.after(IDS, (), (), {} if reply is None else {A.id: reply}, at)
    return found


@pytest.mark.parametrize(
    ("what", "said", "found"),
    [
        ("it refuses, for a moment", [(10.0, REFUSES), (10.0 + REFUSES_S - 0.1, REFUSES)], False),
        ("it refuses for long", [(10.0, REFUSES), (10.0 + REFUSES_S, REFUSES)], True),
        ("it hangs, for some time", [(10.0, HANGS), (10.0 + HANGS_S - 0.1, HANGS)], False),
        ("it hangs for long", [(10.0, HANGS), (10.0 + HANGS_S, HANGS)], True),
        ("it hangs, and then refuses", [(10.0, HANGS), (70.0, REFUSES)], True),
        ("it refuses, and then hangs", [(10.0, REFUSES), (69.0, REFUSES), (70.0, HANGS)], False),
        ("it hangs, and is silent then", [(10.0, HANGS), (190.0, HANGS), (191.0, SILENT)], True),
        ("it is silent for long", [(10.0, SILENT), (999.0, SILENT)], False),
        ("it answered between", [(10.0, REFUSES), (60.0, ANSWERS), (61.0, REFUSES), (80.0, REFUSES)], False),
        (
            "it was silent between, as one that starts",
            [(10.0, REFUSES), (60.0, SILENT), (80.0, REFUSES)],
            True,
        ),
        ("it answers again", [(10.0, REFUSES), (70.0, REFUSES), (71.0, ANSWERS)], False),
        ("it is silent then: not ready, or its machine is gone", [(10.0, REFUSES), (70.0, REFUSES), (71.0, SILENT)], True),
        ("it refused for a moment, and is silent", [(10.0, REFUSES), (11.0, SILENT), (999.0, SILENT)], False),
        ("it could not be asked since", [(10.0, REFUSES), (70.0, REFUSES), (71.0, None)], True),
        ("it was not asked between", [(10.0, REFUSES), (60.0, None), (61.0, REFUSES), (80.0, REFUSES)], True),
    ],
)
def test_who_refuses_for_a_minute_or_hangs_for_three_is_unresponsive(
    what: str, said: Sequence[tuple[float, Reply | None]], *, found: bool
) -> None:
    assert after(said).scrapers.keys() == ({A.id} if found else set()), what


def test_who_never_answered_is_not_unresponsive() -> None:
    """The port of scraper_api may be wrong, or a firewall refuses."""
    found = after([(10.0, REFUSES), (999.0, REFUSES)], heard=False)
    assert (found.scrapers, found.since, found.suspects((A, B), {A.id})) == ({}, {}, ())


def test_who_is_silent_is_asked_directly_and_so_is_who_is_unresponsive() -> None:
    assert after([]).suspects((A, B, C), {B.id}) == (B,)
    one = after([(10.0, REFUSES), (70.0, REFUSES)])
    assert one.suspects((A, B, C), ()) == (A,)
    assert one.suspects((B, C), {A.id}) == (), "it does not count as alive"


def test_who_does_not_count_as_alive_any_more_is_forgotten() -> None:
    one = after([(10.0, REFUSES), (70.0, REFUSES)])
    left = one.after(IDS - {A.id}, (), (), {A.id: REFUSES}, 71.0)
    assert (left.scrapers, left.since, A.id in left.heard) == ({}, {}, False)
    assert one.after(IDS - {A.id}, (), (), {}, 71.0).scrapers == {}, "nor who is not asked any more"


def test_it_is_looked_again_when_the_next_is_unresponsive() -> None:
    one = heard().after(IDS, (), (), {A.id: REFUSES}, 10.0).after(IDS, (), (), {A.id: REFUSES, B.id: REFUSES}, 30.0)
    assert one.ends_next == 10.0 + REFUSES_S
    assert one.after(IDS, (), (), {A.id: REFUSES, B.id: REFUSES}, 70.0).ends_next == 30.0 + REFUSES_S
    assert heard().after(IDS, (), (), {A.id: HANGS}, 10.0).ends_next == 10.0 + HANGS_S
    assert Unresponsive().ends_next == float("inf")
    one = after([(10.0, REFUSES), (70.0, REFUSES), (71.0, None)])
    assert (one.scrapers, one.after(IDS, (), (), {A.id: HANGS}, 72.0).scrapers) == ({A.id: REFUSES}, {A.id: HANGS})


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(health, "time", found)
    return found


def doubted(one: ScraperHealth, board: FactBoard, replies: Mapping[str, Reply]) -> list[str]:
    board.probed = replies
    return [s.id for s in one.doubts(board, (A, B, C))]


def test_who_is_unresponsive_gets_nothing_until_it_answers(clock: Clock) -> None:
    one, board = ScraperHealth(SecondOpinions(), log=log.get()), FactBoard()
    board.answering = dict.fromkeys(IDS, 1.0)
    assert doubted(one, board, {}) == []
    board.answering, board.silent = {B.id: 1.0, C.id: 1.0}, frozenset({A.id})
    assert doubted(one, board, {}) == [A.id]
    assert doubted(one, board, {A.id: REFUSES}) == [A.id]
    assert one.found(Failing.of(["z:1"], [("x", "b:1")])) == Failing.of(["z:1"], [("x", "b:1")])
    assert one.ends_next == clock.now + REFUSES_S
    clock.now += REFUSES_S
    assert doubted(one, board, {A.id: REFUSES}) == [A.id]
    assert one.found(Failing.of(["z:1"], [("x", "b:1")])) == Failing.of([A.id, "z:1"], [("x", "b:1")])
    assert doubted(one, board, {A.id: ANSWERS}) == [A.id], "the audit has not seen it yet"
    assert one.found(Failing()) == Failing()


def test_a_restart_remembers_who_answered_and_who_is_unresponsive_and_not_who_is_only_undelivered(
    clock: Clock,
) -> None:
    """And so does a reload: one that died just before it is seen to be dead."""
    board, cut_off = FactBoard(), Failing.of([C.id])
    before = ScraperHealth(SecondOpinions(), (), Answers((A.id, B.id), (A.id,)), log=log.get())
    assert doubted(before, board, {}) == [A.id]
    memory = before.noted(Memory(), cut_off)
    assert (memory.undelivered, memory.answers) == (cut_off, Answers((A.id, B.id), (A.id,)))
    assert before.noted(memory, cut_off) is memory, "nothing is to be saved"
    one = ScraperHealth(SecondOpinions(), (), memory.answers, log=log.get())
    board.silent = IDS
    assert doubted(one, board, {C.id: REFUSES}) == [A.id, B.id], "C never answered"
    clock.now += 2 * HANGS_S
    assert doubted(one, board, {C.id: REFUSES}) == [A.id, B.id]
    assert one.found(cut_off).scrapers == (A.id, C.id)
    assert doubted(one, board, {A.id: ANSWERS}) == [A.id, B.id]
    assert one.found(cut_off).scrapers == (C.id,)


def test_who_is_listed_is_not_forgotten_while_it_does_not_count_as_alive() -> None:
    gone = heard().after(IDS - {A.id}, [A.id], (), {}, 10.0)
    assert A.id in gone.heard
    assert A.id not in gone.after(IDS - {A.id}, (), (), {}, 11.0).heard


def test_what_is_saved_is_sorted_so_that_the_same_is_not_saved_again() -> None:
    ids = tuple(f"{n}:1" for n in range(9))
    assert Unresponsive.of(Answers(ids[::-1], ("3:1", "1:1"))).answers == Answers(ids, ("1:1", "3:1"))


def test_who_answered_is_known_under_another_id_and_by_several_fleets_that_become_one() -> None:
    one, other = Answers(("a:1", "b:1", "gone:1"), ("b:1",)), Answers(("b", "c"), ("c",))
    renamed = one.renamed({"a:1": "z", "b:1": "b", "x:1": "x"})
    assert renamed == Answers(("b", "z"), ("b",))
    assert renamed.and_those_of(other) == other.and_those_of(renamed) == Answers(("b", "c", "z"), ("b", "c"))


async def test_an_address_accepts_or_does_not() -> None:
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        assert await accepts(URL(f"http://127.0.0.1:{port}"), 5.0)
        assert await accepts(URL(f"http://localhost:{port}"), 5.0), "one of its addresses does"
    finally:
        listening.close()
    assert not await accepts(URL(f"http://127.0.0.1:{port}"), 5.0)
    assert not await accepts(URL("http://nobody.invalid:9090"), 5.0)


def test_who_answered_the_last_look_is_responsive_whatever_it_did_before() -> None:
    one = after([(10.0, REFUSES), (70.0, REFUSES)])
    assert one.after(IDS, (), IDS, {A.id: REFUSES}, 71.0).scrapers == {}
