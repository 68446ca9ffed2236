"""Facts: what is kept of an answer, and when the loop is woken."""

from __future__ import annotations

from promring.core.pool import pool_of
from promring.facts import FactBoard
from promring.model import Empty, Known, Scraper, TargetGroup, Unknown

A, B = (Scraper("a:1", "a", 1),), (Scraper("b:1", "b", 1),)


async def test_no_answer_and_an_empty_one_keep_the_last_good_value_and_its_time() -> None:
    now = [100.0]
    board = FactBoard(["s"], clock=lambda: now[0])
    board.members.put(Known(A))
    now[0] = 200.0
    board.members.put(Unknown("refused"))
    fact = board.newest().members
    assert (fact.good, fact.good_at, fact.asked_at, fact.stale) == (Known(A), 100.0, 200.0, True)
    board.members.put(Empty())
    fact = board.newest().members
    assert (fact.newest, fact.good) == (Empty(), Known(A))


async def test_only_a_difference_wakes_the_loop() -> None:
    board = FactBoard([])
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
    board = FactBoard([])
    board.members.put(Known(A))
    first = board.newest().members.good
    board.members.put(Known((Scraper("a:1", "a", 1),)))
    assert board.newest().members.good is first


async def test_lists_are_told_apart_by_identity() -> None:
    board = FactBoard(["s"])
    one, equal = pool_of((TargetGroup.of(["a:1"]),)), pool_of((TargetGroup.of(["a:1"]),))
    board.sources["s"].put(Known(one))
    assert board.take() is not None
    board.sources["s"].put(Known(one))
    assert board.take() is None
    board.sources["s"].put(Known(equal))
    assert board.take() is not None


async def test_a_restored_value_is_stale_until_an_answer_comes() -> None:
    board = FactBoard([])
    board.members.restore(A, 50.0, "not asked yet")
    fact = board.newest().members
    assert (fact.good, fact.good_at, fact.stale) == (Known(A), 50.0, True)
    board.members.put(Known(A))
    assert not board.newest().members.stale


async def test_an_answer_that_is_partly_from_before_is_stale_and_its_time_stands_still() -> None:
    now = [100.0]
    board = FactBoard(["s"], clock=lambda: now[0])
    groups = pool_of((TargetGroup.of(["a:1"]),))
    board.sources["s"].put(Known(groups))
    now[0] = 200.0
    board.sources["s"].put(Known(groups), "a.json: vanished")
    fact = board.newest().sources["s"]
    assert (fact.good, fact.good_at, fact.stale, fact.trouble) == (Known(groups), 100.0, True, "a.json: vanished")
    board.sources["s"].put(Known(groups))
    fact = board.newest().sources["s"]
    assert (fact.good_at, fact.stale) == (200.0, False)


async def test_while_there_is_nothing_why_is_news() -> None:
    board = FactBoard(["s"])
    board.sources["s"].put(Unknown("refused"))
    assert board.take() is not None
    board.sources["s"].put(Unknown("refused"))
    assert board.take() is None
    board.sources["s"].put(Unknown("no such module"))
    assert board.take() is not None
