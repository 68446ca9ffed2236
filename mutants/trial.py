"""Tries changes of one module: each in a fork of a process that has read the tests already.

Owns how a change is put in place and which tests look at it: those that reached its statement in a run without a change, the
short ones first, until one fails. Promises: no file is written; a change that hangs or eats memory is ended and counts as
noticed; a fork that fails for another reason than its tests is an error, never a change that was noticed. Does not promise
that a test of other modules would not notice.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import TYPE_CHECKING, NamedTuple

import pytest
from _pytest.main import pytest_runtestloop as run_tests

from mutants.changes import Change

if TYPE_CHECKING:
    from _typeshed import TraceFunction

MEMORY_MAX = 6 * 2**30
NO_MEMORY = 3
"""The exit status of a fork that had no more."""
CPU_LEAST_S, CPU_TIMES, WAIT_S_MAX = 3.0, 4.0, 300.0
"""A change may take four times what the same tests take without it, watched, and some more."""


class Called(NamedTuple):
    """A test: how long it takes without a change, and which lines of the module it reaches."""

    seconds: float
    lines: frozenset[int]


class Outcome(NamedTuple):
    """``noticed``: by which test, or how it was ended; empty: by none of ``tests``."""

    change: Change
    noticed: str
    tests: int


class Trial:
    """As a plug-in of pytest: instead of running the tests it has collected, it tries ``wanted`` on them."""

    def __init__(self, path: Path, wanted: Sequence[Change], report: Callable[[Outcome], None]) -> None:
        self.path, self.wanted, self.report = path, wanted, report
        self.failed: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """The same inputs each time, and no time for a smaller one that fails."""
        from hypothesis import Phase, settings  # pytest wants to be there first

        settings.register_profile("mutants", deadline=None, derandomize=True, database=None,
                                  phases=(Phase.explicit, Phase.generate), max_examples=25)  # fmt: skip
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> object:
        called = self._calls(session)
        functions = _functions_of(self.path)
        if unknown := {change.function for change in self.wanted} - functions.keys():
            raise pytest.UsageError(f"the tests do not import these functions: {sorted(unknown)}")
        gc.collect()
        gc.freeze()  # a fork shares what it does not write to, and has no need to look through it
        for change in self.wanted:
            tests = sorted((c.seconds, name) for name, c in called.items() if not c.lines.isdisjoint(change.lines))
            seconds, chosen = sum(s for s, _ in tests), [name for _, name in tests]
            noticed = self._tried(session, change, functions, chosen, seconds) if chosen else ""
            self.report(Outcome(change, noticed, len(chosen)))
        return True

    def _calls(self, session: pytest.Session) -> Mapping[str, Called]:
        """From a run without a change. A test that fails then is an error."""
        said, _ = _forked(lambda: self._watched(session), cpu_s=3600.0, wait_s=3600.0)
        found = json.loads(said or b'{"failed": ["the run without a change did not end"]}')
        if found["failed"]:
            raise pytest.UsageError(f"without a change these fail: {found['failed']}")
        return {name: Called(seconds, frozenset(lines)) for name, (seconds, lines) in found["called"].items()}

    def _watched(self, session: pytest.Session) -> bytes:
        seen: set[int] = set()
        path, called = str(self.path), {}

        def look(frame: FrameType, event: str, _: object) -> TraceFunction | None:
            if frame.f_code.co_filename != path:
                return None
            seen.add(frame.f_lineno)
            return look

        items = list(session.items)
        for item in items:
            seen.clear()
            began = time.process_time()
            threading.settrace(look)
            sys.settrace(look)
            self._run(session, [item])
            sys.settrace(None)
            threading.settrace(None)
            called[item.nodeid] = (time.process_time() - began, sorted(seen))
        return json.dumps({"failed": self.failed, "called": called}).encode()

    def _tried(
        self,
        session: pytest.Session,
        change: Change,
        functions: Mapping[str, Sequence[FunctionType]],
        chosen: Sequence[str],
        seconds: float,
    ) -> str:
        def work() -> bytes:
            for function in functions[change.function]:
                put_in_place(function, change.code)
            by_name = {item.nodeid: item for item in session.items}
            session.config.option.maxfail = 1
            self._run(session, [by_name[name] for name in chosen])
            return "".join(self.failed[:1]).encode()

        said, ended = _forked(work, cpu_s=CPU_LEAST_S + CPU_TIMES * seconds, wait_s=WAIT_S_MAX)
        return ended or (said or b"").decode()

    @staticmethod
    def _run(session: pytest.Session, items: Sequence[pytest.Item]) -> None:
        session.items = list(items)
        with contextlib.suppress(session.Failed):  # a test did: it is in ``failed``
            run_tests(session)


def _forked(work: Callable[[], bytes], *, cpu_s: float, wait_s: float) -> tuple[bytes | None, str]:
    """What ``work`` gives in a fork of this process, or how that ended."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _work(work, theirs, cpu_s)
    os.close(theirs)
    pieces = list(_read(ours, time.monotonic() + wait_s))
    os.close(ours)
    if pieces[-1] is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if status == 0:
        return b"".join(piece for piece in pieces if piece), ""
    if os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == NO_MEMORY:
        return None, f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "no memory"
    raise pytest.UsageError(f"a fork ended with exit status {os.waitstatus_to_exitcode(status)} before its tests did")


def _read(pipe: int, until: float) -> Iterator[bytes | None]:
    """Until there is no more: ends with nothing, or with None when that takes too long."""
    poll = select.poll()
    poll.register(pipe)
    while True:
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            yield None
            return
        piece = os.read(pipe, 2**20)
        yield piece
        if not piece:
            return


def _work(work: Callable[[], bytes], pipe: int, cpu_s: float) -> None:
    """In the fork; does not return."""
    status = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (round(cpu_s), round(cpu_s) + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        said = work()
        while said:
            said = said[os.write(pipe, said) :]
        status = 0
    except MemoryError:
        status = NO_MEMORY
    finally:
        os._exit(status)


def put_in_place(function: FunctionType, code: CodeType) -> None:
    """A change may have left out the last use of a name of the surroundings, such as the class that ``super()`` needs. A
    function keeps those that it was made with.
    """
    names = function.__code__.co_freevars
    function.__code__ = code if code.co_freevars else code.replace(co_freevars=names)


def _functions_of(path: Path) -> dict[str, list[FunctionType]]:
    """Every function of the module, by its qualified name, wherever a decorator or a class has put it. Functions that a test
    has frozen while it was imported are not among the objects that the collector tells.
    """
    gc.unfreeze()
    found: dict[str, list[FunctionType]] = {}
    functions: Iterable[FunctionType] = (one for one in gc.get_objects() if isinstance(one, FunctionType))
    for function in functions:
        code: CodeType = function.__code__
        if code.co_filename == str(path):
            found.setdefault(code.co_qualname, []).append(function)
    return found
