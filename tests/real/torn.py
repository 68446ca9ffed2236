"""What a reader sees of sinks and state, and the places where writers come to grief: for the tests named ``test_torn*``."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from promring.delivery.receiver import held, note_of
from promring.delivery.receiver_sh import PROGRAM, parse_answer
from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.model import Generation
from promring.runtime import disk
from promring.telemetry import log
from tests.real.torn_writer import SCRAPERS, SERVICE, body_of, memory_of, path_of

FILE_SD_GLOBS = ("*.json", "*.yml", "*.yaml")
NOBODY = 65534
MARK = re.compile(rb'"made":"(\d{8})\.(\d{8})/(\d)"')
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mount and setuid need root")


def generation_of(body: bytes, index: int) -> Generation:
    """Of a slice that is whole: one list that was made, to the last byte. Fails for any other."""
    mark = MARK.search(body)
    assert mark is not None, f"{len(body)} bytes without a mark"
    generation = Generation(int(mark[1]), int(mark[2]))
    assert body == body_of(generation, index), f"{len(body)} bytes that are no list of {generation}"
    return generation


def installed(folder: Path, count: int = len(SCRAPERS)) -> list[Generation | None]:
    """The generation of each slice file, None where there is none. Each is whole, and its note knows it or a newer one."""
    found: list[Generation | None] = []
    for index, scraper in enumerate(SCRAPERS[:count]):
        path = path_of(folder, scraper)
        note = held(path)
        assert note is not None or not note_of(path).exists(), f"a torn note: {note_of(path).read_bytes()!r}"
        if not path.exists():
            found.append(None)
            continue
        generation = generation_of(path.read_bytes(), index)
        assert note is not None
        assert note[0] >= generation
        assert note[1] == hashlib.sha256(body_of(note[0], index)).hexdigest()
        found.append(generation)
    return found


def left_over(*folders: Path) -> list[Path]:
    """The temporary files, none of which file_sd may see."""
    found = [p for folder in folders if folder.exists() for p in folder.iterdir() if p.name.endswith(disk.TEMPORARY_SUFFIX)]
    assert not [p for p in found for pattern in FILE_SD_GLOBS if fnmatch.fnmatch(p.name, pattern)]
    return found


def age(paths: Sequence[Path]) -> None:
    """As if a minute had gone by. One that was aged before may have been removed by a start meanwhile."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, (1, 1))


def saved(folder: Path, made: Callable[[Generation, int], Memory] = memory_of) -> Generation:
    """Of the state, which is one that was made, whole; nothing was set aside."""
    memory = Store(folder / "state", SERVICE, log.get()).load()
    assert [p.name for p in (folder / "state").iterdir() if ".bad-" in p.name] == []
    slices, newest = memory.of(SERVICE).slices, memory.newest(SERVICE)
    expected = made(newest, len(slices)) if slices else Memory()
    assert (memory.services, memory.members) == (expected.services, expected.members)
    assert memory.generation >= newest
    return newest


def failed(answer: dict[str, Any]) -> list[str]:
    return [error for _, outcome, error, *_ in answer["outcomes"] if outcome == "failed"]


@contextlib.contextmanager
def tmpfs(folder: Path, size: str = "64k") -> Iterator[None]:
    """A file system of its own on ``folder`` until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small tmpfs cannot be mounted: this needs CAP_SYS_ADMIN")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Whoever opens a file below ``folder`` meets a read-only file system; what is open stays so."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(path: Path, free_bytes: int) -> None:
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    os.truncate(path, path.stat().st_size - free_bytes)


class FarSide:
    """``receiver.sh`` as ssh calls it, here in a shell of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = path_of(folder, SCRAPERS[0])

    def start(
        self, generation: Generation, *before: str | Path, word: str, size: int | None = None
    ) -> subprocess.Popen[str]:
        """All that it reads is in the pipe already, ``size`` bytes of it when the sender is cut."""
        body = body_of(generation, 0)
        numbers = (generation, hashlib.sha256(body).hexdigest(), len(body), word, 5, 1)
        arguments = [*before, "sh", "-c", PROGRAM, "promring", "ask", self.path, *map(str, numbers)]
        reading, writing = os.pipe()
        try:
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 19)
            assert os.write(writing, body[:size]) == len(body[:size])
            return subprocess.Popen(
                arguments, stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
            )
        finally:
            os.close(reading)
            os.close(writing)

    def run(self, generation: Generation, *before: str | Path, word: str, size: int | None = None) -> str:
        """What it said last."""
        with self.start(generation, *before, word=word, size=size) as process:
            said, _ = process.communicate(timeout=120)
        answers = [answer for line in said.splitlines() if (answer := parse_answer(line))]
        return f"{answers[-1].word} {answers[-1].text}".strip() if answers else ""

    def generation(self) -> Generation | None:
        return installed(self.folder, 1)[0]
