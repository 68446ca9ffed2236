"""One run of ``ansible-playbook``, bounded: a folder of its own, an environment of its own, and no process left.

Promises: it ends ``timeout_s`` after it began, or when it is told to stop, at most 2 s later; then nothing that it started
on this machine runs any more, and its folder is gone. What a host did not report did not happen as far as is known here.
Not promised: that what hangs on a far host ends there; Ansible cannot do that either.
Flow: ``ansible_push`` says what to push and reads the report; ``ansible_inventory`` is what the run is given.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from promring.delivery.ansible_inventory import FILES, Host, write_inventory
from promring.delivery.ansible_processes import POLL_S, end_all
from promring.delivery.receiver_sh import SdFile
from promring.model import Generation
from promring.runtime import regular
from promring.runtime.redact import hide, secrets_of_vars

PROGRAM = "ansible-playbook"
NOT_INSTALLED = f"{PROGRAM} is not installed"
REPORT = "PROMRING_ANSIBLE_REPORT"
CONNECT_S = 3
FORKS_MOST = 32
SAID_BYTES_MAX = 64 * 1024
WHY_MOST = 300
FOLDER_PATH_MOST = 57
"""A socket's path has at most 107 bytes, and up to 50 come behind the folder's."""
PREFIX = "promring-ansible-"
SHORT = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108  # mkdtemp makes a private folder
VARS_BYTES_MAX = 1024 * 1024
INHERITED = ("HOME", "KRB5CCNAME", "LOGNAME", "PATH", "SSH_AUTH_SOCK", "TZ", "USER")


class Told(NamedTuple):
    """A line of the report: how a host fared, or with ``file`` how one of its files did."""

    host: str
    result: str
    why: str
    file: int | None = None


Heard = Callable[[Told], None]
"""Called as soon as it is known, from the thread of the run."""
End = Literal["itself", "time", "stopped"]


@dataclass(frozen=True, slots=True)
class Report:
    """``hosts``: name → (``ok``, ``changed``, ``failed``, ``unreachable``, ``stopped``, ``nothing``, or ``begun`` and no
    more is known; why). ``trouble``: why others are not in it. ``end``: by itself, by its time-out, or as we stopped it.
    """

    hosts: Mapping[str, tuple[str, str]]
    trouble: str
    end: End = "itself"
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """``playbook`` None: the one that comes along. ``files``: others that Ansible reads and that must be there."""

    playbook: Path | None
    timeout_s: float
    extra_vars_file: Path | None = None
    vault_password_file: Path | None = None
    files: tuple[Path, ...] = ()

    def __call__(
        self, hosts: Sequence[Host], stopped: Callable[[], bool], heard: Heard = lambda _: None, *, check: bool = False
    ) -> Report:
        """Blocks until it is over. ``check``: the playbook is read and nothing is done. Raises OSError when the folder or
        the process cannot be made.
        """
        program = find_program()
        if program is None:
            return Report({}, NOT_INSTALLED)
        if trouble := self._why_not():
            return Report({}, trouble)
        deadline = time.monotonic() + self.timeout_s
        with _folder() as folder:
            write_inventory(folder, hosts, receiver=self.playbook is None)
            listener = _Listener(folder / "report", self._secrets(), heard)
            command = [program, *self._arguments(folder, len(hosts), check=check)]
            env = environment(folder, self.timeout_s) | self._vault_environment()
            end, status = _play(command, env, folder, lambda: _end_of(listener, deadline, stopped))
            listener.listen()
            said = hide(_tail(folder / "stderr").decode("utf-8", "replace").replace(f"{folder}/", ""), listener.secrets)
        if end == "time":
            return Report(listener.hosts, f"not done within {self.timeout_s:g} s", end)
        if end == "stopped":
            return Report(listener.hosts, "was stopped", end)
        trouble = last_error(said) or f"{PROGRAM} ended with status {status} and said nothing of it"
        return Report(listener.hosts, trouble, end, status)

    def why_not_runnable(self) -> str:
        """Whether Ansible takes the playbook, the variables and the vault's password; empty when it does. Blocks."""
        file = SdFile("any.json", b"[]", "0" * 64, Generation(1, 1))
        host = Host("any", [file], {"ansible_host": "any", "dest_dir": "/"})
        done = threading.Event()
        try:
            report = self([host], done.is_set, check=True)
        except OSError as error:
            return f"{PROGRAM} cannot be started: {error.strerror or error}"
        return "" if report.status == 0 else report.trouble

    def _why_not(self) -> str:
        """What is missing on our own side."""
        for path in (self.playbook, self.extra_vars_file, self.vault_password_file, *self.files):
            if path is not None:
                try:
                    regular.check(path)
                except OSError as error:
                    return f"{path}: {error.strerror or error}"
        return ""

    def _vault_environment(self) -> dict[str, str]:
        return {"PROMRING_ANSIBLE_VAULT": "whole"} if self._variables().startswith(b"$ANSIBLE_VAULT") else {}

    def _arguments(self, folder: Path, hosts: int, *, check: bool) -> list[str]:
        extra = ["-e", f"@{self.extra_vars_file}"] if self.extra_vars_file else []
        extra += ["--vault-password-file", str(self.vault_password_file)] if self.vault_password_file else []
        extra += ["--syntax-check"] if check else []
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
        """What the extra variables hold that no message of Ansible may repeat. (What a vault holds the callback hides.)"""
        return tuple(secrets_of_vars(self._variables().decode("utf-8", "replace")))

    def _variables(self) -> bytes:
        with contextlib.suppress(OSError):
            return regular.read(self.extra_vars_file, VARS_BYTES_MAX) if self.extra_vars_file else b""
        return b""


