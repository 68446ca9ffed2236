"""Puts a file in its place whole or not at all.

The steps, each for a measured reason: a temporary name in the same folder that no file_sd glob matches (Prometheus scrapes
``.x.json`` too); write everything (a full disk gives short writes without an error); fsync; read back and compare SHA-256;
rename; fsync of the folder. When anything fails the old file is untouched and the temporary one is removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import time
from pathlib import Path

TEMPORARY_SUFFIX = ".promring-tmp"
LEFT_OVER_S = 60.0


def install(path: Path, body: bytes, *, mode: int = 0o644) -> None:
    """Write ``body`` to ``path``; folders above it are made. Raises OSError, with the path, and nothing has changed then,
    unless it was the folder that could not be synced: then the file is there, and may be the old one after a power cut.

    A symlink at ``path`` is replaced, never followed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            _write_all(descriptor, body)
            os.fsync(descriptor)
            _verify(descriptor, body, temporary)
        finally:
            os.close(descriptor)
        temporary.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        error.filename = error.filename or str(path)  # write and fsync do not say it
        raise


def why_not_writable(folder: Path) -> str:
    """Why no file can be put into ``folder``, which may have to be made first; empty when one can, as far as is seen
    without trying.
    """
    for place in (folder, *folder.parents):
        try:
            found = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            if place.is_symlink():
                return f"{place}: a link that leads nowhere"
            continue
        except OSError as error:
            return f"{place}: {error.strerror}"
        if not stat.S_ISDIR(found.st_mode):
            return f"{place}: not a folder"
        if not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            return f"{place}: cannot be written to"
        return ""
    return ""


def remove_left_overs(folder: Path) -> None:
    """Remove temporary files that a killed process left, once they are a minute old."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):
                if entry.name.endswith(TEMPORARY_SUFFIX) and time.time() - entry.stat().st_mtime > LEFT_OVER_S:
                    Path(entry.path).unlink()


def _write_all(descriptor: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        written = os.write(descriptor, view)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]


def _verify(descriptor: int, body: bytes, path: Path) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    size = 0
    while chunk := os.read(descriptor, 1 << 20):
        digest.update(chunk)
        size += len(chunk)
    if size != len(body) or digest.digest() != hashlib.sha256(body).digest():
        raise OSError(errno.EIO, f"wrote {len(body)} bytes, read back {size} or others", str(path))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
