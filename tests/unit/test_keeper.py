"""What is in force stays saved: a save that fails, and a state file that somebody removes, are made up for."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from promring.fleet.keeper import REMINDER_S, Keeper
from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.model import Generation, Scraper
from promring.telemetry import log
from promring.telemetry.metrics import Metrics
from tests.waiting import until

MEMORY = Memory((Scraper("10.0.0.1:9090", "10.0.0.1", 9090),), generation=Generation(0, 7))


class Looked(Store):
    """Counts how often it was looked at."""

    looks = 0

    def stands(self) -> bool:
        self.looks += 1
        return super().stands()


class Kept:
    """A keeper with its store; ``clock``: seconds."""

    def __init__(self, folder: Path) -> None:
        self.store, self.metrics, self.clock = Looked(folder, "node", log.get()), Metrics(), 0.0
        self.keeper = Keeper("node", self.store, None, self.metrics, log.get(), clock=lambda: self.clock)
        self.memory = MEMORY
        self.saves: set[asyncio.Task[None]] = set()

    def save_again(self) -> None:
        self.saves.add(asyncio.ensure_future(self.keeper.save(self.memory)))

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.keeper.keep(self.save_again, every_s=0.01))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, *self.saves, return_exceptions=True)

    @property
    def failures(self) -> float:
        return float(self.metrics.state_failures.labels("node")._value.get())


def _grows(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _replaced_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


def _replaced_by_a_link(path: Path) -> None:
    path.rename(path.with_name("there"))
    path.symlink_to("there")


def _replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    path.rmdir()


GONE: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "moved": lambda path: path.rename(path.with_name("elsewhere")),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": _grows,
    "replaced by a copy": _replaced_by_a_copy,
    "replaced by a link": _replaced_by_a_link,
    "replaced by a folder that is gone again": _replaced_by_a_folder,
}


@pytest.mark.parametrize("how", GONE)
async def test_a_state_file_that_alone_goes_is_written_again_without_a_change(
    tmp_path: Path, said: io.StringIO, how: str
) -> None:
    kept, path = Kept(tmp_path), tmp_path / "node.state"
    await kept.keeper.save(MEMORY)
    GONE[how](path)
    async with kept.kept():
        await until(lambda: bool(kept.saves) and all(one.done() for one in kept.saves), "saved again")
        assert kept.keeper.has(MEMORY)
    assert path.is_file()
    assert not path.is_symlink()
    assert Store(tmp_path, "node", log.get()).load() == MEMORY
    assert said.getvalue().count("state_file_gone") == 1


async def test_a_state_file_that_stands_is_left_alone(tmp_path: Path, said: io.StringIO) -> None:
    kept = Kept(tmp_path)
    await kept.keeper.save(MEMORY)
    before = (tmp_path / "node.state").stat()
    async with kept.kept():
        await until(lambda: kept.store.looks >= 3, "looked at")
    assert not kept.saves
    assert (tmp_path / "node.state").stat().st_ino == before.st_ino
    assert "state_file_gone" not in said.getvalue()


async def test_a_disk_that_takes_no_state_is_logged_once_and_tried_until_it_does(tmp_path: Path, said: io.StringIO) -> None:
    folder = tmp_path / "state"
    folder.write_text("no folder")  # an error for whoever writes below it, root too
    kept = Kept(folder)
    await kept.keeper.save(MEMORY)
    async with kept.kept():
        await until(lambda: kept.failures >= 5, "tried again and again")
        assert said.getvalue().count("state_not_saved") == 1
        kept.memory = replace(MEMORY, generation=Generation(0, 8))
        tried = kept.failures
        await until(lambda: kept.failures >= tried + 3, "tried with what is new")
        assert said.getvalue().count("state_not_saved") == 1, "a change of the memory is no other failure"
        kept.clock += REMINDER_S
        await until(lambda: said.getvalue().count("state_not_saved") == 2, "a reminder")
        folder.unlink()
        await until(lambda: kept.keeper.has(kept.memory), "saved once there is room")
    assert said.getvalue().count("state_saved_again") == 1
    assert Store(folder, "node", log.get()).load() == kept.memory
