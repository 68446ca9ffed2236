"""The parsers of one run of ``make fuzz``, each in a process of its own, some at a time, within the minutes that were given.

The time that is left is shared by the parsers that are left, so the run does not take longer than it was told to.
Whoever was fuzzed longest ago comes first: a run that is ended early goes on where it ended. A parser that fails, or
that has to be killed because it did not end, does not end the others. TERM, HUP and INT end the run, and the table of what
ran and what did not is printed then, too: make says of such an end no more than ``wait: No child processes``.
"""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

KEPT = Path(".fuzz")
LATE_S = 90.0
"""A parser that has not ended so long after its time is killed. It reads its kept inputs first, whatever the time."""
REACH_S = 120.0
SHOWN_CHARACTERS, SHOWN_LINES = 6000, 40
NOT_RUN = "not run"
ENDS = signal.SIGTERM, signal.SIGHUP, signal.SIGINT
ENDED = tuple(-number for number in ENDS)
"""The status of a program that one of these ended."""


@dataclass(frozen=True)
class Run:
    """``command`` gets a monotonic time, at which it shall end; the last line that ``reach`` prints says what was
    reached.
    """

    name: str
    command: Sequence[str]
    reach: Sequence[str] = ()


@dataclass
class Result:
    """``took_s``: of a clock. ``inputs`` -1: it did not say how many."""

    name: str
    how: str = NOT_RUN
    took_s: float = 0.0
    inputs: int = -1
    reached: str = ""

    def __str__(self) -> str:
        inputs = f"{self.inputs:,}" if self.inputs >= 0 else "?"
        return f"{self.name:22} {self.took_s:5.0f} s {inputs:>11} inputs  {self.how:10}  {self.reached}".rstrip()


def fuzzed(runs: Sequence[Run], seconds: float, workers: int = 1, kept: Path = KEPT) -> int:
    """The exit status. Prints a line for each parser when it ends, and the table of all at the end."""
    kept.mkdir(parents=True, exist_ok=True)
    ordered = sorted(runs, key=lambda run: _ran_at(kept, run.name))
    turns = _Turns(kept, time.monotonic() + seconds, workers, {run.name: Result(run.name) for run in ordered})
    with _ended_by_signals(turns), ThreadPoolExecutor(max(1, workers)) as pool:
        for future in [pool.submit(turns.take, run) for run in ordered]:
            future.result()
    results = turns.results.values()
    without = [one.name for one in results if one.how == NOT_RUN]
    bad = [one.name for one in results if one.how not in ("well", NOT_RUN)]
    print("\n".join(["", *map(str, results)]))
    inputs = sum(max(0, one.inputs) for one in results)
    print(f"{len(results) - len(without)} of {len(results)} parsers ran, {inputs:,} inputs")
    print(f"not run: {', '.join(without) or 'none'}; not well: {', '.join(bad) or 'none'}", flush=True)
    return 128 + turns.ended_by if turns.ended_by else int(bool(without or bad))


@dataclass
class _Turns:
    kept: Path
    ends_at: float
    workers: int
    results: dict[str, Result]
    ended_by: int = 0
    """The number of the signal that ended the run; 0: none did."""
    _left: int = field(init=False)
    _live: set[subprocess.Popen[str]] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    """Reentrant: a signal is handled in the thread that may have it."""

    def __post_init__(self) -> None:
        self._left = len(self.results)

    def end(self, number: int, _: FrameType | None) -> None:
        with self._lock:
            self.ended_by = number
            for process in self._live:
                process.terminate()

    def take(self, run: Run) -> None:
        began, result = time.monotonic(), self.results[run.name]
        with self._lock:
            share_s = max(0.0, self.ends_at - began) * min(1.0, self.workers / self._left)
            self._left -= 1
        done = self._run([*run.command, f"{began + share_s:.3f}"], share_s + LATE_S)
        if done is None:
            return
        status, out, err = done
        result.took_s, result.inputs = time.monotonic() - began, _inputs(err)
        if status in ENDED:  # by a signal to all of us, which reached that one first
            self.end(-status, None)
        result.how = "ended" if self.ended_by else "late" if status is None else "FAILED" if status else "well"
        if result.how in ("late", "FAILED"):
            print("\n".join([out[-SHOWN_CHARACTERS:], *err.splitlines()[-SHOWN_LINES:]]), flush=True)
        if not self.ended_by:
            (self.kept / f"{run.name}.ran").touch()
        if run.reach and (looked := self._run(run.reach, REACH_S)):
            result.reached = looked[1].strip().rpartition("\n")[2]
        print(result, flush=True)

    def _run(self, command: Sequence[str], seconds: float) -> tuple[int | None, str, str] | None:
        """The status (None: it was killed, being late), what it printed, and its errors. None: the run has been ended."""
        with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile("w+", errors="replace") as err:
            with self._lock:
                if self.ended_by:
                    return None
                process = subprocess.Popen(command, stdout=out, stderr=err, text=True)
                self._live.add(process)
            status: int | None = None
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with self._lock:
                self._live.discard(process)
            for file in (out, err):
                file.seek(0)
            return status, out.read(), err.read()


@contextmanager
def _ended_by_signals(turns: _Turns) -> Iterator[None]:
    """SIGCHLD, too: where it is ignored, as some that start programs leave it, no failure of a child is seen."""
    handlers = dict.fromkeys(ENDS, turns.end)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ran_at(kept: Path, name: str) -> float:
    """When the parser was fuzzed last; 0 if it never was."""
    try:
        return (kept / f"{name}.ran").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _inputs(err: str) -> int:
    """As libFuzzer counts them in each line of its status."""
    return max((int(number) for number in re.findall(r"(?m)^#(\d+)\s", err)), default=-1)
