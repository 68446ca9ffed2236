"""A file of targets is read when it may be another one, and only then."""

from __future__ import annotations

import asyncio
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promring.core.pool import pool_of
from promring.discovery.file import FileSource
from promring.discovery.list_file import ListFile
from promring.discovery.list_rules import ANY
from promring.discovery.stamps import TICK_S, Stamp, Stamps
from promring.model import DiscoveryError, TargetGroup, TargetPool
from tests.waiting import until

INTERVAL_S = 300.0


def listing(number: int) -> bytes:
    """As long for each number below ten."""
    return b'[{"targets":["a%d:1"]}]' % number


def pool(number: int) -> TargetPool:
    return pool_of((TargetGroup.of([f"a{number}:1"]),))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Watched:
    """A file that is looked at, by a clock that is set by hand."""

    def __init__(self, path: Path, stamps: Stamps, clock: Clock) -> None:
        self.path, self.clock, self._stamps = path, clock, stamps
        self._file = ListFile(str(path), ANY, stamps, INTERVAL_S)

    def look(self) -> None:
        self._stamps.look([str(self.path)])

    def read(self) -> TargetPool:
        self._file.take(self._file.open())
        return self._file.last

    def read_when_quiet(self) -> TargetPool:
        """As a source does, when nothing changes for a while: seen, and read once more after a tick."""
        self.look()
        self.clock.now_s += TICK_S
        self.look()
        return self.read()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    clock = Clock()
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "t.json"
    path.write_bytes(listing(0))
    return Watched(path, Stamps(clock), clock)


def store_without_a_trace(path: Path, memory: mmap.mmap, number: int) -> bool:
    """Whether it left none. A page that the system has just written back is marked at the next store."""
    before = path.stat()
    memory[:] = listing(number)
    after = path.stat()
    return (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)


def test_what_did_not_change_is_not_read_until_its_interval_is_over(watched: Watched) -> None:
    with watched.path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        for number in range(1, 9):
            memory[:] = listing(0)
            assert watched.read_when_quiet() == pool(0)
            if store_without_a_trace(watched.path, memory, number):
                break
            watched.clock.now_s += INTERVAL_S
        else:
            pytest.fail("each store left a trace")
        assert watched.read() == pool(0), "read again, although its stamp is the same"
        watched.clock.now_s += INTERVAL_S
        assert watched.read() == pool(number), "read once in its interval, whatever its stamp is"


def test_what_was_read_within_a_tick_is_read_again(watched: Watched) -> None:
    with watched.path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:] = listing(0)
        watched.look()
        watched.clock.now_s += TICK_S - 0.01
        assert watched.read() == pool(0)
        memory[:] = listing(1)
        assert watched.read() == pool(1)


def written_in_place(path: Path) -> None:
    path.write_bytes(listing(1))


