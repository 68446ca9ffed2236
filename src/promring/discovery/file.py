"""Targets from file_sd files: JSON and YAML, globs, looked at four times a second.

All files that match make one list. Of a file that is malformed, cannot be read or vanished, the last good list stays and the
others go on: targets never go by themselves because a file went. A reload makes a new source, which does not miss files
that went before.

A file that was never read since the start has no last good list. Until every file was read once, the list that a run before
this one left (``remember``) stays beside what can be read, so that nothing of a bad file goes. Without such a list the first
answer waits ``patience_s`` for every file and pattern, and is then made of those that can be read.

Half a file in JSON is malformed, but half a file in YAML is a shorter list: it is read when nobody has written to it for
``SETTLED_S``. A writer that pauses for longer is not noticed; a careful one writes beside and renames.
"""

from __future__ import annotations

import asyncio
import fnmatch
import glob
import os
import stat
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, ValidationInfo

from promring.config.kinds import Problem
from promring.config.values import ENTRIES_MAX, Interval, base_folder
from promring.core.patch import merge_again
from promring.core.pool import merge, pool_of
from promring.discovery import SourceContext, SourceSettings, groups
from promring.discovery.globs import matching, may_match
from promring.discovery.groups import ListRules
from promring.discovery.looking import Looking
from promring.model import DiscoveryError, TargetPool
from promring.runtime.threads import computed, consume_error, in_thread

FILE_BYTES_MAX = 512 * 1024 * 1024
OPEN_BYTES = 32 * 1024 * 1024
"""So much is read before it is made into lists, so that many long files are not in memory at the same time."""
SETTLED_S = 1.0
SETTLING_MOST = 5
TIMEOUT_S = 30.0
PATIENCE_S = 30.0


def _sd_file(pattern: str, info: ValidationInfo) -> str:
    if not pattern.lower().endswith((".json", ".yml", ".yaml")):
        raise ValueError(f"{pattern!r} must end in .json, .yml or .yaml")
    return str(Path(glob.escape(str(base_folder(info))), pattern))


class FileTargets(SourceSettings):
    """``files``: globs ending in .json, .yml or .yaml."""

    kind = "file"

    files: Annotated[list[Annotated[str, AfterValidator(_sd_file)]], Field(min_length=1, max_length=ENTRIES_MAX)]
    refresh_interval: Interval = 300.0

    @property
    def source_name(self) -> str:
        return f"file:{','.join(self.files)}"

    def reads(self, path: str) -> Sequence[str | int] | None:
        return next((("files", i) for i, pattern in enumerate(self.files) if may_match(pattern, path)), None)

    def source(self, context: SourceContext) -> FileSource:
        return FileSource(self.files, self.refresh_interval, rules=ListRules(self.trusted, context.legacy_names))

    def doubts(self) -> Iterator[Problem]:
        for i, pattern in enumerate(self.files):
            if not glob.glob(pattern):
                yield ("files", i), f"no file matches {pattern!r} yet"


class _File:
    """One file and its last good list."""

    def __init__(self, path: str, rules: groups.ListRules) -> None:
        self._path = path
        self._is_json = path.lower().endswith(".json")
        self._reader = groups.Reader(groups.many_from_json if self._is_json else groups.many_from_yaml, rules)
        self.last: TargetPool = pool_of(())
        self.good = False
        self.bytes_read = 0

    def open(self) -> TargetPool | groups.Compute:
        """As ``groups.Reader.opened``."""
        text = self._text()
        if not text.strip():
            raise DiscoveryError(f"{self._path}: the file is empty (no targets would be [])")
        self.bytes_read = len(text)
        return self._reader.opened(text, self._path)

    def _text(self) -> bytes:
        try:
            with open(self._path, "rb", opener=_without_waiting) as file:
                descriptor = file.fileno()
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise DiscoveryError(f"{self._path}: not a regular file")
                if not self._is_json:
                    self._settle(descriptor)
                text = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            why = "vanished; reload if its targets shall go" if self.good else "no such file"
            raise DiscoveryError(f"{self._path}: {why}") from None
        except OSError as error:
            raise DiscoveryError(f"{self._path}: {error.strerror}") from error
        if len(text) > FILE_BYTES_MAX:
            raise DiscoveryError(f"{self._path}: larger than {FILE_BYTES_MAX} bytes")
        return text

    def _settle(self, descriptor: int) -> None:
        """Wait until the file was not written to for a while. Raises ``DiscoveryError`` when that takes too long."""
        for _ in range(SETTLING_MOST):
            written_s = os.fstat(descriptor).st_mtime
            if abs(time.time() - written_s) > SETTLED_S:  # ahead, too: a file server's clock is not ours
                return
            time.sleep(SETTLED_S)
            if os.fstat(descriptor).st_mtime == written_s:
                return
        raise DiscoveryError(f"{self._path}: is still being written")


class _Opened(NamedTuple):
    """``found``: its list, what computes it, or why it cannot be read."""

    file: _File
    found: TargetPool | groups.Compute | str


