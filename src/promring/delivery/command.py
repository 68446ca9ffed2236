"""Slices by a program of the operator's: it gets one slice on its input, and brings it to where the scraper reads it.

It is run for each scraper whose slice it has not brought, with the names in its environment (``environment``). Exit status 0
means that the slice is there, whole. Any other is a failure of that scraper, and the last line of its error output says why;
it is run again later, each time a little later. A program that cannot be started at all is trouble on our side: nobody is
treated as dead for it.

Promises: one run at a time for each scraper, and the newest slice wins; one that hangs holds up nothing, and is killed with
all that it started when its time is over. Not promised: that somebody who changed the slice afterwards is noticed, nor that
an older controller is refused. What was brought is forgotten by a restart and a reload: the program is then run once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, BinaryIO

from pydantic import Field

from promring.config.kinds import Problem
from promring.config.templates import RemoteTemplate
from promring.config.values import ENTRIES_MAX, Interval
from promring.delivery import Leads, Names, Outcome, always
from promring.delivery.settings import DeliveryContext, DeliverySettings
from promring.model import Generation, Scraper, Slice
from promring.runtime.paths import path_of
from promring.runtime.text import printable

WAIT_S = 1.0
"""So long a delivery waits for the programs it started; those that take longer end in the background."""
SAID_MOST, KEPT_BYTES = 300, 4096


class CommandSettings(DeliverySettings):
    """``run``: the program and its arguments, without a shell. ``path``: a template, where the scraper reads its slice.
    ``timeout``: of one run. ``at_once``: how many run at a time.
    """

    kind = "command"
    path_at = ("path",)

    path: RemoteTemplate
    run: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=ENTRIES_MAX)]
    timeout: Interval = 30.0
    at_once: Annotated[int, Field(ge=1, le=100)] = 10

    def file(self, names: Names, scraper: Scraper) -> str:
        return path_of(self.path, *names, scraper)

    def delivery(self, context: DeliveryContext) -> CommandDelivery:
        return CommandDelivery(self, context.names)

    def trial(self, names: Names, scrapers: Iterable[Scraper]) -> Iterator[Problem]:
        if shutil.which(self.run[0]) is None:
            yield ("run", 0), f"{self.run[0]!r} is no program that can be run here"


@dataclass
class _Sink:
    """One scraper. ``wanted``: its newest slice; ``has``: what the program has brought it."""

    wanted: Slice
    has: tuple[Generation, str] | None = None
    task: asyncio.Task[Outcome] | None = None
    last: Outcome | None = None
    """What the last run came to, until it was told."""

    def is_there(self) -> bool:
        return self.has == (self.wanted.generation, self.wanted.sha256)


class CommandDelivery:
    """``names``: whose slices they are."""

    means = "command"
    pulled = False

    def __init__(self, settings: CommandSettings, names: Names) -> None:
        self._settings, self._names = settings, names
        self._sinks: dict[str, _Sink] = {}
        self._gate = asyncio.Semaphore(settings.at_once)
        self._wake: Callable[[], None] = lambda: None
        self._listening: set[asyncio.Task[Outcome]] = set()
        """The runs that a delivery waits for: what came of them is told without waking the loop."""

    def when_done(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        names = {slice_.scraper.id for slice_ in slices}
        self._sinks = {name: sink for name, sink in self._sinks.items() if name in names or sink.task is not None}
        before = {sink.task for sink in self._sinks.values()}
        for slice_ in slices:
            self._sinks.setdefault(slice_.scraper.id, _Sink(slice_)).wanted = slice_
            self._begin(slice_.scraper.id, leads)
        begun = [task for sink in self._sinks.values() if (task := sink.task) is not None and task not in before]
        if begun:  # a run that was there before has had its time, and wakes the loop when it ends
            self._listening = set(begun)
            try:
                await asyncio.wait(begun, timeout=WAIT_S)
            finally:
                self._listening = set()
        return [self._outcome(slice_.scraper.id, leads) for slice_ in slices]

    def _begin(self, name: str, leads: Leads) -> None:
        """A run, unless there is one, or one has failed and nobody was told."""
        sink = self._sinks[name]
        failed = sink.last is not None and sink.last.outcome != "written"
        if sink.task is None and not failed and not sink.is_there():
            sink.last, sink.task = None, asyncio.create_task(self._bring(sink, sink.wanted, leads))

    def _outcome(self, name: str, leads: Leads) -> Outcome:
        """What is to be told now, once."""
        sink = self._sinks[name]
        self._begin(name, leads)  # a newer one came while an older one was brought
        if sink.task is not None:
            return Outcome(name, "waiting")
        last, sink.last = sink.last, None
        return last or Outcome(name, "same")

    async def _bring(self, sink: _Sink, slice_: Slice, leads: Leads) -> Outcome:
        """One run. When it has ended the loop is woken: it takes what came of it, and brings what is newer."""
        found = Outcome(slice_.scraper.id, "withheld")
        try:
            async with self._gate:
                if leads():
                    found = await self._run(slice_)
            if found.outcome == "written":
                sink.has = slice_.generation, slice_.sha256
            return found
        finally:
            task, sink.task, sink.last = sink.task, None, found
            if task not in self._listening:
                self._wake()

    async def _run(self, slice_: Slice) -> Outcome:
        name = slice_.scraper.id
        told = environment(self._names, slice_, self._settings.file(self._names, slice_.scraper))
        try:
            with _as_file(slice_.body) as input_:
                process = await asyncio.create_subprocess_exec(
                    *self._settings.run,
                    stdin=input_,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    env=os.environ | told,
                    start_new_session=True,
                )
        except OSError as error:
            return Outcome(name, "unsent", f"{self._settings.run[0]}: {error.strerror or error}")
        try:
            async with asyncio.timeout(self._settings.timeout):
                said, status = await asyncio.gather(_last_line(process), process.wait())
        except TimeoutError:
            return Outcome(name, "failed", f"{self._settings.run[0]}: not ended within {self._settings.timeout:g} s")
        finally:
            with contextlib.suppress(ProcessLookupError):  # its session: what it started and left behind
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if status == 0:
            return Outcome(name, "written")
        ended = f"signal {-status}" if status < 0 else f"exit status {status}"
        return Outcome(name, "failed", f"{self._settings.run[0]}: {ended}" + (f": {said}" if said else ""))

    async def close(self) -> None:
        """What runs is killed."""
        running = [sink.task for sink in self._sinks.values() if sink.task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def environment(names: Names, slice_: Slice, path: str) -> dict[str, str]:
    """What a run is told beside the slice on its input."""
    return {
        "PROMRING_FLEET": names.fleet,
        "PROMRING_SERVICE": names.service,
        "PROMRING_SCRAPER": slice_.scraper.id,
        "PROMRING_SCRAPER_HOST": slice_.scraper.host,
        "PROMRING_SCRAPER_PORT": str(slice_.scraper.port),
        "PROMRING_PATH": path,
        "PROMRING_GENERATION": str(slice_.generation),
        "PROMRING_SHA256": slice_.sha256,
    }


def _as_file(body: bytes) -> BinaryIO:
    """In memory: a program may read it, all of it or not, whenever it likes."""
    file = os.fdopen(os.memfd_create("slice"), "w+b")
    file.write(body)
    file.seek(0)
    return file


async def _last_line(process: asyncio.subprocess.Process) -> str:
    """Of its error output, however long that is."""
    assert process.stderr is not None
    kept = b""
    while piece := await process.stderr.read(KEPT_BYTES):
        kept = (kept + piece)[-KEPT_BYTES:]
    lines = kept.decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1])[:SAID_MOST] if lines else ""
