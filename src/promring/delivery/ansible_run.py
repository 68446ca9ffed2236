"""One run of ``ansible-playbook``, bounded: a folder of its own, an environment of its own, and no process left.

Promises: it ends ``timeout_s`` after it began, or when it is told to stop, at most 2 s later; then nothing that it started
on this machine runs any more, and its folder is gone. What a host did not report did not happen as far as is known here.
Nothing of a slice is a variable: its bytes are a file.
Not promised: that what hangs on a far host ends there; Ansible cannot do that either.
Flow: ``ansible.AnsibleDelivery`` says what to push and reads the report.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from promring import disk
from promring.redact import hide, secrets_of_vars

PROGRAM = "ansible-playbook"
NOT_INSTALLED = f"{PROGRAM} is not installed"
FILES = Path(__file__).parent / "ansible_files"
REPORT = "PROMRING_ANSIBLE_REPORT"
CONNECT_S = 3
FORKS_MOST = 32
GRACE_S = 1.0
GONE_WITHIN_S = 0.5
POLL_S = 0.02
SAID_BYTES_MAX = 64 * 1024
WHY_MOST = 300
VARS_BYTES_MAX = 1024 * 1024
INHERITED = ("HOME", "KRB5CCNAME", "LOGNAME", "PATH", "SSH_AUTH_SOCK", "TMPDIR", "TZ", "USER")


@dataclass(frozen=True, slots=True)
class Host:
    """One host of the inventory. ``name`` and ``variables`` must be safe to be templates; ``body`` need not."""

    name: str
    file_name: str
    body: bytes = field(repr=False)
    variables: Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Report:
    """``hosts``: name → (``ok``, ``changed``, ``failed``, ``unreachable``, or ``begun`` and no more is known; why).
    ``trouble``: why others are not in it.
    """

    hosts: Mapping[str, tuple[str, str]]
    trouble: str


@dataclass(frozen=True, slots=True)
class Run:
    """``playbook`` None: the one that comes along."""

    playbook: Path | None
    timeout_s: float
    extra_vars_file: Path | None = None

    def __call__(self, hosts: Sequence[Host], stop: threading.Event) -> Report:
        """Blocks until it is over. Raises OSError when the folder or the process cannot be made."""
        program = find_program()
        if program is None:
            return Report({}, NOT_INSTALLED)
        deadline = time.monotonic() + self.timeout_s
        folder = Path(tempfile.mkdtemp(prefix="promring-ansible-"))  # 0700
        try:
            write_inventory(folder, hosts, installer=self.playbook is None)
            status = self._play([program, *self._arguments(folder, len(hosts))], folder, deadline, stop)
            secrets = self._secrets()
            said = hide(_tail(folder / "stderr").replace(f"{folder}/", ""), secrets)
            heard = read_report(_tail(folder / "report", most=None))
            heard = {host: (result, hide(why, secrets)[:WHY_MOST]) for host, (result, why) in heard.items()}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if status is None:
            return Report(heard, f"not done within {self.timeout_s:g} s" if not stop.is_set() else "was stopped")
        return Report(heard, last_error(said) or f"{PROGRAM} ended with status {status} and said nothing of it")

    def _arguments(self, folder: Path, hosts: int) -> list[str]:
        extra = ["-e", f"@{self.extra_vars_file}"] if self.extra_vars_file else []
        forks = str(min(hosts, FORKS_MOST))
        return [
            "-i",
            str(folder / "inventory.json"),
            "--forks",
            forks,
            *extra,
            "--",
            str(self.playbook or FILES / "deliver.yml"),
        ]

    def _secrets(self) -> tuple[str, ...]:
        """What the extra variables hold that no message of Ansible may repeat."""
        text = b""
        if self.extra_vars_file is not None:
            with contextlib.suppress(OSError):
                text = disk.read_plain(self.extra_vars_file, VARS_BYTES_MAX)
        return tuple(secrets_of_vars(text.decode("utf-8", "replace")))

    def _play(self, command: Sequence[str], folder: Path, deadline: float, stop: threading.Event) -> int | None:
        """The exit status; None when it was ended from here."""
        with open(folder / "stderr", "wb") as said:
            process = subprocess.Popen(  # noqa: S603  # no shell, and every argument is ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd=folder,
                env=environment(folder, self.timeout_s),
                start_new_session=True,
            )
        try:
            while process.poll() is None:
                if time.monotonic() > deadline or stop.wait(POLL_S):
                    return None
            return process.returncode
        finally:
            _end(process, f"{REPORT}={folder}/report".encode())


def find_program() -> str | None:
    """On PATH, or beside the Python that runs us."""
    return shutil.which(PROGRAM) or shutil.which(PROGRAM, path=str(Path(sys.executable).parent))


def environment(folder: Path, timeout_s: float) -> dict[str, str]:
    """Nothing that is set outside for Ansible or Python counts; HOME does, with its known_hosts and its collections."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | {
        "LC_ALL": "C.UTF-8",
        REPORT: f"{folder}/report",
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
        "ANSIBLE_CALLBACK_PLUGINS": str(FILES),
        "ANSIBLE_STDOUT_CALLBACK": "promring_callback",
        "ANSIBLE_INVENTORY_ENABLED": "yaml",
        "ANSIBLE_HOST_KEY_CHECKING": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_SSH_USETTY": "0",
        "ANSIBLE_STRATEGY": "host_pinned",  # a host that hangs holds up no other, and what was begun is ended first
        "ANSIBLE_TIMEOUT": str(CONNECT_S),
        "ANSIBLE_TASK_TIMEOUT": str(max(1, int(timeout_s) - 2)),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
    }


