"""A real Prometheus that replays its write-ahead log for as long as one likes.

Prometheus reads the segments of its log in order, and answers ``/-/healthy`` with 200 and everything else with 503 until it
has read all. A FIFO in the place of the newest segment makes it wait in the middle of that, in server and agent mode.
"""

from __future__ import annotations

import os
from pathlib import Path


class HeldReplay:
    """``storage``: the data folder of a Prometheus that ran before and is stopped. ``hold`` before its next start; its
    replay ends after ``release``.
    """

    def __init__(self, storage: Path) -> None:
        self._wal = storage / "wal"
        self._held: tuple[Path, int] | None = None

    def hold(self) -> None:
        """Raises OSError when there is no log."""
        newest = max((int(p.name) for p in self._wal.iterdir() if p.name.isdecimal()), default=-1)
        fifo = self._wal / f"{newest + 1:08}"
        os.mkfifo(fifo)
        self._held = fifo, os.open(fifo, os.O_RDWR)  # a writer, so that the reader waits for bytes

    def release(self) -> None:
        """The segment is an empty file from now on, and the replay ends. Twice is as good as once."""
        if self._held is None:
            return
        (fifo, writer), self._held = self._held, None
        empty = fifo.with_name("promring-demo.tmp")
        empty.touch()
        empty.replace(fifo)
        os.close(writer)
