"""A wall clock that jumps while processes run, and only the wall clock: libfaketime by LD_PRELOAD.

Owns the file that says how far the clock is off, and what libfaketime leaves in /dev/shm when its process is killed.
Promises that CLOCK_REALTIME jumps for processes started with ``env``, and that monotonic and boot time, time-outs and the
times of files do not. Does not promise anything for programs that do not ask libc for the time: Go programs (Consul,
Prometheus) see the true clock; ``vdsoclock`` reaches those.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from promring.demo.process import StartError, find

LIBRARY = "libfaketime.so.1"
DAY_S = 86400.0
_SLEEP, _NO_SLEEP = b"\0clock_nanosleep\0", b"\0xlock_nanosleep\0"
_LEFT_BEHIND = ("faketime_shm_", "sem.faketime_sem_")


def available() -> str:
    """Why it cannot be had, "" when it can."""
    return "" if find(LIBRARY) else f"{LIBRARY} is not here; scripts/fetch-servers gets it"


class WallClock:
    """The wall clock of the processes that are started with ``env``. Use as a context manager, around them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        library = _without_sleep(folder)
        self._file = folder / "faketime"
        self.offset_s = 0.0
        self.jump(0.0)
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",  # else it reads the file every 10 s
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",  # its name before 0.9.8
            "NO_FAKE_STAT": "1",  # else each known file looks rewritten at the jump
        }

    def __enter__(self) -> WallClock:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what libfaketime left of processes that were killed."""
        for path in Path("/dev/shm").iterdir():  # noqa: S108  # where glibc has shared memory
            pid = next((path.name.removeprefix(p) for p in _LEFT_BEHIND if path.name.startswith(p)), "")
            if pid.isdecimal() and not Path("/proc", pid).exists():
                with contextlib.suppress(OSError):
                    path.unlink()

    def jump(self, by_s: float) -> None:
        """Set the clock forward, or back when negative, at once and for all of its processes."""
        self.offset_s += by_s
        new = self._file.with_suffix(".new")
        new.write_text(f"{self.offset_s:+f}\n")
        new.replace(self._file)


def _without_sleep(folder: Path) -> Path:
    """A copy of the library that leaves ``clock_nanosleep`` alone, its name is another there. Up to 0.9.10 a sleep until a
    moment of the monotonic clock, so each ``time.sleep`` since Python 3.11, fails with EINVAL when that clock is not faked:
    https://github.com/wolfcw/libfaketime/issues/426
    """
    library = find(LIBRARY)
    if library is None:
        raise StartError(available())
    made = folder / LIBRARY
    made.write_bytes(library.read_bytes().replace(_SLEEP, _NO_SLEEP))
    return made
