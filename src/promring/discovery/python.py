"""Targets from a Python function of the operator: ``module:function``, called with nothing, returns a list of groups.

It runs in a process of its own for each fetch (``discovery/worker.py``), so a function that hangs, leaks, prints or dies
takes nothing with it: at the time-out the process and its children are killed, and its memory has a limit. Costs about
0.1 s a fetch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from typing import IO

from promring.discovery import groups
from promring.discovery.memory import BYTES_MAX
from promring.model import DiscoveryError, TargetPool
from promring.redact import scrub
from promring.threads import beside

OUTPUT_BYTES_MAX = 512 * 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class PythonSource:
    """``folder``: where imports are looked for first, beside the installed packages."""

    callable: str
    interval_s: float
    timeout_s: float
    folder: str
    memory_bytes_max: int = BYTES_MAX
    _reader: groups.Reader = field(default_factory=groups.Reader, repr=False)

    async def fetch(self) -> TargetPool:
        # Files, not pipes: a process that the function leaves behind could hold a pipe open for ever.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            status = await self._run(output, errors)
            body, said = await beside(lambda: (_content(output, OUTPUT_BYTES_MAX), _content(errors, ERROR_BYTES_MAX)))
        if status != 0:
            last = (said.decode("utf-8", "replace").strip().splitlines() or [f"its process ended with status {status}"])[-1]
            raise DiscoveryError(f"{self.callable}: {scrub(last[:3000])[:300]}")
        return await self._reader.read_beside(body, self.callable)

    async def _run(self, output: IO[bytes], errors: IO[bytes]) -> int:
        """The exit status. When this ends nothing of the process's session runs any more."""
        try:
            worker = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "promring.discovery.worker",
                self.callable,
                self.folder,
                str(OUTPUT_BYTES_MAX),
                str(self.memory_bytes_max),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise DiscoveryError(f"{self.callable}: its process cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(self.timeout_s):
                return await worker.wait()
        except TimeoutError:
            text = f"{self.callable}: no result within {self.timeout_s:g} s, its process was killed"
            raise DiscoveryError(text) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            await worker.wait()


def _content(file: IO[bytes], most: int) -> bytes:
    """The last ``most`` bytes."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - most))
    return file.read(most)
