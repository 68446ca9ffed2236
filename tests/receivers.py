"""The contract of receivers, and how the cases of it are put to each of them.

A case is a generator: it prepares a folder, yields what is offered, and is sent what the receiver said: ``written``,
``same``, ``refused GENERATION`` or ``error WHY``. So the same cases run one by one in this process or in a local shell, and
all at once over a real sshd or in a run of Ansible.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Protocol

from promring.delivery import receiver
from promring.delivery.receiver import Envelope, RefusedError, held, note_of
from promring.delivery.receiver_sh import Answer, SdFile, parse_answer, to_stdin, write_bundle
from promring.demo.process import find
from promring.model import EPOCH_MOST, Generation
from tests.real.torn import fill, left_over, remount, tmpfs

ONE, TWO = b'[{"targets":["a:1"]}]\n', b'[{"targets":["b:1"],"labels":{"x":"$(touch y) `id` {{ x }}"}}]\n'
WAIT_S = 60


class Offer(NamedTuple):
    """A slice on its way: ``body`` are the bytes that arrive."""

    path: Path
    body: bytes
    sha256: str
    generation: Generation

    @property
    def envelope(self) -> Envelope:
        return Envelope(self.body, self.sha256, self.generation)


Case = Callable[[Path], Generator[Offer, str, None]]
"""Given the path of the slice, in a folder of its own that is not there yet."""
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def offer(path: Path, body: bytes, epoch: int = 1, n: int = 1, *, whole: bytes | None = None) -> Offer:
    """``whole``: what was sent, of which ``body`` arrives."""
    return Offer(path, body, hashlib.sha256(body if whole is None else whole).hexdigest(), Generation(epoch, n))


# --- the cases ---------------------------------------------------------------------------------------------------------


def names_in(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


def content_of(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}


def stamp(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


@case
def it_is_written_once_and_only_newer_ones_are_taken(path: Path) -> Generator[Offer, str, None]:
    assert (yield offer(path, ONE, 2, 3)) == "written"
    assert path.read_bytes() == ONE
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, note_of(path), path.parent)] == [0o644, 0o644, 0o755]
    assert held(path) == (Generation(2, 3), hashlib.sha256(ONE).hexdigest())
    before = stamp(path)
    assert (yield offer(path, ONE, 2, 3)) == "same"
    assert (yield offer(path, ONE, 2, 4)) == "same", "the note climbs, the file is left alone"
    assert stamp(path) == before
    assert held(path) == (Generation(2, 4), hashlib.sha256(ONE).hexdigest())
    for older in ((1, 999), (2, 3), (2, 0)):
        assert (yield offer(path, TWO, *older)) == "refused 2.4"
    assert (yield offer(path, TWO, 2, 4)) == "refused 2.4", "another slice of the same generation"
    assert path.read_bytes() == ONE
    assert (yield offer(path, TWO, 2, 10)) == "written", "by number, not by text"
    assert (yield offer(path, b"[]", 10**14, 1)) == "written"
    assert path.read_bytes() == b"[]"
    assert names_in(path) == [f".{path.name}.promring", f".{path.name}.promring-lock", path.name]
    assert stat.S_IMODE(path.with_name(f".{path.name}.promring-lock").stat().st_mode) & 0o077 == 0


@case
def bytes_that_are_not_the_slice_change_nothing(path: Path) -> Generator[Offer, str, None]:
    assert (yield offer(path, TWO, 5, 2)) == "written"
    before = content_of(path)
    for body in (b"", ONE[:-1], ONE + b" ", ONE[:-1] + b" "):
        assert (yield offer(path, body, 9, 9, whole=ONE)).startswith(f"error {len(body)} bytes ")
        assert content_of(path) == before


@case
def what_was_changed_or_removed_by_hand_is_put_back(path: Path) -> Generator[Offer, str, None]:
    assert (yield offer(path, ONE)) == "written"
    path.write_bytes(b"by hand")
    assert (yield offer(path, ONE)) == "written"
    path.unlink()
    assert (yield offer(path, ONE)) == "written"
    for gone in (path, note_of(path), path.with_name(f".{path.name}.promring-lock")):
        gone.unlink()
    assert (yield offer(path, TWO)) == "written", "a retired file that a person removed, with its note"
    assert path.read_bytes() == TWO


DAMAGED = {
    "short": ("", "x\n", "5.1\n", "1 2 3\n"),
    "no_numbers": ("1.2.3 abc\n", "-1.2 abc\n", "٣.1 x\n", f"{'9' * 20}.1 abc\n"),
    "absurd": (f"{EPOCH_MOST}.1 x\n", f"1.{EPOCH_MOST} x\n", "99.1 x y z\n", "99.1 x 98\n"),
}


def a_damaged_or_absurd_note_locks_nobody_out(path: Path, notes: Sequence[str]) -> Generator[Offer, str, None]:
    assert (yield offer(path, ONE, 5, 1)) == "written"
    for n, text in enumerate(notes):
        note_of(path).write_text(text)
        assert (yield offer(path, b"[%s]" % (b" " * n))) == "written", text
    with note_of(path).open("wb") as note:
        note.truncate(1 << 40)  # no machine has room for all of it
    assert (yield offer(path, TWO)) == "written"
    assert held(path) == (Generation(1, 1), hashlib.sha256(TWO).hexdigest())


for kind_of_note, notes_of_kind in DAMAGED.items():
    CASES[f"note_{kind_of_note}"] = partial(a_damaged_or_absurd_note_locks_nobody_out, notes=notes_of_kind)


@case
def a_note_of_a_followers_slice_counts(path: Path) -> Generator[Offer, str, None]:
    assert (yield offer(path, ONE, 5, 7)) == "written"
    note_of(path).write_text(f"5.7 {hashlib.sha256(ONE).hexdigest()} 6\n")
    assert (yield offer(path, TWO, 5, 6)) == "refused 5.7"
    assert (yield offer(path, TWO, 6, 1)) == "written"
    note_of(path).write_text(f"12349999999.7 {hashlib.sha256(TWO).hexdigest()} 12350000000\n")
    assert (yield offer(path, ONE, 12349999999, 6)) == "refused 12349999999.7"


@case
def no_generation_is_too_high_for_the_remedy(path: Path) -> Generator[Offer, str, None]:
    assert (yield offer(path, ONE, 5, 1)) == "written"
    before = content_of(path)
    for absurd in ((EPOCH_MOST, 1), (10**18 - 1, 1), (1, EPOCH_MOST), (10**30, 1)):
        assert "higher than any controller's" in (yield offer(path, TWO, *absurd))
        assert content_of(path) == before
    assert (yield offer(path, TWO, EPOCH_MOST - 1, 1)) == "written"
    assert (yield offer(path, ONE, 5, 2)) == f"refused {EPOCH_MOST - 1}.1"
    note_of(path).unlink()
    assert (yield offer(path, ONE, 5, 2)) == "written"


@case
def a_link_in_its_place_is_replaced_and_never_followed(path: Path) -> Generator[Offer, str, None]:
    path.parent.mkdir()
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(TWO)
    for n, target in enumerate(("elsewhere/file", "elsewhere", "nowhere"), 1):
        path.unlink(missing_ok=True)
        path.symlink_to(path.parent / target)
        assert (yield offer(path, TWO, 1, n)) == "written"
        assert not path.is_symlink()
        assert path.read_bytes() == TWO
    assert [p.name for p in elsewhere.iterdir()] == ["file"]


ODD: Mapping[str, Callable[[Path], None]] = {
    "FIFO": os.mkfifo,
    "device": lambda odd: os.mknod(odd, 0o600 | stat.S_IFCHR, os.makedev(1, 7)),
    "folder": lambda odd: odd.mkdir(),
    "symlink": lambda odd: odd.symlink_to(odd.with_name("victim")),
}


def what_is_no_plain_file_is_named_and_never_waited_for(path: Path, end: str) -> Generator[Offer, str, None]:
    path.parent.mkdir()
    odd, victim = path.with_name(f".{path.name}.{end}") if end else path, path.with_name("victim")
    victim.write_text("precious")
    for kind, make in ODD.items():
        if odd == path and kind == "symlink":
            continue
        try:
            make(odd)
        except PermissionError:
            continue  # making a device needs root
        said = yield offer(path, ONE)
        assert said.startswith("error "), (kind, said)
        assert odd.name in said or "is a folder" in said, (kind, said)
        assert (path.is_file(), victim.read_text()) == (False, "precious")
        odd.rmdir() if kind == "folder" else odd.unlink()
    assert (yield offer(path, ONE)) == "written"


CASES["odd_slice"] = partial(what_is_no_plain_file_is_named_and_never_waited_for, end="")
CASES["odd_note"] = partial(what_is_no_plain_file_is_named_and_never_waited_for, end="promring")
CASES["odd_lock"] = partial(what_is_no_plain_file_is_named_and_never_waited_for, end="promring-lock")


@case
def a_folder_that_is_a_link_is_refused_and_the_real_one_named(path: Path) -> Generator[Offer, str, None]:
    path.parent.mkdir()
    (elsewhere := path.parent / "elsewhere").mkdir()
    (path.parent / "sd").symlink_to(elsewhere)
    (path.parent / "lost").symlink_to(path.parent / "nowhere")
    said = yield offer(path.parent / "sd" / path.name, ONE)
    assert said.endswith(f"{path.parent}/sd is a symlink, which is not followed: configure {elsewhere}")
    assert (yield offer(path.parent / "lost" / path.name, ONE)).startswith("error ")
    assert list(elsewhere.iterdir()) == []
    assert (yield offer(path.parent / "sd" / "deep" / path.name, ONE)) == "written", "higher up it is the operator's own"


@case
def a_folder_with_a_hostile_name_is_a_folder(path: Path) -> Generator[Offer, str, None]:
    for n, name in enumerate(["it's $(touch pwned) a `b` \\x", "-rf", 'a "b" {c}', "*", "ä🦀", "a\tb;c&d|e"]):
        assert (yield offer(path.parent / name / path.name, ONE)) == "written", name
        assert (path.parent / name / path.name).read_bytes() == ONE
        assert len(list(path.parent.iterdir())) == n + 1


@case
def a_folder_that_cannot_be_made_is_said(path: Path) -> Generator[Offer, str, None]:
    path.parent.mkdir()
    (path.parent / "file").write_text("")
    assert (yield offer(path.parent / "file" / path.name, ONE)).startswith("error ")


@case
def a_large_slice_with_any_bytes_is_whole(path: Path) -> Generator[Offer, str, None]:
    body = '[{"targets":["é\\n:1"]}%s]\n'.encode() % (b" \n" * 200_000)
    assert (yield offer(path, body)) == "written"
    assert path.read_bytes() == body


@case
def a_full_or_read_only_disk_leaves_the_old_slice(path: Path) -> Generator[Offer, str, None]:
    if os.geteuid() != 0:
        return
    large = b"[%s]" % (b" " * 200_000)
    with tmpfs(path.parent):
        assert (yield offer(path, ONE)) == "written"
        remount(path.parent, "ro")
        assert (yield offer(path, ONE)) == "same"
        assert "ead-only" in (yield offer(path, TWO, 1, 2))
        remount(path.parent, "rw")
        fill(path.parent / "filler", 40960)
        assert (yield offer(path, large, 1, 3)).startswith("error ")
        assert (path.read_bytes(), left_over(path.parent)) == (ONE, [])
        remount(path.parent, "size=1m")
        assert (yield offer(path, large, 1, 3)) == "written"
        assert path.read_bytes() == large


# --- the receivers that need no server ---------------------------------------------------------------------------------


class Receiver(Protocol):
    def __call__(self, sent: Offer) -> str:
        """Install; what was said."""


def play(one: Case, path: Path, receive: Receiver) -> None:
    """A case from its beginning to its end."""
    playing = one(path)
    try:
        sent = next(playing)
        while True:
            sent = playing.send(receive(sent))
    except StopIteration:
        return
    finally:
        playing.close()


def here(sent: Offer) -> str:
    """The receiver of file deliveries and agents."""
    try:
        return "written" if receiver.install(sent.path, sent.envelope) else "same"
    except RefusedError as error:
        return f"error {error}" if error.have is None else f"refused {error.have}"
    except OSError as error:
        return f"error {error}"


def word_of(answer: Answer) -> str:
    return f"{'written' if answer.word == 'reload' else answer.word} {answer.text}".strip()


def asked(command: Sequence[str], sent: Offer, env: Mapping[str, str] | None = None) -> str:
    """As over ssh: ``command`` gets the program on stdin, and the bytes when it asks for them."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
    ) as running:
        assert running.stdin
        assert running.stdout
        running.stdin.write(to_stdin(str(sent.path), sent.envelope, 1))
        running.stdin.flush()
        answer = next_answer(running.stdout)
        if answer.word == "need":
            with contextlib.suppress(BrokenPipeError):
                running.stdin.write(sent.body)
                running.stdin.close()
            answer = next_answer(running.stdout)
        assert running.stdout.read() == b""
    assert (running.returncode == 0) == (answer.word in ("written", "same")), (answer, running.returncode)
    return word_of(answer)


