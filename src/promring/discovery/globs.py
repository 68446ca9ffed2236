r"""Which files a pattern matches, read as Prometheus reads it (Go's ``filepath.Match``): ``*``, ``?``, ``[a-z]``,
``[^a-z]``, and a backslash before a character that is meant as it stands.

Three things are as in a shell, and not as in Go: ``[!a-z]`` is ``[^a-z]``, a wildcard at the beginning matches no name that
begins with a dot, and a bracket that nothing closes is a bracket.

Promises: what could not be looked at is an error and never absent. Does not promise that of folders that a wildcard found
and promring may not enter: nobody said that there is something for it in them.
"""

from __future__ import annotations

import errno
import os
import re
from functools import lru_cache
from pathlib import Path

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_MAGIC = re.compile(r"[*?\[\\]")
_CLASS = re.compile(r"\[([!^]?)(\]?(?:\\.|[^\]\\])*)\]", re.DOTALL)
_IN_CLASS = re.compile(r"(\\.|[^\\])(?:-(\\.|[^\\]))?", re.DOTALL)


def matching(pattern: Path) -> list[Path]:
    """In no order; ``pattern`` is absolute. Raises ``OSError``: own trouble (no descriptor), I/O, no right to look."""
    if not _MAGIC.search(str(pattern)):
        return [pattern] if _is_there(pattern) else []
    if not _MAGIC.search(str(pattern.parent)):
        return _within(pattern.parent, pattern.name)
    return [path for folder in matching(pattern.parent) for path in _if_allowed(folder, pattern.name)]


def may_match(pattern: str, path: str) -> bool:
    """Whether a file at ``path`` would match; both are absolute. Looks at no file, so links are not seen through."""
    wanted, there = (Path(os.path.normpath(one)).parts for one in (pattern, path))
    return len(wanted) == len(there) and all(_matches(name, part) for name, part in zip(there, wanted, strict=True))


def escaped(path: str) -> str:
    """A pattern that matches just this path."""
    return _MAGIC.sub(r"\\\g<0>", path)


def _if_allowed(folder: Path, name: str) -> list[Path]:
    try:
        return _within(folder, name)
    except PermissionError:
        return []


def _within(folder: Path, name: str) -> list[Path]:
    if not _MAGIC.search(name):
        return [folder / name] if _is_there(folder / name) else []
    return [folder / one for one in _names(folder) if _matches(one, name)]


def _matches(name: str, part: str) -> bool:
    """``part``: of a pattern, between two slashes."""
    hidden = name.startswith(".") and part[:1] in ("*", "?", "[")
    return not hidden and _regex(part).fullmatch(name) is not None


@lru_cache(maxsize=1024)
def _regex(part: str) -> re.Pattern[str]:
    found, at = "", 0
    while at < len(part):
        one = part[at]
        if one == "[" and (group := _CLASS.match(part, at)) is not None:
            found += _class(group[1] != "", group[2])
            at = group.end()
            continue
        if one == "\\" and at + 1 < len(part):
            at += 1
            found += re.escape(part[at])
        else:
            found += {"*": ".*", "?": "."}.get(one, re.escape(one))
        at += 1
    return re.compile(found, re.DOTALL)


def _class(negated: bool, inner: str) -> str:
    """What is between brackets, as one of ``re``; a range that has nothing in it matches nothing."""
    ranges = []
    for first, last in _IN_CLASS.findall(inner):
        low, high = first[-1:], (last or first)[-1:]
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    if not ranges:
        return "." if negated else r"(?!)"
    return f"[{'^' if negated else ''}{''.join(ranges)}]"


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
