"""The lock on the state folder, while the folder is removed, moved or replaced."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from promring.runtime.own_folder import InUseError, OwnFolder
from promring.telemetry import log
from tests.waiting import until


def _made_by_a_save(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _replaced_by_a_link(folder: Path) -> None:
    other = folder.with_name("elsewhere")
    other.mkdir()
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(other)


GONE: dict[str, Callable[[Path], object]] = {
    "removed": shutil.rmtree,
    "moved": lambda folder: folder.rename(folder.with_name("moved")),
    "removed and made by a save": _made_by_a_save,
    "replaced by a link": _replaced_by_a_link,
    "its lock removed": lambda folder: (folder / "lock").unlink(),
}


@contextlib.asynccontextmanager
async def kept(folder: OwnFolder) -> AsyncIterator[None]:
    task = asyncio.create_task(folder.keep(log.get(), lambda: None, every_s=0.01))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def is_refused(path: Path) -> bool:
    """Whether another process could not start on it."""
    other = OwnFolder(path)
    try:
        other.take()
    except InUseError:
        return True
    finally:
        other.close()
    return False


@pytest.mark.parametrize("how", GONE)
async def test_a_state_folder_that_goes_while_promring_runs_comes_back_with_its_lock(tmp_path: Path, how: str) -> None:
    path = tmp_path / "state"
    folder = OwnFolder(path)
    folder.take()
    with contextlib.closing(folder):
        assert is_refused(path)
        GONE[how](path)
        assert not folder.is_held()
        async with kept(folder):
            await until(folder.is_held, "what stands there now is held")
            assert is_refused(path)


async def test_what_cannot_be_taken_again_is_tried_until_it_can(tmp_path: Path) -> None:
    path = tmp_path / "state"
    folder, other = OwnFolder(path), OwnFolder(path)
    folder.take()
    with contextlib.closing(folder), contextlib.closing(other):
        shutil.rmtree(path)
        other.take()
        async with kept(folder):
            await until(lambda: not folder.is_held(), "another one has it")
            other.close()
            await until(folder.is_held, "it is free again")
            shutil.rmtree(path)
            path.write_text("a file")
            await until(lambda: not folder.is_held(), "it is none")
            path.unlink()
            await until(folder.is_held, "the way is free again")
