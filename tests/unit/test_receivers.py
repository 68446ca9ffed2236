"""One contract of all receivers: the Python one, and ``receiver.sh`` as ssh and as Ansible call it, under each shell that is
here. Over a real sshd and a real Ansible: ``tests/real/test_receivers.py``. Rows A12 and A13.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from promring.delivery import receiver, receiver_sh
from promring.delivery.file import FileDelivery
from promring.delivery.receiver import RefusedError, held, install, note_of, noted
from promring.delivery.receiver_sh import parse_answer, to_stdin, was_written
from promring.demo.process import find
from promring.election.leadership import STEP, Leadership
from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.model import EPOCH_FOLLOWED_MOST, EPOCH_MOST, Generation, Scraper, Slice
from promring.runtime import disk
from promring.runtime.paths import own_folders
from promring.telemetry import log
from tests.receivers import (
    CASES,
    ONE,
    SHELLS,
    TWO,
    WAIT_S,
    Offer,
    Receiver,
    asked,
    brought,
    bundle_of,
    env_of,
    file_of,
    here,
    names_in,
    offer,
    play,
)
from tests.rows import Seen


def by_ssh(shell: str, tools: Path, sent: Offer) -> str:
    return asked([*SHELLS[shell], "-s"], sent, env_of(shell, tools))


def by_ansible(shell: str, tools: Path, sent: Offer) -> str:
    (said,), _ = brought(SHELLS[shell], sent.path.parent, bundle_of(file_of(sent)), env=env_of(shell, tools))
    return said


USUAL = ["python", "sh ssh", "sh ansible"]
OTHERS = [*(f"{shell} ssh" for shell in SHELLS if shell != "sh"), *(["busybox ansible"] if "busybox" in SHELLS else [])]
RECEIVERS = [*USUAL, *OTHERS]


def made(name: str, tools: Path) -> Receiver:
    shell, _, how = name.partition(" ")
    return here if shell == "python" else partial(by_ssh if how == "ssh" else by_ansible, shell, tools)


@pytest.fixture
def receive(request: pytest.FixtureRequest, tmp_path: Path) -> Receiver:
    return made(request.param, tmp_path / "tools")


@pytest.mark.row("A12", "A13", 36, 39, did="hostile generations, bytes, notes, links, files, disks at each receiver")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("receive", RECEIVERS, indirect=True)
def test_every_receiver_keeps_the_contract(receive: Receiver, tmp_path: Path, name: str, seen: Seen) -> None:
    play(CASES[name], tmp_path / "sd" / "x.json", receive)
    seen("as the contract says")


@pytest.mark.skipif(find("shellcheck") is None, reason="shellcheck is not here; scripts/fetch-servers gets it")
def test_shellcheck_has_nothing_to_say() -> None:
    program = Path(receiver_sh.__file__).with_name("receiver.sh")
    command = [str(find("shellcheck")), "-o", "all", "-e", CHECKS, str(program)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.stdout == ""
    assert program.read_bytes().startswith(b"#!/bin/sh\n")


CHECKS = "SC2248,SC2249,SC2250,SC2310,SC2312"
"""Optional ones of style: quotes, default cases, braces, functions in conditions, substitutions and their status."""

# --- generations -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([ONE, TWO])), max_size=20))
def test_accepted_generations_only_climb(puts: list[tuple[int, int, bytes]]) -> None:
    """I7, I8: whatever comes in whatever order."""
    with tempfile.TemporaryDirectory() as folder:
        path, best = Path(folder, "x.json"), Generation(-1, -1)
        for epoch, n, body in puts:
            try:
                install(path, offer(path, body, epoch, n).envelope)
            except RefusedError:
                assert (epoch, n) <= best
            else:
                assert (epoch, n) >= best
                best = Generation(epoch, n)
                assert path.read_bytes() == body


NUMBERS = ("0", "1", "2", "08", "9", "4294967297", "999999999999999", "1000000000000000", "-1", "", "1e3", " 3", "0x2", "٣")
NUMBER = st.sampled_from(NUMBERS)
NOTE = st.builds(
    "{0}{1}{2}{3}{4}{3}{5}{6}".format,
    NUMBER,
    st.sampled_from([".", ".", ".", "", ".."]),
    NUMBER,
    st.sampled_from([" ", "  ", "\t"]),
    st.sampled_from([hashlib.sha256(ONE).hexdigest(), "x", "*", "$(id)", "-n", "\\", ""]),
    st.sampled_from(["", "", "2", "3", "10", "x", "3 3"]),
    st.sampled_from(["", "\n", "\n\n", "\r\n", "\nmore\n", " "]),
)


@settings(max_examples=40)
@example(f"1.2 {hashlib.sha256(ONE).hexdigest()}\r\n", 1, 2, ONE)
@example(f"1.2 {hashlib.sha256(ONE).hexdigest()}\x0b2\n", 1, 2, ONE)
@given(NOTE, st.sampled_from([0, 1, 2, 8, 9, 4294967297]), st.sampled_from([1, 2, 9]), st.sampled_from([ONE, TWO, None]))
def test_both_receivers_read_every_note_alike(note: str, epoch: int, n: int, there: bytes | None) -> None:
    def outcome(receive: Receiver) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "x.json")
            note_of(path).write_text(note)
            if there is not None:
                path.write_bytes(there)
            said = receive(offer(path, ONE, epoch, n)).split()[0]
            return said, noted(path), path.read_bytes() if path.exists() else None

    assert outcome(here) == outcome(partial(by_ssh, "sh", Path("unused")))


def test_what_the_receiver_says_is_understood() -> None:
    path, generation = Path("/sd/x.json"), Generation(1, 2)
    answers = {word: parse_answer(f"promring 0 {word}") for word in ("written", "reload", "same")}
    assert [was_written(answer, generation, path) for answer in answers.values() if answer] == [True, True, False]
    absurd = f"refused {EPOCH_FOLLOWED_MOST * 5}.1"
    for line, said in {
        "refused 7.5": "has generation 7.5, refuses the older 1.2",
        "refused 1.2": "has another slice of generation 1.2",
        absurd: f"has generation {EPOCH_FOLLOWED_MOST * 5}.1, refuses the older 1.2; no controller comes so far: if another "
        "program wrote it, remove /sd/.x.json.promring",
        "refused 1.1": "it has generation 1.1 and refuses the newer 1.2",
        "refused x": "an answer that is none: 'x' is not a generation such as 1.7",
        "error No space left": "No space left",
        "error": "an answer that is none: 'error'",
        "need": "an answer that is none: 'need'",
    }.items():
        answer = parse_answer(f"promring 0 {line}\n")
        assert answer
        with pytest.raises((RefusedError, receiver_sh.TroubleError)) as caught:
            was_written(answer, generation, path)
        assert str(caught.value) == said
    assert [parse_answer(line) for line in ("", "promring", "promring 0 rm", "Welcome", "promring -1 same")] == [None] * 5


def test_controllers_climb_above_what_a_rogue_left_and_stay_below_what_receivers_take() -> None:
    alone = Leadership(epoch=7)
    alone.outranked("node", Generation(EPOCH_FOLLOWED_MOST - 1, 1), first=True)
    assert EPOCH_FOLLOWED_MOST < alone.epoch == EPOCH_FOLLOWED_MOST - 1 + STEP < EPOCH_MOST
    for epoch in (EPOCH_FOLLOWED_MOST, EPOCH_MOST - 1, EPOCH_MOST, 10**18 - 1):
        other = Leadership(epoch=7)
        other.outranked("node", Generation(epoch, 1), first=True)
        other.outranked("node", Generation(epoch, 1))
        assert (other.epoch, other.outranked_by) == (7, 0)


# --- modes -------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[0o000, 0o077, 0o027])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.mark.row("A13", did="umask 000, 027 and 077 at each of three receivers")
@pytest.mark.parametrize("receive", USUAL, indirect=True)
def test_prometheus_may_read_a_slice_and_nobody_may_write_it_whatever_the_umask(
    umask: int, receive: Receiver, tmp_path: Path, seen: Seen
) -> None:
    path = tmp_path / "deep" / "sd" / "x.json"
    path.parent.parent.mkdir(mode=0o755)
    path.parent.parent.chmod(0o755)
    for n, body in enumerate((ONE, TWO), 1):
        assert receive(offer(path, body, 1, n)) == "written"
        assert (mode(path), mode(note_of(path)), mode(path.parent)) == ("0o644", "0o644", "0o755")
        lock = path.with_name(f".{path.name}.promring-lock")
        assert not lock.stat().st_mode & 0o077
    seen("slice 0644, folder 0755, lock for its owner alone")


async def test_state_is_private_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    disk.make_private(folder)
    await Store(folder, "node", log.get()).save(Memory())
    assert (mode(folder), mode(folder / "node.state")) == ("0o700", "0o600")
    assert mode(folder.parent) == "0o755"
    folder.chmod(0o777)  # as an older promring made it under umask 000
    disk.make_private(folder)
    assert mode(folder) == "0o755"
    folder.chmod(0o1777)
    disk.make_private(folder)
    assert mode(folder) == "0o1777", "a shared folder stays what it is"


# --- folders -----------------------------------------------------------------------------------------------------------


def test_the_folders_that_promring_names_are_not_followed_either(tmp_path: Path) -> None:
    template = f"{tmp_path}/{{{{x}}}}/sd/{{service}}/{{host}}/{{scraper}}.json"
    assert own_folders(template) == 2
    assert own_folders("/etc/{scraper}.json") == 1
    assert own_folders("/{scraper}.json") == 1
    (tmp_path / "out").mkdir()
    (tmp_path / "{x}" / "sd").mkdir(parents=True)
    (tmp_path / "{x}" / "sd" / "x").symlink_to(tmp_path / "out")
    target = tmp_path / "{x}" / "sd" / "x" / "s" / "s_1.json"
    with pytest.raises(OSError, match=r"sd/x is a symlink, which is not followed: configure .*/out"):
        install(target, offer(target, ONE).envelope, own=2)
    for path in (str(target), f"{tmp_path}/{{x}}//sd/./x/.//s//s_1.json"):
        sent = to_stdin(path, offer(target, ONE).envelope, 1, own=2)
        ran = subprocess.run(["sh", "-s"], input=sent + ONE, capture_output=True, check=False, timeout=WAIT_S)
        assert b"is a symlink, which is not followed: configure " in ran.stdout, ran
    assert list((tmp_path / "out").iterdir()) == []


def remarks(path: Path) -> list[str]:
    sent = to_stdin(str(path), offer(path, ONE).envelope, 1)
    ran = subprocess.run(["sh", "-c", sent], input=ONE, capture_output=True, check=True, timeout=WAIT_S)
    return [
        answer.text
        for line in ran.stdout.decode().splitlines()
        if (answer := parse_answer(line)) and answer.word == "remark"
    ]


async def test_a_folder_that_everybody_may_write_into_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd").chmod(0o777)
    delivery = FileDelivery(f"{tmp_path}/sd/{{scraper}}.json", log.get())
    with structlog.testing.capture_logs() as said:
        for n in (1, 2, 3):
            (outcome,) = await delivery.deliver([Slice("x", Scraper("s:1", "s", 1), Generation(1, n), ONE, 1)])
            assert outcome.error == ""
    assert [line["event"] for line in said] == ["folder_writable_by_all"]


def test_the_receiver_on_another_host_remarks_it_too_and_not_where_the_folder_is_sticky(tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd").chmod(0o777)
    note_of(tmp_path / "sd" / "y.json").write_text("damaged")
    assert remarks(tmp_path / "sd" / "y.json") == ["note_ignored", "folder_writable_by_all"]
    (tmp_path / "sd").chmod(0o1777)
    assert remarks(tmp_path / "sd" / "z.json") == []


# --- several at a time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("receive", USUAL, indirect=True)
def test_many_writers_at_once_leave_one_whole_slice_and_its_note(receive: Receiver, tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    offers = [offer(tmp_path / "sd" / "x.json", b"[%s]" % (b" " * n * 1000), 1, n) for n in range(1, 13)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(receive, offers))
    path = offers[0].path
    assert all(a == "written" or a.startswith("refused ") for a in answers), answers
    assert (path.read_bytes(), held(path)) == (offers[-1].body, (offers[-1].generation, offers[-1].sha256))
    assert names_in(path) == [".x.json.promring", ".x.json.promring-lock", "x.json"]


@pytest.mark.parametrize("receive", [*USUAL, *[name for name in RECEIVERS if name == "busybox ssh"]], indirect=True)
def test_a_lock_that_another_holds_is_not_waited_for_long(receive: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "sd" / "x.json"
    assert receive(offer(path, ONE)) == "written"
    lock = os.open(path.with_name(".x.json.promring-lock"), os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert receive(offer(path, TWO, 1, 2)).startswith("error ")
        assert path.read_bytes() == ONE
        threading.Timer(0.2, lambda: fcntl.flock(lock, fcntl.LOCK_UN)).start()
        assert receive(offer(path, TWO, 1, 2)) == "written"
    finally:
        os.close(lock)


@pytest.mark.parametrize("shell", SHELLS)
def test_several_slices_come_in_one_file_and_a_failure_costs_no_other(tmp_path: Path, shell: str) -> None:
    folder, env = tmp_path / "sd", env_of(shell, tmp_path / "tools")
    bodies = {"one": ONE, "two": b"[\n\n]\n", "three": '["é\0"]'.encode() * 100_000, "four": b"[]"}
    files = [file_of(offer(folder / f"{name}.json", body)) for name, body in bodies.items()]
    assert brought(SHELLS[shell], folder, bundle_of(*files), env=env) == (["written"] * 4, "")
    assert all((folder / f"{name}.json").read_bytes() == body for name, body in bodies.items())
    assert brought(SHELLS[shell], folder, bundle_of(*files), env=env) == (["same"] * 4, "")
    (folder / "one.json").unlink()
    (folder / "one.json").mkdir()
    (folder / "three.json").write_text("by hand")
    older = files[1]._replace(generation=Generation(0, 9))
    said, _ = brought(SHELLS[shell], folder, bundle_of(files[0], older, files[2], files[3]), env=env)
    assert said == ["error it is a folder", "refused 1.1", "written", "same"]
    assert (folder / "three.json").read_bytes() == bodies["three"]
    cut = bundle_of(*files[1:])[:-20]
    said, _ = brought(SHELLS[shell], folder, cut, env=env)
    assert said == ["same", "same", "same"], "what is there is not looked for in the bundle"
    cut = bundle_of(files[3]._replace(name="new.json"))[:-1]
    said, error = brought(SHELLS[shell], folder, cut, env=env)
    assert said[0].startswith("error 2 bytes came that are not the 2 of SHA-256 "), said
    assert error == "none of 1 slices could be installed"
    assert not [name for name in names_in(folder / "x") if name.endswith("-tmp")]


def test_another_name_of_the_extra_variables_is_for_one_service(tmp_path: Path) -> None:
    folder, files = tmp_path / "sd", [file_of(offer(tmp_path / f"{n}.json", ONE)) for n in ("one", "two")]
    bundle = bundle_of(*files)
    said, _ = brought(SHELLS["sh"], folder, bundle, "quiet", "x.json", "shared")
    assert said == ["error the extra variables name one file, x.json, for several services"] * 2
    assert not folder.exists()
    assert brought(SHELLS["sh"], folder, bundle_of(files[0]), "quiet", "x.json", "alone") == (["written"], "")
    assert names_in(folder / "x") == [".x.json.promring", ".x.json.promring-lock", "x.json"]


def test_a_scraper_that_could_not_be_told_is_told_next_time(tmp_path: Path) -> None:
    folder, bundle = tmp_path / "sd", bundle_of(file_of(offer(tmp_path / "x.json", ONE)))

    def bring(reload: str) -> str:
        return brought(SHELLS["sh"], folder, bundle, reload, "", "alone")[0][0]

    assert bring("reload") == "written"
    assert bring("reload") == "reload", "nobody took the mark away yet"
    assert bring("quiet") == "same"
    (folder / ".x.json.promring-reload").unlink()
    assert bring("reload") == "same"


# --- other hosts as they are -------------------------------------------------------------------------------------------

TOOLS = (
    "cat",
    "cut",
    "dd",
    "head",
    "mkdir",
    "mv",
    "rm",
    "sed",
    "sync",
    "tail",
    "tr",
    "wc",
    "sh",
    "find",
    "flock",
    "timeout",
)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not here")
@pytest.mark.parametrize("how", ["ssh", "ansible"])
def test_a_tool_that_is_missing_is_named_and_any_program_for_the_digest_will_do(tmp_path: Path, how: str) -> None:
    (tools := tmp_path / "bin").mkdir()
    for tool in (*TOOLS, "openssl"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    sent, shell = offer(tmp_path / "sd" / "x.json", ONE), [str(shutil.which("sh"))]

    def receive() -> str:
        env = {"PATH": str(tools)}
        return (
            asked(shell, sent, env)
            if how == "ssh"
            else brought(shell, sent.path.parent, bundle_of(file_of(sent)), env=env)[0][0]
        )

    assert (receive(), receive()) == ("written", "same")
    (tools / "openssl").unlink()
    assert receive() == f"error there is no sha256sum, shasum, openssl or sha256 in {tools}: no slice can be checked"
    (tools / "tr").unlink()
    assert receive() == f"error there is no tr in {tools}"


def test_a_file_size_limit_leaves_the_old_slice(tmp_path: Path) -> None:
    folder = tmp_path / "sd"
    assert brought(SHELLS["sh"], folder, bundle_of(file_of(offer(tmp_path / "x.json", ONE))))[0] == ["written"]
    large = file_of(offer(tmp_path / "x.json", b"[" + b" " * 100_000 + b"]", 1, 2))
    (said,), _ = brought(SHELLS["sh"], folder, bundle_of(large), before="trap '' XFSZ; ulimit -f 16")
    assert said.startswith("error ")
    assert ((folder / "x.json").read_bytes(), names_in(folder / "x")) == (
        ONE,
        [".x.json.promring", ".x.json.promring-lock", "x.json"],
    )


def test_left_overs_of_a_killed_writer_are_removed_when_they_are_a_minute_old(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    old, young = tmp_path / ".x.json.0123.promring-tmp", tmp_path / ".x.json.4567.promring-tmp"
    foreign = tmp_path / ".other.json.0123.promring-tmp"
    for left in (old, young, foreign):
        left.write_text("")
        os.utime(left, None if left is young else (1, 1))
    assert asked(["sh", "-s"], offer(path, ONE)) == "written"
    assert [p.exists() for p in (old, young, foreign)] == [False, True, True]


def test_a_folder_that_becomes_a_link_after_it_was_checked_gets_no_lock(tmp_path: Path) -> None:
    """A run that swaps folders all the while left a lock elsewhere, once in some twenty runs."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a symlink, which is not followed"), receiver._locked(tmp_path / "out/x.json", 1):
        raise AssertionError("it is locked")
    assert list((tmp_path / "elsewhere").iterdir()) == []