def next_answer(stdout: Iterator[bytes]) -> Answer:
    """Remarks are passed over."""
    others = []
    for line in stdout:
        answer = parse_answer(line.decode())
        if answer is not None and answer.word not in ("remark", "at"):
            return answer
        others.append(line)
    raise AssertionError(f"it ended: {others}")


def bundle_of(*files: SdFile) -> bytes:
    file = BytesIO()
    write_bundle(file, files)
    return file.getvalue()


def file_of(sent: Offer) -> SdFile:
    return SdFile(sent.path.name, sent.body, sent.sha256, sent.generation)


def brought(
    shell: Sequence[str], folder: Path, bundle: bytes, *more: str, before: str = "", env: Mapping[str, str] | None = None
) -> tuple[list[str], str]:
    """As with Ansible: one file with the program and the slices. What was said of each, and what was complained of."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(".sh", "receiver-")
    with open(descriptor, "wb") as file:
        file.write(bundle)
    call = [*shell, name, "bring", str(folder), *(more or ("quiet", "", "alone"))]
    try:
        ran = subprocess.run(
            ["/bin/sh", "-c", f"{before}\n{shlex.join(call)}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=WAIT_S,
            env=env,
        )
    finally:
        Path(name).unlink()
    answers = [answer for line in ran.stdout.decode().splitlines() if (answer := parse_answer(line))]
    last = [answer for answer in answers if answer.word not in ("remark", "at")]
    assert [answer.number for answer in last] == list(range(len(last)))
    assert (ran.returncode == 0) == any(answer.word in ("written", "same", "reload") for answer in last), ran
    return [f"{a.word} {a.text}".strip() for a in last], ran.stderr.decode().strip()


def find_shells() -> dict[str, list[str]]:
    """POSIX shells that are here."""
    found = {name: [path] for name in ("sh", "bash", "ksh", "mksh") if (path := shutil.which(name))}
    if (mksh := find("mksh")) is not None:
        found["mksh"] = [str(mksh)]
    if (busybox := find("busybox")) is not None:
        found["busybox"] = [str(busybox), "sh"]
    return found


SHELLS = find_shells()


def env_of(shell: str, folder: Path) -> dict[str, str] | None:
    """busybox has tools of its own, which take fewer options. Debian's has no flock."""
    if shell != "busybox":
        return None
    if not folder.exists():
        folder.mkdir()
        names = subprocess.run([SHELLS[shell][0], "--list"], capture_output=True, text=True, check=True).stdout.split()
        for name in {*names, "flock"}:
            (folder / name).symlink_to(SHELLS[shell][0] if name in names else str(shutil.which(name)))
    return {"PATH": str(folder)}
