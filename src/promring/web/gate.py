"""Bounds on dear work that clients ask for: ``Gate`` for what runs in threads, ``Shared`` for what only the loop can do.

The work runs in a thread. A client that goes away does not stop its thread, so a place is free when the work has ended.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from promring.runtime.threads import consume_error, in_thread
from promring.web.envelope import ApiError

T = TypeVar("T")
RETRY_AFTER_S = 2
DEAR_S = 0.01
SHARE = 0.2
"""Of the event loop's time, that dear values may take."""


class Gate:
    """``at_once`` pieces of work at a time, in the order of asking; ``waiting`` more wait."""

    def __init__(self, what: str, *, at_once: int, waiting: int) -> None:
        self._what = what
        self._free = at_once
        self._most = waiting
        self._queue: deque[asyncio.Future[None]] = deque()

    async def run(self, work: Callable[[], T]) -> T:
        """The result of ``work``. Raises ``ApiError`` 503 when too many wait already."""
        await self._enter()
        running = asyncio.ensure_future(in_thread(work))
        running.add_done_callback(self._leave)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(consume_error)
            raise

    async def _enter(self) -> None:
        if self._free:
            self._free -= 1
            return
        if len(self._queue) >= self._most:
            raise ApiError(503, "busy", f"too many {self._what} at a time; ask again", retry_after_s=RETRY_AFTER_S)
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(None)  # the place was given in the same moment
            else:
                self._queue.remove(turn)
            raise

    def _leave(self, _: object) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Shared(Generic[T]):
    """A value that is made on the event loop. One that takes longer than ``DEAR_S`` is given to all who ask until making it
    again takes no more than ``SHARE`` of the time.
    """

    def __init__(self, make: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = make, clock
        self._made: tuple[T, float] | None = None

    def get(self) -> T:
        now = self._clock()
        if self._made is not None and now < self._made[1]:
            return self._made[0]
        made = self._make()
        took = self._clock() - now
        self._made = (made, now + took / SHARE) if took > DEAR_S else None
        return made

    def forget(self) -> None:
        """What it is made of has changed, by somebody who will ask."""
        self._made = None
