"""A group of commands that loads a command's module when that command is called, and no other one.

The daemon needs numpy, aiohttp, pydantic and more, which take most of a second of CPU to load. ``promring --help`` and the
commands that only ask a running controller need none of them.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Mapping
from types import CodeType
from typing import Any, NamedTuple, NoReturn

import click

from promring.runtime.hangups import hold_hangups
from promring.runtime.near import meant
from promring.runtime.text import printable

OTHER_WORDS = {
    "diff": "plan",
    "fleets": "status",
    "help": "--help",
    "list": "status",
    "log": "events",
    "logs": "events",
    "move": "drain",
    "scrapers": "status",
    "serve": "run",
    "services": "status",
    "show": "status",
    "start": "run",
    "targets": "where",
    "test": "check",
    "validate": "check",
    "version": "--version",
}
"""What the commands of other programs are called, and what does that here: no spelling would lead to it."""
INTERRUPTED = 130
"""128 + SIGINT, as a shell says of programs that the signal ends."""


class Lazy(NamedTuple):
    """Where a command is: ``module:attribute``, and the first sentence of its help, which a test holds to be the same."""

    where: str
    help: str
    takes_hangups: bool = False
    """Whether a SIGHUP must not end it, from the first."""

    def load(self) -> click.Command:
        if self.takes_hangups:
            hold_hangups()
        module, _, attribute = self.where.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


def with_variables(command: click.Command) -> click.Command:
    """The same, with an environment variable for every option that takes a value, after the option: PROMRING_WEB_TOKEN_FILE
    for ``--web.token-file``. What has no value, such as ``--force``, belongs to one call.
    """
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar is None and not option.is_flag:
            name = max(option.opts, key=len).lstrip("-").replace(".", "_").replace("-", "_")
            option.envvar = f"PROMRING_{name.upper()}"
    return command


class LazyGroup(click.Group):
    """``lazy``: the commands by name, in the order in which ``--help`` lists them."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self._lazy.get(cmd_name)
        return with_variables(found.load()) if found else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = click.utils.make_str(args[0])
        if name not in self._lazy and not name.startswith("-") and not ctx.resilient_parsing:
            other = OTHER_WORDS.get(name)
            near = f"; did you mean {other!r}?" if other else meant(name, self._lazy)
            ctx.fail(f"no such command {name!r}{near}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.help) for name, one in self._lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            raise _Interrupted from None
        except click.UsageError as error:  # their texts may name what came from outside
            text = error.format_message().replace(",\n\t", ", ").replace("\n\t", " ")  # choices, a line each
            raise click.UsageError(printable(text, lines=True), error.ctx) from None
        except click.ClickException as error:
            raise click.ClickException(printable(error.format_message(), lines=True)) from error
        except FileNotFoundError as error:
            if error.filename is not None:  # os.getcwd() alone names none
                raise
            raise click.ClickException("the current folder is not there any more") from error

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):  # a locale without a character must not end a command
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **kwargs)
        except _Interrupted:
            _end_by_interrupt()
        except OSError as error:  # help and version: click prints them itself
            if not _is_from(error, click.echo.__code__):
                raise
            _say_unwritten(error)
            sys.exit(1)


class _Interrupted(BaseException):
    """Ctrl-C, where no command has taken it. Not an exception that click knows: it would say "Aborted!"."""


def _end_by_interrupt() -> NoReturn:
    """As SIGINT ends a program that does not know it, so that a shell ends the loop or the script around it, too; with
    ``INTERRUPTED`` where that is not possible (the first process of a container).
    """
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(INTERRUPTED)


def _is_from(error: BaseException, code: CodeType) -> bool:
    """Whether this function raised it."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_code is code


def _say_unwritten(error: OSError) -> None:
    with contextlib.suppress(OSError):
        click.echo(f"Error: standard output cannot be written: {error.strerror}", err=True)
