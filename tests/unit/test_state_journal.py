"""The state file is appended to: what a save costs, when the file is written whole, and what becomes of it meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from promring.core.claims import Claims
from promring.core.plan import body_of
from promring.core.pool import pool_of
from promring.fleet.journal import append, compacting, header, open_state, scan, write_whole
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.store import CHANGES_LEAST_BYTES, CHANGES_SHARE, Store
from promring.model import NEVER_ENDS, Generation, Scraper, Slice, TargetGroup
from promring.telemetry import log
from tests.rows import Seen
from tests.waiting import until

A, B = (Scraper(f"10.0.0.{i}:9090", f"10.0.0.{i}", 9090) for i in (1, 2))
TARGETS = 2000
NAMES = [f"10.1.{i // 250}.{i % 250}:9100" for i in range(TARGETS)]


def service(name: str, generation: Generation, special: dict[str, str], *, before: Memory | None = None) -> ServiceMemory:
    """The slice of B stays what it was. ``special``: a label of the first target, which A has."""
    pool = pool_of([TargetGroup.of(NAMES[1:], {"env": "production"}), TargetGroup.of(NAMES[:1], special)])
    first = int(np.flatnonzero(pool.ids == pool_of([TargetGroup.of(NAMES[:1])]).ids[0])[0])
    rows = np.arange(TARGETS)
    mine = np.isin(rows // 2, [first // 2]) | (rows % 2 == 0)
    slices = {s.id: Slice(name, s, generation, body_of(pool, rows[m]), int(m.sum())) for s, m in ((A, mine), (B, ~mine))}
    old = before.of(name).slices.get(B.id) if before else None
    return ServiceMemory({"file:x": pool}, {A.id: slices[A.id], B.id: old or slices[B.id]}, {"file:x": 1.0})


def memory(n: int = 1, *, services: int = 1, before: Memory | None = None) -> Memory:
    """Every ``n`` has another label on one target of the first service."""
    generation, names = Generation(1, n), [f"job-{i}" for i in range(services)]
    made = {name: before.of(name) if before else service(name, generation, {}) for name in names}
    made["job-0"] = service("job-0", generation, {"n": str(n)}, before=before)
    ids = np.concatenate([one.sources["file:x"].ids ^ np.uint64(i) for i, one in enumerate(made.values())])
    ever = np.full(len(ids), NEVER_ENDS)
    return Memory((A, B), made, generation, Claims((A.id, B.id), ids, (ids % 2).astype(np.int32), -ever, ever))


def store_in(folder: Path) -> Store:
    return Store(folder, "x", log.get())


@pytest.mark.parametrize("services", [1, 5])
async def test_a_save_writes_what_changed_and_not_what_is_there(tmp_path: Path, services: int) -> None:
    store, path, one = store_in(tmp_path), tmp_path / "x.state", memory(services=services)
    await store.save(one)
    whole, sizes = path.stat(), []
    for n in range(2, 7):
        before = path.stat().st_size
        one = memory(n, services=services, before=one)
        await store.save(one)
        sizes.append(path.stat().st_size - before)
    assert path.stat().st_ino == whole.st_ino
    assert max(sizes) < 2500
    assert max(sizes) < whole.st_size / 200
    assert store_in(tmp_path).load() == one


async def test_a_start_goes_on_with_the_file_and_so_does_a_reload(tmp_path: Path) -> None:
    await store_in(tmp_path).save(memory(1))
    inode = (tmp_path / "x.state").stat().st_ino
    store = store_in(tmp_path)
    one = memory(2, before=store.load())
    await store.save(one)
    reloaded = store_in(tmp_path)
    reloaded.follow(store)
    one = memory(3, before=one)
    await reloaded.save(one)
    assert (tmp_path / "x.state").stat().st_ino == inode
    assert store_in(tmp_path).load() == one


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def another(path: Path) -> None:
    other = path.with_suffix(".other")  # beside the first one, so that it has not its inode
    other.write_bytes(path.read_bytes())
    other.replace(path)


def link(path: Path) -> None:
    path.rename(path.with_suffix(".other"))
    path.symlink_to(path.with_suffix(".other"))


@pytest.mark.parametrize("change", [gone, cut, longer, another, link])
async def test_a_file_that_somebody_changed_is_written_whole(tmp_path: Path, change: Callable[[Path], None]) -> None:
    store, path = store_in(tmp_path), tmp_path / "x.state"
    await store.save(memory(1))
    change(path)
    one = memory(2)
    await store.save(one)
    assert not path.is_symlink()
    assert store_in(tmp_path).load() == one
    with open_state(path) as file:
        assert len(scan(file).frames) == 1


async def test_after_an_end_that_was_cut_the_generation_does_not_go_back_and_the_next_save_is_whole(tmp_path: Path) -> None:
    store, path = store_in(tmp_path), tmp_path / "x.state"
    first = memory(1)
    await store.save(first)
    await store.save(memory(2, before=first))
    os.truncate(path, path.stat().st_size - 10)
    store = store_in(tmp_path)
    assert store.load() == replace(first, generation=Generation(1, 2))
    one = memory(3)
    await store.save(one)
    assert store_in(tmp_path).load() == one


# --- frames ----------------------------------------------------------------------------------------------------------


def frames_of(path: Path, count: int = 4) -> list[bytes]:
    """A file of so many frames; each as it is there."""
    position, cuts = write_whole(path, [b"0"], Generation(1, 0)), [0]
    for n in range(1, count):
        cuts.append(position.size)
        position = append(path, position, [b"%d" % n, b"-" * n], Generation(1, n))
    content = path.read_bytes()
    return [content[a:b] for a, b in zip(cuts, [*cuts[1:], None], strict=True)]


def scanned(path: Path, frames: list[bytes]) -> list[bytes] | str:
    """The bodies that are believed, or why none is."""
    path.write_bytes(b"".join(frames))
    try:
        with open_state(path) as file:
            found, content = scan(file), path.read_bytes()
            return [content[frame.at : frame.at + frame.size] for frame in found.frames]
    except ValueError as error:
        return str(error)


def flipped(frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


ALL = [b"0", b"1-", b"2--", b"3---"]


@pytest.mark.row(65, did="frames of a state cut, doubled, left out, out of order, from another fleet, damaged")
def test_what_of_a_journal_is_believed(tmp_path: Path, seen: Seen) -> None:
    path = tmp_path / "x.state"
    one, two, three, four = frames_of(path)
    other = frames_of(tmp_path / "y.state")
    zeros = bytes(len(four))
    believed = {
        "as it was": ([one, two, three, four], ALL),
        "without its end": ([one, two, three], ALL[:3]),
        "the last one cut": ([one, two, three, four[:-1]], ALL[:3]),
        "the last header cut": ([one, two, three, four[:20]], ALL[:3]),
        "the last one zeros": ([one, two, three, zeros], ALL[:3]),
        "the last header damaged": ([one, two, three, flipped(four, 3)], ALL[:3]),
        "the last body damaged": ([one, two, three, flipped(four, four.index(b"\n") + 1)], ALL[:3]),
        "the last end damaged": ([one, two, three, flipped(four, len(four) - 3)], ALL[:3]),
    }
    refused = {
        "the first one damaged": [flipped(one, 30), two, three, four],
        "the first one cut": [one[:-1]],
        "the first one lost": [two, three, four],
        "a header in the middle damaged": [one, flipped(two, 3), three, four],
        "a body in the middle damaged": [one, two, flipped(three, three.index(b"\n") + 1), four],
        "one in the middle cut": [one, two[:-1], three, four],
        "one in the middle lost": [one, three, four],
        "one in the middle of zeros": [one, bytes(len(two)), three],
        "doubled": [one, two, three, four] * 2,
        "one doubled": [one, two, two, three],
        "the last one doubled": [one, two, two],
        "out of order": [one, three, two, four],
        "of another file at the end": [one, two, other[2]],
        "of another file in the middle": [one, other[1], three],
        "of another file at the end, and cut": [one, two, other[2][:-1]],
    }
    assert {what: scanned(path, frames) for what, (frames, _) in believed.items()} == {
        what: bodies for what, (_, bodies) in believed.items()
    }
    for what, frames in refused.items():
        assert isinstance(scanned(path, frames), str), what
    seen(f"{len(believed)} loaded up to the last whole frame, {len(refused)} refused as a whole")


@pytest.mark.parametrize("damage", ["body", "header", "end"])
def test_of_a_last_frame_that_was_damaged_the_generation_is_known(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.state"
    *rest, last = frames_of(path)
    at = {"body": last.index(b"\n") + 1, "header": 20, "end": len(last) - 3}[damage]
    path.write_bytes(b"".join([*rest, flipped(last, at)]))
    with open_state(path) as file:
        assert scan(file).lost == Generation(1, 3)


@pytest.mark.parametrize("version", [6, 8])
def test_a_file_of_another_version_is_named(tmp_path: Path, version: int) -> None:
    line = header([b"x"], Generation(1, 1), "name", "-").replace(b"state 7", b"state %d" % version)
    assert f"(format {version})" in str(scanned(tmp_path / "x.state", [line + b"x"]))
    old = b"promring-state 6 1 " + b"0" * 64 + b"\nx"
    assert "another version of promring (format 6)" in str(scanned(tmp_path / "x.state", [old]))


# --- compaction ------------------------------------------------------------------------------------------------------


def test_what_is_appended_during_a_compaction_is_in_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    begun = write_whole(path, [b"0"], Generation(1, 0))
    begun = append(path, begun, [b"1"], Generation(1, 1))
    with compacting(path, begun, [b"0+1"], Generation(1, 1)) as new:
        now = append(path, begun, [b"2"], Generation(1, 2))
        now = append(path, now, [b"3"], Generation(1, 3))
        position = new.follow(now)
    append(path, position, [b"4"], Generation(1, 4))
    assert scanned(path, [path.read_bytes()]) == [b"0+1", b"2", b"3", b"4"]


@contextlib.asynccontextmanager
async def running(store: Store) -> AsyncIterator[None]:
    task = asyncio.create_task(store.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def grown(store: Store, path: Path, start: int) -> Memory:
    """Changes until they are longer than they may be: a label of half a megabyte."""
    one = memory(start)
    await store.save(one)
    filler = ServiceMemory({"f": pool_of([TargetGroup.of([f"f{i}:1" for i in range(9000)], {"x": "y" * 200})])})
    await store.save(replace(one, services={**one.services, "filler": filler}))
    inode, first = path.stat().st_ino, path.stat().st_size
    n = start
    while path.stat().st_ino == inode and path.stat().st_size < first + max(CHANGES_LEAST_BYTES, CHANGES_SHARE * first):
        n += 1
        big = pool_of([TargetGroup.of([f"big:{n}"], {"big": chr(97 + n % 26) * 400_000})])
        one = replace(one, services={**one.services, "filler": filler, "big": ServiceMemory({"f": big})})
        await store.save(one)
    return one


async def test_a_file_with_long_changes_becomes_one_frame_while_saves_go_on(tmp_path: Path) -> None:
    store, path = store_in(tmp_path), tmp_path / "x.state"
    async with running(store):
        one = await grown(store, path, 1)
        long = path.stat().st_size
        await until(lambda: path.stat().st_size < long, "a compaction")
        for n in (90, 91):
            one = replace(memory(n, before=one), services={**one.services, "job-0": service("job-0", Generation(1, n), {})})
            await store.save(one)
    assert store_in(tmp_path).load() == one
    assert [p.name for p in tmp_path.iterdir()] == ["x.state"]


async def test_a_compaction_that_is_cancelled_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    store, path = store_in(tmp_path), tmp_path / "x.state"
    one = await grown(store, path, 1)
    long = path.stat().st_size
    task = asyncio.create_task(store.run())
    await until(lambda: len(list(tmp_path.iterdir())) > 1 or path.stat().st_size < long, "it begins")
    task.cancel()
    await asyncio.wait([task])
    follower = store_in(tmp_path)
    follower.follow(store)
    one = replace(one, drained=frozenset({A.id}))
    await follower.save(one)
    await until(lambda: [p.name for p in tmp_path.iterdir()] == ["x.state"], "what was begun is removed")
    assert store_in(tmp_path).load() == one
