"""That a file is another one is noticed by looking, whatever was done to it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from promring.discovery.file import FileSource
from promring.discovery.looking import Looking
from tests.waiting import until


@asynccontextmanager
async def counted(pattern: Path) -> AsyncIterator[Callable[[], int]]:
    """How many changes were seen."""
    seen = 0

    async def follow() -> None:
        nonlocal seen
        async for _ in FileSource([str(pattern)], 3600.0).changes(asyncio.Event()):
            seen += 1

    task = asyncio.create_task(follow())
    try:
        yield lambda: seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def renamed(folder: Path) -> None:
    (folder / "new").write_text("[1]")
    (folder / "new").replace(folder / "t.json")


def written_with_the_old_time(folder: Path) -> None:
    path = folder / "t.json"
    before = path.stat()
    path.write_text("[2]")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def link_swapped(folder: Path) -> None:
    (folder / "b.list").write_text("[3]")
    (folder / "link").symlink_to("b.list")
    (folder / "link").replace(folder / "t.json")


def folder_made_again(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "t.json").write_text("[0]")


def another_one(folder: Path) -> None:
    (folder / "u.json").write_text("[4]")


@pytest.mark.parametrize(
    "how",
    [renamed, written_with_the_old_time, link_swapped, folder_made_again, another_one, shutil.rmtree],
    ids=["renamed", "written_with_the_old_time", "link_swapped", "folder_made_again", "another_one", "removed"],
)
async def test_whatever_is_done_to_a_file_is_seen(tmp_path: Path, how: Callable[[Path], object]) -> None:
    folder = tmp_path / "in[1]"
    folder.mkdir()
    (folder / "t.json").write_text("[0]")
    async with counted(tmp_path / "in[[]1]" / "*.json") as seen:
        await until(lambda: seen() >= 2, "the files as they are, and once more after a while")
        before = seen()
        how(folder)
        await until(lambda: seen() > before, "the change")


async def test_what_changed_is_read_once_more_and_what_stays_is_left_alone() -> None:
    looks = 0

    def look() -> object:
        nonlocal looks
        looks += 1
        return "the same"

    with Looking(look, every_s=0.001, again_s=0.05) as looking:
        await asyncio.wait_for(looking.changed(), 60)  # what changed before the begin
        await asyncio.wait_for(looking.changed(), 60)  # a write within the same tick of the clock would look the same
        before = looks
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(looking.changed(), 0.3)
    assert looks > before


async def test_a_look_that_fails_is_told_to_who_waits() -> None:
    def look() -> object:
        raise ValueError("a bug")

    with Looking(look) as looking, pytest.raises(ValueError, match="a bug"):
        await looking.changed()


async def test_hundreds_of_lookers_together_take_a_part_of_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    worked = 0.0

    def works() -> float:
        nonlocal worked
        worked += 0.001
        return worked

    async def pause() -> float:
        pauses: list[float] = []

        def wait(pause_s: float) -> bool:
            pauses.append(pause_s)
            return len(pauses) > 1

        with Looking(lambda: "the same") as looking:
            monkeypatch.setattr(looking._ended, "wait", wait)
            await until(lambda: len(pauses) > 1, "it has looked and pauses")
        return pauses[1]

    monkeypatch.setattr("promring.discovery.looking.time.thread_time", works)
    alone = await pause()
    with ExitStack() as stack:
        for _ in range(399):
            stack.enter_context(Looking(lambda: "the same"))
        beside = await pause()
    assert alone < beside
    assert beside >= 0.99 * 25 * 400 * 0.001, "400 looks of a millisecond in ten seconds"
    assert Looking._looking == 0
