"""``promring check FILE``: is a configuration valid?"""

from __future__ import annotations

from pathlib import Path

import click

from promring.cli import options
from promring.cli.output import say


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Validate a configuration: exit 0, or 2 with one line an error, `FILE:LINE: key.path: what`."""
    settings = options.load_or_exit(file)
    names = ", ".join(s.name for s in settings.shard_services)
    count = len(settings.shard_services)
    say(f"{file}: valid, {count} shard service{'s' if count > 1 else ''}: {names}")
