"""What the process says to systemd, whom it buries as process 1, and on which addresses it listens."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import click
import pytest

from promring.cli.options import HostPort
from promring.config.load import load_with_lines
from promring.demo.process import free_port
from promring.election.leadership import Leadership
from promring.runtime.notify import Notify
from promring.supervisor import Options, Supervisor
from promring.telemetry import log
from promring.telemetry.events import Events
from promring.telemetry.metrics import Metrics
from promring.web.listener import Listener
from promring.web.refusals import Refusals
from promring.web.server import WebSettings
from tests.waiting import until


class Systemd:
    """The other end of ``NOTIFY_SOCKET``."""

    def __init__(self, address: str) -> None:
        self.address, self.socket = address, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        """All that was said."""
        while True:
            try:
                self.heard += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.heard


@contextmanager
def systemd(address: str) -> Iterator[Systemd]:
    made = Systemd(address)
    try:
        yield made
    finally:
        made.socket.close()


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@promring-test-{secrets.token_hex(8)}"


def test_systemd_is_told_and_children_are_not(address: str) -> None:
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "OTHER": "x"}
    with systemd(address) as other:
        notify = Notify(environ)
        assert environ == {"OTHER": "x"}
        assert notify.watchdog_s == 3.0
        notify.ready()
        notify.reloading()
        notify.stopping()
        ready, reloading, at, stopping = other.listen()
        assert (ready, reloading, stopping) == ("READY=1", "RELOADING=1", "STOPPING=1")
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert 0 <= now - int(at.removeprefix("MONOTONIC_USEC=")) < 60_000_000
    notify.ready()  # nobody listens any more: nothing happens


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
    ],
)
def test_without_a_systemd_nothing_is_said(environ: dict[str, str]) -> None:
    notify = Notify(environ)
    notify.ready()
    assert notify.watchdog_s == 0.0


async def test_signs_of_life_come_from_the_loop_and_stop_with_it(address: str) -> None:
    with systemd(address) as other:
        notify = Notify({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"})
        task = asyncio.create_task(notify.live())
        await until(lambda: other.listen().count("WATCHDOG=1") > 3, "signs of life")
        before = len(other.listen())
        time.sleep(0.5)  # noqa: ASYNC251 - the loop stands still
        assert len(other.listen()) == before
        await until(lambda: len(other.listen()) > before, "it goes on")
        task.cancel()


CONFIG = """
shard_services:
  - {name: node, scrapers: {probe: {nodes: ["127.0.0.1:1"]}}, targets: [{file: {files: [t.json]}}],
     delivery: [{http_sd: {}}]}
"""


async def test_a_daemon_tells_systemd_when_it_serves_reloads_and_stops(tmp_path: Path) -> None:
    (tmp_path / "promring.yml").write_text(CONFIG)
    (tmp_path / "t.json").write_text('[{"targets":["a:1"]}]')
    address = f"@promring-test-{secrets.token_hex(8)}"
    command = [sys.executable, "-m", "promring", "run", f"--config.file={tmp_path}/promring.yml"]
    command += [f"--state.dir={tmp_path}/state", f"--web.listen-address=127.0.0.1:{free_port()}"]
    with systemd(address) as other, open(tmp_path / "log", "w") as out:  # noqa: ASYNC230
        environ = {**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000"}
        daemon = subprocess.Popen(command, env=environ, stderr=out)  # noqa: ASYNC220
        try:
            await until(lambda: "READY=1" in other.listen(), "it serves", 20)
            await until(lambda: other.listen().count("WATCHDOG=1") > 2, "it lives")
            daemon.send_signal(signal.SIGHUP)
            await until(lambda: "RELOADING=1" in other.listen(), "it reloads")
            await until(lambda: other.listen().count("READY=1") == 2, "it is ready again", 20)
            daemon.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.1)
            before = len(other.listen())
            await asyncio.sleep(1)
            assert len(other.listen()) == before, "a process that stands still gives no sign of life"
            daemon.send_signal(signal.SIGCONT)
            daemon.terminate()
            await until(lambda: "STOPPING=1" in other.listen(), "it stops")
            await until(lambda: daemon.poll() is not None, "it has stopped")
        finally:
            daemon.kill()
            daemon.wait()
    assert daemon.returncode == 0


async def test_a_hangup_while_it_starts_is_a_reload_and_not_its_end(tmp_path: Path) -> None:
    (tmp_path / "promring.yml").write_text(CONFIG)
    (tmp_path / "t.json").write_text('[{"targets":["a:1"]}]')
    gate = tmp_path / "sitecustomize.py"  # of this process: it says when it runs, and goes on when it was signalled
    gate.write_text(
        "import promring.cli\nfrom promring.cli.lazy import Lazy\nload = Lazy.load\n"
        "def slow(self):\n    import os, signal\n    done = load(self)\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n    return done\nLazy.load = slow\n"
    )
    command = [sys.executable, "-m", "promring", "run", f"--config.file={tmp_path}/promring.yml"]
    command += [f"--state.dir={tmp_path}/state", f"--web.listen-address=127.0.0.1:{free_port()}"]
    with open(tmp_path / "log", "w") as out:  # noqa: ASYNC230
        daemon = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, stderr=out)  # noqa: ASYNC220
        try:
            await until(lambda: "msg=reload " in (tmp_path / "log").read_text(), "it reloads", 30)
            assert daemon.poll() is None
        finally:
            daemon.kill()
            daemon.wait()


ORPHAN = """
    import ctypes, subprocess, time
    from promring.runtime.orphans import DEAD_S, Orphans, _dead_children

    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans come to us, as to process 1
    subprocess.run(["/bin/sh", "-c", "sleep 0.01 & sleep 0.01 &"], check=True)
    own = subprocess.Popen(["/bin/true"])
    while len(_dead_children()) < 3:
        time.sleep(0.01)
    now = 0.0
    orphans = Orphans(lambda: now)
    assert orphans.look() == []
    now = DEAD_S - 1
    assert orphans.look() == []
    assert own.wait() == 0, "who waits for a child gets its status"
    now = DEAD_S
    assert len(orphans.look()) == 2
    assert _dead_children() == []
