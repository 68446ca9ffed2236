"""Targets from file_sd files: JSON and YAML, globs, looked at ten times a second.

All files that match make one list. Of a file that is malformed, cannot be read or vanished, the last good list stays and the
others go on: targets never go by themselves because a file went. A reload makes a new source, which does not miss files
that went before.

A file that was never read since the start has no last good list. Until every file was read once, the list that a run before
this one left (``remember``) stays beside what can be read, so that nothing of a bad file goes. Without such a list the first
answer waits ``patience_s`` for every file and pattern, and is then made of those that can be read.

A pattern that no file ever matched is awaited for ``patience_s``, too. After that it matches nothing, as with Prometheus:
unless something that is remembered is missing (a reload misses nothing), or no file is there at all.

Only what changed is read: each file twice, and all of them once in ``interval_s`` (``list_file``).
"""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import AfterValidator, Field, ValidationInfo

from promring.config.kinds import Problem
from promring.config.values import ENTRIES_MAX, Interval, base_folder
from promring.discovery import SourceContext, SourceSettings
from promring.discovery.globs import escaped, matching, may_match
from promring.discovery.list_rules import ANY, ListRules
from promring.discovery.looking import Looking
from promring.discovery.stamps import Stamps
from promring.model import DiscoveryError, TargetPool
from promring.runtime.threads import computed, consume_error, in_thread
from promring.telemetry import log

if TYPE_CHECKING:
    from promring.discovery import groups  # which needs numpy: the settings need none of it
    from promring.discovery.list_file import ListFile

OPEN_BYTES = 32 * 1024 * 1024
"""So much is read before it is made into lists, so that many long files are not in memory at the same time."""
TIMEOUT_S = 30.0
PATIENCE_S = 30.0


def _sd_file(pattern: str, info: ValidationInfo) -> str:
    if not pattern.lower().endswith((".json", ".yml", ".yaml")):
        raise ValueError(f"{pattern!r} must end in .json, .yml or .yaml")
    return str(Path(escaped(str(base_folder(info))), pattern))


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
        rules = ListRules(self.trusted, context.legacy_names)
        patience_s = 0.0 if context.once else PATIENCE_S
        interval_s = self.refresh_interval
        return FileSource(self.files, interval_s, rules=rules, patience_s=patience_s, reloaded=context.reloaded)

    def doubts(self) -> Iterator[Problem]:
        for i, pattern in enumerate(self.files):
            try:
                absent = not matching(Path(pattern))
            except OSError as error:
                yield ("files", i), f"{pattern}: {error.strerror}"
                continue
            if absent:
                home = "; ~ is no home folder here" if "~" in Path(pattern).parts else ""
                yield ("files", i), f"no file matches {pattern!r} yet{home}"


class _Opened(NamedTuple):
    """``found``: its list, what computes it, or why it cannot be read."""

    file: ListFile
    found: TargetPool | groups.Compute | str


class _Found(NamedTuple):
    """The paths to read, what is wrong with patterns, and those that no file matches, nor one that was read."""

    paths: list[str]
    errors: list[str]
    absent: list[str]