def write_inventory(folder: Path, hosts: Sequence[Host], *, installer: bool) -> None:
    """The inventory, and each slice as a file of the name that it shall have; ``installer``: behind ``install.sh``, too."""
    listed = {}
    script = (FILES / "install.sh").read_bytes() if installer else b""
    for index, host in enumerate(hosts):
        file = folder / "slices" / str(index) / host.file_name
        file.parent.mkdir(parents=True)
        file.write_bytes(host.body)
        listed[host.name] = {**host.variables, "src_sd_file_name": str(file)}
        if installer:
            file = file.with_name("install.sh")
            file.write_bytes(script + host.body)
            listed[host.name]["promring_installer"] = str(file)
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": listed}}))
    (folder / "ansible.cfg").write_text("[defaults]\n")


def read_report(text: str) -> dict[str, tuple[str, str]]:
    """The last line of each host; one that was cut by a kill is passed over."""
    heard = {}
    for line in text.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = json.loads(line)
            heard[str(said["host"])] = (str(said["result"]), str(said["why"]))
    return heard


def last_error(said: str) -> str:
    """The line of stderr that says what is wrong: the last that calls itself an error, else the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("[ERROR]", "ERROR!"))]
    return (errors or lines or [""])[-1].removeprefix("[ERROR]: ").removeprefix("ERROR! ")[:WHY_MOST]


def _tail(path: Path, most: int | None = SAID_BYTES_MAX) -> str:
    try:
        with open(path, "rb") as file:
            if most is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


# --- nothing is left -------------------------------------------------------------------------------------------------

Started = tuple[int, str]
"""A process: its id and when it started, so that an id that is given again is not taken for it."""


def _end(process: subprocess.Popen[bytes], mark: bytes) -> None:
    """End what is left of a run: SIGTERM to its process group, SIGKILL to everything of it.

    Workers and ssh have sessions of their own, and a master of ssh that is kept for the next task has no parent any more.
    They are found by being descendants, and by ``mark`` in their environment.
    """
    before = set[Started]()
    if process.poll() is None:
        before = _of_run(process.pid, mark)
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        if process.poll() is None:  # else its id may be another's by now
            _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + GONE_WITHIN_S
    while left := {p for p in before if _started(p[0]) == p[1]} | _of_run(process.pid, mark):
        for pid, _ in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            return
        time.sleep(POLL_S)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _of_run(root: int, mark: bytes) -> set[Started]:
    """Living processes that descend from ``root`` or have ``mark`` in their environment. Without /proc: none."""
    parents, started, found = {}, {}, set()
    for pid in _pids():
        state = _stat(pid)
        if state is None:
            continue
        parents[pid], started[pid] = state
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
    more: set[int] = {root}
    while more:
        more = {pid for pid, parent in parents.items() if parent in more} - found
        found |= more
    return {(pid, started[pid]) for pid in found if pid != root}


def _pids() -> Iterable[int]:
    with contextlib.suppress(OSError):
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return []


def _stat(pid: int) -> tuple[int, str] | None:
    """Parent and start time; None for one that is gone, or dead and not yet collected."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if values[0] in "ZX" else (int(values[1]), values[19])
    except (OSError, IndexError, ValueError):
        return None


def _started(pid: int) -> str | None:
    state = _stat(pid)
    return state[1] if state else None
