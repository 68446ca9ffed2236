"""Three receivers, one behaviour: the file receiver here, the script of ssh, the script of Ansible. A12 and A13."""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from promring.delivery import envelope
from promring.delivery.ansible_inventory import FILES
from promring.delivery.envelope import Envelope, note_of
from promring.delivery.file import FileDelivery
from promring.delivery.ssh_far import script
from promring.election.leadership import STEP, Leadership
from promring.fleet.state import Memory, Store
from promring.model import EPOCH_FOLLOWED_MOST, EPOCH_MOST, Generation, Scraper, Slice
from promring.runtime import disk
from promring.runtime.paths import own_folders
from promring.telemetry import log
from tests.rows import Seen

BODY = b'[{"targets":["a:1"]}]\n'
Receiver = Callable[[Path, Slice], str]
"""Installs; what was said against it, or an empty text."""
WAIT_S = 60


def slice_of(epoch: int = 1, n: int = 1, body: bytes = BODY) -> Slice:
    return Slice("x", Scraper("s:1", "s", 1), Generation(epoch, n), body, 1)


def here(path: Path, sent: Slice) -> str:
    try:
        envelope.install(path, Envelope.of(sent))
    except (OSError, envelope.RefusedError) as error:
        return str(error)
    return ""


def by_ssh(path: Path, sent: Slice) -> str:
    text = script(str(path), sent, 1)
    ran = subprocess.run(["sh", "-c", text], input=sent.body, capture_output=True, check=False, timeout=WAIT_S)
    last = ran.stdout.decode().splitlines()[-1].removeprefix("promring ")
    return "" if last in ("written", "same") else last


def by_ansible(path: Path, sent: Slice) -> str:
    installer = path.parent.parent / f"{path.parent.name}-install.sh"
    size, digest = len(sent.body), hashlib.sha256(sent.body).hexdigest()
    listed = f"{digest} {sent.generation} {size} {size} {path.name}\n\n"
    installer.write_bytes((FILES / "install.sh").read_bytes() + listed.encode() + sent.body)
    text = shlex.join(["sh", str(installer), str(path.parent)])
    ran = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False, timeout=WAIT_S)
    return "" if ran.returncode == 0 else (ran.stderr.splitlines() or ["said nothing"])[-1]


@pytest.fixture(params=[here, by_ssh, by_ansible])
def receive(request: pytest.FixtureRequest) -> Receiver:
    receiver: Receiver = request.param
    return receiver


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sd" / "x.json"


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.endswith("install.sh")}


# --- epochs ------------------------------------------------------------------------------------------------------------


@pytest.mark.row("A12", did="a generation with an absurd epoch, or an absurd n, is offered to each of three receivers")
@pytest.mark.parametrize("absurd", [(EPOCH_MOST, 1), (10**18 - 1, 1), (1, EPOCH_MOST), (10**30, 1)])
def test_an_absurd_generation_is_refused_by_every_receiver(
    receive: Receiver, path: Path, absurd: tuple[int, int], seen: Seen
) -> None:
    assert receive(path, slice_of(5, 1)) == ""
    before = everything_in(path.parent)
    assert "higher than any controller's" in receive(path, slice_of(*absurd, body=b"[]\n"))
    assert everything_in(path.parent) == before
    assert receive(path, slice_of(5, 2, b"[]\n")) == "", "who really leads is still obeyed"
    seen("refused, nothing changed, the next slice of the leader is taken")


@pytest.mark.row("A12", did="a note on disk with an absurd epoch, at each of three receivers")
@pytest.mark.parametrize("note", [f"{EPOCH_MOST}.1", f"{10**17}.5", f"1.{EPOCH_MOST}", "9" * 18 + ".1", "٣.1"])
def test_a_note_with_an_absurd_epoch_locks_nobody_out(receive: Receiver, path: Path, note: str, seen: Seen) -> None:
    assert receive(path, slice_of(5, 1)) == ""
    note_of(path).write_text(f"{note} {'0' * 64}\n")
    assert receive(path, slice_of(5, 2, b"[]\n")) == ""
    assert path.read_bytes() == b"[]\n"
    assert envelope.held(path) == (Generation(5, 2), hashlib.sha256(b"[]\n").hexdigest())
    seen("ignored, written anew")


