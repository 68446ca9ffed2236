"""What ``tests.nursery`` begins is as what is executed: output, exit status, parent, signals, and death with its parent."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from promring.demo.process import Child, Process, executed, free_port
from tests.nursery import Forked
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are given to another parent as Linux does")

PROMRING = [sys.executable, "-m", "promring"]
PARENT = """
import asyncio, os, sys, time
from tests.nursery import Nursery
child = asyncio.run(Nursery().begin(sys.argv[1:], os.environ, 2))
print(child.pid, flush=True)
time.sleep(600)
"""


def stand_in(folder: Path) -> list[str | Path]:
    options: list[str | Path] = ["--listen", f"127.0.0.1:{free_port()}", "--file", folder / "targets.json"]
    return [sys.executable, "-m", "promring.demo.stand_in", *options]


@pytest.mark.parametrize("arguments", [["--version"], ["check", "none.yml"], ["no-command"]])
async def test_a_forked_command_says_and_ends_with_what_an_executed_one_does(arguments: list[str], tmp_path: Path) -> None:
    said = []
    for begin in (executed, Process.begin):
        with open(tmp_path / begin.__name__, "wb") as log:  # noqa: ASYNC230
            child: Child = await begin([*PROMRING, *arguments], {**os.environ, "COLUMNS": "60"}, log.fileno())
            said.append((await child.wait(), (tmp_path / begin.__name__).read_text()))
    assert isinstance(child, Forked)
    assert said[0] == said[1]
    assert said[0][1]


async def test_a_forked_daemon_is_our_child_and_ends_by_the_signals_that_it_gets(tmp_path: Path) -> None:
    command = stand_in(tmp_path)
    for number in (signal.SIGTERM, signal.SIGKILL):
        daemon = Process(command, tmp_path / "log", {"OF_THE_TEST": "1"})
        await daemon.start()
        assert psutil.Process(daemon.pid).ppid() == os.getpid()
        assert os.getsid(daemon.pid) == daemon.pid
        assert daemon.running
        daemon.signal(number)
        assert await daemon.wait() == -number
        assert not daemon.running


@pytest.mark.parametrize("executes", [False, True])
async def test_what_it_began_dies_with_its_parent(executes: bool, tmp_path: Path) -> None:
    """``executes``: a program that is none of ours."""
    command = ["sleep", "600"] if executes else stand_in(tmp_path)
    parent = Process([sys.executable, "-c", PARENT, *command], tmp_path / "pid")
    await parent.start()
    try:
        await until(lambda: bool((tmp_path / "pid").read_text().strip()), "it says which process it began")
        daemon = psutil.Process(int((tmp_path / "pid").read_text()))
    finally:
        await parent.kill()
    await until(lambda: not psutil.pid_exists(daemon.pid) or daemon.status() == psutil.STATUS_ZOMBIE, "its end")


async def test_a_program_that_is_none_of_ours_is_executed_as_any_is(tmp_path: Path) -> None:
    said = []
    for begin in (executed, Process.begin):
        with open(tmp_path / begin.__name__, "wb") as log:  # noqa: ASYNC230
            telling = [
                "sh",
                "-c",
                'echo "$0 $1 $A $PPID"; [ "$(cut -d" " -f6 /proc/$$/stat)" = $$ ] && echo leads; cat; exit 7',
                "one",
                "--two",
            ]
            child = await begin(telling, {**os.environ, "A": "of the test"}, log.fileno())
            said.append((await child.wait(), (tmp_path / begin.__name__).read_text()))
        with pytest.raises(FileNotFoundError):
            await begin(["no-such-program"], os.environ, 2)
    assert said == [(7, f"one --two of the test {os.getpid()}\nleads\n")] * 2


async def test_a_command_with_variables_that_count_before_its_first_line_is_executed(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as log:  # noqa: ASYNC230
        child = await Process.begin([*PROMRING, "--version"], {**os.environ, "PYTHONHASHSEED": "7"}, log.fileno())
        assert not isinstance(child, Forked)
        assert await child.wait() == 0
