"""One folder is one scraper's: agents of two scrapers that write the same files would each take the other's targets away.

A running agent holds a lock on a file in its folder, with the name of its scraper in it. Another agent of the same scraper
does no harm and goes on without the lock; one of another scraper ends. Where there can be no such file, or no lock (some
network file systems), nobody is asked: the slices are told apart by their generations only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from promring.model import PromringError

OWNER = ".promring-agent"
NAME_BYTES_MAX = 1024
_FLAGS = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class TakenError(PromringError):
    """The agent of another scraper writes into the folder; the text names both."""


@contextlib.contextmanager
def owned(folder: Path, scraper: str) -> Iterator[None]:
    """While it runs. Raises ``TakenError``. Blocks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / OWNER, os.O_RDONLY | _FLAGS, 0o644)  # or its file system could not become read-only
    except OSError:
        yield
        return
    try:
        _claim(descriptor, folder, scraper)
        yield
    finally:
        os.close(descriptor)


def _claim(descriptor: int, folder: Path, scraper: str) -> None:
    with contextlib.suppress(OSError, UnicodeError):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, NAME_BYTES_MAX, 0).decode().strip()
            if owner and owner != scraper:
                raise TakenError(
                    f"--dir {folder}: the agent of {owner[:200]!r} writes here; the one of {scraper!r} needs another folder"
                ) from None
            return
        writing = os.open(folder / OWNER, os.O_WRONLY | os.O_TRUNC | _FLAGS)
        try:
            os.write(writing, f"{scraper}\n".encode())
        finally:
            os.close(writing)
