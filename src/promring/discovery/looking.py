"""Notices that files changed, by looking at them. A rename, a swapped symlink, a folder that is made again and a change on
a network file system are all seen, and no inotify instance is needed.

Owns one daemon thread for each ``Looking``; a file system that hangs stops that thread and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Self

from promring.model import NEVER_ENDS

LOOK_S = 0.1
LOOKS_A_SECOND = 200
"""Of all threads that look: each look, however short, takes the interpreter from the event loop for a moment."""
SHARE, SHARE_OF_ALL, REST = 50, 25, 4
"""A long look is followed by a long pause: ``SHARE`` times its processor time; ``SHARE_OF_ALL`` times that of all threads
that look, so that hundreds of sources together take a part of one processor, too; and ``REST`` times its time by the clock,
which spares a slow file system.
"""
AGAIN_S = 2.0
"""Seconds. Two writes within one tick of a file system's clock look like one write, so every change is told twice: at once,
and again after this time without another change.
"""


class Looking:
    """``look`` returns what is there now, as values that can be compared. It runs in the thread, and an error of it ends the
    looking. ``every_s`` and ``again_s``: seconds.

    Raises RuntimeError when no thread can be started.
    """

    _looking: ClassVar[int] = 0
    """How many are entered. Threads only read it."""

    def __init__(self, look: Callable[[], object], *, every_s: float = LOOK_S, again_s: float = AGAIN_S) -> None:
        self._look, self._every_s, self._again_s = look, every_s, again_s
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._ended = threading.Event()
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name="looking", daemon=True).start()
        Looking._looking += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        Looking._looking -= 1

    async def changed(self) -> None:
        """Wait until something changed since the last call; the first call returns at once. Raises the error of ``look``."""
        await self._changed.wait()
        self._changed.clear()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        """In the thread."""
        seen: object = None
        again_at, pause_s = NEVER_ENDS, 0.0
        while not self._ended.wait(pause_s):
            began, worked = time.monotonic(), time.thread_time()
            try:
                found = self._look()
            except Exception as error:  # whoever waits is told
                self._error = error
                self._ring()
                return
            now = time.monotonic()
            if found != seen:
                again_at = now + self._again_s
                self._ring()
            elif now >= again_at:
                again_at = NEVER_ENDS
                self._ring()
            seen = found
            share = max(SHARE, SHARE_OF_ALL * Looking._looking)
            pause_s = max(
                self._every_s, Looking._looking / LOOKS_A_SECOND, share * (time.thread_time() - worked), REST * (now - began)
            )

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._changed.set)
