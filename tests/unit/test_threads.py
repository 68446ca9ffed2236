"""Work beside the event loop."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from promring.threads import beside


class Heavy(bytearray):
    """Something that an error may hold."""


async def test_an_error_that_crossed_a_thread_is_freed_without_the_collector() -> None:
    alive: list[weakref.ref[Heavy]] = []

    def fail() -> None:
        heavy = Heavy(1000)
        alive.append(weakref.ref(heavy))
        raise ValueError("no")

    async def ask() -> str:
        try:
            await beside(fail)
        except ValueError as error:
            return str(error)
        return ""

    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            assert await ask() == "no"
        await asyncio.sleep(0.05)
        assert [ref() for ref in alive] == [None] * 5
    finally:
        gc.enable()


async def test_cancelled_the_thread_goes_on_alone_and_its_error_is_nobodys() -> None:
    task = asyncio.create_task(beside(lambda: 1 / 0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
