"""Services that a reload took out of a fleet that goes on: each is remembered by a file, until a person removes that.

The state of the fleet is saved without such a service, while its slices stay where they are and go on being scraped. The
file says so at every start. One of a service that is configured again is removed. A service with a fleet of its own needs no
file: the state of that fleet stays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from promring.reload.decisions import LeftBehind
from promring.runtime import disk
from promring.runtime.paths import file_name
from promring.telemetry.log import Logger

FILES_MOST, BYTES_MAX = 1000, 1024 * 1024
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
