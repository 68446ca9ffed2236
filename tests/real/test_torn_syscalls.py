"""No sink ever holds a torn slice: killed, or failed, at every syscall of a delivery and of a save, by strace."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from promring.delivery.receiver import note_of
from promring.model import Generation
from promring.runtime import disk
from tests.real.conftest import server
from tests.real.torn import (
    FarSide,
    age,
    failed,
    installed,
    left_over,
    needs_root,
    saved,
    tmpfs,
)
from tests.real.torn_writer import SCRAPERS, Writer, body_of, changed_of, memory_of, path_of
from tests.rows import Seen

CALLS = (
    "openat,?open,write,?pwrite64,fsync,?fdatasync,read,lseek,?rename,?renameat,?renameat2,?unlink,?unlinkat,flock,"
    "?mkdir,?mkdirat,?newfstatat,?stat,?lstat,?fstat,?statx,close,getdents64,?ftruncate,?fallocate"
)
ERRORS = {
    "openat": ("ENOSPC", "EACCES", "EMFILE"),
    "write": ("ENOSPC", "EIO"),
    "fsync": ("EIO", "ENOSPC"),
    "read": ("EIO",),
    "lseek": ("EIO",),
    "rename": ("EIO", "ENOSPC"),
    "renameat": ("EIO", "ENOSPC"),
    "renameat2": ("EIO", "ENOSPC"),
    "flock": ("ENOLCK",),
    "mkdir": ("EACCES",),
    "mkdirat": ("EACCES",),
    "newfstatat": ("EIO",),
    "close": ("EIO",),
    "getdents64": ("EIO",),
}
STRERROR = {
    "ENOSPC": "No space left on device",
    "EACCES": "Permission denied",
    "EMFILE": "Too many open files",
    "EIO": "Input/output error",
    "ENOLCK": "No locks available",
}


class Call(NamedTuple):
    """The ``n``-th call of ``name`` by the thread that works on the files; ``text`` as strace writes its arguments."""

    name: str
    n: int
    text: str

    @property
    def on_temporary(self) -> bool:
        return disk.TEMPORARY_SUFFIX in self.text

    @property
    def on_new(self) -> bool:
        """Whether it works on what is written: a file that has no name yet, or the end of the state."""
        return self.on_temporary or (".state>" in self.text and self.name in ("write", "read", "lseek"))

    @property
    def must_fail(self) -> bool:
        """Whether a delivery with an error in this call cannot be called good."""
        on_lock = "promring-lock" in self.text and self.name in ("openat", "flock")
        return self.on_new or self.name == "fsync" or on_lock


@contextlib.contextmanager
def traced(pid: int, output: Path, *options: str) -> Iterator[None]:
    """strace is attached to the process, and to the threads it starts, until the end of the block."""
    arguments = [str(server("strace")), "-f", "-y", "-o", str(output), "-e", f"trace={CALLS}", *options, "-p", str(pid)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        try:
            said = tracer.stderr.readline()
            if "attached" not in said:
                (pytest.fail if os.environ.get("CI") else pytest.skip)(f"strace cannot attach: {said.strip()}")
            yield
        finally:
            tracer.terminate()


def calls_on(folder: Path, trace: Path) -> list[Call]:
    """Those of the undisturbed run that touch the folder."""
    counts: Counter[tuple[str, str]] = Counter()
    found: list[tuple[str, Call]] = []
    for line in trace.read_text().splitlines():
        if (match := re.match(r"(\d+) +(\w+)\((.*)", line)) is not None:
            thread, name, text = match.groups()
            counts[thread, name] += 1
            if str(folder) in text:
                found.append((thread, Call(name, counts[thread, name], text)))
    assert len({thread for thread, _ in found}) == 1, "one thread works on the files"
    return [call for _, call in found]


def assert_synced(calls: Sequence[Call]) -> None:
    """Each file is written, synced and read back before it is renamed, and its folder is synced after that; what is appended
    is written, synced and read back.
    """
    kinds = {"write": "w", "fsync": "s", "read": "r", "rename": "m", "renameat": "m", "renameat2": "m"}
    done = "".join(kinds[c.name] for c in calls if c.name in kinds and (c.on_new or c.name == "fsync"))
    assert re.fullmatch("(w+sr+ms)+|w+sr+", done), f"not the order that survives a power cut: {done}"


class Lab:
    """Slices and state in generation 1.1; each ``next`` is one delivery, or one save, from there to the next epoch."""

    def __init__(self, writer: Writer, folder: Path, work: str, count: int = 2) -> None:
        self._writer, self._folder, self._work, self._count = writer, folder, work, count
        self._epoch = 1
        self._trace = folder / "trace"
        self.place = folder / {"deliver": "out", "save": "state", "append": "state"}[work]
        self.mend()

    def mend(self) -> None:
        """Undisturbed, by a process of its own."""
        answer = self._writer.once(**self._order())
        assert not answer.get("error")
        assert not failed(answer) if self._work == "deliver" else True
        assert self.generations() == [self.wanted] * len(self.generations())
        assert left_over(self.place) == []

    def undisturbed(self) -> list[Call]:
        self._epoch += 1
        self._begin()
        with traced(self._writer.child, self._trace):
            self._writer.ask(**self._order())
        self._end()
        return calls_on(self.place, self._trace)

    def kill_at(self, call: Call) -> None:
        """Killed when it enters the call, which is not done then; the next run finishes."""
        self._epoch += 1
        before = self.generations()
        self._begin()
        with traced(self._writer.child, self._trace, "-e", f"inject={call.name}:signal=SIGKILL:when={call.n}"):
            answer = self._writer.ask(**self._order())
        assert answer == {"ended": -signal.SIGKILL}, f"not killed at {call}: {answer}"
        self._check(before)
        age(left_over(self.place))
        self.mend()

    def fail_at(self, call: Call, what: str) -> tuple[list[str], str]:
        """The call fails, or lies, once. Returns the errors of it, and of the next time in the same process."""
        self._epoch += 1
        before = self.generations()
        self._begin()
        with traced(self._writer.child, self._trace, "-e", f"inject={call.name}:{what}:when={call.n}"):
            answer = self._writer.ask(**self._order())
            assert "ended" not in answer
        assert "(INJECTED)" in self._trace.read_text(), f"not reached: {call}"
        self._check(before)
        again = self._writer.ask(**self._order())
        self._end()
        assert self.generations() == [self.wanted] * len(before), f"{call} {what}: not mended by {again}"
        assert left_over(self.place) == []
        errors, again_errors = (failed(one) if self._work == "deliver" else [one["error"]] for one in (answer, again))
        return [e for e in errors if e], "".join(again_errors)

    @property
    def wanted(self) -> Generation:
        return Generation(self._epoch, 1)

    def generations(self) -> list[Generation | None]:
        if self._work == "deliver":
            return list(installed(self._folder, self._count))
        return [saved(self._folder, changed_of if self._work == "append" else memory_of)]

    def _order(self) -> dict[str, Any]:
        return {"do": self._work, "generation": self.wanted, "count": self._count}

    def _begin(self) -> None:
        """A process that knows the state, where it appends to it."""
        self._writer.begin()
        if self._work == "append":
            self._writer.ask(do="load")

    def _check(self, before: list[Generation | None]) -> None:
        for old, now in zip(before, self.generations(), strict=True):
            assert now in (old, self.wanted), "old or new, and whole"

    def _end(self) -> None:
        self._writer.tell(do="end")
        assert self._writer.ended() == 0


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    server("strace")
    (tmp_path / "state").mkdir()
    with Writer(tmp_path) as made:
        yield made


@pytest.mark.parametrize("work", ["deliver", "save", "append"])
@pytest.mark.row(40, 65, did="kill -9 at every syscall of a delivery, of a save of the whole, and of a change, by strace")
def test_killed_at_any_syscall_it_is_old_or_new_and_the_next_start_finishes(
    tmp_path: Path, writer: Writer, work: str, seen: Seen
) -> None:
    lab = Lab(writer, tmp_path, work)
    calls = lab.undisturbed()
    assert_synced(calls)
    for call in calls:
        lab.kill_at(call)
    counts = Counter(c.name for c in calls)
    seen(f"{work}: {len(calls)} kills at {', '.join(f'{n} {name}' for name, n in counts.most_common())}; 0 torn")


@pytest.mark.row(33, 40, did="an error in every syscall of a delivery, by strace")
def test_an_error_in_any_syscall_leaves_old_or_new_and_is_named_and_the_next_delivery_succeeds(
    tmp_path: Path, writer: Writer, seen: Seen
) -> None:
    lab = Lab(writer, tmp_path, "deliver")
    tally: Counter[str] = Counter()
    for call in lab.undisturbed():
        if call.name == "close" and not call.on_temporary:
            continue  # an injected error leaves it open: a kernel never does
        for error in ERRORS.get(call.name, ()):
            errors, again = lab.fail_at(call, f"error={error}")
            assert again == "", f"{call} {error}"
            if not errors:
                assert not call.must_fail, f"{call} {error} was not heard"
                tally["did no harm"] += 1
                continue
            tally["failed"] += 1
            (text,) = errors  # the other slice was written
            said, _, denied = text.partition(" (")
            assert said in {f"{path_of(tmp_path, s)}: {STRERROR[error]}" for s in SCRAPERS}, f"{call} {error}: {text}"
            assert error in ("EACCES", "EPERM") or not denied, f"{call} {error}: {text}"
    seen(
        f"{sum(tally.values())} errors: {tally['failed']} failed with path and reason and were written the next time, "
        f"{tally['did no harm']} did no harm; 0 torn"
    )


@pytest.mark.parametrize("work", ["save", "append"])
@pytest.mark.row(33, 45, 65, did="an error in every syscall of a save of the state, by strace")
def test_an_error_in_any_syscall_of_a_save_leaves_the_old_state_or_the_new_one(
    tmp_path: Path, writer: Writer, work: str, seen: Seen
) -> None:
    lab = Lab(writer, tmp_path, work)
    tally: Counter[str] = Counter()
    for call in lab.undisturbed():
        for error in ERRORS.get(call.name, ()):
            errors, again = lab.fail_at(call, f"error={error}")
            assert again == "", f"{call} {error}"
            assert errors or not call.must_fail, f"{call} {error} was not heard"
            assert all(STRERROR[error] in text for text in errors)
            tally["failed" if errors else "did no harm"] += 1
    seen(f"{sum(tally.values())} errors, {tally['failed']} raised, 0 set aside")


@pytest.mark.row(33, did="a disk that lies: a write that says more than it did, a read-back that ends early")
def test_what_was_not_really_written_is_found_by_reading_it_back(tmp_path: Path, writer: Writer, seen: Seen) -> None:
    lies = 0
    for work in ("deliver", "save", "append"):
        lab = Lab(writer, tmp_path, work)
        for call in lab.undisturbed():
            if call.name in ("write", "read") and call.on_new and "= 0" not in call.text:
                errors, again = lab.fail_at(call, "retval=10" if call.name == "write" else "retval=0")
                assert again == ""
                (text,) = errors
                assert re.search(r"wrote (\d+) bytes, read back \d+ or others", text), text
                lies += 1
    seen(f"{lies} lies, all found, 0 torn")


@pytest.mark.row(33, did="fsync fails and the temporary file cannot be removed either")
def test_what_cannot_be_removed_is_no_target_list_and_goes_at_a_later_start(
    tmp_path: Path, writer: Writer, seen: Seen
) -> None:
    assert not failed(writer.once(do="deliver", generation=(1, 1), count=1))
    writer.begin()
    inject = ("inject=fsync:error=EIO:when=3", "inject=?unlink,?unlinkat:error=EROFS")
    with traced(writer.child, tmp_path / "trace", "-e", inject[0], "-e", inject[1]):
        (text,) = failed(writer.ask(do="deliver", generation=(2, 1), count=1))
    assert text == f"{path_of(tmp_path, SCRAPERS[0])}: Input/output error"
    assert installed(tmp_path, 1) == [(1, 1)]
    left = left_over(tmp_path / "out")
    assert len(left) == 1
    assert not failed(writer.ask(do="deliver", generation=(2, 1), count=1))
    writer.tell(do="end")
    writer.ended()
    assert left_over(tmp_path / "out") == left, "a young one may be another writer's"
    age(left)
    assert not failed(writer.once(do="deliver", generation=(2, 1), count=1))
    assert left_over(tmp_path / "out") == []
    seen(f"{left[0].suffix} left, removed when it was a minute old")


@needs_root
@pytest.mark.row(33, 40, did="the disk gets full in the middle of a slice, and kill -9 before the rest")
def test_killed_between_two_short_writes_it_is_the_old_slice(tmp_path: Path, writer: Writer, seen: Seen) -> None:
    filler = tmp_path / "out" / "filler"
    with tmpfs(tmp_path / "out", "460k"):
        assert not failed(writer.once(do="deliver", generation=(1, 1), count=1))
        filler.write_bytes(bytes(64 << 10))
        writer.begin()
        with traced(writer.child, tmp_path / "trace", "-e", "inject=write:signal=SIGKILL:when=3"):
            answer = writer.ask(do="deliver", generation=(2, 1), count=1)
        assert answer == {"ended": -signal.SIGKILL}
        assert installed(tmp_path, 1) == [(1, 1)]
        (left,) = left_over(tmp_path / "out")
        written, whole = left.stat().st_size, len(body_of(Generation(2, 1), 0))
        assert 0 < written < whole
        filler.unlink()
        (text,) = failed(writer.once(do="deliver", generation=(2, 1), count=1))
        assert text == f"{path_of(tmp_path, SCRAPERS[0])}: No space left on device"
        age([left])
        assert not failed(writer.once(do="deliver", generation=(2, 1), count=1))
        assert installed(tmp_path, 1) == [(2, 1)]
    seen(f"{written} bytes of {whole} left under a name that is no target list; the old slice stayed")


@pytest.mark.row(40, did="kill -9 in the middle of a write, and a start within the minute")
def test_what_was_left_goes_without_another_start(tmp_path: Path, writer: Writer) -> None:
    assert not failed(writer.once(do="deliver", generation=(1, 1), count=1))
    writer.begin()
    with traced(writer.child, tmp_path / "trace", "-e", "inject=fsync:signal=SIGKILL:when=3"):
        assert writer.ask(do="deliver", generation=(2, 1), count=1) == {"ended": -signal.SIGKILL}
    writer.begin()
    assert not failed(writer.ask(do="deliver", generation=(2, 1), count=1))
    left = left_over(tmp_path / "out")
    assert len(left) == 1
    age(left)
    for epoch in (3, 4):
        assert not failed(writer.ask(do="deliver", generation=(epoch, 1), count=1))
    assert left_over(tmp_path / "out") == []


@pytest.mark.parametrize("call", ["openat", "read"])
@pytest.mark.row(41, did="an older generation comes while the note of the newer one cannot be read: EIO")
def test_an_older_generation_is_not_taken_when_the_note_cannot_be_read(tmp_path: Path, writer: Writer, call: str) -> None:
    assert not failed(writer.once(do="deliver", generation=(5, 1), count=1))
    writer.begin()
    inject = ("-P", str(note_of(path_of(tmp_path, SCRAPERS[0]))), "-e", f"inject={call}:error=EIO:when=1")
    with traced(writer.child, tmp_path / "trace", *inject):
        writer.ask(do="deliver", generation=(4, 1), count=1)
    assert "(INJECTED)" in (tmp_path / "trace").read_text()
    assert installed(tmp_path, 1) == [(5, 1)]


@pytest.mark.parametrize("call", ["openat", "read"])
@pytest.mark.row(41, did="an older generation comes to the far side while the note of the newer one cannot be read: EIO")
def test_the_far_side_takes_no_older_generation_when_the_note_cannot_be_read(tmp_path: Path, call: str) -> None:
    far, trace = FarSide(tmp_path), tmp_path / "trace"
    assert far.run(Generation(5, 1), word="w5") == "written"
    inject = ("-P", note_of(far.path), "-e", f"trace={call}", "-e", f"inject={call}:error=EIO")
    far.run(Generation(4, 1), server("strace"), "-f", "-o", trace, *inject, word="w4")
    assert "(INJECTED)" in trace.read_text()
    assert far.generation() == (5, 1)


@pytest.mark.row(
    33, 36, 40, did="an error, or kill -9, in every kind of call on every file of the far side of ssh, by strace"
)
def test_the_far_side_failed_or_killed_at_any_call_has_a_whole_slice_and_the_next_one_succeeds(
    tmp_path: Path, seen: Seen
) -> None:
    far, strace, trace = FarSide(tmp_path), server("strace"), tmp_path / "trace"
    out, name = tmp_path / "out", far.path.name
    files = {
        "new": out / f".{name}.w.promring-tmp",
        "new note": out / f".{name}.w.note.promring-tmp",
        "note": note_of(far.path),
        "lock": out / f".{name}.promring-lock",
        "folder": out,
        "slice": far.path,
    }
    assert far.run(Generation(1, 1), word="first") == "written"
    assert far.run(Generation(1, 2), strace, "-f", "-y", "-o", trace, word="w") == "written"
    lines = trace.read_text()
    names = {"openat": "EACCES", "read": "EIO", "write": "ENOSPC", "fsync": "EIO", "flock": "ENOLCK", "rename": "ENOSPC"}
    calls = [
        (name, file)
        for name, file in itertools.product(names, files)
        if re.search(rf'^\d+ +{name}(at2?)?\(.*["<]{files[file]}/?[">]', lines, re.MULTILINE)
    ]
    epoch, tally = 1, Counter[str]()
    for (call, file), what in itertools.product(calls, ("signal=SIGKILL", "error")):
        epoch += 1
        old, wanted = Generation(epoch - 1, 2), Generation(epoch, 2)
        injected = {"rename": "?rename,?renameat,?renameat2"}.get(call, call)
        how = f"error={names[call]}" if what == "error" else what
        options = (
            "-o",
            trace,
            "-e",
            f"trace={injected}",
            "-P",
            files[file],
            "-P",
            f"{files[file]}/",
            "-e",
            f"inject={injected}:{how}",
        )
        said = far.run(wanted, strace, "-f", *options, word="w")
        assert re.search(r"\(INJECTED\)|killed by SIGKILL", trace.read_text()), (call, file, how)
        now = far.generation()
        assert now in (old, wanted), (call, file, how, said)
        if now == old:
            tally["old slice kept"] += 1
            assert said.startswith("error ") or what != "error", (call, file, how, said)
        age(left_over(out))
        assert far.run(wanted, word="again") in ("written", "same")
        assert far.generation() == wanted
        age(left_over(out))
    assert far.run(Generation(epoch + 1, 3), word="last") == "written"
    assert left_over(out) == []
    seen(f"{2 * len(calls)} injected, the old slice kept after {tally['old slice kept']}, 0 torn")
