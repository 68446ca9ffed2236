"""One file of an agent: what is in it, what may replace that, and what came of what was offered.

Promises: the file holds a whole slice that a controller decided, or what it held before. What was changed by hand is seen
by the times of the file: it is read again only when these are others.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from promring.agent.asking import SLICE_BYTES_MAX
from promring.agent.fence import Fence
from promring.delivery.bundle import mark
from promring.delivery.receiver import Envelope, Note, climb, install, note_of, noted
from promring.model import Generation
from promring.runtime import disk, regular
from promring.runtime.clocks import monotonic
from promring.runtime.wording import wording

REFUSED_MOST = 8
SETTLED_NS = 100_000_000
"""A file that was changed so lately may be changed once more under the same time."""
_Stamp = tuple[int, ...] | None


class SliceFile:
    """``key``: the name of the file without its ending. ``service`` is known when it is listed, and is the key before.
    An attribute for each thing that is known of the file, and of what was offered for it.
    """

    def __init__(self, folder: Path, key: str, clock: Callable[[], float] = monotonic) -> None:
        self.key, self.service, self.path = key, key, folder / f"{key}.json"
        self.fence = Fence(clock)
        self._clock = clock
        self.note: Note | None = None
        self.has = ""
        """The digest of the slice in the file; empty when it is not what was received."""
        self.keeps = ""
        """The digest of the slice in the file, also when the note beside it is of a newer one that could not be written."""
        self.gone = ""
        """Why the controller that answered last has nothing for it; empty: it has something."""
        self.trouble = ""
        """Why what was offered last was not taken."""
        self.outranked: Generation | None = None
        """The generation because of which it was not; None for another reason."""
        self.is_there = False
        """Whether there is a file, whatever is in it."""
        self._refused: list[str] = []
        """Marks of what was offered and not taken since something was."""
        self._declined_until = 0.0
        self._said: dict[str, str] = {}
        """The wording of what was refused of each controller last."""
        self._stamps: tuple[_Stamp, _Stamp] | None = None

    @property
    def offered(self) -> bool:
        """Whether the controller that answered last has something for it."""
        return not self.gone

    @property
    def mark(self) -> str:
        """Of what it has."""
        return mark(self.key, self.has) if self.has else ""

    @property
    def declined(self) -> Sequence[str]:
        """The marks of what was offered and shall not be offered again yet."""
        return self._refused if self._clock() < self._declined_until else ()

    @property
    def declined_for_s(self) -> float:
        return max(0.0, self._declined_until - self._clock())

    @property
    def is_gone(self) -> bool:
        """Whether a person has removed it, and nobody offers anything."""
        return not self.is_there and not self.offered

    def refuse(self, sha256: str, why: str, controller: str) -> bool:
        """What has that digest is not taken. Whether that is news of this controller."""
        refused = mark(self.key, sha256)
        self._refused = [*(one for one in self._refused if one != refused), refused][-REFUSED_MOST:]
        self.trouble, before = why, self._said.get(controller)
        self._said[controller] = words = wording(why)
        return words != before

    def decline(self, for_s: float) -> None:
        """Whatever was refused is not wanted again before that."""
        self._declined_until = self._clock() + for_s

    def accept(self, controller: str) -> None:
        """What this controller offers is what it has now. What another one offers may still be refused, which was said."""
        self._refused, self._declined_until, self.trouble, self.outranked = [], 0.0, "", None
        self._said.pop(controller, None)

    def look(self) -> None:
        """At the file and its note; in a thread. Never raises."""
        stamps = _stamp(self.path), _stamp(note_of(self.path))
        self.is_there = stamps[0] is not None
        if stamps != self._stamps or not self.has:
            now = time.time_ns()
            settled = all(stamp is None or abs(now - stamp[-1]) > SETTLED_NS for stamp in stamps)
            self._stamps = stamps if settled else None
            try:
                self._read()
            except OSError:
                self.note, self.has, self.keeps = None, "", ""

    def install(self, offer: Envelope) -> bool:
        """In a thread. Raises ``RefusedError`` when the fence is against it, OSError when the disk is."""
        return install(self.path, offer, rule=self.fence.rule())

    def climb(self, newer: Note) -> None:
        """What the file has is a controller's slice of ``newer``, too. In a thread. Raises OSError."""
        if climb(self.path, newer):
            self.look()

    @property
    def is_open_to_all(self) -> bool:
        return disk.is_open_to_all(self.path.parent)

    def _read(self) -> None:
        before, self.keeps = self.keeps, ""
        self.has, self.note = "", noted(self.path)
        if self.note is None or self.path.is_symlink() or not self.path.is_file():
            return
        digest = hashlib.sha256(regular.read(self.path, SLICE_BYTES_MAX)).hexdigest()
        self.has = digest if digest == self.note.sha256 else ""
        self.keeps = digest if digest in (self.note.sha256, before) else ""


def keys_in(folder: Path, most: int) -> list[str]:
    """Of the slices that were received into it before. Raises OSError."""
    start, end = note_of(Path("x")).name.split("x")
    end = f".json{end}"
    names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(start) and entry.name.endswith(end)]
    return sorted(name[len(start) : -len(end)] for name in names if len(name) > len(start) + len(end))[:most]


def set_aside(folder: Path, most: int) -> list[str]:
    """Forget what was received into it, as it was another scraper's: the files stay until ours come, whatever their
    generations. Their names. Raises OSError.
    """
    keys = keys_in(folder, most)
    for key in keys:
        note_of(folder / f"{key}.json").unlink(missing_ok=True)
    return keys


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
