"""Whether a file is still the one that was read, told without reading it.

A stamp is what a file system tells of a file: device, inode, size, time of the last write and of the last change. A write
that follows another one within one tick of the file system's clock may leave the same stamp, and ticks are as long as 2 s
(FAT). So a stamp vouches for bytes only if it had been seen ``TICK_S`` before they were read: a later write then falls into
another tick. This is git's rule for files that are "racily clean", with one difference: how long ago a stamp was first seen
is told by our own clock, since the clock of a file server may be wrong.

Does not promise to notice a write that leaves no trace in the stamp: one through ``mmap`` to a page that is dirty already,
one on a file system whose stamps lie. Who uses stamps reads a file once in a while whatever its stamp is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

TICK_S = 2.0

Stamp = tuple[object, ...]


class _Seen(NamedTuple):
    stamp: Stamp
    since_s: float


class Stamps:
    """What was seen of each file. ``look`` is for one thread, the rest for any. ``clock``: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._seen: dict[str, _Seen] = {}

    def of(self, file: str | int) -> Stamp:
        """Of a path, through links, or of a descriptor. The number of the error of one that cannot be looked at."""
        try:
            found = os.fstat(file) if isinstance(file, int) else Path(file).stat()
        except OSError as error:
            return (error.errno,)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def look(self, paths: Iterable[str]) -> list[Stamp]:
        """Their stamps, with their paths. Files that are not among them are forgotten."""
        before, seen = self._seen, {}
        for path in paths:
            stamp, known = self.of(path), before.get(path)
            seen[path] = known if known is not None and known.stamp == stamp else _Seen(stamp, self.clock())
        self._seen = seen
        return [(path, *one.stamp) for path, one in seen.items()]

    def vouches(self, path: str, stamp: Stamp, began_s: float) -> bool:
        """Whether a read that began then, with this stamp before and after it, has all that was written under this stamp."""
        known = self._seen.get(path)
        return known is not None and known.stamp == stamp and began_s >= known.since_s + TICK_S
