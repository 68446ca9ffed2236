"""``promring where TARGET``: which scraper has it."""

from __future__ import annotations

import sys

import click

from promring.cli.client import Controller, controller_options
from promring.cli.completion import service_names
from promring.cli.output import Output, output_option, say, say_table
from promring.web.answers.targets import Place, Where

IN_FULL_MOST = 5
"""So many targets are shown in full; more of them as a table."""


@click.command()
@click.argument("target")
@controller_options
@output_option
@click.option("--service", metavar="NAME", shell_complete=service_names, help="Look in this shard service only.")
def where(target: str, controller: Controller, output: Output, service: str | None) -> None:
    """Show which scraper has TARGET, and who would have it next. TARGET is an address, the value of a label such as
    instance, the URL that Prometheus scrapes, or a part of one of these. Exit 1 when nobody has it.
    """
    query = [("target", target), *([("service", service)] if service else [])]
    answer = controller.get("/api/v1/where", Where, query)
    if output.is_text:
        _show(target, answer.data)
    else:
        output.say(answer.plain())
    if not any(one.scrapers or one.besides for one in answer.data.targets):
        sys.exit(1)


def _show(target: str, data: Where) -> None:
    for one in data.unready:
        say(f"{one.service}: no plan yet: {one.reason}", err=True)
    found = data.targets
    if len(found) > IN_FULL_MOST:
        say_table(("service", "target", "scraper"), [(one.service, one.target, _owners(one)) for one in found])
    else:
        for place in found:
            _show_one(place)
    if data.total > len(found):
        say(f"{data.total} in all" + (" that were looked at" if data.truncated else ""))
    if not found:
        say(_nothing(target, data), err=True)
        if data.near:
            say(f"near it: {', '.join(data.near)}", err=True)


def _nothing(target: str, data: Where) -> str:
    """Never more than what was looked at."""
    if data.truncated:
        return f"{target} was not found, and not everything was looked at: the search ended after 2 s"
    return f"no service{' with a plan' if data.unready else ''} has the target {target}"


def _show_one(one: Place) -> None:
    labels = " ".join(f"{name}={value}" for name, value in one.labels.items())
    say(f"{one.service}: {one.target} {labels}".rstrip())
    say(f"  scraper     {_owners(one)} ({one.reason})")
    for beside in one.besides:
        say(f"  besides     {beside.scraper} ({beside.why})")
    if one.load != 1:
        say(f"  load        {one.load}")
    say(f"  preference  {' '.join(one.preference)}")


def _owners(one: Place) -> str:
    return ", ".join(f"{name} (down)" if name in one.down else name for name in one.scrapers) or "nobody"
