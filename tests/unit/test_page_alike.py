"""One page for all who ask for the same while nothing happens."""

from __future__ import annotations

import asyncio

import pytest

from promring.web.page.alike import Alike


class Made:
    """Pages, counted: each says which one it is."""

    def __init__(self) -> None:
        self.count, self.may_end = 0, asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> bytes:
        self.count += 1
        number = self.count
        await self.may_end.wait()
        return b"page %d" % number


async def test_who_asks_for_the_same_gets_the_same_until_something_is_another_thing() -> None:
    pages, made, overview = Alike(), Made(), object()
    assert [await pages.get(overview, 1, "/", made) for _ in range(3)] == [b"page 1"] * 3
    assert await pages.get(overview, 1, "/?q=a", made) == b"page 2"
    assert await pages.get(overview, 2, "/", made) == b"page 3", "an event came"
    assert await pages.get(object(), 2, "/", made) == b"page 4", "another overview"


async def test_all_who_ask_while_it_is_made_wait_for_one_and_nobody_takes_it_from_the_others_by_going_away() -> None:
    pages, made, overview = Alike(), Made(), object()
    made.may_end.clear()
    asked = [asyncio.create_task(pages.get(overview, 1, "/", made)) for _ in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()
    await asyncio.sleep(0)
    made.may_end.set()
    assert await asyncio.gather(*asked[1:]) == [b"page 1"] * 2


async def test_what_could_not_be_made_is_tried_again() -> None:
    pages, made, overview = Alike(), Made(), object()

    async def fails() -> bytes:
        raise ValueError("busy")

    with pytest.raises(ValueError, match="busy"):
        await pages.get(overview, 1, "/", fails)
    assert await pages.get(overview, 1, "/", made) == b"page 1"
