"""A Prometheus that promring runs as its own child, to discover: started, started again, ended, and heard.

Promises: it is a stock Prometheus in agent mode with the configuration that the operator wrote, on a port of 127.0.0.1 and
in a folder that are promring's. When it ends it is started again, with back-off. It ends with this process, also when that
is killed, and takes no more memory than ``memory_max``. Its warnings and errors are lines of our log, at most ``LINES_MOST``
a minute.
Does not promise that one which hangs is ended: its sources say that it does not answer.
Flow: ``supervisor`` says what is wanted; ``discovery/prometheus.py`` asks where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from promring.discovery.engine_section import EngineSection
from promring.model import DiscoveryError
from promring.runtime.backoff import backoff_s
from promring.runtime.http_client import HttpError, new_session, request
from promring.runtime.text import printable
from promring.runtime.threads import in_thread
from promring.telemetry.log import Logger

PROGRAM = "prometheus"
HOST = "127.0.0.1"
AGAIN_FIRST_S, AGAIN_MOST_S = 1.0, 60.0
CALM_S = 60.0
"""One that lived so long is started again at once, as the first time."""
STOP_S = 1.5
VERSION_S = 10.0
LOOK_S, LOOK_TIMEOUT_S = 0.1, 2.0
LINES_MOST, LINES_S, LINE_MOST = 30, 60.0, 500
_FATAL = ("fatal error: ", "panic: ", "runtime: ")
_LEVEL = re.compile(r"\blevel=(\w+)", re.IGNORECASE)
_TIME = re.compile(r"^(ts|time)=\S+ ")
_MAJOR = re.compile(r"version (\d+)\.")
SOFT_SHARE = 0.8
"""Of ``memory_max``: from there on its runtime frees memory more often (``GOMEMLIMIT``)."""
_DIES_WITH_US = """
import ctypes, os, resource, sys
ctypes.CDLL(None).prctl(1, 9)
parent, most = map(int, sys.argv[1:3])
if most:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
try:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
except OSError:
    pass
if os.getppid() == parent:
    os.execv(sys.argv[3], sys.argv[3:])
