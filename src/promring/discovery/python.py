"""Targets from a Python function of the operator: ``module:function``, called with nothing, returns a list of groups.

It runs in a process of its own for each fetch (``discovery/worker.py``), so a function that hangs, leaks, prints or dies
takes nothing with it: at the time-out the process and its children are killed. Costs about 0.1 s a fetch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass

from promring.discovery import groups
from promring.model import DiscoveryError, Groups

OUTPUT_BYTES_MAX = 512 * 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class PythonSource:
    """``folder``: where imports are looked for first, beside the installed packages."""

    callable: str
    interval_s: float
    timeout_s: float
    folder: str

    async def fetch(self) -> Groups:
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "promring.discovery.worker",
            self.callable,
            self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self.timeout_s):
                output, errors = await asyncio.gather(
                    _read(worker.stdout, OUTPUT_BYTES_MAX), _read(worker.stderr, ERROR_BYTES_MAX)
                )
                status = await worker.wait()
        except TimeoutError:
            raise DiscoveryError(f"{self.callable}: no result within {self.timeout_s:g} s, its process was killed") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            await worker.wait()
        if status != 0:
            last = (errors.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
            raise DiscoveryError(f"{self.callable}: {last[:300]}")
        if len(output) > OUTPUT_BYTES_MAX:
            raise DiscoveryError(f"{self.callable}: more than {OUTPUT_BYTES_MAX} bytes")
        return groups.from_json(output, self.callable)


async def _read(stream: asyncio.StreamReader | None, most: int) -> bytes:
    """Everything up to ``most`` and one byte more, so that a caller sees it was too much; the rest is thrown away."""
    assert stream is not None  # both pipes were asked for
    kept = bytearray()
    while chunk := await stream.read(65536):
        kept += chunk[: most + 1 - len(kept)]
    return bytes(kept)
