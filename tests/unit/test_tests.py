"""The tests' own tools: room, order and leaks."""

from __future__ import annotations

import ast
import asyncio
import gc
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import jumping
from tests.again import MOST, again, main
from tests.leaks import held, left
from tests.order import FILE, slow, spread
from tests.room import Need, lacking, need

HERE = Path(__file__).parents[2]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "tests.room", "--noconftest", "-m", "not real"]
INSTANCES = "/proc/sys/user/max_inotify_instances"


def in_a_shell(first: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run of pytest after ``first``; what that uses up is another's, and is given back."""
    command = [*arguments, "sh", "-c", f'{first} && exec "$@"', "sh", *PYTEST, str(HERE / "tests/unit/test_threads.py")]
    env = {**os.environ, "PYTHONPATH": str(HERE), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_inotify_instances_that_are_used_up_are_said_in_one_line_before_the_first_test() -> None:
    """In a user namespace, which has a limit of its own, so that no other test runs short."""
    apart = ["unshare", "--user", "--map-root-user"]
    try:
        subprocess.run([*apart, "sh", "-c", f"echo 1 > {INSTANCES}"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no user namespaces on this machine")
    ended = in_a_shell(f"echo 1 > {INSTANCES}", *apart)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR, ended.stdout
    assert "test_threads" not in ended.stdout, "no test was begun"
    said = [line for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
    assert len(said) == 1, said
    assert "no room for the tests: 1 inotify instances left, 2 needed" in said[0]
    assert "fs.inotify.max_user_instances" in said[0]


def test_too_few_descriptors_are_said_in_one_line_before_the_first_test() -> None:
    ended = in_a_shell("ulimit -n 200")
    said = [line for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
    assert len(said) == 1, said
    assert "no room for the tests: 200 file descriptors a process, 256 needed (ulimit -n)" in said[0]


@pytest.mark.parametrize("short", ["ports", "mib", "disk_mib"])
def test_what_else_there_is_too_little_of_is_named(short: str) -> None:
    little = Need(instances=1, watches=1, descriptors=16, ports=1, mib=1, disk_mib=1)
    assert list(lacking(little)) == []
    (said,) = lacking(little._replace(**{short: 10**9}))
    assert "1000000000 needed" in said


def test_each_run_of_the_tests_looks_for_room_and_leaks(pytestconfig: pytest.Config) -> None:
    assert all(pytestconfig.pluginmanager.has_plugin(f"tests.{name}") for name in ("room", "leaks", "order"))


@pytest.mark.parametrize(
    ("status", "failed", "again_"),
    [
        (1, ["tests/real/a.py::b", "tests/real/a.py::b"], ["tests/real/a.py::b"]),
        (1, ["tests/browser/a.py::b[c d]"], ["tests/browser/a.py::b[c d]"]),
        (1, ["tests/real/a.py::b", "tests/unit/a.py::b"], ["tests/real/a.py::b", "tests/unit/a.py::b"]),
        (1, ["tests/real/a.py::b", "drawn: tests/laws/a.py::b"], []),
        (1, ["tests/real/a.py::b", "tests/sim/a.py::b"], []),
        (1, [f"tests/real/a.py::b[{n}]" for n in range(MOST + 1)], []),
        (1, [], []),
        (2, ["tests/real/a.py::b"], []),
    ],
    ids=[
        "failed and left something",
        "browser",
        "a unit test too",
        "a law too",
        "a seed too",
        "many",
        "none",
        "interrupted",
    ],
)
def test_few_tests_that_failed_get_a_second_run_alone(status: int, failed: list[str], again_: list[str]) -> None:
    assert again(status, failed) == again_


def test_what_is_not_run_again_keeps_its_status(tmp_path: Path) -> None:
    (tmp_path / "failed").write_text("tests/sim/a.py::b\n")
    assert main(1, tmp_path / "failed") == 1
    assert main(2, tmp_path / "none") == 2


def test_a_run_writes_down_what_failed(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        "from hypothesis import given, strategies\n\n\ndef test_bad():\n    assert False\n\n\n"
        "def test_good():\n    pass\n\n\n"
        "@given(strategies.just(1))\ndef test_law(n):\n    assert n == 2\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "tests.again", f"--failed-to={tmp_path}/failed"]
    done = subprocess.run(
        [*command, "-c", os.devnull, f"--rootdir={tmp_path}", str(tmp_path)], check=False, capture_output=True
    )
    assert done.returncode == 1, done.stdout
    assert (tmp_path / "failed").read_text().splitlines() == ["test_one.py::test_bad", "drawn: test_one.py::test_law"]


def test_a_run_on_real_servers_needs_more_with_each_worker() -> None:
    few, many = need(real=True, workers=1), need(real=True, workers=6)
    assert need(real=False, workers=6) < few < many
    assert many.instances < 128, "what a user has by default"


def test_the_long_ones_come_first_and_those_that_wait_beside_those_that_compute() -> None:
    assert spread([1, 8, 1], [3, 5, 2], float) == [8, 5, 3, 2, 1, 1]
    assert spread([], [1, 2], float) == [2, 1]
    assert slow("12 tests/a.py::b\n5 tests/c.py::d\n") == {"tests/a.py::b": 12.0, "tests/c.py::d": 5.0}
    assert all(seconds > 0 for seconds in slow(FILE.read_text()).values())


def test_what_a_test_leaves_is_named(tmp_path: Path) -> None:
    before = held()
    descriptor = os.open(tmp_path / "x", os.O_CREAT)
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="lingers")
    thread.start()
    process = subprocess.Popen(["sleep", "4244"])
    try:
        found = left(before)
        assert f"descriptor {descriptor}: {tmp_path / 'x'}" in found
        assert "thread lingers" in found
        assert any(line.startswith(f"process {process.pid}: ") for line in found)
    finally:
        os.close(descriptor)
        go.set()
        thread.join()
        process.kill()
        process.wait()
    assert left(before) == []


def test_what_a_test_configures_of_the_log_ends_with_it(tmp_path: Path) -> None:
    two = """
import structlog
from promring.telemetry import log


def test_quiet():
    log.configure("error")


def test_after():
    with structlog.testing.capture_logs() as said:
        log.get().warning("heard")
    assert [line["event"] for line in said] == ["heard"]
"""
    (tmp_path / "test_two.py").write_text(two)
    env = {**os.environ, "PYTHONPATH": str(HERE), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = [*PYTEST[:6], "-p", "tests.conftest", f"--rootdir={tmp_path}", str(tmp_path)]
    ended = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_long_wait_costs_no_time_and_what_is_sent_arrives_before_the_clock_jumps() -> None:
    async def work() -> tuple[float, list[bytes]]:
        got: list[bytes] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.append(await reader.readline())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        began = asyncio.get_running_loop().time()
        async with server:
            for n in range(20):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"%d\n" % n)
                async with asyncio.timeout(60):
                    assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()
            await asyncio.sleep(3)
        return asyncio.get_running_loop().time() - began, got

    took, got = jumping.run(work())
    assert took >= 3
    assert got == [b"%d\n" % n for n in range(20)]


def rows_proved() -> dict[str, set[str]]:
    """By failure of names, etcd and Kubernetes: the tests that are marked with it."""
    found: dict[str, set[str]] = {}
    for path in (HERE / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            marks = [one for one in node.decorator_list if ast.unparse(one).startswith("pytest.mark.row(")]
            numbers = [
                arg.value for one in marks if isinstance(one, ast.Call) for arg in one.args if isinstance(arg, ast.Constant)
            ]
            for number in numbers:
                found.setdefault(str(number), set()).add(f"{path.relative_to(HERE)}::{node.name}")
    return found


def test_each_failure_of_names_etcd_and_kubernetes_has_a_test_and_the_page_names_it() -> None:
    every = [*(f"K{n}" for n in range(1, 14)), *(f"E{n}" for n in range(1, 8)), *(f"D{n}" for n in range(1, 5))]
    page = (HERE / "docs/reliability.md").read_text()
    named = {
        row: set(re.findall(r"`(tests/[^`]+)`", tests))
        for row, tests in re.findall(r"^\| ([DEK]\d+) \| [^|]+ \| (`[^|]+) \|$", page, re.M)
    }
    proved = rows_proved()
    assert list(named) == every
    assert {row: some - proved.get(row, set()) for row, some in named.items() if some - proved.get(row, set())} == {}


def test_the_collector_goes_on_and_leaves_alone_what_was_loaded_to_read_the_tests() -> None:
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000