class FileSource:
    """``patterns``: absolute globs ending in .json, .yml or .yaml."""

    def __init__(
        self,
        patterns: Sequence[str],
        interval_s: float,
        timeout_s: float = TIMEOUT_S,
        *,
        rules: groups.ListRules = groups.ANY,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._patterns, self._rules = patterns, rules
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self.interval_s = interval_s
        self._files: dict[str, _File] = {}
        self._remembered: TargetPool | None = None
        self._complete = False
        """Whether every file was read since the start."""
        self._first_read_at: float | None = None
        self._whole: tuple[list[TargetPool], TargetPool] | None = None
        self._reading: asyncio.Future[TargetPool] | None = None

    def remember(self, pool: TargetPool) -> None:
        """The list that a run before this one had."""
        self._remembered = pool

    async def fetch(self) -> TargetPool:
        """A read that hangs (a network file system) is not begun a second time."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(self._read_all())
            self._reading.add_done_callback(consume_error)  # nobody may be left to ask it when it fails
        done, _ = await asyncio.wait([self._reading], timeout=self._timeout_s)
        if not done:
            raise DiscoveryError(f"{self._patterns[0]}: not read within {self._timeout_s:g} s, still trying")
        return self._reading.result()

    async def _read_all(self) -> TargetPool:
        """Every file of every pattern; the last good list of one that cannot be read, which is then said."""
        paths, errors = await in_thread(self._found)
        lists: list[TargetPool] = []
        while len(lists) < len(paths):
            opened = await in_thread(partial(self._opened, paths[len(lists) :]))
            lists += await computed(partial(self._computed, opened, errors))
        answer = await computed(partial(self._answer, lists, errors))
        if isinstance(answer, DiscoveryError):
            raise answer
        return answer

    def _found(self) -> tuple[list[str], list[str]]:
        """The paths to read, and what is wrong with the patterns. A file that vanished is still read."""
        paths: dict[str, None] = {}
        errors = []
        for pattern in self._patterns:
            try:
                found = sorted(map(str, matching(Path(pattern))))
            except OSError as error:
                errors.append(f"{pattern}: {error.strerror}")
                continue
            paths |= dict.fromkeys(found)
            if not found and not any(fnmatch.fnmatchcase(path, pattern) for path in self._files):
                errors.append(f"{pattern}: no such file")
        paths |= dict.fromkeys(self._files)
        return list(paths), errors

    def _opened(self, paths: Sequence[str]) -> list[_Opened]:
        """The first of these files, as many as ``OPEN_BYTES`` hold."""
        opened: list[_Opened] = []
        size = 0
        for path in paths:
            file = self._files.setdefault(path, _File(path, self._rules))
            try:
                opened.append(_Opened(file, file.open()))
                size += file.bytes_read
            except DiscoveryError as error:
                opened.append(_Opened(file, str(error)))
            if size >= OPEN_BYTES:
                break
        return opened

    def _computed(self, opened: Sequence[_Opened], errors: list[str]) -> list[TargetPool]:
        """The list of each; adds to ``errors``."""
        for file, found in opened:
            try:
                if isinstance(found, str):
                    errors.append(found)
                else:
                    file.last, file.good = found if isinstance(found, TargetPool) else found(), True
            except DiscoveryError as error:
                errors.append(str(error))
        return [file.last for file, _ in opened]

    def _answer(self, lists: list[TargetPool], errors: Sequence[str]) -> TargetPool | DiscoveryError:
        if not errors:
            self._complete, self._remembered = True, None
            return self._join(lists)
        said = "; ".join(errors)
        if self._complete:
            return DiscoveryError(said, self._join(lists))
        return DiscoveryError(said, self._without_a_part(lists), remembered=self._remembered is not None)

    def _without_a_part(self, lists: list[TargetPool]) -> TargetPool | None:
        """What to go on with while some file was never read: what is remembered goes on beside what can be read."""
        now = time.monotonic()
        self._first_read_at = self._first_read_at if self._first_read_at is not None else now
        if not any(file.good for file in self._files.values()):
            return None
        if self._remembered is not None:
            return self._join([*lists, self._remembered], ranked=True)
        if now < self._first_read_at + self._patience_s or not any(map(len, lists)):
            return None
        return self._join(lists)

    def _join(self, lists: list[TargetPool], *, ranked: bool = False) -> TargetPool:
        """One list of all; the same object while the parts are. ``ranked``: the last one only adds what the others lack."""
        known = self._whole
        if known is None or len(known[0]) != len(lists) or any(a is not b for a, b in zip(known[0], lists, strict=True)):
            if ranked:
                return merge([merge(lists[:-1], ranked=False), lists[-1]])
            whole = merge(lists, ranked=False) if known is None else merge_again(lists, *known)
            known = self._whole = lists, whole
        return known[1]

    async def changes(self, stop: asyncio.Event) -> AsyncIterator[object]:
        """Yields when a file of a pattern is there, gone, or another one than before."""
        with Looking(self._stamps) as looking:
            while not stop.is_set():
                await looking.changed()
                yield None

    def _stamps(self) -> list[object]:
        """What tells each file that a pattern matches from another one of that name, or from itself before a write."""
        stamps: list[object] = []
        for pattern in self._patterns:
            try:
                stamps += map(_stamp, sorted(map(str, matching(Path(pattern)))))
            except OSError as error:
                stamps.append((pattern, error.errno))
        return stamps


def _stamp(path: str) -> tuple[object, ...]:
    try:
        found = Path(path).stat()
    except OSError as error:
        return path, error.errno
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _without_waiting(path: str, flags: int) -> int:
    """For ``open``, which closes it again when the path is a folder."""
    return os.open(path, flags | os.O_NONBLOCK)
