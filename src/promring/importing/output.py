"""The folder with the new files: all of them, or none.

A folder that is not there, or is empty, is put in its place by one rename. In one that has files (``force``) every file is
written beside its place first, and what was there is put back when a rename fails.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from promring.importing.convert import File
from promring.importing.source import InputError
from promring.runtime.disk import install, make_folders


def check_folder(out: Path, inputs: Collection[Path], names: Collection[str], *, force: bool) -> None:
    """Raises ``InputError`` for a folder that cannot be written to as asked; OSError."""
    if out.exists() and not out.is_dir():
        raise InputError([f"{out}:1: not a folder"])
    if out.is_dir() and any(out.iterdir()) and not force:
        raise InputError([f"{out}:1: the folder is not empty; name another one, or say --force"])
    for name in names:
        place = out / name
        if any(place.exists() and place.samefile(one) for one in inputs):
            raise InputError([f"{place}:1: would overwrite an input; name another folder"])
        if not place.resolve().is_relative_to(out.resolve()):
            raise InputError([f"{place}:1: an included file that is not below the configuration's folder"])


def write_all(out: Path, files: Mapping[str, File]) -> None:
    """Raises OSError, and nothing has changed then."""
    make_folders(out.absolute().parent)
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".promring-tmp", dir=out.absolute().parent))
    except OSError as error:  # it names what nobody has asked for
        raise OSError(error.errno, error.strerror, str(out)) from error
    try:
        for name, file in files.items():
            install(beside / name, file.content, mode=file.mode)
        if out.is_dir() and any(out.iterdir()):
            _exchange(beside, out, files)
        else:
            beside.chmod(0o755)
            beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _exchange(beside: Path, out: Path, files: Mapping[str, File]) -> None:
    """Put the new files in their places, and the old ones back when one fails."""
    old = beside / ".old"
    done: list[str] = []
    try:
        for name in files:
            make_folders((out / name).parent)
            make_folders((old / name).parent)
            with contextlib.suppress(FileNotFoundError):
                (out / name).rename(old / name)
            done.append(name)
            (beside / name).rename(out / name)
    except OSError:
        for name in done:
            with contextlib.suppress(OSError):
                (out / name).unlink(missing_ok=True)
                (old / name).rename(out / name)
        raise
