"""Which files a pattern matches: as ``glob.glob``, which takes a folder that cannot be read for an empty one.

Promises: what could not be looked at is an error and never absent. Does not promise that of folders that a wildcard found
and promring may not enter: nobody said that there is something for it in them.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
from pathlib import Path

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def matching(pattern: Path) -> list[Path]:
    """In no order; ``pattern`` is absolute. Raises ``OSError``: own trouble (no descriptor), I/O, no right to look."""
    if not glob.has_magic(str(pattern)):
        return [pattern] if _is_there(pattern) else []
    if not glob.has_magic(str(pattern.parent)):
        return _within(pattern.parent, pattern.name)
    return [path for folder in matching(pattern.parent) for path in _if_allowed(folder, pattern.name)]


def may_match(pattern: str, path: str) -> bool:
    """Whether a file at ``path`` would match; both are absolute. Looks at no file, so links are not seen through."""
    wanted, there = (Path(os.path.normpath(one)).parts for one in (pattern, path))
    return len(wanted) == len(there) and all(map(fnmatch.fnmatchcase, there, wanted))


def _if_allowed(folder: Path, name: str) -> list[Path]:
    try:
        return _within(folder, name)
    except PermissionError:
        return []


def _within(folder: Path, name: str) -> list[Path]:
    if not glob.has_magic(name):
        return [folder / name] if _is_there(folder / name) else []
    found = fnmatch.filter(_names(folder), name)
    return [folder / one for one in found if name.startswith(".") or not one.startswith(".")]


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError as error:
        if error.errno in _ABSENT:
            return []
        raise


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
    return True