class FileSource:
    """``patterns``: absolute globs ending in .json, .yml or .yaml."""

    def __init__(
        self,
        patterns: Sequence[str],
        interval_s: float,
        timeout_s: float = TIMEOUT_S,
        *,
        rules: ListRules = ANY,
        patience_s: float = PATIENCE_S,
        reloaded: bool = False,
    ) -> None:
        """``reloaded``: somebody has asked for it, and files that are gone are not missed."""
        self._patterns, self._rules = patterns, rules
        self._timeout_s, self._patience_s, self._reloaded = timeout_s, patience_s, reloaded
        self.interval_s = interval_s
        self._files: dict[str, ListFile] = {}
        self._stamps = Stamps()
        self._remembered: TargetPool | None = None
        self._complete = False
        """Whether every file was read since the start."""
        self._first_read_at: float | None = None
        self._absent: Sequence[str] = ()
        """The patterns that no file matches, of those that were said."""
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
        """Every file of every pattern; the last good list of one that cannot be read, which is then said. Many sources read
        at once: files that have not changed take one thread, the others two.
        """

        def begin() -> tuple[_Found, list[_Opened]]:
            found = self._found()
            return found, self._opened(found.paths)

        (paths, errors, absent), opened = await in_thread(begin)
        lists: list[TargetPool] = []

        def go_on() -> TargetPool | DiscoveryError | None:
            lists.extend(self._computed(opened, errors))
            return self._answer(lists, errors, absent) if len(lists) == len(paths) else None

        while (answer := await computed(go_on, beside=not self._is_known(opened, len(paths)))) is None:
            opened = await in_thread(partial(self._opened, paths[len(lists) :]))
        if isinstance(answer, DiscoveryError):
            raise answer
        return answer

    def _is_known(self, opened: Sequence[_Opened], files: int) -> bool:
        """Whether all ``files`` were opened and are what was read last: there is nothing to compute."""
        known = self._whole[0] if self._whole is not None else ()
        return len(opened) == files == len(known) and all(map(operator.is_, (one.found for one in opened), known))

    def _found(self) -> _Found:
        """A file that vanished is still read, unless it never was a list. While a list of the run before is remembered that
        file may have had a part of it, and is read, too.
        """
        paths: dict[str, None] = {}
        errors, absent = [], []
        known = [path for path, file in self._files.items() if file.good or self._remembered is not None]
        for pattern in self._patterns:
            try:
                found = sorted(map(str, matching(Path(pattern))))
            except OSError as error:
                errors.append(f"{pattern}: {error.strerror}")
                continue
            paths |= dict.fromkeys(found)
            if not found and not any(may_match(pattern, path) for path in known):
                absent.append(pattern)
        paths |= dict.fromkeys(known)
        self._files = {path: file for path, file in self._files.items() if path in paths}
        return _Found(list(paths), errors, absent)

    def _opened(self, paths: Sequence[str]) -> list[_Opened]:
        """The first of these files, as many as ``OPEN_BYTES`` hold."""
        from promring.discovery import list_file

        opened: list[_Opened] = []
        size = 0
        for path in paths:
            file = self._files.setdefault(path, list_file.ListFile(path, self._rules, self._stamps, self.interval_s))
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
                    file.take(found)
            except DiscoveryError as error:
                errors.append(str(error))
        return [file.last for file, _ in opened]

    def _answer(self, lists: list[TargetPool], errors: Sequence[str], absent: Sequence[str]) -> TargetPool | DiscoveryError:
        if not errors and (not absent or self._complete or self._awaited_enough(lists)):
            self._complete, self._remembered = True, None
            self._say_absent(absent)
            return self._join(lists)
        why = f"no such file{self._then(lists)}"
        said = "; ".join([*errors, *(f"{pattern}: {why}" for pattern in absent if not self._complete)])
        if self._complete:
            return DiscoveryError(said, self._join(lists))
        return DiscoveryError(said, self._without_a_part(lists), remembered=self._remembered is not None)

    def _then(self, lists: list[TargetPool]) -> str:
        """What becomes of a pattern that no file matches."""
        if not self._waited():
            return f"; awaited for {self._patience_s:g} s from the start" if lists else ""
        return "; reload if its targets shall go" if self._remembered is not None else ""

    def _without_a_part(self, lists: list[TargetPool]) -> TargetPool | None:
        """What to go on with while some file was never read: what is remembered goes on beside what can be read."""
        waited = self._waited()
        if not any(file.good for file in self._files.values()):
            return None
        if self._remembered is not None:
            return self._join([*lists, self._remembered], ranked=True)
        return self._join(lists) if waited and any(map(len, lists)) else None

    def _waited(self) -> bool:
        """Whether ``patience_s`` has passed since the first call."""
        now = time.monotonic()
        self._first_read_at = self._first_read_at if self._first_read_at is not None else now
        return now >= self._first_read_at + self._patience_s

    def _awaited_enough(self, lists: list[TargetPool]) -> bool:
        """Whether patterns that no file matches mean nothing: all that is remembered is in ``lists``, or is not missed."""
        if not self._waited() or not lists:
            return False
        if self._remembered is None or self._reloaded:
            return True
        return len(self._join([*lists, self._remembered], ranked=True)) == len(self._join(lists))

    def _say_absent(self, absent: Sequence[str]) -> None:
        """Once while they are the same."""
        if new := [pattern for pattern in absent if pattern not in self._absent]:
            log.get().warning("discovery_pattern_unmatched", patterns=", ".join(new))
        self._absent = absent

    def _join(self, lists: list[TargetPool], *, ranked: bool = False) -> TargetPool:
        """One list of all; the same object while the parts are. ``ranked``: the last one only adds what the others lack."""
        from promring.core.patch import merge_again
        from promring.core.pool import merge

        known = self._whole
        if known is None or len(known[0]) != len(lists) or any(a is not b for a, b in zip(known[0], lists, strict=True)):
            if ranked:
                return merge([merge(lists[:-1], ranked=False), lists[-1]])
            whole = merge(lists, ranked=False) if known is None else merge_again(lists, *known)
            known = self._whole = lists, whole
        return known[1]

    async def changes(self, stop: asyncio.Event) -> AsyncIterator[object]:
        """Yields when a file of a pattern is there, gone, or another one than before."""
        with Looking(self._look) as looking:
            while not stop.is_set():
                await looking.changed()
                yield None

    def _look(self) -> object:
        """What tells each file that a pattern matches from another one of that name, or from itself before a write."""
        paths: list[str] = []
        errors: list[object] = []
        for pattern in self._patterns:
            try:
                paths += sorted(map(str, matching(Path(pattern))))
            except OSError as error:
                errors.append((pattern, error.errno))
        return self._stamps.look(paths), errors
