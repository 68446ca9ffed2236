"""Puts a file in its place whole or not at all.

The steps, each for a measured reason: a temporary name in the same folder that no file_sd glob matches (Prometheus scrapes
``.x.json`` too); write everything (a full disk gives short writes without an error); fsync; read back and compare SHA-256;
rename; fsync of the folder. When anything fails the old file is untouched and the temporary one is removed.

Modes are what is asked for, whatever the umask. A symlink is never followed where promring makes the names itself: not at a
file, and not at the last ``own`` folders. Nothing here waits for a FIFO or a device; such a file is an error that names it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

TEMPORARY_SUFFIX = ".promring-tmp"
LEFT_OVER_S = 60.0
READ_BYTES = 1 << 20
Buffer = bytes | memoryview
FILE_MODE, FOLDER_MODE = 0o644, 0o755
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW


def why_not(path: Path, error: OSError) -> str:
    """Why there is nothing at ``path``, and which file beside it it was, if it was another one: who may write a file may be
    denied its note or its lock.
    """
    if isinstance(error, OddFileError):
        return str(error)
    denied = isinstance(error, PermissionError) and isinstance(error.filename, str | bytes)
    other = Path(os.fsdecode(error.filename)).name if denied else path.name
    return f"{path}: {error.strerror or error}" + (f" ({other})" if other != path.name else "")


class OddFileError(OSError):
    """Something is there that is not a plain file or folder. Its text is whole: it names what, and where."""

    def __str__(self) -> str:
        return str(self.strerror)


def install(path: Path, body: bytes, *, mode: int = FILE_MODE, own: int = 0) -> None:
    """Write ``body`` to ``path``; folders above it are made. Raises OSError, with the path, and nothing has changed then,
    unless it was the folder that could not be synced: then the file is there, and may be the old one after a power cut.

    A symlink at ``path`` is replaced, never followed; ``own``: as in ``open_folder``.
    """
    with replacing(path, mode=mode, own=own) as descriptor:
        write_at(descriptor, 0, [body])


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = FILE_MODE, own: int = 0) -> Iterator[int]:
    """A descriptor of a new file that stands at ``path``, synced, when the block ends; nothing has changed when it raises.
    As ``install`` otherwise.
    """
    temporary = f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    folder = open_folder(path.parent, own=own)
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, mode, dir_fd=folder)
        try:
            os.fchmod(descriptor, mode)
            yield descriptor
        finally:
            os.close(descriptor)
        os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        if isinstance(error, OSError):
            error.filename = str(path)
            del error.filename2  # None would be said, too
        raise
    finally:
        os.close(folder)


def write_at(descriptor: int, at: int, pieces: Sequence[Buffer]) -> None:
    """Write the pieces, which are bytes, one after the other to the end of the file, sync it, and read them back. Raises
    OSError."""
    digest, size = hashlib.sha256(), 0
    os.lseek(descriptor, at, os.SEEK_SET)
    for piece in pieces:
        view = memoryview(piece)
        digest.update(view)
        size += len(view)
        _write_all(descriptor, view)
    os.fsync(descriptor)
    os.lseek(descriptor, at, os.SEEK_SET)
    _verify(descriptor, size, digest.digest())


def open_folder(folder: Path, *, own: int = 0) -> int:
    """A descriptor of ``folder``, which is made if it is missing, and so is what is missing above it, with ``FOLDER_MODE``.

    The last ``own`` folders may not be symlinks: whoever may write above them could lead the files elsewhere. Raises OSError
    whose text says which folder it was, and what to configure instead.
    """
    base = folder.parents[own - 1] if 0 < own <= len(folder.parents) else folder
    names = folder.relative_to(base).parts
    make_folders(base)
    at = os.open(base, os.O_DIRECTORY | os.O_CLOEXEC | (os.O_PATH if names else os.O_RDONLY))
    for number, name in enumerate(names, 1):
        how = os.O_DIRECTORY | _OPEN | (os.O_PATH if number < len(names) else os.O_RDONLY)
        try:
            inner = _open_or_make(name, how, at)
        except OSError as error:
            path = base.joinpath(*names[:number])
            if path.is_symlink():
                text = f"{path} is a symlink, which is not followed: configure {path.resolve()}"
                raise OddFileError(errno.ELOOP, text) from None
            error.filename = str(path)
            raise
        finally:
            os.close(at)
        at = inner
    return at


def _open_or_make(name: str, how: int, at: int) -> int:
    try:
        return os.open(name, how, dir_fd=at)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, FOLDER_MODE, dir_fd=at)
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=at)
            try:
                os.fchmod(made, stat.S_IMODE(os.fstat(made).st_mode) | FOLDER_MODE)
            finally:
                os.close(made)
        return os.open(name, how, dir_fd=at)


def make_folders(folder: Path, mode: int = FOLDER_MODE) -> None:
    """Make ``folder`` with ``mode``, whatever the umask, and what is missing above it with ``FOLDER_MODE``. Raises OSError.

    A folder that is there keeps its mode.
    """
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folders(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode)
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | mode)  # what it inherits, such as the group, stays


def make_private(folder: Path) -> None:
    """Make ``folder`` for us alone. One of ours that is there loses no more than what lets others write into it, so that a
    shared folder such as /tmp stays what it is. Raises OSError.
    """
    make_folders(folder, 0o700)
    there = folder.stat()
    others = stat.S_IWGRP | stat.S_IWOTH
    if there.st_uid == os.geteuid() and there.st_mode & others and not there.st_mode & stat.S_ISVTX:
        folder.chmod(stat.S_IMODE(there.st_mode) & ~others)


def is_open_to_all(folder: Path) -> bool:
    """Whether everybody may replace files in ``folder``: writable for all, and not sticky."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def read_plain(path: Path, most: int) -> bytes:
    """The beginning of a regular file. Raises OSError, which says so, for anything else: nothing is waited for."""
    descriptor = open_plain(path, os.O_RDONLY)
    try:
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)


