"""Slices as local files, for Prometheus' file_sd.

What the file holds decides, not what was written last: a file that was edited or deleted by hand is put back in the next
cycle. Reading every file in every cycle is spared by its stat signature.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from promring.config.kinds import Problem
from promring.config.templates import LocalTemplate, read_as_pattern
from promring.delivery import Leads, Names, Outcome, Place, always, receiver
from promring.delivery.receiver import Envelope, RefusedError
from promring.delivery.settings import DeliveryContext, DeliverySettings
from promring.model import Generation, Scraper, Slice
from promring.runtime import disk
from promring.runtime.paths import of_fleet, own_folders, path_of, render
from promring.runtime.threads import in_thread_shielded
from promring.telemetry.log import Logger

Signature = tuple[int, int, int, int]
NAME_BYTES_MAX = 255 - 24
"""Of a file's name, since the names of its note, its lock and its temporary file are up to so much longer."""


class FileSettings(DeliverySettings):
    """``path``: a template."""

    kind = "file"
    local = True
    path_at = ("path",)

    path: LocalTemplate

    def file(self, names: Names, scraper: Scraper) -> str:
        return path_of(self.path, *names, scraper)

    def place(self, names: Names, scraper: Scraper) -> Place:
        return Place("", 0, self.file(names, scraper))

    def delivery(self, context: DeliveryContext) -> FileDelivery:
        return FileDelivery(of_fleet(self.path, context.names.fleet), context.log, own_folders(self.path))

    def trial(self, names: Names, scrapers: Iterable[Scraper]) -> Iterator[Problem]:
        files = [Path(self.file(names, scraper)) for scraper in scrapers]
        longest = max((len(os.fsencode(file.name)) for file in files), default=0)
        if longest > NAME_BYTES_MAX:
            yield ("path",), f"gives file names of {longest} bytes, {NAME_BYTES_MAX} are possible"
        for folder in {file.parent for file in files}:
            if why := disk.why_not_writable(folder):
                yield ("path",), why
                return

    def doubts(self) -> Iterator[Problem]:
        if odd := [part for part in Path(self.path).parts if part.startswith(("~", "$"))]:
            yield ("path",), f"{odd[0]!r} is a name here: neither ~ nor $NAME is replaced"
        if why := read_as_pattern(self.path):
            yield ("path",), why


class FileDelivery:
    """``template``: absolute path with ``{service} {scraper} {host} {port}``."""

    means = "file"
    pulled = False

    def __init__(self, template: str, log: Logger, own: int | None = None) -> None:
        """``own``: how many of the last folders are promring's; None: those that the template names."""
        self._template = template
        self._log = log
        self._own = own_folders(template) if own is None else own
        self._open_to_all = set[Path]()
        """Folders that were said to be."""
        self._verified: dict[Path, tuple[Signature | None, Generation, str]] = {}

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        stop = threading.Event()  # a cancelled delivery ends the file it is at, and begins no other
        cleaned = set[Path]()
        return await in_thread_shielded(
            lambda: [self._put(s, leads, cleaned) for s in slices if not stop.is_set()], stop.set
        )

    def path(self, slice_: Slice) -> Path:
        return render(self._template, slice_.service, slice_.scraper)

    def _put(self, slice_: Slice, leads: Leads, cleaned: set[Path]) -> Outcome:
        path = self.path(slice_)
        known = self._verified.get(path)
        signature = _signature(path)
        if known is not None and known == (signature, slice_.generation, slice_.sha256):
            return Outcome(slice_.scraper.id, "same")
        if not leads():
            return Outcome(slice_.scraper.id, "withheld")
        if path.parent not in cleaned:  # what a killed one left goes when it is old enough
            cleaned.add(path.parent)
            disk.remove_left_overs(path.parent)
        try:
            written = receiver.install(path, Envelope.of(slice_), own=self._own)
            self._say_open(path.parent)
        except RefusedError as error:
            self._verified.pop(path, None)
            return Outcome.not_taken(slice_.scraper.id, str(error), error.have)
        except OSError as error:
            self._verified.pop(path, None)
            return Outcome.not_taken(slice_.scraper.id, disk.why_not(path, error))
        if written and known is not None and known[2] == slice_.sha256:
            self._log.warning("slice_put_back", scraper=slice_.scraper.id, path=str(path))
        if (signature := _signature(path)) is not None:
            self._verified[path] = (signature, slice_.generation, slice_.sha256)
        return Outcome(slice_.scraper.id, "written" if written else "same")

    def _say_open(self, folder: Path) -> None:
        """Once, while it is so: whoever may replace a slice says what is scraped."""
        if not disk.is_open_to_all(folder):
            self._open_to_all.discard(folder)
        elif folder not in self._open_to_all:
            self._open_to_all.add(folder)
            self._log.warning("folder_writable_by_all", path=str(folder), remedy="chmod o-w, or give it the sticky bit")


def _signature(path: Path) -> Signature | None:
    with contextlib.suppress(OSError):
        stat = path.lstat()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
    return None