def written_with_the_old_time(path: Path) -> None:
    before = path.stat()
    path.write_bytes(listing(1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed_over(path: Path) -> None:
    path.with_suffix(".new").write_bytes(listing(1))
    shutil.copystat(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def link(path: Path, to: Path) -> None:
    path.with_suffix(".link").symlink_to(to.name)
    path.with_suffix(".link").replace(path)


def link_swapped(path: Path) -> None:
    path.with_suffix(".list").write_bytes(listing(1))
    shutil.copystat(path, path.with_suffix(".list"))
    link(path, path.with_suffix(".list"))


def hard_link_swapped(path: Path) -> None:
    path.with_suffix(".list").write_bytes(listing(1))
    path.unlink()
    path.hardlink_to(path.with_suffix(".list"))


def written_by_another_name(path: Path) -> None:
    path.with_suffix(".other").hardlink_to(path)
    path.with_suffix(".other").write_bytes(listing(1))


def folder_made_again(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    path.write_bytes(listing(1))


CHANGES: list[Callable[[Path], None]] = [
    written_in_place,
    written_with_the_old_time,
    renamed_over,
    link_swapped,
    hard_link_swapped,
    written_by_another_name,
    folder_made_again,
]


def after_a_tick(path: Path) -> None:
    """Of the real file system's clock: what is written now has another time than this file."""
    beside = path.with_suffix(".tick")
    while not beside.exists() or beside.stat().st_ctime_ns <= path.stat().st_ctime_ns:
        beside.write_bytes(b"")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_whatever_was_done_to_a_file_it_is_read_again(watched: Watched, change: Callable[[Path], None]) -> None:
    assert watched.read_when_quiet() == pool(0)
    after_a_tick(watched.path)
    change(watched.path)
    assert watched.read() == pool(1)
    assert watched.read_when_quiet() == pool(1)


def test_bytes_that_are_no_list_are_read_again_and_the_good_list_stays(watched: Watched) -> None:
    assert watched.read_when_quiet() == pool(0)
    after_a_tick(watched.path)
    watched.path.write_bytes(b'[{"targets":')
    for _ in range(2):
        with pytest.raises(DiscoveryError, match=r"t\.json"):
            watched.read_when_quiet()
    watched.path.write_bytes(listing(0))
    assert watched.read_when_quiet() == pool(0)


def test_a_link_that_goes_to_and_fro_gives_the_list_of_the_good_file_and_the_error_of_the_bad_one(watched: Watched) -> None:
    good, bad = watched.path.with_suffix(".good"), watched.path.with_suffix(".bad")
    watched.path.rename(good)
    bad.write_bytes(b'[{"targets":')
    for _ in range(3):
        link(watched.path, good)
        assert watched.read_when_quiet() == pool(0)
        link(watched.path, bad)
        with pytest.raises(DiscoveryError, match=r"t\.json"):
            watched.read_when_quiet()


def test_a_file_that_nobody_looks_at_is_read_each_time(watched: Watched) -> None:
    with watched.path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        for number in range(3):
            memory[:] = listing(number)
            watched.clock.now_s += TICK_S
            assert watched.read() == pool(number)


class CoarseStamps(Stamps):
    """Of a file system that keeps times of 2 s, by its own clock, and none of the last change."""

    def of(self, file: str | int) -> Stamp:
        return super().of(file)[:-1]


class CoarseDisk:
    """Writes in place; the times that its files have."""

    def __init__(self, path: Path, clock: Clock, ahead_s: float) -> None:
        self._path, self._clock, self._ahead_s = path, clock, ahead_s

    def write(self, number: int) -> None:
        self._path.write_bytes(listing(number))
        ticks = int((self._clock.now_s + self._ahead_s) // TICK_S)
        os.utime(self._path, (0, ticks * TICK_S))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 0.5, 1.9, 2.0, 2.1, 7.0])),
        st.just(("look", 0)),
        st.just(("read", 0)),
    ),
    max_size=14,
)


@settings(max_examples=100)
@given(steps=STEPS, ahead_s=st.sampled_from([0.0, 0.7, -1.3, 500.0, -500.0]))
def test_with_coarse_times_and_a_wrong_clock_the_last_write_is_read(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, float]], ahead_s: float
) -> None:
    clock = Clock()
    path = tmp_path_factory.getbasetemp() / f"coarse-{os.getpid()}.json"
    disk, written = CoarseDisk(path, clock, ahead_s), 0
    disk.write(written)
    watched = Watched(path, CoarseStamps(clock), clock)
    for what, value in steps:
        if what == "write":
            written = int(value)
            disk.write(written)
        elif what == "wait":
            clock.now_s += value
        elif what == "look":
            watched.look()
        else:
            watched.read()
    assert watched.read_when_quiet() == pool(written)


def bytes_read() -> int:
    """By this process, of files that are in memory, too."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))


async def test_a_source_reads_what_changed_and_nothing_else(tmp_path: Path) -> None:
    size = 400_000
    for number in range(5):
        (tmp_path / f"{number}.json").write_bytes(listing(number) + b" " * size)
    source = FileSource([str(tmp_path / "*.json")], 3600.0)

    async def look() -> None:
        async for _ in source.changes(asyncio.Event()):
            pass

    async def files_read() -> int:
        before = bytes_read()
        await source.fetch()
        return (bytes_read() - before) // size

    async def nothing_is_read() -> bool:
        read.append(await files_read())
        return read[-1] == 0

    looking = asyncio.create_task(look())
    try:
        read: list[int] = []
        await until(nothing_is_read, "every file was there for a tick when it was read")
        (tmp_path / "new").write_bytes(listing(7) + b" " * size)
        (tmp_path / "new").replace(tmp_path / "3.json")
        read = [await files_read()]
        assert await source.fetch() == pool_of([TargetGroup.of([f"a{n}:1"]) for n in (0, 1, 2, 7, 4)])
        await until(nothing_is_read, "and so is the one that changed")
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    assert set(read[:-1]) == {1}, "what did not change was read"
