"""``promring plan --config.file=new.yml``: what a reload with that file would do, as the running controller says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from promring.cli.client import Answered, Controller, UnansweredError, asked_for
from promring.cli.output import say, working
from promring.cli.previews import show_preview
from promring.runtime.regular import read_once
from promring.web.answers.plans import Decision, ReloadPlan

BYTES_MAX = 4 * 1024 * 1024
ASKED_S = 60.0
"""For a preview of a long list of targets."""


def is_asked_for() -> bool:
    """Whether the command that runs was given a configuration, not only the environment."""
    source = click.get_current_context().get_parameter_source("config_file")
    return source is click.core.ParameterSource.COMMANDLINE


def asked(
    controller: Controller, config_file: Path, fleet: str | None, without: Sequence[str], joining: Sequence[str]
) -> Answered[ReloadPlan] | None:
    """What the controller answers; None, and said, when there is none."""
    query = [("name", str(config_file)), *(("without", name) for name in without), *(("with", text) for text in joining)]
    query += [("fleet", fleet)] if fleet else []
    try:
        text = read_once(config_file, BYTES_MAX)
    except (OSError, ValueError):
        return None  # whoever plans alone says why
    if not text:
        return None
    try:
        with working(f"{controller.url} plans with {config_file}"):
            return controller.post(f"/api/v1/plan?{asked_for(query)}", ReloadPlan, text, timeout_s=ASKED_S, changes=False)
    except UnansweredError as error:
        if not config_file.is_file():
            what = f"{config_file} is a pipe, which can be read once: --offline plans from it alone"
            raise UnansweredError(f"no controller is asked: {error.message}; {what}") from error
        say(f"no controller is asked: {error.message}; planned from {config_file} alone", err=True)
        return None


def show(answer: ReloadPlan) -> None:
    say_decisions(answer.decisions)
    if answer.refused:
        say("a reload would be REFUSED, unless it is forced (promring reload --force)")
    for one in answer.fleets:
        if one.preview is None:
            say(f"{one.fleet}: no plan yet to compare with")
        else:
            show_preview(one.fleet, one.preview)
    say("nothing is touched")


def say_decisions(decisions: Sequence[Decision]) -> None:
    """A line each."""
    for one in decisions:
        say(f"{one.service}: {one.kind}: {'LOSS: ' if one.loss else ''}{one.text}")
    if not decisions:
        say("nothing is decided by this configuration: it means what is in force; every list is read anew")
