"""No sink ever holds a torn slice: killed at random, read meanwhile; full, read-only, forbidden disks.

Real processes and file systems. A kill -9 does not lose the page cache: what a power cut leaves is not proved, only (in
``test_torn_syscalls``) that every fsync that guards against it is there and that its failure is heard.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from promring.delivery import Outcome
from promring.delivery.file import FileDelivery
from promring.delivery.receiver import held
from promring.model import Generation, Slice
from promring.telemetry import log
from tests.real.torn import (
    MARK,
    NOBODY,
    FarSide,
    age,
    failed,
    fill,
    installed,
    left_over,
    needs_root,
    remount,
    saved,
    tmpfs,
)
from tests.real.torn_writer import SCRAPERS, SERVICE, Writer, body_of, path_of
from tests.rows import Seen


def _worked_s(pid: int) -> float:
    """Seconds of CPU that a process has had so far, all its threads: clock_getcpuclockid(3), of which Python has no call."""
    return time.clock_gettime((~pid << 3) | 2)


def _two_cycles(writer: Writer, folder: Path) -> float:
    """Seconds of CPU that a start and two cycles after it take here."""
    writer.begin()
    writer.tell(do="endless", epoch=2)
    while saved(folder) < Generation(2, 3):
        time.sleep(0.01)
    worked_s = _worked_s(writer.child)
    assert writer.kill() == -signal.SIGKILL
    return worked_s


def _let_work(pid: int, seconds: float, more_s: float) -> None:
    """Until it has had so many seconds of CPU, and a moment longer, in which it may wait for the disk.

    By the clock on the wall it does twenty cycles in one turn, and none in the next, on a machine that is busy.
    """
    while (left_s := seconds - _worked_s(pid)) > 0:
        time.sleep(max(left_s, 0.001))
    time.sleep(more_s)


@pytest.mark.row(40, 45, did="kill -9 of a process that saves and delivers, at random moments")
@pytest.mark.timeout(600)
def test_random_kills_leave_whole_slices_and_the_next_start_finishes(tmp_path: Path, seen: Seen, long: bool) -> None:
    kills = 212 if long else 60
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    tally: Counter[str] = Counter()
    last: list[Generation] = [Generation(0, 0)] * len(SCRAPERS)
    last_saved = Generation(0, 0)
    out, state = tmp_path / "out", tmp_path / "state"
    state.mkdir()
    with Writer(tmp_path) as writer:
        writer.once(do="save", generation=(1, 1), count=4)
        writer.once(do="deliver", generation=(1, 1), count=4)
        cycles_s = _two_cycles(writer, tmp_path)
        for epoch in range(3, kills + 3):
            writer.begin()
            writer.tell(do="endless", epoch=epoch)
            _let_work(writer.child, rng.uniform(0, cycles_s), rng.uniform(0, 0.01))
            assert writer.kill() == -signal.SIGKILL

            left, left_state = left_over(out), left_over(state)
            files, now_saved = installed(tmp_path), saved(tmp_path)
            assert all(g is not None and before <= g <= now_saved for g, before in zip(files, last, strict=True))
            assert last_saved <= now_saved
            notes = [note[0] for s in SCRAPERS if (note := held(path_of(tmp_path, s)))]
            tally["middle of a write"] += bool(left or left_state or len({*files, *notes}) > 1)
            tally["a temporary file"] += bool(left or left_state)
            tally["part of one"] += any(p.stat().st_size != whole_size(p) for p in left)
            tally["two generations"] += len(set(files)) > 1
            tally["a note ahead"] += sorted(notes) != sorted(g for g in files if g)
            last, last_saved = [g for g in files if g], now_saved
            age(left + left_state)
            if rng.random() < 0.7:  # else the next kill may hit what mends this one
                answer = writer.once(do="resume")
                assert not failed(answer), answer
                assert installed(tmp_path) == [now_saved] * len(SCRAPERS), "the next start finishes"
                assert left_over(out, state) == []
                assert "level=error" not in answer["log"]
        assert not failed(writer.once(do="resume"))
    assert set(installed(tmp_path)) == {saved(tmp_path)}
    assert left_over(out, state) == []
    assert tally["middle of a write"] > 0
    assert tally["two generations"] > 0
    details = ", ".join(
        f"{name} {tally[name]}" for name in ("a temporary file", "part of one", "two generations", "a note ahead")
    )
    seen(f"{kills} kills, {tally['middle of a write']} in the middle of a write ({details}), 0 torn")


def whole_size(temporary: Path) -> int | None:
    """The size that the temporary file of a slice would have in the end: that of the list whose mark it begins with."""
    with open(temporary, "rb") as file:
        found = MARK.search(file.read(200))
    if ".promring." in temporary.name:  # a note: it is written in one piece or not at all
        return temporary.stat().st_size
    return len(body_of(Generation(int(found[1]), int(found[2])), int(found[3]))) if found else None


@pytest.mark.row(40, did="slice files read without a pause while they are replaced")
def test_a_reader_never_sees_anything_but_a_whole_slice(tmp_path: Path, seen: Seen) -> None:
    reads, generations = 0, set[Generation]()
    with Writer(tmp_path) as writer:
        writer.once(do="save", generation=(1, 1), count=4)
        writer.once(do="deliver", generation=(1, 1), count=4)
        writer.begin()
        writer.tell(do="endless", epoch=2)
        began = time.monotonic()
        while (took_s := time.monotonic() - began) < 2.0 or (len(generations) <= 3 and took_s < 60.0):
            for index, scraper in enumerate(SCRAPERS):
                body = path_of(tmp_path, scraper).read_bytes()
                mark = MARK.search(body)
                assert mark is not None
                generation = Generation(int(mark[1]), int(mark[2]))
                assert body.endswith(b"]\n")
                assert body.count(mark[0]) == body.count(b"\n")
                assert len(body) == len(body_of(generation, index))
                reads += 1
                generations.add(generation)
        writer.kill()
    assert len(generations) > 3
    seen(f"{reads} reads of {len(generations)} generations, all whole")


@pytest.mark.row(36, 40, did="kill -9 of the far side of an ssh delivery at random moments, and senders cut at random bytes")
def test_the_far_side_killed_or_cut_at_random_has_a_whole_slice(tmp_path: Path, seen: Seen) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    far = FarSide(tmp_path)
    tally: Counter[str] = Counter()
    for n in (1, 2):
        body_of(last := Generation(1, n), 0)
        started = time.monotonic()
        assert far.run(last, word=f"w{n}") == "written"
        run_s = time.monotonic() - started
    for epoch in range(2, 82):
        wanted = Generation(epoch, epoch)
        if epoch % 4 == 0:
            said = far.run(wanted, word=f"w{epoch}", size=rng.randrange(len(body_of(wanted, 0))))
            assert re.match(r"error \d+ bytes came that are not the \d+ of SHA-256", said), said
            assert far.generation() == last
            tally["cut"] += 1
            continue
        with far.start(wanted, word=f"w{epoch}") as process:
            time.sleep(rng.uniform(0, 1.2 * run_s))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=120)
        tally["killed"] += process.returncode == -signal.SIGKILL
        now = far.generation()
        assert now in (last, wanted)
        last = max(last, now)
        left = left_over(tmp_path / "out")
        note = held(far.path)
        tally["middle"] += any(f".w{epoch}." in p.name for p in left) or (note is not None and note[0] != now)
        age(left)
        if rng.random() < 0.3:
            assert far.run(wanted, word=f"x{epoch}") in ("written", "same")
            assert far.generation() == wanted
            last = wanted
    age(left_over(tmp_path / "out"))
    assert far.run(Generation(99, 99), word="last") == "written"
    assert left_over(tmp_path / "out") == []
    assert tally["middle"] > 0
    seen(f"{tally['killed']} kills, {tally['middle']} in the middle, {tally['cut']} senders cut, 0 torn")


def one(body: bytes, n: int) -> list[Slice]:
    return [Slice(SERVICE, SCRAPERS[0], Generation(1, n), body, 1)]


SMALL = b'[{"targets":["a:1"]}]\n'
LARGE = b'[{"targets":["b:1"]}%s]\n' % (b" " * 200_000)


@needs_root
@pytest.mark.parametrize("free_bytes", [0, 4096, 40960])
@pytest.mark.row(33, did="the disk is full: not a byte free, room for the note only, room for a part")
async def test_a_full_disk_leaves_the_old_slice_names_it_and_is_tried_again(
    tmp_path: Path, free_bytes: int, seen: Seen
) -> None:
    out, path = tmp_path / "out", path_of(tmp_path, SCRAPERS[0])
    delivery = FileDelivery(f"{out}/{{scraper}}.json", log.get())
    with tmpfs(out):
        assert [o.outcome for o in await delivery.deliver(one(SMALL, 1))] == ["written"]
        fill(out / "filler", free_bytes)
        for _ in range(3):
            assert await delivery.deliver(one(LARGE, 2)) == [
                Outcome(SCRAPERS[0].id, "failed", f"{path}: No space left on device")
            ]
            assert path.read_bytes() == SMALL
            assert left_over(out) == []
        remount(out, "size=1m")
        assert [o.outcome for o in await delivery.deliver(one(LARGE, 2))] == ["written"]
        assert path.read_bytes() == LARGE
    seen(f"{free_bytes} bytes free: the old slice, path and reason, nothing left over; written once there was room")


@needs_root
@pytest.mark.row(33, did="the file system is read-only")
async def test_a_read_only_file_system_leaves_the_old_slice_names_it_and_is_tried_again(tmp_path: Path) -> None:
    out, path = tmp_path / "out", path_of(tmp_path, SCRAPERS[0])
    delivery = FileDelivery(f"{out}/{{scraper}}.json", log.get())
    with tmpfs(out):
        assert [o.outcome for o in await delivery.deliver(one(SMALL, 1))] == ["written"]
        remount(out, "ro")
        assert [o.outcome for o in await delivery.deliver(one(SMALL, 1))] == ["same"]
        for n in (2, 3):
            assert await delivery.deliver(one(LARGE[:30_000] + b"]\n", n)) == [
                Outcome(SCRAPERS[0].id, "failed", f"{path}: Read-only file system")
            ]
            assert path.read_bytes() == SMALL
        remount(out, "rw")
        assert [o.outcome for o in await delivery.deliver(one(LARGE[:30_000] + b"]\n", 3))] == ["written"]


@needs_root
@pytest.mark.row(33, did="the writer may not write the folder")
def test_a_forbidden_folder_leaves_the_old_slice_names_it_and_is_tried_again(seen: Seen) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Writer(folder) as writer:
            assert not failed(writer.once(do="deliver", generation=(1, 1), count=2))
            writer.begin(user=NOBODY)
            for epoch in (2, 3):
                errors = failed(writer.ask(do="deliver", generation=(epoch, 1), count=2))
                paths = [path_of(folder, s) for s in SCRAPERS[:2]]
                assert errors == [f"{p}: Permission denied (.{p.name}.promring-lock)" for p in paths]
                assert installed(folder, 2) == [(1, 1)] * 2
            for path in (folder / "out", *(folder / "out").iterdir()):
                os.chown(path, NOBODY, NOBODY)
            assert not failed(writer.ask(do="deliver", generation=(3, 1), count=2))
            assert installed(folder, 2) == [(3, 1)] * 2
            writer.tell(do="end")
            assert writer.ended() == 0
    seen("Permission denied, with the path; written by the same process once it was allowed")


@needs_root
@pytest.mark.row(
    33, did="a slice that belongs to somebody else and may not be read, then its lock, for a writer that is not root"
)
def test_an_unreadable_slice_in_our_folder_is_replaced_and_a_forbidden_lock_is_named(seen: Seen) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), path_of(Path(name), SCRAPERS[0])
        folder.chmod(0o755)
        with Writer(folder) as writer:
            assert not failed(writer.once(do="deliver", generation=(1, 1), count=1))
            for ours in (folder / "out", *(folder / "out").iterdir()):
                os.chown(ours, NOBODY, NOBODY)
            writer.begin(user=NOBODY)
            os.chown(path, 0, 0)
            path.chmod(0o600)
            assert not failed(writer.ask(do="deliver", generation=(1, 1), count=1))
            assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (NOBODY, 0o644)
            lock = path.with_name(f".{path.name}.promring-lock")
            os.chown(lock, 0, 0)
            assert failed(writer.ask(do="deliver", generation=(2, 1), count=1)) == [
                f"{path}: Permission denied ({lock.name})"
            ]
            os.chown(lock, NOBODY, NOBODY)
            assert not failed(writer.ask(do="deliver", generation=(2, 1), count=1))
            assert installed(folder, 1) == [(2, 1)]
            writer.tell(do="end")
            assert writer.ended() == 0
    seen("the slice is there again and readable; the lock is named, and the slice written once it was given back")
