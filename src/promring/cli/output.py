"""What the commands print: one place for text, tables, colours and JSON.

Promises: a line is never wrapped or cut, whatever the width of the terminal, so ``grep`` finds whole lines; colours only
on a terminal, and not with ``NO_COLOR`` set; control characters of names and labels are printed as ``\\x07``, so they
cannot move the cursor or ring the bell. A reader that stops reading ends the command quietly with exit 141.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from promring.runtime.text import printable

READER_GONE = 141
"""128 + SIGPIPE, as a shell says of programs that the signal ends."""

F = TypeVar("F", bound=Callable[..., Any])


def output_option(command: F) -> F:
    """``--output text|json``, given to the command as ``as_json``."""
    return click.option(
        "--output",
        "as_json",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        callback=lambda _, __, value: value == "json",
        help="json: the data as the API has it.",
    )(command)


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


def say_json(data: object, *, indent: int | None = 2) -> None:
    _write(json.dumps(data, indent=indent))


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
    try:
        click.echo(text, err=err, color=False if os.environ.get("NO_COLOR") else None)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes at its end goes there
        sys.exit(READER_GONE)
    except OSError as error:
        if err:
            sys.exit(1)
        raise click.ClickException(f"standard output cannot be written: {error.strerror}") from error
