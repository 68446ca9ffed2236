"""One folder is one scraper's: agents of two scrapers that write the same files would each take the other's targets away.

A running agent holds a shared lock on a file in its folder, with the name of its scraper in it. Another agent of the same
scraper does no harm, and holds it, too; one of another scraper ends. The name is written under an exclusive lock. Where
there can be no such file, or no lock (some network file systems), nobody is asked: the slices are told apart by their
generations only. A folder that is made anew, or mounted over, is claimed again (``still``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from promring.model import PromringError
from promring.runtime.address import canonical_id

OWNER = ".promring-agent"
NAME_BYTES_MAX = 1024
PATIENCE_S, LOOK_S = 0.5, 0.02
"""While somebody else may be writing its name."""
_FLAGS = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class TakenError(PromringError):
    """The agent of another scraper writes into the folder; the text names both."""


class Owned:
    """``before``: the scraper whose folder it was until now, if that is another one."""

    def __init__(self, folder: Path, scraper: str) -> None:
        self._folder, self._scraper = folder, canonical_id(scraper)
        self._descriptor: int | None = None
        self.before = ""

    def claim(self) -> None:
        """Raises ``TakenError``. Blocks."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Only read: a file that is open for writing keeps its file system from becoming read-only.
            self._descriptor = os.open(self._folder / OWNER, os.O_RDONLY | _FLAGS, 0o644)
            self._claim(self._descriptor)

    def still(self) -> bool:
        """Whether another folder is in its place; it is claimed, too. Raises ``TakenError``. Blocks."""
        if self._descriptor is None:
            return False
        with contextlib.suppress(OSError):
            ours = os.fstat(self._descriptor)
            try:
                there = (self._folder / OWNER).lstat()
            except FileNotFoundError:
                there = None
            if there is None or (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
                self.release()
                self.before = ""
                self.claim()
                return True
        return False

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _claim(self, descriptor: int) -> None:
        """Raises ``TakenError``, and OSError where there is no such lock."""
        ends_at = time.monotonic() + PATIENCE_S
        while True:
            if _locks(descriptor, fcntl.LOCK_EX):
                before = _name(descriptor)
                self.before = before if before not in ("", self._scraper) else self.before
                writing = os.open(self._folder / OWNER, os.O_WRONLY | os.O_TRUNC | _FLAGS)
                with open(writing, "wb", buffering=0) as file:
                    file.write(f"{self._scraper}\n".encode())
            shared = _locks(descriptor, fcntl.LOCK_SH)  # not one step from the other lock: somebody may have come between
            owner = _name(descriptor)
            if shared and owner == self._scraper:
                return
            if time.monotonic() > ends_at:
                break
            time.sleep(LOOK_S)
        if owner and owner != self._scraper:
            others = f"the agent of {owner!r} writes here; the one of {self._scraper!r} needs another folder"
            raise TakenError(f"--dir {self._folder}: {others}")


@contextlib.contextmanager
def owned(folder: Path, scraper: str) -> Iterator[Owned]:
    """The folder is this scraper's while the context lasts. Raises ``TakenError``. Blocks."""
    found = Owned(folder, scraper)
    try:
        found.claim()
        yield found
    finally:
        found.release()


def _name(descriptor: int) -> str:
    return os.pread(descriptor, NAME_BYTES_MAX, 0).decode(errors="replace").strip()[:200]


def _locks(descriptor: int, kind: int) -> bool:
    """Whether there is this lock now, instead of another one. Raises OSError where there can be none."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