@pytest.mark.row("A12", did="a receiver has the highest epoch that it accepts: no controller goes above it")
def test_where_nobody_can_climb_the_remedy_is_named_and_works(receive: Receiver, path: Path, seen: Seen) -> None:
    assert receive(path, slice_of(EPOCH_MOST - 1, 1)) == ""
    said = receive(path, slice_of(5, 1, b"[]\n"))
    if receive is by_ssh:
        assert said == f"refused {EPOCH_MOST - 1}.1"
    else:
        assert f"if another program wrote it, remove {note_of(path)}" in said
        assert "refuses the older 5.1" in said
    note_of(path).unlink()
    assert receive(path, slice_of(5, 1, b"[]\n")) == ""
    seen("refused, the note's path is in the message; removed, it is taken")


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
def test_prometheus_may_read_a_slice_and_nobody_may_write_it_whatever_the_umask(
    umask: int, receive: Receiver, tmp_path: Path, seen: Seen
) -> None:
    path = tmp_path / "deep" / "sd" / "x.json"
    path.parent.parent.mkdir(mode=0o755)
    path.parent.parent.chmod(0o755)
    for n, body in enumerate((BODY, b"[]\n"), 1):
        assert receive(path, slice_of(1, n, body)) == ""
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


@pytest.mark.row("A13", did="the destination folder is a symlink, at each of three receivers")
@pytest.mark.parametrize("to", ["elsewhere", "nowhere"])
def test_a_destination_folder_that_is_a_symlink_is_refused_and_the_real_one_named(
    receive: Receiver, tmp_path: Path, to: str, seen: Seen
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "sd").symlink_to(tmp_path / to)
    said = receive(tmp_path / "sd" / "x.json", slice_of())
    assert said != ""
    if to == "elsewhere":
        assert f"{tmp_path}/sd is a symlink, which is not followed: configure {elsewhere}" in said
    assert list(elsewhere.iterdir()) == []
    assert receive(elsewhere / "x.json", slice_of()) == "", "the remedy works"
    (tmp_path / "higher").symlink_to(elsewhere)
    assert receive(tmp_path / "higher" / "sd" / "x.json", slice_of()) == "", "higher up it is the operator's own"
    seen("refused, nothing written there, the message names the folder to configure")


@pytest.mark.row(
    "A13", did="a FIFO, a device, a folder, a symlink where the slice, its note or its lock should be; three receivers"
)
@pytest.mark.parametrize("name", ["x.json", ".x.json.promring", ".x.json.promring-lock"])
@pytest.mark.parametrize("kind", ["FIFO", "device", "folder", "symlink"])
def test_what_is_no_plain_file_is_named_and_never_waited_for_or_followed(
    receive: Receiver, path: Path, name: str, kind: str, seen: Seen
) -> None:
    path.parent.mkdir()
    odd, victim = path.with_name(name), path.parent.parent / "victim"
    victim.write_text("precious")
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("making a device needs root")
    match kind:
        case "FIFO":
            os.mkfifo(odd)
        case "device":
            try:
                os.mknod(odd, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
            except PermissionError:
                pytest.skip("making a device needs a capability")
        case "folder":
            odd.mkdir()
        case "symlink":
            odd.symlink_to(victim)
    said = receive(path, slice_of())
    assert victim.read_text() == "precious"
    if kind == "symlink" and name == "x.json":
        assert said == "", "a link at the slice's own place is replaced"
        assert path.read_bytes() == BODY
        assert not path.is_symlink()
    else:
        assert said != ""
        assert any(word in said for word in (name, "it is a folder", "is a folder")), said
        assert not path.is_file()
    seen("named or replaced, nothing followed, no wait")


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
        envelope.install(target, Envelope.of(slice_of()), own=2)
    sent = script(str(target), slice_of(), 1, own=2)
    ran = subprocess.run(["sh", "-c", sent], input=BODY, capture_output=True, check=False, timeout=WAIT_S)
    assert b"sd/x is a symlink" in ran.stdout
    assert list((tmp_path / "out").iterdir()) == []


def remarks(path: Path) -> bytes:
    ran = subprocess.run(["sh", "-c", script(str(path), slice_of(), 1)], input=BODY, capture_output=True, check=True)
    return b"\n".join(line for line in ran.stdout.splitlines() if b"remark" in line)


async def test_a_folder_that_everybody_may_write_into_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd").chmod(0o777)
    delivery = FileDelivery(f"{tmp_path}/sd/{{scraper}}.json", log.get())
    with structlog.testing.capture_logs() as said:
        for n in (1, 2, 3):
            (outcome,) = await delivery.deliver([slice_of(1, n)])
            assert outcome.error == ""
    assert [line["event"] for line in said] == ["folder_writable_by_all"]


def test_the_far_side_remarks_it_too_and_not_where_the_folder_is_sticky(tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd").chmod(0o777)
    assert remarks(tmp_path / "sd" / "y.json") == b"promring remark folder_writable_by_all"
    (tmp_path / "sd").chmod(0o1777)
    assert remarks(tmp_path / "sd" / "z.json") == b""
