"""Daemons of promring that need not load its libraries anew: they are forked from a process that has them.

A start of ``python -m promring`` takes most of a second of CPU before its first line runs, and the tests on real servers
start some five hundred. ``Nursery`` keeps one process of ours that has loaded what a daemon loads, and has started nothing:
no loop, no thread. ``begin`` has it fork a child that runs the same module with the same arguments, environment and folder,
and ends as an interpreter does. The child is one of this process, as any that is executed: it is waited for, counted by
``tests.leaks``, and dies with us.

Does not promise: its command line in /proc (it is the nursery's), and what an interpreter reads before the first line. So a
command that is not ``python -m`` of a module in ``MODULES``, or that has other variables of ``READ_FIRST`` than we, is
executed, ``lightly``. Tests of the start itself, of the signals during it, and of memory execute theirs.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from promring.config.load import loads_with_lines
from promring.demo.process import Child, executed

ROOT = Path(__file__).parents[1]
STAND_IN = "promring.demo.stand_in"
MODULES = {"promring", STAND_IN}
LOADED = (
    *("promring.cli.run", "promring.cli.agent", "uvloop", "structlog", "promring.runtime.never_twice"),
    *("promring.consul.catalogue", "promring.consul.registration", "promring.consul.watch", "promring.membership.listed"),
    *("promring.cli.agent_process", "promring.web.agent", "promring.discovery.list_file", "promring.consul.lock"),
    *("promring.core.patch", "numpy.ma", "encodings.idna"),  # numpy loads its part when it first sorts out what is unique
)
"""What loads what a daemon needs, also what it loads only when it runs: that is half a second of CPU in each."""
USUAL = """
consul: {address: "127.0.0.1:1"}
shard_services:
- name: any
  scrapers: {consul: {service: any, register: {nodes: ["127.0.0.1:1"], check: {path: /}}}}
  targets: [{file: {files: [any.json]}}, {http: {url: "http://127.0.0.1:1"}}]
  delivery: [{http_sd: {}}, {file: {path: "any/{scraper}.json"}}]
"""
"""A configuration whose kinds are loaded, and how they are checked is worked out, when it has been read once."""
READ_FIRST = ("PYTHON", "LD_", "SSL_", "MALLOC", "OPENBLAS", "LC_", "LANG", "TZ")
"""Variables that count only before the first line, or while libraries are loaded."""
SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36
REPLY_S = 60.0
ROUNDS = 5
"""So many rounds of the loop later, as with asyncio's own processes, a child's end is told: a server in this process has
seen by then that a connection of the child was opened, and is closed. A server that is closed in between leaves it behind.
"""


class Order(msgspec.Struct):
    """What a child shall be; ``arguments`` from its module on, ``parent``: who asks."""

    arguments: Sequence[str]
    env: dict[str, str]
    cwd: str
    parent: int


class Nursery:
    """``close`` ends it. Linux only."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(REPLY_S)
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            # A library for matrices, which nothing here uses, starts a thread: no process with threads is forked.
            env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
            fd = theirs.fileno()
            self._process = subprocess.Popen(command, pass_fds=[fd], cwd=ROOT, env=env, start_new_session=True)

    async def begin(self, arguments: Sequence[str], env: Mapping[str, str], output: int) -> Child:
        """As ``demo.process.executed``."""
        if list(arguments[:2]) != [sys.executable, "-m"] or arguments[2] not in MODULES or _first(env) != _first(os.environ):
            return await lightly(arguments, env, output)
        return Forked(self._forked(Order(arguments[2:], dict(env), str(Path.cwd()), os.getpid()), output))

    def _forked(self, order: Order, output: int) -> int:
        """Its process id."""
        _prctl(SET_CHILD_SUBREAPER, 1)  # whose parent ends is ours: the child's does at once
        try:
            with open(os.devnull, "rb") as nothing:
                socket.send_fds(self._socket, [msgspec.json.encode(order)], [nothing.fileno(), output])
            return int(self._socket.recv(32))
        finally:
            _prctl(SET_CHILD_SUBREAPER, 0)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


SETPRIV = shutil.which("setpriv")


async def lightly(arguments: Sequence[str], env: Mapping[str, str], output: int) -> Child:
    """As ``executed``, for 2 ms of a core instead of 18: that has Python call a function between fork and exec, which copies
    the tables of our memory, 300 MB. Here setpriv says what that function does (it dies with us) and becomes the program.
    """
    if SETPRIV is None or shutil.which(arguments[0], path=env.get("PATH")) is None:
        return await executed(arguments, env, output)
    command, none = [SETPRIV, "--pdeathsig", "KILL", *arguments], asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(
        *command, stdin=none, stdout=output, stderr=output, start_new_session=True, env=env
    )


class Forked:
    """A child that was forked for us."""

    def __init__(self, pid: int) -> None:
        self.pid, self._status = pid, -1

    @property
    def returncode(self) -> int | None:
        if self._status == -1:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return None
            self._status = status
        return os.waitstatus_to_exitcode(self._status)

    def send_signal(self, number: int, /) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    async def wait(self) -> int:
        while (code := self.returncode) is None:
            loop, descriptor, ended = asyncio.get_running_loop(), os.pidfd_open(self.pid), asyncio.Event()
            try:
                loop.add_reader(descriptor, ended.set)
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        return code


def _first(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(READ_FIRST)}


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


# --- the process that is forked --------------------------------------------------------------------------------------


def _rear(ours: socket.socket) -> list[str]:
    """Fork whenever we are asked; ends with whom asks. In a child returns its arguments."""
    while True:
        said, descriptors, _, _ = socket.recv_fds(ours, 1 << 20, 2)
        if not said:
            os._exit(0)
        if not (forked := os.fork()):
            between = os.getpid()
            if os.fork():
                os._exit(0)
            return _child(ours, msgspec.json.decode(said, type=Order), descriptors, between)
        os.waitpid(forked, 0)
        for descriptor in descriptors:
            os.close(descriptor)


def _child(ours: socket.socket, order: Order, descriptors: list[int], between: int) -> list[str]:
    """Become a child of who asks, as one that was executed."""
    while os.getppid() == between:
        time.sleep(0.001)
    _prctl(SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != order.parent:
        os._exit(1)
    os.setsid()
    for number, descriptor in enumerate((*descriptors, descriptors[1])):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order.env)
    os.chdir(order.cwd)
    sys.path[0] = order.cwd
    with ours:
        ours.send(str(os.getpid()).encode())
    gc.enable()
    return list(order.arguments)


if __name__ == "__main__":
    gc.disable()
    for module in (*LOADED, STAND_IN):
        importlib.import_module(module)
    del sys.modules[STAND_IN]  # it runs as the main one
    loads_with_lines(USUAL, name="usual.yml", base=Path("/"))
    gc.collect()
    gc.freeze()
    sys.argv = _rear(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
