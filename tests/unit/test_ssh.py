"""Delivery over ssh, as far as it needs no sshd: names, the far script in a local shell, what is said when asyncssh is not
there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import asyncssh
import pytest
from testbed.sshd import make_key

from promring.delivery.ssh import SshDelivery, SshHosts, SshPace, SshSettings, render_host
from promring.delivery.ssh_connect import parse_jump
from promring.delivery.ssh_push import COMMAND
from promring.delivery.ssh_trust import parse_known_hosts
from promring.model import ConfigError, Generation, Scraper, Slice
from promring.telemetry import log
from tests.receivers import Offer, asked

BODY = b'[{"targets":["a:1"]}]'
SHELLS = [s for s in ("sh", "bash", "ksh", "mksh", "busybox sh") if shutil.which(s.split()[0])]


def make_slice(body: bytes = BODY, generation: tuple[int, int] = (1, 1), scraper: str = "s:1", host: str = "s") -> Slice:
    return Slice("x", Scraper(scraper, host, 1), Generation(*generation), body, 1)


def settings(folder: Path, **changes: str) -> SshSettings:
    texts = {"host": "{host}", "path": "/srv/{service}/{scraper}.json", **changes}
    return SshSettings(
        host=texts["host"],
        user="promring",
        path=texts["path"],
        identity_file=folder / "key",
        known_hosts=folder / "known_hosts",
    )


def received(path: Path, slice_: Slice, login: str = "sh", env: Mapping[str, str] = MappingProxyType({})) -> str:
    """What the receiver says when a local login shell is given the command."""
    sent = Offer(path, slice_.body, slice_.sha256, slice_.generation)
    return asked([*login.split(), "-c", COMMAND], sent, {**os.environ, **env})


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


@pytest.mark.parametrize("text", ["", "# all hosts\n\n"])
def test_known_hosts_without_a_line_are_named_before_the_first_delivery(tmp_path: Path, text: str) -> None:
    make_key(tmp_path / "key")
    (tmp_path / "known_hosts").write_text(text)
    ((path, why),) = settings(tmp_path).doubts()
    assert (path, why) == (("known_hosts",), f"{tmp_path}/known_hosts: it has no line, so no host is trusted")


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
    assert received(path, slice_) == "written"
    assert left(tmp_path) == ["it's $(touch pwned) a `b` \\folder"]
    assert path.read_bytes() == BODY


# --- login shells as they are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", [s for s in ("csh", "tcsh", "fish", "bash", "busybox sh") if shutil.which(s.split()[0])])
@pytest.mark.parametrize("name", ["x.json", "it's $HOME `id` !x.json", 'a!1 \\ "q".json'])
def test_any_login_shell_can_be_given_the_command(tmp_path: Path, login: str, name: str) -> None:
    path = tmp_path / "sd" / name
    env = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    big = b"[" + b" " * 300_000 + b"]"
    assert received(path, make_slice(big), login=login, env=env) == "written"
    assert path.read_bytes() == big
    assert received(path, make_slice(big), login=login, env=env) == "same"


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
    plain = settings(tmp_path).model_copy(update={"port": await door.open(), "timeout": 0.5})
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
