"""``promring config``: the values in force, with the line that each is from."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from promring.cli.client import Controller, controller_options
from promring.cli.output import Output, output_option, say
from promring.web.answers.status import EffectiveConfiguration, Setting


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@controller_options
@output_option
@click.option("--no-defaults", is_flag=True, help="Only what somebody has said.")
def config(file: Path | None, controller: Controller, output: Output, *, no_defaults: bool) -> None:
    """Show every value that a running controller has in force, defaults included, and where each is from: a line of the
    file, a flag, the environment. With FILE: what that file means, without a controller. Secrets are ***, and so is free
    text that may have one: arguments of programs, headers, settings of Python functions.
    """
    answer = None if file else controller.get("/api/v1/config", EffectiveConfiguration)
    found = answer.data if answer else _of(file or Path())
    flags, settings = (_said(some) if no_defaults else some for some in (found.flags, found.settings))
    if not output.is_text:
        shorter = msgspec.to_builtins(msgspec.structs.replace(found, flags=flags, settings=settings))
        output.say(answer.plain() if answer and not no_defaults else shorter)
        return
    for one in (*flags, *settings):
        say(f"{one.key}: {one.value}  # {_origin(one, found.file)}")


def _said(some: list[Setting]) -> list[Setting]:
    return [one for one in some if one.origin != "default"]


def _origin(one: Setting, file: str) -> str:
    return one.origin if one.line is None else f"{file}:{one.line}"


def _of(file: Path) -> EffectiveConfiguration:
    from promring.cli.options import say_and_exit
    from promring.config.load import load_with_lines
    from promring.model import ConfigError
    from promring.web.views.configuration import configuration

    try:
        return configuration(load_with_lines(file), None)
    except ConfigError as error:
        say_and_exit(error)