"""


def test_orphans_are_buried_after_a_while_and_own_children_are_not_taken_away() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ORPHAN)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "where"),
    [(":9600", ("", 9600)), (":0", ("", 0)), ("[::1]:0", ("::1", 0)), ("0.0.0.0:9600", ("0.0.0.0", 9600))],
)
def test_an_address_without_a_host_is_all_of_them(text: str, where: tuple[str, int]) -> None:
    assert HostPort().convert(text, None, None) == where


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("::1:9600", r"'::1:9600' is not host:port; an IPv6 address has brackets, \[::1\]:9600"),
        (":x", "':x' is not host:port$"),
        ("host", "'host' is not host:port$"),
    ],
)
def test_an_address_to_listen_on_is_refused_as_it_was_written(text: str, said: str) -> None:
    with pytest.raises(click.BadParameter, match=said):
        HostPort().convert(text, None, None)


async def test_all_addresses_are_those_of_ipv4_and_of_ipv6() -> None:
    log.configure(stream=io.StringIO(), keep=Events().keep)
    listener = Listener(cast(Any, None), Refusals(Metrics().http_refused, log.get()), tls=lambda: None, most=10)
    port = await listener.bind("", 0)
    try:
        families = {s.family for s in listener._sockets}
        assert socket.AF_INET in families
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            if family in families:
                with socket.socket(family) as client:
                    client.connect((host, port))
        assert (
            families == {socket.AF_INET, socket.AF_INET6} or not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists()
        )
    finally:
        listener._close_sockets()


DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize(
    ("unit", "writes"),
    [
        ("promring.service", ("/srv/promring", "/etc/promring/out", "/etc/prometheus/sd")),
        ("promring-agent.service", ("/etc/prometheus",)),
    ],
)
def test_the_units_let_what_the_documents_show_be_written_and_are_understood(
    tmp_path: Path, unit: str, writes: tuple[str, ...]
) -> None:
    text = (DEPLOY / unit).read_text()
    (paths,) = [line for line in text.splitlines() if line.startswith("ReadWritePaths=")]
    assert all(f"-{path}" in paths.partition("=")[2].split() for path in writes)
    for wanted in ("Type=notify", "WatchdogSec=", "LimitNOFILE=65536", "Restart=always"):
        assert f"\n{wanted}" in text
    if (verify := shutil.which("systemd-analyze")) is not None:
        (tmp_path / unit).write_text(text.replace("/opt/promring/bin/promring", "/bin/true"))
        done = subprocess.run([verify, "verify", tmp_path / unit], capture_output=True, text=True, timeout=60, check=False)
        assert unit not in done.stderr, done.stderr


async def test_controllers_of_one_host_name_and_port_have_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('[{"targets":["a:1"]}]')
    file = tmp_path / "promring.yml"
    file.write_text("consul: {address: '127.0.0.1:1'}\ncontrollers: {lock: {consul: {key: promring/leader}}}\n" + CONFIG)
    names = [await name_in_the_log(file, tmp_path / str(n)) for n in range(2)]
    assert len(set(names)) == 2
    assert {name.rpartition("/")[0] for name in names} == {f"{socket.gethostname()}:0"}


async def name_in_the_log(file: Path, state: Path) -> str:
    events = Events()
    log.configure(stream=io.StringIO(), keep=events.keep)
    supervisor = Supervisor(Options(file, state, WebSettings("127.0.0.1", 0)), load_with_lines(file), log.get(), events)
    task = asyncio.create_task(supervisor.run())
    try:
        await until(lambda: [e for e in events.since() if e.msg == "controller_name"] != [], "named")
        (said,) = [e for e in events.since() if e.msg == "controller_name"]
        return str(said.fields["name"])
    finally:
        supervisor.stop()
        await task


def test_the_leader_s_epoch_is_remembered_by_who_follows() -> None:
    leadership = Leadership(alone=False)
    leadership.follow("a", 7)
    assert (leadership.epoch, leadership.followed) == (6, 7)
    leadership.follow("", 0)
    assert leadership.followed == 7
