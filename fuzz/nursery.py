"""Processes that feed one parser each, forked from one that has loaded all parsers: that takes ten seconds of CPU.

``nursery`` starts it, and gives the command that asks it for one: a small program that hands over its standard output and
error, waits for the end, and ends in the same way. Whoever asks and is killed takes the process that it asked for along.
Linux only.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

LOOK_S, ASKED_BYTES_MAX = 0.2, 4096
_ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect(sys.argv[1])
    socket.send_fds(asked, [" ".join(sys.argv[2:]).encode()], [1, 2])
    said = asked.recv(16)
sys.exit(int(said) if said else "the nursery has ended")
"""


@contextmanager
def nursery() -> Iterator[Sequence[str]]:
    """The command that feeds a parser: its name and when it shall end are missing. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="promring-fuzz-") as folder:
        place = str(Path(folder) / "nursery")
        program = [sys.executable, "-m", "fuzz.nursery", place]
        pipe = subprocess.PIPE
        with subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            if process.stdout.read(1) != b"r":
                raise RuntimeError("the parsers cannot be loaded: python -m fuzz.nursery says why")
            try:
                yield [sys.executable, "-I", "-S", "-c", _ASK, place]
            finally:
                process.terminate()


def main() -> None:
    """Until its input ends: whoever started it has ended."""
    from fuzz.feeding import load

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        load()
        os.write(1, b"r")
        watched: list[socket.socket | int] = [listener, 0]
        while listener in select.select(watched, [], [])[0]:
            _answer(listener)


def _answer(listener: socket.socket) -> None:
    """By a child, whose child is the one that was asked for. Those that have ended before are forgotten."""
    asked, _ = listener.accept()
    if os.fork() == 0:
        status = 1
        try:
            listener.close()
            status = _born(asked)
        finally:
            os._exit(status)
    asked.close()
    with suppress(ChildProcessError):
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG):
            pass


def _born(asked: socket.socket) -> int:
    from fuzz.feeding import feed
    from fuzz.harness import folder

    body, (out, err), *_ = socket.recv_fds(asked, ASKED_BYTES_MAX, 2)
    name, until = body.decode().split()
    place = folder()  # which libFuzzer's end would leave behind
    child = os.fork()
    if child == 0:
        try:
            os.dup2(out, 1)
            os.dup2(err, 2)
            feed(name, float(until))
        finally:  # as C ends: libFuzzer then writes down the input, and Python's own end is that of the nursery
            ctypes.CDLL(None).exit(1)
    try:
        asked.send(str(_status(child, asked)).encode())
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return 0


def _status(child: int, asked: socket.socket) -> int:
    """Its exit status, 128 more than its signal. It is killed when nobody waits for it any more."""
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if select.select([asked], [], [], LOOK_S)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 1


if __name__ == "__main__":
    main()
