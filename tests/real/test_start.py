"""What a start bears: few descriptors, closed standard streams, an odd environment, whatever stands in the state folder."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from promring.demo.process import free_port
from promring.runtime.http_client import HttpError, new_session, request
from tests.real.torn import fill, tmpfs
from tests.rows import Seen
from tests.waiting import until

PATIENCE_S = 60.0


def command(folder: Path, port: int) -> list[str]:
    config = {
        "shard_services": [
            {
                "name": "node",
                "scrapers": {"probe": {"nodes": ["127.0.0.1:1"]}},
                "targets": [{"file": {"files": ["targets.json"]}}],
                "delivery": [{"http_sd": {}}],
            }
        ]
    }
    (folder / "targets.json").write_text("[]")
    (folder / "promring.yml").write_text(json.dumps(config))
    options = [f"--config.file={folder}/promring.yml", f"--state.dir={folder}/state"]
    return [sys.executable, "-m", "promring", "run", *options, f"--web.listen-address=127.0.0.1:{port}"]


async def answers(port: int) -> bool:
    async with new_session(keep_alive=False) as session:
        try:
            return (await request(session, "GET", f"http://127.0.0.1:{port}/-/healthy", timeout_s=5)).status == 200
        except HttpError:
            return False


def close_everything() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, hard))
    for number in range(3):
        os.close(number)


def close_stderr() -> None:
    os.close(2)


NOWHERE = {
    "HOME": "/nowhere",
    "TMPDIR": "/nowhere",
    "PATH": "",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}
ODD: dict[str, tuple[Callable[[], None] | None, dict[str, str] | None]] = {
    "no standard streams, no environment, 20 descriptors by default": (close_everything, {}),
    "no standard error": (close_stderr, None),
    "an odd environment in ASCII": (None, NOWHERE),
}


@pytest.mark.row(53, did="started with closed streams, 20 descriptors by default, without an environment")
@pytest.mark.parametrize("what", ODD)
async def test_it_starts_serves_and_stops_in_an_odd_place(tmp_path: Path, what: str, seen: Seen) -> None:
    before, env = ODD[what]
    port = free_port()
    null = subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command(tmp_path, port), stdin=null, stdout=null, stderr=null, preexec_fn=before, env=env
    )
    try:
        await until(lambda: answers(port), "it answers", PATIENCE_S)
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
        soft, hard = line.split()[3:5]
        assert soft == hard
        standard = [str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in range(3)]
        assert standard == ["/dev/null"] * 3, "nothing else has their numbers"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    seen("serves and stops; the soft limit of descriptors is the hard one")


NO_INOTIFY = ["unshare", "--user", "--map-root-user", "sh", "-c"]
NO_INOTIFY += ['echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"', "sh"]
"""In a user namespace, which has inotify instances of its own."""


def without_inotify(folder: Path, port: int) -> subprocess.Popen[bytes]:
    try:
        subprocess.run([*NO_INOTIFY, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no user namespaces on this machine")
    with open(folder / "log", "w") as out:
        return subprocess.Popen([*NO_INOTIFY, *command(folder, port)], stderr=out)


@pytest.mark.row(53, did="started without inotify instances and with a full disk under its state")
async def test_it_starts_serves_and_stops_without_inotify_and_with_a_full_disk(tmp_path: Path, seen: Seen) -> None:
    port, said = free_port(), tmp_path / "log"
    with tmpfs(tmp_path / "state"):
        fill(tmp_path / "state" / "filler", 0)
        process = without_inotify(tmp_path, port)
        try:
            await until(lambda: answers(port), "it answers", PATIENCE_S)
            await until(lambda: "state_not_saved" in said.read_text(), "it says that the disk is full", PATIENCE_S)
            (tmp_path / "targets.json").write_text("[{")
            await until(lambda: "discovery_failed" in said.read_text(), "it has read the file that changed", PATIENCE_S)
            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() == 0, "it stops", PATIENCE_S)
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in said.read_text()
    seen("serves, sees a file that changes, says that its state is not saved, stops with 0")


def ends(folder: Path, before: Callable[[], None] | None = None) -> tuple[int, str]:
    """Exit status and what a start that cannot be says."""
    done = subprocess.run(
        command(folder, free_port()), capture_output=True, text=True, timeout=PATIENCE_S, check=False, preexec_fn=before
    )
    return done.returncode, done.stderr


@pytest.mark.row(53, did="a hard limit of 12 or 60 descriptors")
@pytest.mark.parametrize("count", [12, 60])
def test_with_too_few_descriptors_it_says_so_and_nothing_else(tmp_path: Path, count: int, seen: Seen) -> None:
    status, said = ends(tmp_path, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)))
    assert (status, said) == (
        1,
        f"Error: {count} file descriptors (ulimit -n) are too few: promring needs 64 at least\n",
    )
    seen("exit 1, one line")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "precious")


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("put", [pipe, link, folder])
def test_what_is_no_file_in_the_place_of_the_lock_is_one_line(tmp_path: Path, put: Callable[[Path], None]) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "state").mkdir()
    put(tmp_path / "state" / "lock")
    status, said = ends(tmp_path)
    assert (status, len(said.splitlines())) == (1, 1), said
    assert said.startswith(f"Error: --state.dir: {tmp_path}/state/lock is a ")
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_start_without_a_library_that_it_needs_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "asyncssh.py").write_text("raise ImportError('not installed')\n")
    arguments = command(tmp_path, free_port())
    config = json.loads((tmp_path / "promring.yml").read_text())
    files = {"identity_file": "/dev/null", "known_hosts": "/dev/null"}
    config["shard_services"][0]["delivery"] = [{"ssh": {"user": "u", "path": "/x/{host}.json", **files}}]
    (tmp_path / "promring.yml").write_text(json.dumps(config))
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=env)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "delivery.ssh needs asyncssh (not installed)" in done.stderr.splitlines()[-1]
