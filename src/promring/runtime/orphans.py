"""Buries what becomes our child because its own parent has ended, as process 1 of a container must.

What a Python source or Ansible leaves running ends some day as a child of process 1. Nobody waits for it there, and it stays
in the table of processes for ever. Promises: a child that somebody here waits for is left to them: only what has been dead
for ``DEAD_S`` is buried.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from promring.runtime.threads import in_thread

LOOK_S, DEAD_S = 20.0, 60.0


class Orphans:
    """``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._dead_since: dict[int, float] = {}

    async def run(self) -> None:
        """For ever, as process 1; others have no orphans."""
        while os.getpid() == 1:
            await asyncio.sleep(LOOK_S)
            await in_thread(self.look)
        await asyncio.Event().wait()

    def look(self) -> list[int]:
        """Bury those that have been dead for long; who they were."""
        now = self._clock()
        self._dead_since = {pid: self._dead_since.get(pid, now) for pid in _dead_children()}
        old = [pid for pid, since in self._dead_since.items() if now - since >= DEAD_S]
        for pid in old:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return old


def _dead_children() -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has gone meanwhile
                state, parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state == "Z" and int(parent) == os.getpid():
                    found.append(int(folder.name))
    return found
