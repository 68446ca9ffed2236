"""A folder in which one process at a time keeps files: whoever holds the lock on the file ``lock`` in it.

Promises: what stands in the place of the lock is never followed, waited for or emptied unless it is a regular file.
Does not promise: that the folder stays. It can be removed, moved or replaced by a link while it is held, or the lock alone
can be removed: then another process could lock what stands at the same path. ``keep`` sees that and takes what stands there
now; until then, for ``LOOK_S``, two processes may believe that the folder is theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from promring.runtime import disk
from promring.runtime.threads import BusyError, Single
from promring.runtime.unforeseen import Lasting
from promring.telemetry.log import Logger

NAME = "lock"
LOOK_S, ANSWER_S = 5.0, 30.0


class InUseError(Exception):
    """Another process holds the folder; the text names it."""


class OwnFolder:
    """``path``: it need not be there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def take(self) -> None:
        """Make the folder if it is missing, and hold it. Blocks. Raises ``InUseError``, OSError, ValueError; then what was
        held before is still held.
        """
        disk.make_private(self.path)
        descriptor = disk.open_plain(self.path / NAME, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 100).decode(errors="replace").strip() if isinstance(error, BlockingIOError) else ""
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise InUseError(f"{self.path} is in use by process {holder}") from None
            raise OSError(error.errno, f"cannot be locked: {error.strerror}", str(self.path)) from None
        with contextlib.suppress(OSError):  # who holds it is for people: a full disk need not know
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        before, self._descriptor = self._descriptor, descriptor
        _close(before)

    def is_held(self) -> bool:
        """Whether the lock that stands at the path is the one that is held. Blocks. Raises OSError when nobody knows."""
        try:
            return os.path.samestat((self.path / NAME).lstat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False

    async def keep(self, log: Logger, taken_again: Callable[[], None], every_s: float = LOOK_S) -> None:
        """For ever: look whether it is still held, and take what stands there when it is not. ``taken_again`` is called
        then: what was in it may be gone.
        """
        single, failing, lasting = Single(), False, Lasting()
        while True:
            await asyncio.sleep(every_s)
            try:
                taken = await single.run(self._take_again, ANSWER_S)
            except InUseError as error:
                why = str(error)
            except (OSError, ValueError) as error:
                why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            except (TimeoutError, BusyError):  # a disk that hangs
                why = f"no answer within {ANSWER_S:g} s"
            else:
                why = ""
                if taken:
                    log.warning("state_folder_taken_again", path=str(self.path))
                    taken_again()
            if why and lasting.is_news("", why, begins=not failing):
                log.error("state_folder_not_held", path=str(self.path), error=why)
            failing = bool(why)

    def _take_again(self) -> bool:
        """Whether it had to be taken."""
        if self.is_held():
            return False
        self.take()
        return True

    def close(self) -> None:
        """Hold it no more."""
        before, self._descriptor = self._descriptor, -1
        _close(before)


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
