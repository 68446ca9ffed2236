"""What the commands print: one place for text, tables, colours and JSON.

Promises: a line is never wrapped or cut, whatever the width of the terminal, so ``grep`` finds whole lines; colours only
on a terminal, and not with ``NO_COLOR`` set; control characters of names and labels are printed as ``\\x07``, so they
cannot move the cursor or ring the bell. A reader that stops reading ends the command quietly with exit 141.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import NoReturn, ParamSpec, TypeVar

import click

from promring.runtime.text import printable

WORKING_EVERY_S = 1.0
READER_GONE = 141
"""128 + SIGPIPE, as a shell says of programs that the signal ends."""

P = ParamSpec("P")
R = TypeVar("R")


class Output(Enum):
    """What a command prints: text for people, or the data of the API."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"

    @property
    def is_text(self) -> bool:
        return self is Output.TEXT

    def say(self, data: object) -> None:
        """The whole as one document, of plain values."""
        _write(_yaml(data) if self is Output.YAML else json.dumps(data, indent=2))

    def say_next(self, data: object) -> None:
        """One of several documents: a line of JSON, or a document of YAML."""
        _write(f"---\n{_yaml(data)}" if self is Output.YAML else json.dumps(data))


def output_option(command: Callable[P, R]) -> Callable[P, R]:
    """``--output text|json|yaml``, ``-o``, given to the command as ``output``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice([one.value for one in Output]),
        default="text",
        show_default=True,
        callback=lambda _, __, value: Output(value or "text"),
        help="json, yaml: the data as the API has it.",
    )(command)


def _yaml(data: object) -> str:
    import yaml  # most commands print none

    text: str = yaml.safe_dump(data, sort_keys=False, width=float("inf"))
    return text.removesuffix("\n")


def next_screen() -> None:
    """What is said next takes the place of what is there, on a terminal; elsewhere an empty line is between them."""
    if sys.stdout.isatty():
        click.clear()
    else:
        _write("")


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Around what goes on until Ctrl-C: that is its end, and not a failure."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(0)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Around what may take long: on a terminal a line on standard error says what is done, and for how long, and goes away
    at the end. Elsewhere nothing is said.
    """
    if not sys.stderr.isatty():
        yield
        return
    done, started = threading.Event(), time.monotonic()

    def tell() -> None:
        while not done.wait(WORKING_EVERY_S):
            print(f"\r\x1b[K{clean(what)} ... {time.monotonic() - started:.0f} s", end="", file=sys.stderr, flush=True)  # noqa: T201

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)  # noqa: T201


def clock(at: float | None) -> str:
    """The time of day, local: with the zone where that is not UTC, which log, events and page have, and with the day when
    that is not today. Empty when there is none, or none that can be.
    """
    try:
        there = None if at is None else time.localtime(at)
    except (ValueError, OverflowError, OSError):
        return ""
    if there is None:
        return ""
    day = "" if there[:3] == time.localtime()[:3] else "%Y-%m-%d "
    return time.strftime(f"{day}%H:%M:%S{' %Z' if there.tm_gmtoff else ''}", there)


def until(at: float | None) -> str:
    """When something ends by itself; empty when nobody knows."""
    return f" until {text}" if (text := clock(at)) else ""


class Painted(str):
    """A text that is clean already, with colours."""

    __slots__ = ()


def clean(text: object) -> str:
    """``text`` on one line, with all that a terminal would obey spelt out."""
    if isinstance(text, Painted):
        return text
    return printable(str(text))


def paint(text: object, colour: str) -> Painted:
    return Painted(click.style(clean(text), fg=colour))


def say(*parts: object, err: bool = False) -> None:
    """One line. Parts that are not ``Painted`` are cleaned."""
    _write("".join(map(clean, parts)), err=err)


def say_text(text: str) -> None:
    """Lines of our own making, as they are."""
    _write(text)


def say_table(headings: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Columns two spaces apart, as wide as their widest cell. ``right``: headings of columns that are flush right."""
    cells = [[clean(cell) for cell in row] for row in [headings, *rows]]
    widths = [max(len(click.unstyle(row[i])) for row in cells) for i in range(len(headings))]
    for row in cells:
        line = ""
        for heading, width, cell in zip(headings, widths, row, strict=True):
            space = " " * (width - len(click.unstyle(cell)))
            line += (space + cell if heading in right else cell + space) + "  "
        _write(line.rstrip())


def _write(text: str, *, err: bool = False) -> None:
    if sys.stdout is None and not err:  # Python has none where it was closed, and click then says nothing
        raise click.ClickException("standard output cannot be written: it is closed")
    try:
        click.echo(text, err=err, color=False if os.environ.get("NO_COLOR") else None)
    except BrokenPipeError:
        _end_for_nobody()
    except OSError as error:
        if err:
            sys.exit(1)
        raise click.ClickException(f"standard output cannot be written: {error.strerror}") from error


def end_if_nobody_reads() -> None:
    """While there is nothing to say: whoever read standard output may be gone."""
    with suppress(OSError, ValueError):  # no such thing to ask
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)  # an error is always told
        if any(told & select.POLLERR for _, told in watched.poll(0)):
            _end_for_nobody()


def _end_for_nobody() -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes at its end goes there
    sys.exit(READER_GONE)
