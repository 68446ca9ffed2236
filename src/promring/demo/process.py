"""Server processes on loopback: found, started, killed, frozen, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from promring.model import PromringError


class StartError(PromringError):
    """A server did not start, or not in time."""


def find(name: str) -> Path | None:
    """A server's program: from ``$PROMRING_SERVERS/bin``, the cache of ``scripts/fetch-servers``, or PATH."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "promring" / "servers"
    for folder in (os.environ.get("PROMRING_SERVERS"), cache):
        if folder and os.access(program := Path(folder) / "bin" / name, os.X_OK):
            return program
    found = shutil.which(name)
    return Path(found) if found else None


PORTS = range(12000, 32000)
"""Where ports are taken from: below the range that the kernel gives to clients."""

BLOCK = 50
_blocks: list[int] = []  # descriptors of the locked files: this process holds its blocks for as long as it lives
_left: list[int] = []  # ports of these blocks that were not given yet


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free, and that no other process which asks here is given while this one lives.

    A server that is stopped and started again on its port needs the second half: while it is down its port looks free.
    Ports are reserved by blocks, each a locked file in the folder for temporary files.
    """
    while True:
        if not _left:
            _left.extend(_reserved_block())
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind((host, port := _left.pop()))
            return port


def _reserved_block() -> list[int]:
    folder = Path(tempfile.gettempdir()) / f"promring-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for first in random.sample(PORTS[::BLOCK], len(PORTS) // BLOCK):
        descriptor = os.open(folder / str(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            continue
        _blocks.append(descriptor)
        return list(range(first, first + BLOCK))
    raise StartError(f"all ports from {PORTS.start} to {PORTS.stop} are reserved by other processes ({folder})")


class Child(Protocol):
    """What ``asyncio.subprocess.Process`` has of it."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def send_signal(self, signal: int, /) -> None: ...
    async def wait(self) -> int: ...


async def executed(arguments: Sequence[str], env: Mapping[str, str], output: int) -> Child:
    """Started the usual way; it writes to the descriptor ``output``. Raises OSError."""
    return await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        env=env,
    )


class Process:
    """One process of ours. It dies with us, and ``stop`` leaves nothing of it."""

    begin: ClassVar[Callable[[Sequence[str], Mapping[str, str], int], Awaitable[Child]]] = staticmethod(executed)
    """How it comes to life."""

    def __init__(self, arguments: Sequence[str | Path], log_file: Path, env: dict[str, str] | None = None) -> None:
        self.arguments = [str(a) for a in arguments]
        self._env = {**os.environ, **(env or {})}
        self.log_file = log_file
        self._process: Child | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None  # started
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def status(self) -> int | None:
        """With which it ended, negative: by that signal. None while it runs, and before it is started."""
        return None if self._process is None else self._process.returncode

    async def start(self) -> None:
        with open(self.log_file, "ab") as log:
            self._process = await type(self).begin(self.arguments, self._env, log.fileno())

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None and self.running:
                self._process.send_signal(number)

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    async def stop(self, timeout_s: float = 10.0) -> int:
        """SIGTERM, then SIGKILL. Returns the exit status."""
        if self._process is None:
            return 0
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            return await self._process.wait()

    async def wait(self) -> int:
        assert self._process is not None  # started
        return await self._process.wait()

    def log_tail(self, lines: int = 5) -> str:
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    async def until(self, ready: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 60.0) -> None:
        """Wait until ``ready``. Raises ``StartError`` when the process ends before, or it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not await ready():
            if not self.running or time.monotonic() > deadline:
                raise StartError(f"{what} did not become ready: {self.log_tail()}")
            await asyncio.sleep(0.05)


def _die_with_parent() -> None:
    """PR_SET_PDEATHSIG: a parent that is killed takes its servers along."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
