"""The one way that commands print: nothing from outside reaches a terminal raw.

Labels, ids and errors come from sources, scrapers and configurations. An ESC in one of them would be obeyed by the terminal,
a newline would forge a line. ``say`` is for lines, ``console`` for tables and colours of ``plain`` data; the messages of
``click`` go through ``Commands``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment

from promring.printable import printable


def say(text: object, *, err: bool = False, nl: bool = True, lines: bool = False) -> None:
    """Print one line; ``lines``: a text of several."""
    click.echo(printable(str(text), lines=lines), err=err, nl=nl)


def plain(value: Any) -> Any:
    """Data of the API with every text in it on one line, for people. JSON escapes by itself."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {plain(key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def console(**options: Any) -> Console:
    """A console of ``rich`` that escapes what it is given, and keeps its own colours."""
    made = Console(**options)
    made.push_render_hook(_Escape())
    return made


class Commands(click.Group):
    """A group whose commands' errors are escaped."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise click.UsageError(printable(error.format_message(), lines=True), error.ctx) from None
        except click.ClickException as error:
            raise click.ClickException(printable(error.format_message(), lines=True)) from error


class _Escape(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(one) for one in renderables]


class _Escaped:
    def __init__(self, inner: ConsoleRenderable) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _segments(console, options, self._inner)


def _segments(console: Console, options: ConsoleOptions, inner: ConsoleRenderable) -> Iterator[Segment]:
    for segment in console.render(inner, options):
        yield segment if segment.control else Segment(printable(segment.text, lines=True), segment.style)
