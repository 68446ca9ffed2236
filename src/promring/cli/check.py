"""``promring check FILE``: is a configuration valid, and can all that it asks for be built here?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from promring.cli.output import Output, output_option, say
from promring.runtime.text import counted

if TYPE_CHECKING:
    from promring.config.settings import Settings
    from promring.read_facts import Asked

INVALID = 2


@dataclass(frozen=True, slots=True)
class Checked:
    """For programs: lines of text as they are said to people, the names of the services, and what was asked online."""

    valid: bool
    errors: Sequence[str] = ()
    warnings: Sequence[str] = ()
    services: Sequence[str] = ()
    online: Sequence[Asked] = ()


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@output_option
@click.option(
    "--web.config.file",
    "web_config_file",
    type=click.Path(path_type=Path),
    help="Also check this file about promring's own port.",
)
@click.option(
    "--as",
    "place",
    type=click.Path(path_type=Path),
    help="Where FILE is to stand: its relative paths start in the folder of that path, not in its own.",
)
@click.option("--online", is_flag=True, help="Also ask for the scrapers, for every list of targets and who leads, once.")
def check(file: Path, output: Output, web_config_file: Path | None, place: Path | None, *, online: bool) -> None:
    """Validate a configuration, and try what it asks for: programs, keys, folders, Python functions. Nothing is written.

    Exit 0, or 2 with one line an error, `FILE:LINE: key.path: what`. What is valid but hardly meant is a line with
    `warning:`. With --online: 1 when scrapers or a source give no answer, or an empty one, or the lock's store gives none.
    """
    place = place or file
    found, settings = _checked(file, place)
    if web_config_file is not None:
        found = _with_web(found, web_config_file)
    if output.is_text:
        _show(file, found)
    if online and settings is not None and found.valid:
        from promring.cli.check_online import ask

        found = replace(found, online=ask(settings, place, output))
    if not output.is_text:
        output.say(asdict(found))
    sys.exit(INVALID if not found.valid else 0 if all(one.answered for one in found.online) else 1)


def _checked(file: Path, place: Path) -> tuple[Checked, Settings | None]:
    """``place``: where the file is to stand."""
    from promring import trial
    from promring.config.load import load_with_lines
    from promring.model import ConfigError

    try:
        loaded = load_with_lines(file, place=place)
        if problems := loaded.lines(trial.problems(loaded.settings, place)):
            raise ConfigError(problems)
    except ConfigError as error:
        return Checked(False, error.problems), None
    warnings = loaded.lines((path, f"warning: {what}") for path, what in trial.warnings(loaded.settings))
    return Checked(True, (), warnings, [s.name for s in loaded.settings.shard_services]), loaded.settings


def _with_web(found: Checked, file: Path) -> Checked:
    """With what is wrong in a ``--web.config.file``, too."""
    from promring.model import ConfigError
    from promring.web.access import Access

    try:
        Access(file)
    except ConfigError as error:
        return replace(found, valid=False, errors=[*found.errors, *error.problems])
    return found


def _show(file: Path, found: Checked) -> None:
    for line in (*found.errors, *found.warnings):
        say(line, err=True)
    if found.valid:
        count = len(found.services)
        say(f"{file}: valid, {counted(count, 'shard service')}: {', '.join(found.services)}")
