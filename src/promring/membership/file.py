"""Membership from a file that lists the scrapers: JSON or YAML, watched; each one that it lists is probed.

The file is read every ``LOOK_S``, so that nothing has to be watched: a rename, a symlink that is swapped and a network file
system are seen alike. What is malformed, empty, half-written or vanished keeps the last good list and is named with file and
line. Half a file in JSON is malformed, but half a file in YAML is a shorter list: it counts when it was the same for
``SETTLED_S``. A writer that pauses for longer is not noticed; a careful one writes beside and renames.

A scraper that is taken out of the file leaves by a plan: its targets move to others first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from promring.config.document import Document, YamlProblem, read_yaml
from promring.config.kinds import Problem
from promring.config.node import Node, parse_node
from promring.config.values import NODES_MAX, base_folder
from promring.membership import DirectCheck, MembershipContext, ScraperSettings
from promring.membership.listing import Heard, ListedMembership
from promring.membership.probing import ProbeKeys
from promring.model import Members, PromringError, Scraper, join_host_port
from promring.runtime import regular
from promring.runtime.address import UNSPECIFIED, is_unspecified
from promring.runtime.threads import BusyError, Single

LOOK_S = 0.25
SETTLED_S = 0.5
READ_S = 5.0
FILE_BYTES_MAX = 4 * 1024 * 1024
SUFFIXES = (".json", ".yml", ".yaml")


class ListError(PromringError):
    """There is no list in the file; the text names the file, and the line where there is one."""


def _list_file(text: str, info: ValidationInfo) -> str:
    if not text.lower().endswith(SUFFIXES):
        raise ValueError(f"{text!r} must end in .json, .yml or .yaml")
    return str(base_folder(info) / text)


class FileScrapers(ScraperSettings):
    """``path``: the file, which need not be there yet; ``probe``: how each scraper is asked."""

    kind = "file"

    path: Annotated[str, AfterValidator(_list_file)]  # a Path would have to be there at the start
    probe: ProbeKeys = ProbeKeys()

    def relations(self) -> Iterator[Problem]:
        for path, what in self.probe.problems():
            yield ("probe", *path), what

    def doubts(self) -> Iterator[Problem]:
        try:
            listed = read_list(_read(Path(self.path)), Path(self.path), _by_address)
            yield from ((("path",), f"{self.path}: {one.id} {UNSPECIFIED}") for one in listed if is_unspecified(one.host))
        except ListError as error:
            yield ("path",), str(error)

    @property
    def direct_check(self) -> DirectCheck:
        return DirectCheck(self.probe.path, self.probe.timeout)

    def finds_the_same(self, other: ScraperSettings) -> bool:
        return isinstance(other, FileScrapers) and other.path == self.path

    @property
    def said(self) -> str:
        return f"the file {self.path}"

    def membership(self, context: MembershipContext) -> ListedMembership:
        return ListedMembership.of(context, FileListing(Path(self.path), context.scraper), self.probe)


class FileListing:
    """``make``: a node as a scraper of the fleet."""

    keep_s = 0.0
    may_be_short = False

    def __init__(self, path: Path, make: Callable[[Node], Scraper]) -> None:
        self.name = str(path)
        self._path, self._make = path, make
        self._reading = Single()
        self._content, self._since = b"", 0.0
        """What the file holds, and since when it was seen so."""

    async def run(self, heard: Heard, failed: Callable[[str], None]) -> None:
        taken: bytes | None = None
        while True:
            try:
                content = await self._look()
                if content != taken and self._is_settled():
                    taken = None
                    heard(read_list(content, self._path, self._make))
                    taken = content
            except ListError as error:
                taken = None
                failed(str(error))
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> bytes:
        """Raises ``ListError``."""
        try:
            content = await self._reading.run(lambda: _read(self._path), READ_S)
        except (TimeoutError, BusyError):
            raise ListError(f"{self._path}: not read within {READ_S:g} s, still trying") from None
        if content != self._content:
            self._content, self._since = content, time.monotonic()
        return content

    def _is_settled(self) -> bool:
        return self._path.suffix.lower() == ".json" or time.monotonic() - self._since >= SETTLED_S


def _by_address(node: Node) -> Scraper:
    return Scraper(join_host_port(node.host, node.port), node.host, node.port)


def _read(path: Path) -> bytes:
    """Blocks. Raises ``ListError``."""
    try:
        return regular.read(path, FILE_BYTES_MAX)
    except FileNotFoundError:
        raise ListError(f"{path}: no such file") from None
    except OSError as error:
        raise ListError(f"{path}: {error.strerror or error}") from None


def read_list(content: bytes, path: Path, make: Callable[[Node], Scraper]) -> Members:
    """The scrapers that a file lists, sorted. Raises ``ListError``, which names file, line and entry."""
    try:
        document = read_yaml(content)
    except YamlProblem as problem:
        raise ListError(f"{path}:{problem.line}: {problem.what}") from None
    entries = document.value
    if not content.strip():
        raise ListError(f"{path}: the file is empty")
    if not isinstance(entries, list):
        raise ListError(f"{path}:1: is not a list of scrapers")
    if not entries:
        raise ListError(f"{path}: the list has no scraper; one that has none is not believed")
    if len(entries) > NODES_MAX:
        raise ListError(f"{path}: more than {NODES_MAX} scrapers")
    for line, where, what in document.duplicates:
        raise ListError(f"{path}:{line}: entry {where[0]}: {what}")
    return tuple(sorted(_scrapers(document, path, make)))


def _scrapers(document: Document, path: Path, make: Callable[[Node], Scraper]) -> Iterator[Scraper]:
    known: dict[str, int] = {}
    for i, entry in enumerate(document.value):
        where = f"{path}:{document.line((i,))}: entry {i + 1}"
        try:
            scraper = make(parse_node(entry))
        except ValueError as error:
            raise ListError(f"{where}: {error}") from None
        if scraper.id in known:
            raise ListError(f"{where}: {scraper.id} is entry {known[scraper.id]} already")
        known[scraper.id] = i + 1
        yield scraper
