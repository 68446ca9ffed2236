"""Reads small files that belong to others: tokens, keys, notes. A file that is not what it should be cannot stop or fill us.

Promises: only a regular file is opened for reading (a FIFO or a device is refused without a wait; ``read_once``, for
commands, takes them), and at most ``bytes_max`` of it are taken. Does not promise an end: a hung mount hangs the read, so
call it in a thread (``threads.in_thread``).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO

PIECE_BYTES = 1 << 20


class NotRegularError(OSError):
    """A FIFO, device, socket or folder stands where a file was expected."""


class TooLargeError(OSError):
    """Longer than the reader takes."""


def read(path: Path, bytes_max: int, *, follow: bool = True) -> bytes:
    """``follow`` False: a symlink is refused. Raises OSError, which names the file and the reason."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegularError(errno.EINVAL, "not a regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            content = read_most(file, bytes_max + 1)
    finally:
        os.close(descriptor)
    if len(content) > bytes_max:
        raise TooLargeError(errno.EFBIG, f"larger than {bytes_max} bytes", str(path))
    return content


def read_most(file: IO[bytes], most: int) -> bytes:
    """At most so many bytes. ``file.read(most)`` takes memory for ``most`` bytes at once, however few there are: of a list
    of a few megabytes it leaves holes of half a gigabyte in a heap that several threads share.
    """
    size = max(0, os.fstat(file.fileno()).st_size - file.tell())
    first = file.read(min(most, size + 1))
    if len(first) <= size:
        return first
    pieces, left = [first], most - len(first)
    while left and pieces[-1]:  # it grew, or its size is not known beforehand
        pieces.append(file.read(min(left, PIECE_BYTES)))
        left -= len(pieces[-1])
    return b"".join(pieces)


def read_once(path: Path, bytes_max: int) -> bytes:
    """For what a person names on a command line, where a pipe is welcome (``<(vault read ...)``) and waited for. What never
    ends, such as ``/dev/zero``, ends at ``bytes_max``. Raises OSError, which names the file and the reason.
    """
    pieces, left = [], bytes_max + 1
    with open(path, "rb") as file:
        while left and (piece := file.read(min(left, PIECE_BYTES))):
            pieces.append(piece)
            left -= len(piece)
    if not left:
        raise TooLargeError(errno.EFBIG, f"larger than {bytes_max} bytes", str(path))
    return b"".join(pieces)


def check(path: Path) -> None:
    """Whether ``path`` can be opened and ends: it is a regular file, or ``/dev/null``. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(found.st_mode) and not os.path.samestat(found, Path(os.devnull).stat()):
        raise NotRegularError(errno.EINVAL, "not a regular file", str(path))
