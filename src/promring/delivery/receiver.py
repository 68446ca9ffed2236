"""The receiver of slices on this host: what is checked before a slice becomes a file. Used by file delivery and by agents.

A slice travels as bytes with their SHA-256 and a generation. Under a lock the receiver refuses bytes that do not match the
digest, bytes that are no target list, and a generation older than the accepted one. Else it writes the bytes whole or not at
all (``disk.install``). The note ``.NAME.promring`` beside the file has what was accepted last: generation, digest, and for a
slice of a follower the epoch of its leader. The note is written first: a receiver that is killed in between has the
old slice and takes the new one again.

``receiver.sh`` is the same receiver for other hosts; ``tests/receivers.py`` is the contract of both.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple, TypeVar

import msgspec

from promring.model import EPOCH_MOST, Generation, PromringError, Slice
from promring.runtime import disk
from promring.runtime.json_entries import Entries, ListError
from promring.telemetry import log
from promring.telemetry.log import Logger

P = TypeVar("P", bound=PurePath)
LOCK_WAIT_S = 2.0
NOTE_BYTES_MAX = 1024
GROUPS_MAX = 5_000_000
GROUP_BYTES_MAX = 64 * 1024 * 1024
_WHITE = b" \t\r\n"
_GENERATION = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")


class RefusedError(PromringError):
    """The receiver keeps what it has; the text says why. ``have``: the generation it has, when that is why."""

    def __init__(self, why: str, have: Generation | None = None) -> None:
        super().__init__(why)
        self.have = have


class _Group(msgspec.Struct, forbid_unknown_fields=True):
    targets: list[str]
    labels: dict[str, str] = {}


_check = msgspec.json.Decoder(_Group).decode


@dataclass(frozen=True, slots=True)
class Envelope:
    body: bytes
    sha256: str
    generation: Generation
    follows: int = 0
    """The epoch of the leader that its maker follows; 0: its maker leads, or does not say."""

    @classmethod
    def of(cls, slice_: Slice) -> Envelope:
        return cls(slice_.body, slice_.sha256, slice_.generation)

    def is_whole(self) -> bool:
        return hashlib.sha256(self.body).hexdigest() == self.sha256

    @property
    def note(self) -> Note:
        return Note(self.generation, self.sha256, self.follows)


class Note(NamedTuple):
    """What a receiver has, as it stands beside the file."""

    generation: Generation
    sha256: str
    follows: int = 0
    """As in ``Envelope``."""

    @property
    def rank(self) -> tuple[int, bool, int]:
        """Orders what receivers may have: by the leader's epoch, what a leader made after what its followers made."""
        return (self.follows or self.generation.epoch, not self.follows, self.generation.n)

    def line(self) -> bytes:
        return f"{self.generation} {self.sha256}{f' {self.follows}' if self.follows else ''}\n".encode()


def parse_generation(text: str) -> Generation:
    """``epoch.n``. Raises ValueError, for one that is too high to be a controller's, too."""
    match = _GENERATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a generation such as 1.7")
    generation = Generation(int(match[1]), int(match[2]))
    if max(generation) >= EPOCH_MOST:
        raise ValueError(f"{text!r} is not a generation: no controller comes so far, another program answers or writes here")
    return generation


Rule = Callable[[Path, Note, Envelope], str]
"""Why the receiver of that path, who has that, does not take this; empty when it does."""


def only_newer(path: Path, have: Note, offer: Envelope) -> str:
    """The ``Rule`` of every receiver that is sent slices."""
    if (offer.generation, offer.sha256) == have[:2] or offer.generation > have.generation:
        return ""
    return refusal(have.generation, offer.generation, note_of(path))


def parse_follows(text: str, generation: Generation) -> int:
    """The epoch of the leader that the maker of ``generation`` follows: the one above. Empty: 0. Raises ValueError."""
    if text not in ("", str(generation.epoch + 1)):
        raise ValueError(f"{text[:40]!r} is not the epoch above {generation}")
    return int(text or 0)


def install(path: Path, envelope: Envelope, *, own: int = 1, rule: Rule = only_newer) -> bool:
    """Make ``path`` hold the slice. True when it was written, False when it was there already. ``own``: how many of the last
    folders may not be symlinks.

    Raises ``RefusedError``, or OSError; the file is as it was then.
    """
    check(envelope)
    os.close(disk.open_folder(path.parent, own=own))
    disk.refuse_odd(path)
    if _is_known(path, envelope, rule) and _holds(path, envelope.body):
        return False  # so a file system that is read-only is no trouble
    with _locked(path, own):
        known, there = _is_known(path, envelope, rule, say=log.get()), _holds(path, envelope.body)
        if not known:
            disk.install(note_of(path), envelope.note.line(), own=own)
        if not there:
            disk.install(path, envelope.body, own=own)
        return not there


