"""The frames of a state file: what was saved whole, then one frame for each change since. It knows no state, only bytes.

A frame is a header line, a body and an end line. The header tells the length and SHA-256 of the body, the generation that
is in it, the name of the frame, the name of the frame that it comes ``after``, and a check of the header itself; the end
tells generation and name again, with a check. A frame is appended, synced and read back before anything of it is delivered,
so that only the last one can be torn.

``scan`` believes all or nothing but the tail: the first frame, a frame before another one, and a frame that belongs to
another file or is there twice, are errors. A tail that is no whole frame is what a crash in the middle of an append leaves:
it is left out, and its generation is told when its header or its end can be read. So what was delivered and then damaged
is not taken for what is to be given out next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from promring.model import Generation
from promring.runtime import disk
from promring.runtime.disk import Buffer

VERSION = 7
MAGIC, END = b"promring-state", b"promring-saved"
FIRST = "-"
"""What the frame comes after that has the whole state."""
STATE_BYTES_MAX = 1024**3
"""Two million targets or more. A longer file is neither written nor read."""
HEADER_BYTES_MAX, FRAME_BYTES_MAX = 256, 512
"""Of a header or an end; of both."""
READ_BYTES = 1 << 20
_CHECK_DIGITS = 16


class Frame(NamedTuple):
    """``at`` and ``size``: where its body is in the file. ``name`` is random."""

    name: str
    after: str
    generation: Generation
    at: int
    size: int
    digest: str = ""

    @property
    def end(self) -> int:
        return self.at + self.size + len(end(self.generation, self.name))


@dataclass(frozen=True, slots=True)
class Scanned:
    """The sound frames of a file. ``cut``: why what is behind them was left out, empty when there is nothing."""

    frames: Sequence[Frame]
    cut: str = ""
    lost: Generation | None = None
    """The generation of what was left out, when it can be read."""


@dataclass(frozen=True, slots=True)
class Position:
    """A file as we left it: which one, how long, and the names of its first and its last frame. ``first``: bytes up to the
    first change.
    """

    device: int
    inode: int
    size: int
    origin: str
    last: str
    first: int


def new_name() -> str:
    return secrets.token_hex(8)


def header(pieces: Sequence[Buffer], generation: Generation, name: str, after: str) -> bytes:
    """Of a frame whose body is these pieces, one after the other."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    words = b"%s %d %d %s %s %s %s" % (
        MAGIC,
        VERSION,
        size,
        str(generation).encode(),
        name.encode(),
        after.encode(),
        digest.hexdigest().encode(),
    )
    return b"%s %s\n" % (words, _check(words))


def end(generation: Generation, name: str) -> bytes:
    """The last line of a frame."""
    words = b"%s %s %s" % (END, str(generation).encode(), name.encode())
    return b"%s %s\n" % (words, _check(words))


def _check(words: bytes) -> bytes:
    return hashlib.sha256(words).hexdigest()[:_CHECK_DIGITS].encode()


# --- reading ---------------------------------------------------------------------------------------------------------


