"""What an agent does at its disk: one thing at a time, in threads; and whether it comes to an end.

A network file system that is gone, or a disk that is dying, holds whoever touches it for minutes: all files wait then.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from promring.runtime.threads import in_thread, in_thread_shielded

T = TypeVar("T")
HANGS_S = 10.0


class AtDisk:
    """Owns since when something is being done, monotonic seconds. ``what``: the name of a file or a folder."""

    def __init__(self) -> None:
        self._what, self._since = "", 0.0

    async def look(self, what: str, work: Callable[[], T]) -> T:
        """What ``work`` brings, which changes nothing."""
        return await self._timed(what, in_thread(work))

    async def write(self, what: str, work: Callable[[], T]) -> T:
        """What ``work`` brings, which goes on to its end when the agent is stopped."""
        return await self._timed(what, in_thread_shielded(work))

    async def _timed(self, what: str, working: Awaitable[T]) -> T:
        self._what, self._since = what, time.monotonic()
        try:
            return await working
        finally:
            self._what = ""

    @property
    def hangs(self) -> str:
        """What does not come to an end; empty: nothing."""
        waited_s = time.monotonic() - self._since
        return f"the disk has not answered for {waited_s:.0f} s: {self._what}" if self._what and waited_s > HANGS_S else ""