def climb(path: Path, newer: Note, *, own: int = 1) -> bool:
    """Note that the slice in ``path`` stands in ``newer``, too. Without this a generation between the two would be taken.
    False when that is known, or ``path`` has another slice.

    Raises OSError.
    """
    with _locked(path, own):
        have = noted(path)
        if have is None or have.sha256 != newer.sha256 or newer.rank <= have.rank:
            return False
        disk.install(note_of(path), newer.line(), own=own)
        return True


def _is_known(path: Path, envelope: Envelope, rule: Rule, *, say: Logger | None = None) -> bool:
    """Whether the note has this slice, or a newer one of the same bytes. Raises ``RefusedError``, OSError."""
    have, offered = noted(path, say=say), envelope.note
    if have is None:
        return False
    if why := rule(path, have, envelope):
        raise RefusedError(f"{path}: {why}", have.generation)
    return have.sha256 == offered.sha256 and have.rank >= offered.rank


def check(envelope: Envelope) -> None:
    """Raises ``RefusedError`` for bytes that are not those of the digest, or no target list; for a generation too high."""
    if max(envelope.generation) >= EPOCH_MOST:
        raise RefusedError(f"generation {envelope.generation} is higher than any controller's")
    if not envelope.is_whole():
        raise RefusedError(f"{len(envelope.body)} bytes that are not those of the SHA-256 {envelope.sha256[:16]}")
    try:
        _check_groups(envelope.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ListError) as error:
        raise RefusedError(f"not a target list: {str(error)[:200]}") from error


def _check_groups(body: bytes) -> None:
    """Group by group: objects of all of a long list would take 80 times its size. Raises what decoding raises."""
    start = len(body) - len(body.lstrip(_WHITE))
    if body[start : start + 1] != b"[":
        raise ListError("not a list", start)
    groups = Entries(body, start, entry_bytes_max=GROUP_BYTES_MAX, entries_max=GROUPS_MAX)
    for number, group in enumerate(groups):
        if "" in _check(group).labels:
            raise ListError(f"[{number}].labels: '' is not a label name, and Prometheus refuses the whole list", start)
    if body[groups.end :].strip(_WHITE):
        raise ListError("something after the list", groups.end)


def held(path: Path) -> tuple[Generation, str] | None:
    """Generation and digest of what the receiver of ``path`` has; None when there is no note, or it is damaged.

    Raises OSError as ``noted``.
    """
    note = noted(path)
    return None if note is None else (note.generation, note.sha256)


def noted(path: Path, *, say: Logger | None = None) -> Note | None:
    """What the receiver of ``path`` has; None when it never had any, or the note is damaged. ``say`` is told of a damaged
    one.

    Raises OSError when there is a note that cannot be read, or is no regular file: it may be newer than what comes.
    """
    note = note_of(path)
    try:
        text = disk.read_plain(note, NOTE_BYTES_MAX).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    try:
        generation, digest, *more = filter(None, re.split("[ \t]", text.partition("\n")[0]))  # the words that a shell reads
        return Note(parse_generation(generation), digest, parse_follows(" ".join(more), parse_generation(generation)))
    except ValueError:
        if say is not None:
            say.warning("note_ignored", path=str(note), note=text[:80], remedy="it is written anew")
        return None


def refusal(have: Generation, offered: Generation, note: object) -> str:
    """Why a receiver keeps what it has."""
    if offered == have:
        return f"has another slice of generation {have}"
    text = f"has generation {have}, refuses the older {offered}"
    return f"{text}; no controller comes so far: if another program wrote it, remove {note}" if have.is_absurd else text


def note_of(path: P) -> P:
    return path.with_name(f".{path.name}.promring")


@contextlib.contextmanager
def _locked(path: Path, own: int) -> Iterator[None]:
    """One writer at a time. Raises OSError when another one holds on for ``LOCK_WAIT_S``."""
    lock = path.with_name(f".{path.name}.promring-lock")
    folder = disk.open_folder(path.parent, own=own)
    try:
        descriptor = disk.open_plain(lock, os.O_RDWR | os.O_CREAT, folder=folder)
    finally:
        os.close(folder)
    try:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _holds(path: Path, body: bytes) -> bool:
    """Whether ``path`` is a plain file with exactly these bytes. One that cannot be read is to be replaced."""
    try:
        there = path.lstat()
        if not stat.S_ISREG(there.st_mode) or there.st_size != len(body):
            return False
        descriptor = disk.open_plain(path, os.O_RDONLY)
        with open(descriptor, "rb") as file:
            return file.read(len(body) + 1) == body
    except OSError:
        return False
