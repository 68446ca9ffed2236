"""Ctrl-C of every command that may last: no traceback, no "Aborted!", and the exit code that ``docs/commands.md`` says."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.controller import FakeController, status
from tests.unit.test_draining import BEGUN, DRAIN, ONE, at

INTERRUPTED = -signal.SIGINT
"""Ended by the signal itself, which a shell calls 130."""


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """What takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "promring", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and error."""
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    return process.returncode, out, error


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("status --url {url}", INTERRUPTED),
        ("status --watch --url {url}", 0),
        ("status --watch --output json --url {url}", 0),
        ("events --url {url}", INTERRUPTED),
        ("events --follow --url {url}", 0),
        ("where x --url {url}", INTERRUPTED),
        ("alerts --url {url}", INTERRUPTED),
        ("drain x --url {url}", INTERRUPTED),
        ("release x --url {url}", INTERRUPTED),
        ("plan --url {url}", INTERRUPTED),
        ("plan --offline --config.file={file}", INTERRUPTED),
        ("check --online {file}", INTERRUPTED),
    ],
)
def test_a_command_that_waits_for_an_answer_ends_quietly(
    command: str, code: int, silent: socket.socket, tmp_path: Path
) -> None:
    port = silent.getsockname()[1]
    service = {"name": "x", "scrapers": {"probe": {"nodes": [f"127.0.0.1:{port}"]}}, "delivery": [{"http_sd": {}}]}
    service["targets"] = [{"http": {"url": f"http://127.0.0.1:{port}/"}}]
    (tmp_path / "promring.yml").write_text(json.dumps({"shard_services": [service]}))
    words = command.format(url=f"127.0.0.1:{port}", file=tmp_path / "promring.yml").split()
    process = started(*words)
    asked, _ = silent.accept()
    with asked:
        found, out, error = interrupted(process)
    assert (found, error) == (code, "")
    assert "check" in words or out == ""


def test_a_watch_between_two_answers_ends_quietly() -> None:
    with FakeController({"/api/v1/status": (200, status())}) as fake:
        process = started("status", "--watch", "--every", "1h", "--output", "json", "--url", fake.url)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ready"] is True
        assert interrupted(process) == (0, "", "")


def test_a_drain_that_is_not_waited_for_any_longer_says_that_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    answers = {
        "/api/v1/fleets": (200, status()["fleets"]),
        DRAIN: (200, BEGUN | {"forecast": None}),
        "/api/v1/status": (200, at(7)),
    }
    with FakeController(answers) as fake:
        process = started("drain", ONE, "--url", fake.url, "--token-file", str(tmp_path / "token"))
        assert process.stdout is not None
        assert process.stdout.readline() == f"node: draining {ONE}: 7 of 15 targets left\n"
        code, out, error = interrupted(process)
    assert (code, out) == (INTERRUPTED, "")
    assert error == "not waited for any longer; a drain that has begun goes on (promring undrain ends it)\n"


def test_a_computation_ends_quietly() -> None:
    process = started("simulate", "--scrapers", "1000", "--targets", "5000000", "--services", "50", "--skew")
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and "numpy" not in maps.read_text():
        time.sleep(0.02)
    assert interrupted(process) == (INTERRUPTED, "", "")


@pytest.mark.parametrize(("command", "code"), [("demo --once", INTERRUPTED), ("demo", 0)])
def test_a_demo_that_was_interrupted_has_not_shown_anything(command: str, code: int) -> None:
    process = started(*command.split(), "--targets", "3")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("demo: starting")
    found, out, error = interrupted(process)
    assert (found, error) == (code, "")
    assert ("stopped" in out) == (code == 0)


WHILE_LOADING = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "promring.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from promring.__main__ import run
sys.argv = ["promring", "--version"]
run()
"""


@pytest.mark.parametrize(("ignored", "code"), [(False, INTERRUPTED), (True, 0)])
def test_ctrl_c_while_the_commands_are_loaded_is_as_quiet_unless_it_is_to_be_ignored(ignored: bool, code: int) -> None:
    """A shell without job control starts what runs in the background with SIGINT ignored."""
    script = ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" if ignored else "") + WHILE_LOADING
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (out.returncode, out.stderr) == (code, "")
    assert bool(out.stdout) == ignored
