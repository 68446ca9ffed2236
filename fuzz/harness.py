"""What every harness is made of: a parser as a function of bytes, and what ends in a defined way."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from promring.config.node import Node
from promring.model import Scraper, join_host_port

T = TypeVar("T")
YAML_WORDS = (
    b"- ",
    b": ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!str ",
    b"|\n ",
    b">-\n ",
    b"'",
    b'"',
    b"\n  ",
    b"# ",
)
JSON_WORDS = (b'{"', b'":', b"[", b"]", b"}", b",", b"null", b"\\ud800", b"1e999", b"-0", b"true")


class Parser(NamedTuple):
    """``samples``: what the other program writes, to begin with; ``words``: what it is made of; ``json``: it is JSON (behind
    so many bytes), which is also changed value by value: the decoder is C, which Atheris does not see into.
    """

    feed: Callable[[bytes], None]
    samples: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    json: int | None = None


def result(work: Callable[[], T], *expected: type[Exception]) -> T | None:
    """What ``work`` gives; None for an error that is ``expected``."""
    try:
        return work()
    except expected:
        return None


@cache
def folder() -> Path:
    """A folder of this process, in memory where the system has that; it goes with the process."""
    memory = Path("/dev/shm")
    place = tempfile.TemporaryDirectory(prefix="promring-fuzz-", dir=memory if memory.is_dir() else None)
    atexit.register(place.cleanup)
    return Path(place.name)


def now(work: Coroutine[object, None, T]) -> T:
    """What does not wait for anything needs no event loop."""
    while True:
        try:
            work.send(None)
        except StopIteration as end:
            return cast(T, end.value)


def at(host: str, port: int) -> Scraper:
    return Scraper(join_host_port(host, port), host, port)


def scraper(node: Node) -> Scraper:
    return at(node.host, node.port)
