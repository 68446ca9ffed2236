"""One folder is one scraper's: agents of two scrapers that write the same files would each take the other's targets away.

A running agent holds a shared lock on a file in its folder, with the name of its scraper in it. Another agent of the same
scraper does no harm, and holds it, too; one of another scraper ends. The name is written under an exclusive lock. Where
there can be no such file, or no lock (some network file systems), nobody is asked: the slices are told apart by their
generations only.
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


@contextlib.contextmanager
def owned(folder: Path, scraper: str) -> Iterator[None]:
    """The folder is this scraper's while the context lasts. Raises ``TakenError``. Blocks."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            # Only read: a file that is open for writing keeps its file system from becoming read-only.
            descriptor = os.open(folder / OWNER, os.O_RDONLY | _FLAGS, 0o644)
            stack.callback(os.close, descriptor)
            _claim(descriptor, folder, canonical_id(scraper))
        yield


def _claim(descriptor: int, folder: Path, scraper: str) -> None:
    """Raises ``TakenError``, and OSError where there is no such lock."""
    ends_at = time.monotonic() + PATIENCE_S
    while True:
        if _locks(descriptor, fcntl.LOCK_EX):
            writing = os.open(folder / OWNER, os.O_WRONLY | os.O_TRUNC | _FLAGS)
            with open(writing, "wb", buffering=0) as file:
                file.write(f"{scraper}\n".encode())
        shared = _locks(descriptor, fcntl.LOCK_SH)  # not one step from the other lock: somebody may have come between
        owner = os.pread(descriptor, NAME_BYTES_MAX, 0).decode(errors="replace").strip()
        if shared and owner == scraper:
            return
        if time.monotonic() > ends_at:
            break
        time.sleep(LOOK_S)
    if owner and owner != scraper:
        others = f"the agent of {owner[:200]!r} writes here; the one of {scraper!r} needs another folder"
        raise TakenError(f"--dir {folder}: {others}")


def _locks(descriptor: int, kind: int) -> bool:
    """Whether there is this lock now, instead of another one. Raises OSError where there can be none."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
