"""``promring alerts``: which of its own alert rules a running controller finds true."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from promring.cli.client import Controller, controller_options
from promring.cli.output import Output, clock, output_option, paint, say
from promring.web.answers.status import Alert

COLOURS = {"critical": "red", "warning": "yellow"}


@click.command()
@controller_options
@output_option
def alerts(controller: Controller, output: Output) -> None:
    """Show what is wrong by promring's own alert rules, as the controller itself judges them, and where to read what to do.
    Exit 1 when an alert fires; what is true for less long than its rule waits is shown, and is none yet.
    """
    answer = controller.get("/api/v1/alerts", list[Alert])
    if output.is_text:
        _show(controller.url, answer.data)
    else:
        output.say(answer.plain())
    if any(one.state == "firing" for one in answer.data):
        sys.exit(1)


def _show(url: str, every: Sequence[Alert]) -> None:
    for one in every:
        fires = one.state == "firing"
        word = paint(one.severity, COLOURS.get(one.severity, "yellow")) if fires else f"from {clock(one.fires_at)}"
        say(f"{clock(one.since)} ", word, f" {one.alert}: {one.summary} {one.description}")
        say(f"         {url}/{one.runbook}")
    if not every:
        say("no alert")