class _Listener:
    """Reads the report while it is written. ``hosts`` has the last of each host, without what is secret."""

    def __init__(self, path: Path, secrets: tuple[str, ...], heard: Heard) -> None:
        self.secrets, self.hosts = secrets, dict[str, tuple[str, str]]()
        self._path, self._heard, self._at = path, heard, 0

    def listen(self) -> None:
        text = _tail(self._path, after=self._at)
        whole = text[: text.rfind(b"\n") + 1]  # a line that was cut by a kill is passed over
        self._at += len(whole)
        for line in read_report(whole.decode("utf-8", "replace")):
            told = line._replace(why=hide(line.why, self.secrets)[:WHY_MOST])
            if told.file is None:
                self.hosts[told.host] = told.result, told.why
            self._heard(told)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for the run, 0700. Sockets are in it, whose paths are short, so where TMPDIR is long it is elsewhere if it
    can be.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    if not _is_short(folder):
        folder = _elsewhere(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_short(folder: Path) -> bool:
    return len(str(folder)) <= FOLDER_PATH_MOST


def _elsewhere(folder: Path) -> Path:
    for parent in SHORT:
        with contextlib.suppress(OSError):
            made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            folder.rmdir()
            return made
    return folder


def _end_of(listener: _Listener, deadline: float, stopped: Callable[[], bool]) -> End | None:
    """Whether the run is to be ended now, after hearing what there is."""
    listener.listen()
    if stopped():
        return "stopped"
    return "time" if time.monotonic() > deadline else None


def _play(
    command: Sequence[str], env: Mapping[str, str], folder: Path, ended: Callable[[], End | None]
) -> tuple[End, int | None]:
    """How it ended, and its status when it did so itself."""
    with open(folder / "stderr", "wb") as said:
        process = subprocess.Popen(  # noqa: S603  # no shell, and every argument is ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd=folder,
            env=env,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            if (end := ended()) is not None:
                return end, None
            time.sleep(POLL_S)
        return "itself", process.returncode
    finally:
        end_all(process, f"{REPORT}={folder}/report".encode())


def find_program(name: str = PROGRAM) -> str | None:
    """On PATH, or beside the Python that runs us."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def environment(folder: Path, timeout_s: float) -> dict[str, str]:
    """Nothing that is set outside for Ansible or Python counts; HOME does, with its known_hosts and its collections. Where
    the path of ``folder`` is long, connections are not kept from task to task.
    """
    control = {} if _is_short(folder) else {"ANSIBLE_SSH_ARGS": "-C -o ControlMaster=no"}
    return (
        control
        | {name: os.environ[name] for name in INHERITED if name in os.environ}
        | {
            "LC_ALL": "C.UTF-8",
            REPORT: f"{folder}/report",
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
            "TMPDIR": str(folder),  # since 2.20 its processes talk over a socket there
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
    )


def read_report(text: str) -> Iterator[Told]:
    """What each line says; what is none is passed over."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            said = json.loads(line)
            file = said.get("file")
            yield Told(str(said["host"]), str(said["result"]), str(said["why"]), None if file is None else int(file))


def last_error(said: str) -> str:
    """The line of stderr that says what is wrong: the last that calls itself an error, else the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("[ERROR]", "ERROR!"))]
    return (errors or lines or [""])[-1].removeprefix("[ERROR]: ").removeprefix("ERROR! ")[:WHY_MOST]


def _tail(path: Path, most: int = SAID_BYTES_MAX, after: int | None = None) -> bytes:
    """The last ``most`` bytes, or what comes after so many."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - most) if after is None else after)
            return file.read()
    except FileNotFoundError:
        return b""
