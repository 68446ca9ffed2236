"""Delivery over ssh, as far as it needs no sshd: names, the far script in a local shell, what is said when asyncssh is not
there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from types import MappingProxyType
from typing import IO

import asyncssh
import pytest
from testbed.sshd import make_key

from promring.delivery import envelope
from promring.delivery.envelope import Envelope
from promring.delivery.ssh import SshDelivery, SshHosts, SshPace, SshSettings, render_host
from promring.delivery.ssh_connect import parse_jump
from promring.delivery.ssh_far import COMMAND, FarError, script, was_written
from promring.delivery.ssh_trust import parse_known_hosts
from promring.model import ConfigError, Generation, Scraper, Slice
from promring.telemetry import log

BODY = b'[{"targets":["a:1"]}]'
SHELLS = [s for s in ("sh", "bash", "ksh", "mksh", "busybox sh") if shutil.which(s.split()[0])]


def make_slice(body: bytes = BODY, generation: tuple[int, int] = (1, 1), scraper: str = "s:1", host: str = "s") -> Slice:
    return Slice("x", Scraper(scraper, host, 1), Generation(*generation), body, 1)


def settings(folder: Path, **changes: str) -> SshSettings:
    texts = {"host": "{host}", "path": "/srv/{service}/{scraper}.json", **changes}
    return SshSettings(texts["host"], 22, "promring", texts["path"], folder / "key", folder / "known_hosts")


def far_side(
    path: Path,
    slice_: Slice,
    sent: bytes | None = None,
    *,
    shell: str = "sh",
    login: str = "sh",
    env: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The script's last line, when a local login shell is given the command, and the bytes when it asks for them; ``shell``
    runs the script.
    """
    text = COMMAND.replace("exec sh ", f"exec {shell} ", 1)
    with subprocess.Popen(
        [*login.split(), "-c", text], stdin=PIPE, stdout=PIPE, stderr=subprocess.STDOUT, env={**os.environ, **env}
    ) as running:
        assert running.stdin
        assert running.stdout
        running.stdin.write(script(str(path), slice_, 1).encode())
        running.stdin.flush()
        answer = said(running.stdout)
        if answer == "need":
            with contextlib.suppress(BrokenPipeError):
                running.stdin.write(slice_.body if sent is None else sent)
                running.stdin.close()
            answer = said(running.stdout)
        assert running.stdout.read() == b""
        return answer


def said(stdout: IO[bytes]) -> str:
    """What comes after "promring "; remarks are passed over."""
    for line in stdout:
        if line.startswith(b"promring ") and not line.startswith(b"promring remark"):
            return line.decode().strip().removeprefix("promring ")
    raise AssertionError("it ended")


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["prom-1.example.org", "10.0.0.1", "::1", "fe80::1", "a_b"])
def test_a_plain_host_goes_into_the_template(host: str) -> None:
    assert render_host("{host}", Scraper("x", host, 1)) == host
    if ":" not in host:
        assert render_host("m-{host}.mgmt", Scraper("x", host, 1)) == f"m-{host}.mgmt"


