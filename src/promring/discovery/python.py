"""Targets from a Python function of the operator, sync or async: ``module:function``, or an entry point of the group
``promring.targets``. Called with its settings, or with nothing when it has none, it returns a list of groups.

It runs in a process of its own for each fetch (``python_worker.py``), so a function that hangs, leaks, prints or dies
takes nothing with it: at the time-out the process and its children are killed, and its memory has a limit. Costs about
0.1 s a fetch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import msgspec
from pydantic import AfterValidator, JsonValue

from promring.config.kinds import Problem
from promring.config.values import Interval
from promring.discovery import SourceContext, SourceSettings
from promring.discovery.list_rules import ANY, ListRules
from promring.model import DiscoveryError, TargetPool
from promring.runtime.redact import scrub
from promring.runtime.regular import read_most
from promring.runtime.rlimit import BYTES_MAX
from promring.runtime.threads import in_thread

OUTPUT_BYTES_MAX = 512 * 1024 * 1024
ERROR_BYTES_MAX, SHOWN_MOST = 64 * 1024, 300
WORKER = Path(__file__).with_name("python_worker.py")
"""Run as a file: as a module of this package it would load how configurations are checked, which takes 0.25 s of CPU."""


def _callable(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*|[A-Za-z_][\w.-]*", text):
        raise ValueError(f"{text!r} is not module:function, or the name of an entry point")
    return text


class PythonTargets(SourceSettings):
    """``callable``: ``module:function``, or the name of an entry point. ``settings``: its only argument. ``timeout``:
    default the interval, at most 10 s.
    """

    kind = "python"
    trial_runs = True

    callable: Annotated[str, AfterValidator(_callable)]
    interval: Interval = 60.0
    timeout: Interval | None = None
    settings: dict[str, JsonValue] | None = None

    @property
    def timeout_s(self) -> float:
        return self.timeout or min(self.interval, 10.0)

    @property
    def source_name(self) -> str:
        return f"python:{self.callable}"

    def source(self, context: SourceContext) -> PythonSource:
        return PythonSource(self, str(context.folder), ListRules(self.trusted, context.legacy_names))

    def trial(self, folder: Path, patience_s: float) -> Iterator[Problem]:
        left_s = min(self.timeout_s, patience_s)
        why = why_not_importable(self.callable, str(folder), left_s) if left_s > 0 else "there was no time to try it"
        if why:
            yield ("callable",), why


class PythonSource:
    """``folder``: where imports are looked for first, beside the installed packages."""

    def __init__(
        self, settings: PythonTargets, folder: str, rules: ListRules = ANY, *, memory_bytes_max: int = BYTES_MAX
    ) -> None:
        from promring.discovery import groups  # which needs numpy: the settings need none of it

        self._callable, self._timeout_s = settings.callable, settings.timeout_s
        self._given = b"" if settings.settings is None else msgspec.json.encode(settings.settings)
        self._folder, self._memory_bytes_max = folder, memory_bytes_max
        self._reader = groups.Reader(rules=rules)
        self.interval_s = settings.interval

    async def fetch(self) -> TargetPool:
        # Files, not pipes: a process that the function leaves behind could hold a pipe open for ever.
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            given.write(self._given)
            given.seek(0)
            status = await self._run(given, output, errors)
            body, said = await in_thread(lambda: (_content(output, OUTPUT_BYTES_MAX), _content(errors, ERROR_BYTES_MAX)))
        if status != 0:
            raise DiscoveryError(f"{self._callable}: {scrub(_why(said, status))}")
        if not body:
            raise DiscoveryError(f"{self._callable}: its process ended without a result: does it call sys.exit?")
        return await self._reader.read_beside(body, self._callable)

    async def _run(self, given: IO[bytes], output: IO[bytes], errors: IO[bytes]) -> int:
        """The exit status. When this ends nothing of the process's session runs any more."""
        try:
            worker = await asyncio.create_subprocess_exec(
                *_command(self._callable, self._folder, OUTPUT_BYTES_MAX, self._memory_bytes_max),
                stdin=given,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise DiscoveryError(f"{self._callable}: its process cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                return await worker.wait()
        except TimeoutError:
            text = f"{self._callable}: no result within {self._timeout_s:g} s, its process was killed"
            raise DiscoveryError(text) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            await worker.wait()


def why_not_importable(callable: str, folder: str, timeout_s: float) -> str:
    """Why there is no such function, in one line; empty when there is. The module is imported as for a fetch, in a process
    of its own. Blocks for ``timeout_s`` at most.
    """
    command = _command(callable, folder, OUTPUT_BYTES_MAX, BYTES_MAX, int(timeout_s) + 1)
    try:
        with tempfile.TemporaryFile() as errors:
            status = _ended(command, errors, timeout_s)
            return _why(_content(errors, ERROR_BYTES_MAX), status) if status != 0 else ""
    except subprocess.TimeoutExpired:
        return f"not imported within {timeout_s:g} s"
    except OSError as error:
        return f"its process cannot be started: {error.strerror or error}"


def _ended(command: list[str], errors: IO[bytes], timeout_s: float) -> int:
    """The exit status. When this ends nothing of the process's session runs any more."""
    null = subprocess.DEVNULL
    worker = subprocess.Popen(command, stdin=null, stdout=null, stderr=errors, start_new_session=True)  # noqa: S603
    try:
        return worker.wait(timeout_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def _command(*arguments: str | int) -> list[str]:
    return [sys.executable, "-P", str(WORKER), *map(str, arguments)]


def _why(said: bytes, status: int) -> str:
    """What the worker wrote last, and how its process ended where that is not by an exception."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    last = lines[-1][:SHOWN_MOST] if lines else ""
    if status == 1 and last:
        return last
    ended = f"was killed by {_signal(-status)}" if status < 0 else f"ended with status {status}"
    return f"its process {ended}{': it wrote at last: ' if last else ''}{last}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _content(file: IO[bytes], most: int) -> bytes:
    """The last ``most`` bytes."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - most))
    return read_most(file, most)
