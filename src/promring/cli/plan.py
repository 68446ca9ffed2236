"""``promring plan``: who would take what, before it happens.

The running controller is asked, as it knows what no file says: drains, who counts as alive, which lists the guard let
through. Where none answers, or with ``--offline``, the facts are read from what the configuration names.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from promring.cli import options, plan_change
from promring.cli.client import Controller, UnansweredError, controller_options, segment
from promring.cli.fleets import fleets_of, one_fleet
from promring.cli.output import output_option, say, say_json, say_table


@click.command()
@options.config_file
@click.option("--fleet", metavar="NAME", help="This fleet; needed when several could be meant.")
@click.option("--without", multiple=True, metavar="ID", help="As if this scraper were drained or dead. Repeatable.")
@click.option(
    "--with",
    "joining",
    multiple=True,
    metavar="HOST:PORT",
    help="As if it were there; also HOST:PORT,zone=a,weight=2. Repeatable.",
)
@click.option("--offline", is_flag=True, help="Ask no controller: plan from the configuration alone.")
@controller_options
@output_option
def plan(
    config_file: Path,
    controller: Controller,
    as_json: bool,
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
        answer = plan_change.asked(controller, config_file, fleet, without, joining)
        if answer is not None:
            plan_change.show(controller, answer, show, as_json=as_json)
            return
        offline = True
    described = None if offline else _asked(controller, fleet, without, joining)
    if described is None:
        from promring.cli.plan_offline import planned

        described = planned(config_file, fleet, without, joining)
        where = f"from {config_file} alone: drains and what a controller holds are not in it"
    else:
        where = f"as {controller.url} would decide now"
    if as_json:
        say_json(described)
        return
    with controller.shown():
        show(described)
        say(f"{where}; nothing is touched")


def _asked(
    controller: Controller, fleet: str | None, without: tuple[str, ...], joining: tuple[str, ...]
) -> dict[str, Any] | None:
    """What the running controller says; None, and said, when there is none."""
    try:
        fleets = fleets_of(controller)
    except UnansweredError as error:
        say(f"no controller is asked: {error.message}", err=True)
        return None
    with controller.shown():
        name = one_fleet(fleets, fleet, without)
    query = [*(("without", name) for name in without), *(("with", text) for text in joining)]
    described: dict[str, Any] = controller.get(f"/api/v1/fleets/{segment(name)}/plan", query)
    return described


def show(data: dict[str, Any]) -> None:
    bound = "" if data["most"] is None else f", at most {data['most']} a scraper"
    owned = sum(s["before"] or 0 for s in data["scrapers"])  # with replicas a target counts once for each owner
    what = "targets" if owned <= data["targets"] else "owners of targets"
    share = data["moved"] / owned if owned else 0.0
    say(f"{data['fleet']}: {data['moved']} of {owned} {what} would move ({share:.1%}){bound}")
    for one in data.get("held", ()):
        until = time.strftime(" until %H:%M:%S", time.localtime(one["until"])) if one["until"] else ""
        say(f"held{until}, and not a part of this: {one['detail']}")
    if drained := data.get("drained"):
        say(f"drained: {', '.join(drained)}")
    _show_fit(data)
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


def _show_fit(data: dict[str, Any]) -> None:
    fits = data["fits"]
    if not fits["all"]:
        named = ", ".join(fits["unplaced_targets"])
        say(f"DOES NOT FIT: {fits['unplaced']} targets lack an owner (load {fits['unplaced_load']}): {named}")
    if data["no_room"]:
        kept = "of a drained scraper they stay with it while it lives, of a dead one nobody scrapes them"
        say(f"{data['no_room']} of them have an owner now: {kept}")
    if fits["too_heavy"]:
        say(f"too heavy for its scraper, and there alone: {', '.join(fits['too_heavy_targets'])}")


def _cell(value: int | None) -> str:
    return "-" if value is None else str(value)