def open_plain(path: Path, how: int, *, folder: int | None = None) -> int:
    """A descriptor of a regular file. Raises OSError, which says so, for a symlink, FIFO, device, socket or folder.
    ``folder``: a descriptor of the one that it is in, wherever its path leads now.
    """
    try:
        descriptor = os.open(path if folder is None else path.name, how | _OPEN | os.O_NONBLOCK, 0o600, dir_fd=folder)
    except OSError as error:
        raise _odd(path) or error from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _odd(path) or OddFileError(errno.EINVAL, f"{path} is not a regular file")
    return descriptor


def refuse_odd(path: Path) -> None:
    """Raises OSError when something is at ``path`` that is neither a regular file nor a symlink."""
    odd = _odd(path)
    if odd is not None and odd.errno != errno.ELOOP:
        raise odd


def _odd(path: Path) -> OddFileError | None:
    kinds = {stat.S_IFLNK: "symlink", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFDIR: "folder"}
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except OSError:
        return None
    if kind == stat.S_IFREG:
        return None
    number = {stat.S_IFLNK: errno.ELOOP, stat.S_IFDIR: errno.EISDIR}.get(kind, errno.EINVAL)
    return OddFileError(number, f"{path} is a {kinds.get(kind, 'device')}, not a regular file")


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
                if (
                    entry.name.endswith(TEMPORARY_SUFFIX)
                    and time.time() - entry.stat(follow_symlinks=False).st_mtime > LEFT_OVER_S
                ):
                    Path(entry.path).unlink()


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        written = os.write(descriptor, view)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]


def _verify(descriptor: int, wanted: int, digest: bytes) -> None:
    found, size = hashlib.sha256(), 0
    while chunk := os.read(descriptor, READ_BYTES):
        found.update(chunk)
        size += len(chunk)
    if size != wanted or found.digest() != digest:
        raise OSError(errno.EIO, f"wrote {wanted} bytes, read back {size} or others")
