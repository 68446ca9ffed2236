"""The end of a run of ``ansible-playbook``: no process that it started on this machine is left.

Flow: called by ``ansible_run`` for every run, however it ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

GRACE_S = 1.0
GONE_WITHIN_S = 0.5
POLL_S = 0.02

Started = tuple[int, str]
"""A process: its id and when it started, so that an id that is given again is not taken for it."""


def end_all(process: subprocess.Popen[bytes], mark: bytes) -> None:
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
