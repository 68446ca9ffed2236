"""Services that a reload took out of a fleet that goes on: each is remembered by a file, until a person removes that.

The state of the fleet is saved without such a service, while its slices stay where they are and go on being scraped. The
file says so at every start. One of a service that is configured again is removed. A service with a fleet of its own needs no
file: the state of that fleet stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from promring.fleet.store import Orphan, orphans
from promring.reload.decisions import LeftBehind
from promring.runtime import disk
from promring.runtime.paths import file_name
from promring.runtime.threads import in_thread
from promring.telemetry.log import Logger

FILES_MOST, BYTES_MAX = 1000, 1024 * 1024
PATIENCE_S, FIND_S = 5.0, 30.0
ENDING = ".left.json"


def remember(folder: Path, left: Sequence[LeftBehind], log: Logger) -> list[LeftBehind]:
    """Writes the file of each, and says with each where that is. One that cannot be written is logged. Blocks."""
    found = []
    for one in left:
        path = folder / f"{file_name(one.service)}{ENDING}"
        try:
            disk.install(path, msgspec.json.encode(one), mode=0o600)
        except OSError as error:
            log.error("left_behind_not_saved", service=one.service, path=str(path), error=error.strerror)
            found.append(one)
        else:
            found.append(_with_note(one, path))
    return found


def remembered(folder: Path, configured: Collection[str], log: Logger) -> list[LeftBehind]:
    """What the files say of services that are not ``configured``; those of the others are removed. Blocks."""
    found = []
    for path in sorted(folder.glob(f"*{ENDING}"))[:FILES_MOST]:
        try:
            with path.open("rb") as file:
                one = msgspec.json.decode(file.read(BYTES_MAX), type=LeftBehind)
            if one.service in configured:
                path.unlink(missing_ok=True)
            else:
                found.append(_with_note(one, path))
        except (OSError, ValueError) as error:
            log.warning("left_behind_unreadable", path=str(path), error=str(error))
    return found


def _with_note(one: LeftBehind, path: Path) -> LeftBehind:
    return replace(one, where=[*one.where, f"remove {path} when nothing reads its slices"])


class LeftServices:
    """Services that are configured no more, and what of them is still there. ``folder``: of the state; ``patience_s``: so
    long a reload waits for a disk that hangs.
    """

    def __init__(self, folder: Path, log: Logger, patience_s: float = PATIENCE_S) -> None:
        self.every: list[LeftBehind] = []
        self._folder, self._log, self._patience_s = folder, log, patience_s

    def after_reload(self, left: Sequence[LeftBehind], configured: Collection[str]) -> None:
        """A reload has taken out those that are ``left``."""
        self.every = [one for one in (*self.every, *left) if one.service not in configured]

    async def remember(self, left: Sequence[LeftBehind], configured: Collection[str]) -> None:
        """Over restarts, too. Those that are configured again are forgotten."""
        now = {one.service for one in left}
        try:
            async with asyncio.timeout(self._patience_s):  # the fleets wait for this
                said = await in_thread(lambda: remember(self._folder, left, self._log))
                await in_thread(lambda: remembered(self._folder, configured, self._log))
        except TimeoutError:
            error = f"the disk has not answered for {self._patience_s:g} s"
            self._log.error("left_behind_not_saved", service=",".join(sorted(now)), path=str(self._folder), error=error)
            return
        noted = {one.service: one for one in said}
        self.every = [noted.get(one.service, one) if one.service in now else one for one in self.every]

    async def find(self, fleets: Mapping[str, Sequence[str]]) -> None:
        """What was left behind by a start with another configuration, or by a reload before that. ``fleets``: the services
        of each that is configured. A folder that does not answer within ``FIND_S`` is said, and not waited for.
        """
        try:
            async with asyncio.timeout(FIND_S):
                await self._find(fleets)
        except TimeoutError:
            self._log.warning("left_behind_unknown", folder=str(self._folder), after_s=FIND_S, note="it does not answer")

    async def _find(self, fleets: Mapping[str, Sequence[str]]) -> None:
        configured = [name for names in fleets.values() for name in names]
        self._add(await in_thread(lambda: remembered(self._folder, configured, self._log)))
        known, new = {one.service for one in self.every}, list[LeftBehind]()
        for behind in self.every:
            self._log.warning("left_behind", service=behind.service, targets=behind.targets, where=",".join(behind.where))
        for orphan in await in_thread(lambda: orphans(self._folder, fleets, self._log)):
            if orphan.service not in known:
                (new if orphan.live else self.every).append(self._said(orphan))
        self._add(await in_thread(lambda: remember(self._folder, new, self._log)))

    def _add(self, found: Sequence[LeftBehind]) -> None:
        """``found`` on the disk. What a reload took out meanwhile is there already."""
        known = {one.service for one in self.every}
        self.every = [*self.every, *(one for one in found if one.service not in known)]

    def _said(self, orphan: Orphan) -> LeftBehind:
        scrapers, targets = sorted(orphan.scrapers), sum(orphan.scrapers.values())
        file = "" if orphan.live else f"; its state is {orphan.path}: remove that when nothing reads its slices"
        self._log.warning(
            "state_without_service",
            service=orphan.service,
            scrapers=",".join(scrapers),
            targets=targets,
            path=str(orphan.path),
            note="its slices go on being scraped; remove them" + ("" if orphan.live else ", then this file"),
        )
        return LeftBehind(orphan.service, scrapers, targets, (f"where it delivered to{file}",))