@pytest.mark.parametrize(
    "host",
    [
        "-oProxyCommand=x",
        "-a",
        "",
        "a b",
        "$(x)",
        "a\nb",
        "a;b",
        "a/b",
        "{host}",
        "fe80::1%$(x)",
        "ä",
        "a" * 64,
        "a.b" * 99,
        ".",
        "a..b",
        "a.-b",
    ],
)
def test_what_is_no_host_name_is_refused(host: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the text is the name itself
        render_host("{host}", Scraper("x", host, 1))


async def test_a_slice_for_a_bad_host_or_for_a_file_that_is_taken_fails_and_says_which(tmp_path: Path) -> None:
    delivery = SshDelivery(settings(tmp_path, path="/srv/{service}.json"), log.get())
    one, other, bad = make_slice(), make_slice(scraper="s:2"), make_slice(scraper="-x:1", host="-x")
    outcomes = await delivery.deliver([one, other, bad])
    await delivery.close()
    assert [o.outcome for o in outcomes] == ["unsent", "failed", "failed"]
    assert outcomes[0].error == f"s:/srv/x.json: {tmp_path}/key: No such file or directory"
    assert outcomes[1].error == "s:/srv/x.json: it is the file of s:1 already; put {scraper} into the path"
    assert outcomes[2].error == "'-x':/srv/x.json: not a host name"


async def test_key_files_that_are_not_ones_are_named(tmp_path: Path) -> None:
    delivery = SshDelivery(settings(tmp_path), log.get())
    (tmp_path / "key").write_text("nonsense")
    (tmp_path / "known_hosts").write_text("")
    (outcome,) = await delivery.deliver([make_slice()])
    await delivery.close()
    assert outcome.error.startswith(f"s:/srv/x/s_1.json: {tmp_path}/key: ")


@pytest.mark.parametrize(
    "name", ["-oProxyCommand=x", "$(touch pwned)", "a b", "../../x", "'; touch pwned; '", "a\nb", ".x", "/etc/x", "..", "🦀"]
)
def test_a_hostile_scraper_keeps_to_its_folder_and_runs_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slice_ = make_slice(scraper=name)
    delivery = SshDelivery(
        settings(tmp_path, path=f"{tmp_path}/it's $(touch pwned) a `b` \\folder/{{scraper}}.json"), log.get()
    )
    path = Path(delivery.path(slice_))
    monkeypatch.chdir(tmp_path)
    assert far_side(path, slice_) == "written"
    assert left(tmp_path) == ["it's $(touch pwned) a `b` \\folder"]
    assert path.read_bytes() == BODY


# --- the far script ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_the_far_script_does_what_the_receiver_here_does(tmp_path: Path, shell: str) -> None:
    path = tmp_path / "deep" / "er" / "x.json"
    assert far_side(path, make_slice(generation=(2, 3)), shell=shell) == "written"
    assert path.read_bytes() == BODY
    assert path.stat().st_mode & 0o777 == 0o644
    assert envelope.held(path) == ((2, 3), make_slice().sha256)
    before = path.stat()
    assert far_side(path, make_slice(generation=(2, 3)), shell=shell) == "same"
    assert far_side(path, make_slice(generation=(2, 4)), shell=shell) == "same"  # the note climbs, the file is left alone
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert envelope.held(path) == ((2, 4), make_slice().sha256)
    for older in ((1, 999), (2, 3), (2, 0)):
        assert far_side(path, make_slice(b"[]", older), shell=shell) == "refused 2.4"
    assert far_side(path, make_slice(b"[]", (2, 4)), shell=shell) == "error has another slice of generation 2.4"
    assert path.read_bytes() == BODY
    assert far_side(path, make_slice(b"[]", (2, 10)), shell=shell) == "written"  # by number, not by text
    assert far_side(path, make_slice(BODY, (10**14, 1)), shell=shell) == "written"
    assert left(path.parent) == [".x.json.promring", ".x.json.promring-lock", "x.json"]
    assert not envelope.install(path, Envelope.of(make_slice(BODY, (10**14, 1))))


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("sent", [b"", BODY[:-1], BODY + b" ", BODY[:-1] + b" "])
def test_bytes_that_are_not_the_slice_leave_the_old_one(tmp_path: Path, sent: bytes, shell: str) -> None:
    path = tmp_path / "x.json"
    assert far_side(path, make_slice(b"[]"), shell=shell) == "written"
    answer = far_side(path, make_slice(generation=(1, 2)), sent, shell=shell)
    assert answer.startswith(f"error {len(sent)} bytes came that are not the 21 of SHA-256 "), answer
    assert path.read_bytes() == b"[]"
    assert envelope.held(path) == ((1, 1), make_slice(b"[]").sha256)
    assert left(tmp_path) == [".x.json.promring", ".x.json.promring-lock", "x.json"]


@pytest.mark.parametrize(
    "note", ["", "x\n", "1.2\n", "1.2.3 abc\n", "1 2 3\n", "99999999999999999999.1 abc\n", "-1.2 abc\n"]
)
def test_a_damaged_note_does_not_stop_a_slice(tmp_path: Path, note: str) -> None:
    path = tmp_path / "x.json"
    envelope.note_of(path).write_text(note)
    assert far_side(path, make_slice()) == "written"
    assert envelope.held(path) == ((1, 1), make_slice().sha256)


def test_symlinks_are_replaced_and_folders_are_not(tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").write_text("mine")
    for target in ("else/file", "else", "nowhere"):
        path = tmp_path / f"{target.replace('/', '_')}.json"
        path.symlink_to(tmp_path / target)
        assert far_side(path, make_slice()) == "written"
        assert not path.is_symlink()
        assert path.read_bytes() == BODY
    assert (tmp_path / "else" / "file").read_text() == "mine"
    assert left(tmp_path / "else") == ["file"]
    (tmp_path / "folder.json").mkdir()
    assert far_side(tmp_path / "folder.json", make_slice()) == "error it is a folder"
    assert left(tmp_path / "folder.json") == []
    (tmp_path / ".y.json.promring-lock").symlink_to(tmp_path / "else" / "new")
    assert "promring-lock is not a regular file" in far_side(tmp_path / "y.json", make_slice())
    assert left(tmp_path / "else") == ["file"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "error mkdir: " in far_side(tmp_path / "file" / "x.json", make_slice())


def test_many_writers_at_once_leave_one_whole_slice_and_its_note(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    slices = [make_slice(b"[%s]" % (b" " * n * 1000), (1, n)) for n in range(1, 13)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda s: far_side(path, s), slices))
    assert all(a == "written" or a.startswith("refused ") for a in answers), answers
    assert path.read_bytes() == slices[-1].body
    assert envelope.held(path) == (slices[-1].generation, slices[-1].sha256)
    assert left(tmp_path) == [".x.json.promring", ".x.json.promring-lock", "x.json"]


def test_a_lock_that_another_holds_is_not_waited_for_long(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    go, held = threading.Event(), threading.Event()

    def hold() -> None:
        with envelope._locked(path):
            held.set()
            go.wait(20)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        held.wait(5)
        assert far_side(path, make_slice()) == "error another writer holds on to it"
        go.set()
    assert far_side(path, make_slice()) == "written"


def test_what_the_far_side_says_is_understood() -> None:
    generation = Generation(1, 2)
    assert was_written("written", generation, "/sd/x.json")
    assert not was_written("same", generation, "/sd/x.json")
    for answer, said in (
        ("refused 7.5", "has generation 7.5, refuses the older 1.2"),
        ("error No space left", "No space left"),
        ("error", "an answer that is none: 'error'"),
        ("need", "an answer that is none: 'need'"),
    ):
        with pytest.raises(FarError) as caught:
            was_written(answer, generation, "/sd/x.json")
        assert str(caught.value) == said


# --- far sides as they are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", [s for s in ("csh", "tcsh", "fish", "bash", "busybox sh") if shutil.which(s.split()[0])])
@pytest.mark.parametrize("name", ["x.json", "it's $HOME `id` !x.json", 'a!1 \\ "q".json'])
def test_any_login_shell_can_be_given_the_command(tmp_path: Path, login: str, name: str) -> None:
    path = tmp_path / "sd" / name
    env = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    big = b"[" + b" " * 300_000 + b"]"
    assert far_side(path, make_slice(big), login=login, env=env) == "written"
    assert path.read_bytes() == big
    assert far_side(path, make_slice(big), login=login, env=env) == "same"


TOOLS = ("cat", "cut", "dd", "mkdir", "mv", "rm", "sync", "tr", "wc", "sh", "find", "flock", "timeout", "openssl")


def path_with(folder: Path, *tools: str) -> str:
    """A PATH that has nothing but ``tools``."""
    bin_ = folder / "bin"
    bin_.mkdir()
    for tool in tools:
        (bin_ / tool).symlink_to(str(shutil.which(tool)))
    return str(bin_)


def test_a_missing_tool_over_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    without = path_with(tmp_path, *TOOLS[:-1])
    answer = far_side(path, make_slice(), env={"PATH": without}, login=str(shutil.which("sh")))
    assert answer == f"error there is no sha256sum, shasum, openssl or sha256 in {without}: no slice can be checked"
    (Path(without) / "sha256sum").symlink_to(str(shutil.which("sha256sum")))
    (Path(without) / "wc").unlink()
    answer = far_side(path, make_slice(), env={"PATH": without}, login=str(shutil.which("sh")))
    assert answer == f"error there is no wc in {without}"
    assert not path.exists()


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not here")
def test_another_program_for_the_digest_will_do(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    where = path_with(tmp_path, *TOOLS)
    assert far_side(path, make_slice(), env={"PATH": where}, login=str(shutil.which("sh"))) == "written"
    assert far_side(path, make_slice(), env={"PATH": where}, login=str(shutil.which("sh"))) == "same"


def test_of_a_huge_note_the_beginning_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with envelope.note_of(path).open("wb") as note:
        note.truncate(1 << 40)  # no machine has room for all of it
    assert far_side(path, make_slice()) == "written"
    assert envelope.held(path) == ((1, 1), make_slice().sha256)


# --- what we trust -----------------------------------------------------------------------------------------------------


def test_lines_of_known_hosts_that_are_none_are_left_out_and_named() -> None:
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    text = [
        f"good {key}",
        "garbage",
        f"half {key[:40]}",
        f"@unknown-marker odd {key}",
        "#comment",
        "",
        f"|1|nonsense|x= {key}",
        f"good2 {key}",
    ]
    known, lines, skipped = parse_known_hosts("\n".join(text).encode() + b"\n\xff\xfe x\nlast " + key.encode())
    assert [bool(known.match(host, "", None)[0]) for host in ("good", "good2", "last", "half", "odd")] == [True] * 3 + [
        False
    ] * 2
    assert [line.partition(":")[0] for line in skipped] == [f"line {n}" for n in (2, 3, 4, 7, 9)]
    assert skipped[-1] == "line 9: it is no UTF-8"
    assert lines == 3


def test_hops_are_as_ssh_spells_them() -> None:
    assert parse_jump("a", "me") == ("a", 22, "me")
    assert parse_jump("you@[::1]:2222", "me") == ("::1", 2222, "you")
    for bad in ("", "-oProxyCommand=x", "a:0", "a:99999", "a b", "a,b"):
        with pytest.raises(ValueError, match="host"):
            parse_jump(bad, "me")


async def test_what_is_wrong_on_our_side_is_unsent_and_mended_at_once_when_it_is(tmp_path: Path) -> None:
    delivery = SshDelivery(settings(tmp_path), log.get(), pace=SshPace(retry_first_s=0, wait_s=60, slow_wait_s=60))
    try:
        for _ in range(4):
            (outcome,) = await delivery.deliver([make_slice(host="127.0.0.1")])
            assert outcome.outcome == "unsent"
        make_key(tmp_path / "key")
        (outcome,) = await delivery.deliver([make_slice(host="127.0.0.1")])
        assert outcome.error.endswith(f"{tmp_path}/known_hosts: No such file or directory")
        assert outcome.outcome == "unsent"
    finally:
        await delivery.close()


# --- several services --------------------------------------------------------------------------------------------------


class Door:
    """Somebody who listens where sshd should, and says nothing or hangs up."""

    def __init__(self, *, hangs_up: bool) -> None:
        self._hangs_up, self.came = hangs_up, 0
        self._guests: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def _let_in(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        self._guests.append(writer)
        if self._hangs_up:
            writer.close()

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._let_in, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        for guest in self._guests:
            guest.close()


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_a_host_that_hangs_or_hangs_up_is_tried_once_for_all_services(tmp_path: Path, hangs_up: bool) -> None:
    door = Door(hangs_up=hangs_up)
    make_key(tmp_path / "key")
    (tmp_path / "known_hosts").write_text("")
    plain = replace(settings(tmp_path), port=await door.open(), timeout_s=0.5)
    pace = SshPace(retry_first_s=600, retry_most_s=600, wait_s=60, slow_wait_s=0.1)
    hosts = SshHosts(plain, log.get(), pace=pace)
    names = [f"x{n}" for n in range(12)]
    deliveries = {name: SshDelivery(plain, log.get(), hosts=hosts) for name in names}
    slices = {name: replace(make_slice(host="127.0.0.1"), service=name) for name in names}
    told = [o for (o,) in await asyncio.gather(*(d.deliver([slices[n]]) for n, d in deliveries.items()))]
    assert [o.outcome for o in told] == ["failed"] * 12
    why = "cannot connect: Connection " if hangs_up else "connecting took more than 0.5 s"
    for name, outcome in zip(names, told, strict=True):
        assert outcome.error.startswith(f"127.0.0.1:/srv/{name}/s_1.json: {why}"), outcome
    assert door.came == 1
    newer = replace(slices["x3"], generation=Generation(1, 2))
    (outcome,) = await deliveries["x3"].deliver([newer])
    assert (outcome.outcome, door.came) == ("waiting", 1), "it is left alone for all of them"
    for delivery in deliveries.values():
        await delivery.close()
    door.shut()


# --- without asyncssh ------------------------------------------------------------------------------------------------


def test_without_asyncssh_the_configuration_is_at_fault_and_the_remedy_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(ConfigError, match="pip install asyncssh"):
        SshDelivery(settings(tmp_path), log.get())


def test_asyncssh_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, promring.build; sys.exit('asyncssh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