"""
"""A process of its own before the engine: code between fork and exec could wait for a lock that a thread of ours holds.
Where the machine has no memory left the kernel ends the engine before promring.
"""


class EngineProcess:
    """``folder``: for its storage. One ``run`` at a time."""

    def __init__(self, folder: Path, log: Logger) -> None:
        self._folder, self._log = folder, log
        self._wanted: EngineSection | None = None
        self._changed = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._url, self._trouble = "", "not started yet"
        self._settled = asyncio.Event()
        """Whether one of the two is known."""
        self._lines = _Lines(log)

    async def url(self) -> str:
        """Where it is, as soon as it is ready. Raises ``DiscoveryError`` while there is none."""
        await self._settled.wait()
        if not self._url:
            raise DiscoveryError(f"the engine does not run: {self._trouble}")
        return self._url

    @property
    def condition(self) -> str:
        pid = self.pid
        try:
            stat = Path(f"/proc/{pid}/stat").read_text() if pid is not None else ""
        except OSError:  # it ended just now, or this is not Linux
            return ""
        stopped = stat.rpartition(")")[2].split()[:1] in (["T"], ["t"])
        return f"its process {pid} is stopped (SIGSTOP)" if stopped else ""

    @property
    def last_words(self) -> str:
        return self._lines.last

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process is not None else None

    def want(self, section: EngineSection | None) -> None:
        """Run this. The same as before: it reads its configuration again."""
        if section != self._wanted or (self._process is not None and not self._url):  # before it is ready SIGHUP ends it
            self._wanted = section
            self._changed.set()
        elif self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            self._changed.clear()
            began, wanted, why = time.monotonic(), self._wanted, ""
            if wanted is None:
                self._settle(trouble="the configuration has no section `engine`")
                await self._changed.wait()
                continue
            try:
                why = await self._life(wanted)
            except OSError as error:
                why = f"cannot be started: {error.strerror or error}"
            if self._changed.is_set():
                failures = 0
                continue
            failures = 1 if time.monotonic() - began > CALM_S else failures + 1
            pause_s = backoff_s(failures, AGAIN_FIRST_S, AGAIN_MOST_S)
            self._settle(trouble=why)
            self._log.error("engine_ended", error=why, again_in_s=round(pause_s, 1))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()

    def _settle(self, url: str = "", trouble: str = "") -> None:
        self._url, self._trouble = url, trouble
        self._settled.set()

    async def _life(self, wanted: EngineSection) -> str:
        """From its start to its end, or until something else is wanted. Returns why it ended. Raises OSError."""
        if (program := str(wanted.program or "") or shutil.which(PROGRAM)) is None:
            return f"there is no program {PROGRAM} in PATH"
        if not (major := await _major(program)):
            return f"{program} --version does not name a version of Prometheus"
        await in_thread(lambda: self._folder.mkdir(mode=0o700, parents=True, exist_ok=True))
        port = _free_port()
        arguments = self._arguments(program, major, wanted.config_file, port)
        process = self._process = await _start(arguments, wanted.memory_max or 0)
        self._lines.forget()
        self._settled.clear()
        self._log.info("engine_started", program=program, pid=process.pid, port=port)
        assert process.stdout is not None  # a pipe
        reading = asyncio.create_task(self._lines.read(process.stdout))
        ended, changed = asyncio.create_task(process.wait()), asyncio.create_task(self._changed.wait())
        looking = asyncio.create_task(self._until_ready(f"http://{HOST}:{port}"))
        try:
            await asyncio.wait((ended, changed), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                return ""
            await asyncio.wait((reading,), timeout=STOP_S)  # its last words
            return f"{program} {_end_of(process.returncode or 0)}{self._lines.why}{_limit_of(wanted)}"
        finally:
            self._process, self._url = None, ""
            self._settled.clear()
            looking.cancel()
            changed.cancel()
            try:
                await _stop(process)
            finally:  # also when it is cancelled once more meanwhile
                reading.cancel()
                ended.cancel()
                await asyncio.gather(looking, changed, reading, ended, return_exceptions=True)

    def _arguments(self, program: str, major: int, config_file: Path, port: int) -> Sequence[str]:
        return (
            program,
            "--agent" if major >= 3 else "--enable-feature=agent",
            f"--config.file={config_file}",
            f"--storage.agent.path={self._folder}",
            f"--web.listen-address={HOST}:{port}",
        )

    async def _until_ready(self, url: str) -> None:
        async with new_session() as session:
            while True:
                with contextlib.suppress(HttpError):
                    if (await request(session, "GET", f"{url}/-/ready", timeout_s=LOOK_TIMEOUT_S)).status == 200:
                        break
                await asyncio.sleep(LOOK_S)
        self._settle(url=url)


class _Lines:
    """What the engine writes: its warnings and errors as lines of our log."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self.last = ""
        """The last warning or error."""
        self._fatal = ""
        """Why its runtime gave up; what follows that are its stacks."""
        self._began, self._said, self._left = 0.0, 0, 0

    def forget(self) -> None:
        """It starts again."""
        self.last = self._fatal = ""

    @property
    def why(self) -> str:
        """What it said before it ended, with a colon."""
        said = self._fatal or self.last
        return f": {said}" if said else ""

    async def read(self, stream: asyncio.StreamReader) -> None:
        """To the end of the stream."""
        rest = b""
        while chunk := await stream.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line)
            rest = rest[-65536:]
        self._take(rest)

    def _take(self, line: bytes) -> None:
        text = printable(_TIME.sub("", line[: 2 * LINE_MOST].decode("utf-8", "replace").strip()))[:LINE_MOST]
        level = found[1].lower() if (found := _LEVEL.search(text)) else "error"
        if not text or level not in ("warn", "error") or self._fatal:
            return
        self._fatal = text if text.startswith(_FATAL) else ""
        self.last = text
        now = time.monotonic()
        if now - self._began > LINES_S:
            left, self._began, self._said, self._left = self._left, now, 0, 0
            if left:
                self._log.warning("engine_says", line=f"{left} more lines", within_s=LINES_S)
        self._said += 1
        if self._said > LINES_MOST:
            self._left += 1
        else:
            self._log.warning("engine_says", line=text)


async def _start(arguments: Sequence[str], memory_max: int) -> asyncio.subprocess.Process:
    """``memory_max``: in bytes, 0: it has no limit. Raises OSError."""
    limit = {"GOMEMLIMIT": f"{int(SOFT_SHARE * memory_max)}B"} if memory_max else {}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _DIES_WITH_US, str(os.getpid()), str(memory_max), *arguments),
        env={**os.environ, **limit},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )


def _end_of(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was ended by {name}" + (", as the kernel does when memory is short" if status == -signal.SIGKILL else "")


def _limit_of(wanted: EngineSection) -> str:
    return f" (memory_max: {wanted.memory_max // 1024**2} MiB)" if wanted.memory_max else ""


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Asked to end, then killed; killed at once when who stops it is cancelled."""
    if process.returncode is not None:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await process.wait()


async def _major(program: str) -> int:
    """The first number of its version, 0: it does not say one. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        program,
        "--version",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(VERSION_S):
            said, _ = await process.communicate()
    except TimeoutError:
        return 0
    finally:
        await _stop(process)
    found = _MAJOR.search(said[:1000].decode("utf-8", "replace"))
    return int(found[1]) if found and said.startswith(b"prometheus") else 0


def _free_port() -> int:
    """Free at this moment. Where another process is quicker, the engine ends, and the next one has another port."""
    with socket.socket() as s:
        s.bind((HOST, 0))
        port: int = s.getsockname()[1]
        return port
