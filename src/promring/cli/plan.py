"""``promring plan``: who would take what, before it happens.

The running controller is asked, as it knows what no file says: drains, who counts as alive, which lists the guard let
through. Where none answers, or with ``--offline``, the facts are read from what the configuration names.
"""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from promring.cli import options, plan_change
from promring.cli.client import Answered, Controller, UnansweredError, controller_options, segment
from promring.cli.completion import fleet_names, scraper_ids
from promring.cli.fleets import fleets_of, one_fleet
from promring.cli.output import Output, output_option, say
from promring.cli.previews import show_plan
from promring.web.answers.plans import Plan


@click.command()
@options.config_file
@click.option("--fleet", metavar="NAME", shell_complete=fleet_names, help="This fleet; needed when several could be meant.")
@click.option(
    "--without",
    type=options.Identity(),
    multiple=True,
    metavar="ID",
    shell_complete=scraper_ids,
    help="As if this scraper were drained or dead. Repeatable.",
)
@click.option(
    "--with",
    "joining",
    multiple=True,
    metavar="HOST:PORT",
    help="As if it were there, or drained no more; also HOST:PORT,zone=a,weight=2. Repeatable.",
)
@click.option("--offline", is_flag=True, help="Ask no controller: plan from the configuration alone.")
@controller_options
@output_option
def plan(
    config_file: Path,
    controller: Controller,
    output: Output,
    fleet: str | None,
    without: tuple[str, ...],
    joining: tuple[str, ...],
    *,
    offline: bool,
) -> None:
    """Show who would own what, and how much would move, of all services of a fleet. Touches nothing.

    The controller at --url says how it would decide now: with its drains, who counts as alive, and the lists that its guard
    let through. With --config.file it says what a reload with that file would decide, move and leave behind, which
    needs --token-file. Where no controller answers, or with --offline, the plan is made from the file alone.
    """
    if not offline and plan_change.is_asked_for():
        change = plan_change.asked(controller, config_file, fleet, without, joining)
        if change is not None:
            if output.is_text:
                plan_change.show(change.data)
            else:
                output.say(change.plain())
            return
        offline = True
    answer = None if offline else _asked(controller, fleet, without, joining)
    if answer is not None:
        found, plain = answer.data, answer.plain()
        where = f"as {controller.url} would decide now"
    else:
        from promring.cli.plan_offline import planned

        found = planned(config_file, fleet, without, joining)
        plain = msgspec.to_builtins(found)
        where = f"from {config_file} alone: drains and what a controller holds are not in it"
    if not output.is_text:
        output.say(plain)
        return
    show_plan(found)
    say(f"{where}; nothing is touched")


def _asked(
    controller: Controller, fleet: str | None, without: tuple[str, ...], joining: tuple[str, ...]
) -> Answered[Plan] | None:
    """What the running controller says; None, and said, when there is none."""
    try:
        fleets = fleets_of(controller)
    except UnansweredError as error:
        say(f"no controller is asked: {error.message}", err=True)
        return None
    name = one_fleet(fleets, fleet, without)
    query = [*(("without", name) for name in without), *(("with", text) for text in joining)]
    return controller.get(f"/api/v1/fleets/{segment(name)}/plan", Plan, query)
