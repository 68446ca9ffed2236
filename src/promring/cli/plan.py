"""``promring plan``: who would take what, before it happens."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from promring import log
from promring.build import policy_of
from promring.cli import options, plan_change
from promring.cli.client import Controller, controller_options
from promring.cli.output import output_option, say, say_json, say_table
from promring.core.preview import preview
from promring.model import PromringError
from promring.once import read_facts


@click.command()
@options.config_file
@click.option("--service", help="This shard service; needed when there are several.")
@click.option("--without", multiple=True, metavar="ID", help="As if this scraper were gone. Repeatable.")
@click.option(
    "--with",
    "joining",
    multiple=True,
    metavar="HOST:PORT",
    help="As if it were there; also HOST:PORT,zone=a,weight=2. Repeatable.",
)
@controller_options
@output_option
def plan(
    config_file: Path,
    controller: Controller,
    service: str | None,
    without: tuple[str, ...],
    joining: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show who would own what, and how much would move. Touches nothing.

    With --config.file the controller at --url is asked what a reload with that file would decide, move, forget and leave
    behind; it needs --token-file. Where none answers, the plan is made from the file alone.
    """
    if plan_change.is_asked_for() and (answer := plan_change.asked(controller, config_file, service, without, joining)):
        if as_json:
            say_json(answer)
            return
        with controller.shown():
            plan_change.show(answer, show)
        return
    settings = options.load_or_exit(config_file)
    log.configure("error")
    found = {s.name: s for s in settings.shard_services}
    if service is None and len(found) > 1:
        raise click.UsageError(f"--service: which one? There is {', '.join(found)}")
    if service is not None and service not in found:
        raise click.UsageError(f"--service: no shard service {service!r}; there is {', '.join(found)}")
    chosen = found[service] if service else settings.shard_services[0]
    try:
        new = [chosen.joining(text) for text in joining]
        members, pool = asyncio.run(read_facts(settings, chosen, config_file, log.get()))
        described = preview(pool, members, policy_of(chosen), without=without, joining=new).describe()
    except (PromringError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    described = {"service": chosen.name, **described}
    if as_json:
        say_json(described)
    else:
        show(described)


def show(data: dict[str, Any]) -> None:
    bound = "" if data["most"] is None else f", at most {data['most']} a scraper"
    owned = sum(s["before"] or 0 for s in data["scrapers"])  # with replicas a target counts once for each owner
    what = "targets" if owned <= data["targets"] else "owners of targets"
    share = data["moved"] / owned if owned else 0.0
    say(f"{data['service']}: {data['moved']} of {owned} {what} would move ({share:.1%}){bound}")
    fits = data["fits"]
    if not fits["all"]:
        named = ", ".join(fits["unplaced_targets"])
        say(f"DOES NOT FIT: {fits['unplaced']} targets lack an owner (load {fits['unplaced_load']}): {named}")
    if fits["too_heavy"]:
        say(f"too heavy for its scraper, and there alone: {', '.join(fits['too_heavy_targets'])}")
    zoned, loaded = bool(data["zones"]), data["load"] != data["targets"]
    numbers = ["now", "then", "gains", "gives", *["load now", "load then"] * loaded]
    rows = []
    for s in data["scrapers"]:
        cells = [s["id"], *[s["zone"] or "-"] * zoned, _cell(s["before"]), _cell(s["after"])]
        cells += [str(s["gains"] or ""), str(s["gives"] or "")]
        rows.append([*cells, *([_cell(s["load_before"]), _cell(s["load_after"])] if loaded else [])])
    say_table(["scraper", *["zone"] * zoned, *numbers], rows, right=numbers)
    for z in data["zones"]:
        scrapers = f"{z['scrapers_before']} -> {z['scrapers_after']} scrapers"
        say(f"zone {z['zone'] or '(none)'}: {scrapers}, {z['before']} -> {z['after']} targets")


def _cell(value: int | None) -> str:
    return "-" if value is None else str(value)
