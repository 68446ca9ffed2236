"""Targets from file_sd files: JSON and YAML, globs, watched.

All files that match make one list. A file that cannot be read or is malformed, a pattern that matches nothing, a file
that was there and is not any more, refuse the whole answer: a vanished file never takes its targets away by itself. A
reload makes a new source, which does not miss files that went before.
"""

from __future__ import annotations

import asyncio
import glob
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from watchfiles import awatch

from promring.discovery import groups
from promring.model import DiscoveryError, Groups

FILE_BYTES_MAX = 512 * 1024 * 1024
WATCH_STEP_MS = 20
FOLDERS_AGAIN_S = 5.0


class FileSource:
    """``patterns``: absolute globs ending in .json, .yml or .yaml."""

    def __init__(self, patterns: Sequence[str], interval_s: float) -> None:
        self._patterns = patterns
        self.interval_s = interval_s
        self._seen: list[str] = []

    async def fetch(self) -> Groups:
        return await asyncio.to_thread(self._read_all)

    def _read_all(self) -> Groups:
        paths: dict[str, None] = {}
        for pattern in self._patterns:
            found = sorted(glob.glob(pattern))
            if not found:
                raise DiscoveryError(f"{pattern}: no such file")
            paths |= dict.fromkeys(found)
        vanished = [path for path in self._seen if path not in paths]
        if vanished:
            raise DiscoveryError(f"{vanished[0]}: vanished; reload if its targets shall go")
        result = tuple(group for path in paths for group in self._read(path))
        self._seen = list(paths)
        return result

    def _read(self, path: str) -> Groups:
        try:
            with open(path, "rb") as file:
                text = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise DiscoveryError(f"{path}: {error.strerror}") from error
        if len(text) > FILE_BYTES_MAX:
            raise DiscoveryError(f"{path}: larger than {FILE_BYTES_MAX} bytes")
        if not text.strip():
            raise DiscoveryError(f"{path}: the file is empty (no targets would be [])")
        return groups.from_json(text, path) if path.endswith(".json") else groups.from_yaml(text, path)

    async def changes(self, stop: asyncio.Event) -> AsyncIterator[object]:
        """Yields when something happens in a folder of a pattern; folders that do not exist yet are looked for."""
        deep = any(glob.has_magic(_plain(str(Path(p).parent))) for p in self._patterns)
        while not stop.is_set():
            folders = self._folders()
            if not folders:
                await asyncio.sleep(FOLDERS_AGAIN_S)
                continue
            async for change in awatch(
                *folders, stop_event=stop, debounce=WATCH_STEP_MS, step=WATCH_STEP_MS, recursive=deep
            ):
                yield change
                if self._folders() != folders:
                    break

    def _folders(self) -> list[str]:
        """For each pattern the deepest folder that has no wildcard in its name, where it exists."""
        folders = set()
        for pattern in self._patterns:
            folder = Path(pattern).parent
            while glob.has_magic(_plain(str(folder))):
                folder = folder.parent
            if Path(_plain(str(folder), "[")).is_dir():
                folders.add(_plain(str(folder), "["))
        return sorted(folders)


def _plain(pattern: str, bracket: str = "") -> str:
    """``pattern`` with its escaped brackets (``[[]``) written as ``bracket``."""
    return pattern.replace("[[]", bracket)
