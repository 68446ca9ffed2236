"""``promring plan``: who would take what, before it happens."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from promring import log
from promring.build import policy_of
from promring.cli import options
from promring.core.preview import preview
from promring.model import PromringError
from promring.once import read_facts
from promring.settings import parse_host_port


@click.command()
@options.config_file
@click.option("--service", help="This shard service; needed when there are several.")
@click.option("--without", multiple=True, metavar="ID", help="As if this scraper were gone. Repeatable.")
@click.option("--with", "joining", multiple=True, metavar="HOST:PORT", help="As if this scraper were there. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the SHA-256 of each slice.")
def plan(config_file: Path, service: str | None, without: tuple[str, ...], joining: tuple[str, ...], as_json: bool) -> None:
    """Read the facts once and print who would own what, and how much would move. Touches nothing."""
    settings = options.load_or_exit(config_file)
    log.configure("error")
    found = {s.name: s for s in settings.shard_services}
    if service is None and len(found) > 1:
        raise click.UsageError(f"--service: which one? There is {', '.join(found)}")
    if service is not None and service not in found:
        raise click.UsageError(f"--service: no shard service {service!r}; there is {', '.join(found)}")
    chosen = found[service] if service else settings.shard_services[0]
    try:
        new = [chosen.scraper(parse_host_port(text)) for text in joining]
        members, pool = asyncio.run(read_facts(settings, chosen, config_file, log.get()))
        described = preview(pool, members, policy_of(chosen), without=without, joining=new).describe()
    except (PromringError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    described = {"service": chosen.name, **described}
    if as_json:
        click.echo(json.dumps(described, indent=2))
    else:
        show(described)


def show(data: dict[str, Any]) -> None:
    console = Console(highlight=False)
    bound = "" if data["most"] is None else f", at most {data['most']} a scraper"
    share = data["moved"] / data["targets"]
    console.print(f"{data['service']}: {data['moved']} of {data['targets']} targets would move ({share:.1%}){bound}")
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("scraper", "now", "then", "gains", "gives"):
        table.add_column(name, justify="left" if name == "scraper" else "right")
    for s in data["scrapers"]:
        now, then = ("-" if s[key] is None else str(s[key]) for key in ("before", "after"))
        table.add_row(escape(s["id"]), now, then, str(s["gains"] or ""), str(s["gives"] or ""))
    console.print(table)
