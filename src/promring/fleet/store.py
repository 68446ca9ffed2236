"""Where what outlives a restart is kept: one file a fleet, ``NAME.state``, which is written whole once and then appended to.

A save writes what changed, as one frame (``journal``, ``records``); so it costs what changed, not what there is. The file is
written whole, under another name and renamed, when there is none, when it is not as this process left it, and when most of
it changed. When the changes are longer than half of it, ``run`` makes one frame of all beside the saves (compaction).

Promises: what is loaded is what some save wrote, whole: the newest that is sound to its end. The end of a file that a crash
cut is left out and said. A file that is damaged anywhere else, cannot be true (``state_checks``) or is of another version is
set aside under another name and said so, and promring starts without it. Never a crash because of it, whatever stands in its
place. Flow: written by ``reconcile`` before a delivery, read once at start by ``supervisor``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from promring.fleet.journal import (
    FRAME_BYTES_MAX,
    STATE_BYTES_MAX,
    Position,
    append,
    compacting,
    open_state,
    position_of,
    scan,
    stands_at,
    write_whole,
)
from promring.fleet.records import NOTHING_WRITTEN, Recorder, has_spare_names, whole
from promring.fleet.replay import Replayed, reader, replayed
from promring.fleet.state import Memory
from promring.runtime import disk
from promring.runtime.disk import Buffer
from promring.runtime.paths import file_name
from promring.runtime.threads import in_thread, in_thread_shielded
from promring.telemetry.log import Logger

ORPHANS_MOST = 100
CHANGES_SHARE, CHANGES_LEAST_BYTES = 0.5, 1 << 20
"""The changes may be as long as this share of the first frame, and at least so long, before there is a compaction."""


class _StoppedError(Exception):
    """A compaction is not wanted any more."""


class Store:
    """The state file of one fleet in ``folder``. ``replaces``: names of fleets that are no more, each with those that go on
    with what it knew and have not saved that yet; its file goes when all have. The stores of those share the sets.

    One save at a time. ``run`` may be left out: then the file only grows.
    """

    def __init__(self, folder: Path, fleet: str, log: Logger, *, replaces: Mapping[str, set[str]] | None = None) -> None:
        self.path = _path(folder, fleet)
        self._replaced = {_path(folder, name): unsaved for name, unsaved in (replaces or {}).items()}
        self._fleet = fleet
        self._log = log
        self._written = NOTHING_WRITTEN
        self._position: Position | None = None
        """None: the next save writes the whole."""
        self._shift = 0.0
        """Seconds from the monotonic clock to the file's."""
        self._compact_at = 0
        self._writes = threading.Lock()
        self._long, self._stopped = asyncio.Event(), threading.Event()

    def follow(self, before: Store) -> None:
        """Go on with the file of ``before``, the store of the same fleet, which saves no more. Without it the first save
        writes the whole.
        """
        self._written, self._position = before._written, before._position
        self._shift, self._compact_at = before._shift, before._compact_at

    # --- read --------------------------------------------------------------------------------------------------------

    def load(self) -> Memory:
        """What was saved last; an empty ``Memory`` when there is nothing sound. Blocks."""
        disk.remove_left_overs(self.path.parent)
        try:
            return self._read()
        except FileNotFoundError:
            self._log.info("state_none", path=str(self.path))
        except OSError as error:
            self._log.error("state_unreadable", path=str(self.path), error=error.strerror)
        except Exception as error:  # the one place for whatever a file brings about: a start must not end by it
            what = str(error) if isinstance(error, ValueError) else f"corrupt: {type(error).__name__}: {error}"
            self._set_aside(what)
        return Memory()

    def _read(self) -> Memory:
        """Raises OSError, or for what is not sound ValueError, and whatever a decoder raises."""
        self._position = None
        with open_state(self.path) as file:
            found = scan(file)
            said = replayed(file, found.frames)
            if said.fleet != self._fleet:
                raise ValueError(f"it belongs to fleet {said.fleet[:80]!r}")
            if found.lost is not None:  # it may have been delivered: what comes now is newer
                said.generation = max(said.generation, found.lost)
            now = time.monotonic()
            self._written, self._shift = said.written(reader(file), now), said.clock - now
            if found.cut:
                self._log.warning("state_end_cut", path=str(self.path), error=found.cut)
            else:
                first, last = found.frames[0], found.frames[-1]
                self._position = position_of(file.fileno(), first.name, last.name, first.end)
        self._compact_at = self._limit()
        return self._written.memory

    def _set_aside(self, what: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.bad-{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(2)}")
        self._log.error("state_set_aside", path=str(aside), error=what)
        try:
            self.path.rename(aside)
        except OSError as error:
            self._log.error("state_not_set_aside", path=str(self.path), error=error.strerror)

    # --- write -------------------------------------------------------------------------------------------------------

    async def save(self, memory: Memory) -> None:
        """Raises OSError; the last state is still there then."""
        await in_thread_shielded(lambda: self._save(memory))
        if self._position is not None and self._position.size > self._compact_at:
            self._long.set()

    def stands(self) -> bool:
        """Whether the file is as this process left it, if it has written or read one. Blocks. Raises OSError."""
        with self._writes:
            return self._position is None or stands_at(self.path, self._position)

    def _save(self, memory: Memory) -> None:
        with self._writes:
            if not self._append(memory):
                self._write_whole(memory)
        for path, unsaved in self._replaced.items():
            unsaved.discard(self._fleet)
            if not unsaved and path != self.path:
                path.unlink(missing_ok=True)
        self._replaced = {}

    def _append(self, memory: Memory) -> bool:
        """False when the whole has to be written, or costs no more. Raises OSError."""
        position = self._position
        if position is None or has_spare_names(self._written) or not stands_at(self.path, position):
            return False
        pieces, written = Recorder(self._written, self._shift).record(self._fleet, memory, time.monotonic())
        size = sum(map(len, pieces))
        if size > CHANGES_SHARE * position.first or position.size + size > STATE_BYTES_MAX - FRAME_BYTES_MAX:
            return False
        self._position = append(self.path, position, pieces, memory.generation)
        self._written = written
        return True

    def _write_whole(self, memory: Memory) -> None:
        """Raises OSError."""
        pieces, written = Recorder(NOTHING_WRITTEN, self._shift).record(self._fleet, memory, time.monotonic())
        self._refuse_too_long(pieces)
        self._position = None
        self._position = write_whole(self.path, pieces, memory.generation)
        self._written = written
        self._compact_at = self._limit()

    def _refuse_too_long(self, pieces: list[Buffer]) -> None:
        if (size := sum(map(len, pieces))) > STATE_BYTES_MAX - FRAME_BYTES_MAX:
            raise OSError(errno.EFBIG, f"the state would be {size} bytes", str(self.path))

    def _limit(self) -> int:
        """How long the file may be before there is a compaction."""
        first = self._position.first if self._position else 0
        return first + max(CHANGES_LEAST_BYTES, int(CHANGES_SHARE * first))

    # --- compaction --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make one frame of all whenever the file is long, until cancelled, once. Saves go on meanwhile. What writes a long
        file when it is cancelled is not waited for, and puts nothing in place any more.
        """
        while True:
            await self._long.wait()
            self._long.clear()
            try:
                await in_thread(self._compact)
            except asyncio.CancelledError:
                self._stopped.set()
                await in_thread_shielded(self._wait_for_swap)
                raise
            except OSError as error:
                self._log.warning("state_not_compacted", path=str(self.path), error=str(error))
                self._compact_at += max(CHANGES_LEAST_BYTES, self._compact_at // 4)

    def _wait_for_swap(self) -> None:
        with self._writes:
            pass

    def _compact(self) -> None:
        """Raises OSError; the file is as it was then."""
        with self._writes:
            begun, written = self._position, self._written
        if begun is None or begun.size <= self._compact_at:
            return
        pieces = whole(written, self._fleet, self._shift, time.monotonic())
        with contextlib.suppress(_StoppedError), contextlib.ExitStack() as swap:
            with compacting(self.path, begun, pieces, written.memory.generation) as new:
                swap.enter_context(self._writes)  # until the new file is in its place
                now = self._position
                if self._stopped.is_set() or now is None or now.origin != begun.origin or not stands_at(self.path, now):
                    raise _StoppedError
                position = new.follow(now)
            self._position = position
            self._compact_at = self._limit()


# --- all files of a folder -------------------------------------------------------------------------------------------


class Orphan(NamedTuple):
    """A shard service in a state file that is not configured: who had how many targets of it."""

    service: str
    path: Path
    scrapers: Mapping[str, int]
    live: bool = False
    """Whether the file is that of a configured fleet, which forgets it."""


def orphans(folder: Path, fleets: Mapping[str, Collection[str]], log: Logger) -> list[Orphan]:
    """What state files have of other services than these, by fleet. What is no sound file is left out, and left alone.
    Blocks.
    """
    known = {_path(folder, name): services for name, services in fleets.items()}
    every = {service for services in fleets.values() for service in services}
    found = []
    for path in _every(folder):
        try:
            said = _said(path)
        except (OSError, ValueError) as error:
            if path not in known:
                log.warning("state_of_nobody", path=str(path), error=str(error))
            continue
        gone = {name: one for name, one in said.services.items() if one.slices and name not in every}
        counts = {name: {s.scraper.id: s.targets for s in one.slices.values()} for name, one in gone.items()}
        found += [Orphan(name, path, scrapers, path in known) for name, scrapers in counts.items()]
    return found


def strays(folder: Path, fleets: Mapping[str, Collection[str]], log: Logger) -> dict[str, Memory]:
    """What state files of other fleets than these know that have services of these, by the name of the fleet: a start with
    another configuration goes on with the newest that is known of each. Blocks.
    """
    known = {_path(folder, name) for name in fleets}
    wanted = {service for services in fleets.values() for service in services}
    found: dict[str, Memory] = {}
    for path in _every(folder):
        with contextlib.suppress(OSError, ValueError):  # ``orphans`` says what is no sound file
            if path in known:
                continue
            said = _said(path)
            if said.services.keys() & wanted and path == _path(folder, said.fleet):
                found[said.fleet] = Store(folder, said.fleet, log).load()
    return found


def _every(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.state"))[:ORPHANS_MOST]


def _said(path: Path) -> Replayed:
    """Raises OSError, or ValueError that says what is wrong."""
    with open_state(path) as file:
        return replayed(file, scan(file).frames)


def _path(folder: Path, fleet: str) -> Path:
    return folder / f"{file_name(fleet)}.state"
