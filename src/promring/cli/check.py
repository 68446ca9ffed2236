"""``promring check FILE``: is a configuration valid, and can all that it asks for be built here?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from promring import trial
from promring.cli import options
from promring.cli.output import say
from promring.config.load import load_with_lines
from promring.model import ConfigError


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--online", is_flag=True, help="Also ask for the scrapers and for every list of targets, once.")
def check(file: Path, *, online: bool) -> None:
    """Validate a configuration, and try what it asks for: programs, keys, folders, Python functions. Nothing is written.

    Exit 0, or 2 with one line an error, `FILE:LINE: key.path: what`. What is valid but hardly meant is a line with
    `warning:`. With --online: 1 when scrapers or a source give no answer, or an empty one.
    """
    try:
        loaded = load_with_lines(file)
        if found := loaded.lines(trial.problems(loaded.settings, file)):
            raise ConfigError(found)
    except ConfigError as error:
        options.say_and_exit(error)
    for line in loaded.lines((path, f"warning: {what}") for path, what in trial.warnings(loaded.settings)):
        say(line, err=True)
    services = loaded.settings.shard_services
    names = ", ".join(s.name for s in services)
    say(f"{file}: valid, {len(services)} shard service{'s' * (len(services) > 1)}: {names}")
    if online:
        from promring.cli.check_online import ask

        if not ask(loaded.settings, file):
            sys.exit(1)