def open_state(path: Path) -> BinaryIO:
    """Raises OSError, or ValueError for what is not a file of a size that is read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe does not hold us up
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > STATE_BYTES_MAX:
            raise ValueError(f"not a file of at most {STATE_BYTES_MAX} bytes")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def scan(file: BinaryIO) -> Scanned:
    """Reads the file once. Raises OSError, or ValueError that says what is wrong."""
    size = os.fstat(file.fileno()).st_size
    frames = [_frame(file, 0)]
    _check_body(file, frames[0], size)
    if frames[0].after != FIRST:
        raise ValueError("corrupt: it begins with a change")
    while (at := frames[-1].end) < size:
        frame = None
        try:
            frame = _frame(file, at)
            _check_body(file, frame, size)
        except ValueError as error:
            if _has_frame(file, at + 1) or (frame is not None and frame.after != frames[-1].name):
                raise ValueError(f"corrupt: frame {len(frames) + 1}, before the end") from error
            lost = frame.generation if frame else _last_saved(file, max(at, size - HEADER_BYTES_MAX))
            return Scanned(frames, f"{size - at} bytes at the end: {error}", lost)
        if frame.after != frames[-1].name:
            raise ValueError(f"corrupt: frame {len(frames) + 1} does not belong here")
        frames.append(frame)
    return Scanned(frames)


def _frame(file: BinaryIO, at: int) -> Frame:
    """What the header there says. Raises ValueError."""
    file.seek(at)
    line = file.readline(HEADER_BYTES_MAX)
    words = line.split()
    if len(words) < 4 or words[0] != MAGIC or not line.endswith(b"\n"):
        raise ValueError("not a state file")
    if words[1] != b"%d" % VERSION:
        raise ValueError(f"written by another version of promring (format {words[1].decode('ascii', 'replace')})")
    if len(words) != 8 or line != b"%s %s\n" % (b" ".join(words[:-1]), _check(b" ".join(words[:-1]))):
        raise ValueError("corrupt: a header differs from its check")
    size, generation, name, after, digest = (word.decode("ascii") for word in words[2:7])
    epoch, _, n = generation.partition(".")
    return Frame(name, after, Generation(int(epoch), int(n)), at + len(line), int(size), digest)


def _check_body(file: BinaryIO, frame: Frame, size: int) -> None:
    digest, left = hashlib.sha256(), frame.size
    if frame.end <= size:
        while left and (chunk := file.read(min(left, READ_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    if left or digest.hexdigest() != frame.digest or file.read(frame.end - file.tell()) != end(frame.generation, frame.name):
        raise ValueError("corrupt: length or SHA-256 differ")


def _last_saved(file: BinaryIO, at: int) -> Generation | None:
    """What the end of a frame says that is somewhere from there on."""
    file.seek(at)
    line = file.read()
    words = line[max(0, line.rfind(END)) :].split()
    if len(words) != 4 or not line.endswith(b" %s\n" % _check(b" ".join(words[:3]))):
        return None
    epoch, _, n = words[1].partition(b".")
    return Generation(int(epoch), int(n))


def _has_frame(file: BinaryIO, at: int) -> bool:
    """Whether a header stands anywhere from there on."""
    file.seek(at)
    rest = file.read()
    found = rest.find(MAGIC)
    while found >= 0:
        try:
            _frame(file, at + found)
        except ValueError:
            found = rest.find(MAGIC, found + 1)
        else:
            return True
    return False


# --- writing ---------------------------------------------------------------------------------------------------------


def position_of(descriptor: int, origin: str, last: str, first: int) -> Position:
    found = os.fstat(descriptor)
    return Position(found.st_dev, found.st_ino, found.st_size, origin, last, first)


def stands_at(path: Path, position: Position) -> bool:
    """Whether the file is still there as we left it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    known = (position.device, position.inode, position.size)
    return stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino, found.st_size) == known


def write_whole(path: Path, pieces: Sequence[Buffer], generation: Generation) -> Position:
    """Another file in the place of what was there. Raises OSError; nothing has changed then."""
    name = new_name()
    line = header(pieces, generation, name, FIRST)
    with disk.replacing(path, mode=0o600) as descriptor:
        disk.write_at(descriptor, 0, [line, *pieces, end(generation, name)])
        return position_of(descriptor, name, name, os.fstat(descriptor).st_size)


def append(path: Path, position: Position, pieces: Sequence[Buffer], generation: Generation) -> Position:
    """One frame more. Raises OSError: then the file is as it was, or has a part of the frame at its end, which ``scan``
    leaves out, and does not stand at ``position`` any more.
    """
    name = new_name()
    line = header(pieces, generation, name, position.last)
    descriptor = disk.open_plain(path, os.O_RDWR)
    try:
        try:
            disk.write_at(descriptor, position.size, [line, *pieces, end(generation, name)])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, position.size)
            error.filename = str(path)
            raise
        return position_of(descriptor, position.origin, name, position.first)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def compacting(path: Path, begun: Position, pieces: Sequence[Buffer], generation: Generation) -> Iterator[Compaction]:
    """A file with the whole of what ``path`` had at ``begun`` in its place, when the block ends; nothing has changed when it
    raises. In the block, ``Compaction.follow`` takes over the frames that came after ``begun``.
    """
    line = header(pieces, generation, begun.last, FIRST)
    with disk.replacing(path, mode=0o600) as descriptor:
        disk.write_at(descriptor, 0, [line, *pieces, end(generation, begun.last)])
        yield Compaction(path, begun, descriptor)


@dataclass(frozen=True, slots=True)
class Compaction:
    """The new file, which has the old one's frame at ``begun`` as its first one."""

    path: Path
    begun: Position
    descriptor: int

    def follow(self, now: Position) -> Position:
        """Raises OSError."""
        first = os.fstat(self.descriptor).st_size
        with open(disk.open_plain(self.path, os.O_RDONLY), "rb") as old:
            old.seek(self.begun.size)
            frames = old.read(now.size - self.begun.size)
        if frames:
            disk.write_at(self.descriptor, first, [frames])
        return position_of(self.descriptor, self.begun.last, now.last, first)
