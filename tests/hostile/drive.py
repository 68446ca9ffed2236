"""Plays every hostile answer to one adapter's loop, one after the other, and says what became of the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from tests.fakes.hostile import SLOW, HostilePeer
from tests.waiting import until

Check = Callable[[], bool]


@asynccontextmanager
async def running(work: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """A loop beside the block, which must still run at its end."""
    task = asyncio.create_task(work)
    try:
        yield task
        assert not task.done(), f"the loop ended: {task.exception()!r}"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def play_all(
    peer: HostilePeer,
    task: asyncio.Task[Any],
    *,
    kept: Check = lambda: True,
    others: Check = lambda: True,
    nudge: Callable[[], None] = lambda: None,
    slow_s: float = 1.0,
    skip: frozenset[str] = frozenset(),
    every: int = 1,
    between: Callable[[], Awaitable[None]] | None = None,
) -> str:
    """Each case is asked for at least once; after each ``kept`` (the last good state) holds, and ``others`` do, or soon do
    again (on a busy machine an honest peer may miss a deadline, too). What was done, in words.
    """
    names = [name for name in peer.cases() if name not in skip][::every]
    cases = {name: peer.cases()[name] for name in names}
    for name, case in cases.items():
        peer.play(name, case)

        def asked() -> bool:
            nudge()
            return peer.served >= 1 or task.done()

        await until(asked, f"{name}: it was not asked again", 60)
        await asyncio.sleep(slow_s if name in SLOW else 0.05)
        assert not task.done(), f"{name} ended the loop: {task.exception()!r}"
        assert kept(), f"{name}: the last good state is lost"
        await until(others, f"{name}: another peer suffers", 60)
        if between is not None:
            peer.play("honest", None)
            await between()
            assert not task.done(), f"after {name} the loop ended: {task.exception()!r}"
    peer.play("honest", None)
    return f"{len(cases)} hostile answers, loop alive"
