"""Runs commands side by side, each in a process of its own that is forked from one that has loaded the command line.

``python -m tests.hostile.at_once``: on standard input a list of command lines as JSON, on standard output a list of
``[exit code, standard output, standard error]``. A command that has not ended after ``MOST_S`` is killed: its code is -9.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from promring.cli import COMMANDS, main

MOST_S = 120.0


def started(line: list[str], out: Path, err: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), descriptor)
    code = 99
    try:
        main(line, prog_name="promring")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 98
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # nothing of the parent's is left or undone twice


def code_of(pid: int, ends: float) -> int:
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > ends:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


if __name__ == "__main__":
    lines: list[list[str]] = json.load(sys.stdin)
    for name in {line[0] for line in lines}:
        COMMANDS[name].load()
    with tempfile.TemporaryDirectory() as folder:
        files = [(Path(folder, f"{i}.out"), Path(folder, f"{i}.err")) for i in range(len(lines))]
        pids = [started(line, *pair) for line, pair in zip(lines, files, strict=True)]
        ends = time.monotonic() + MOST_S
        codes = [code_of(pid, ends) for pid in pids]
        texts = [[path.read_text(errors="replace") for path in pair] for pair in files]
    json.dump([[code, *pair] for code, pair in zip(codes, texts, strict=True)], sys.stdout)
