"""``promring events``: what a running controller decided."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

import click

from promring.cli.client import Answered, Controller, controller_options
from promring.cli.completion import fleet_names, service_names
from promring.cli.output import Output, end_if_nobody_reads, output_option, paint, say, until_interrupted
from promring.web.answers.status import Event

FOLLOW_S = 1.0
FIRST = ("reason", "joined", "left", "scraper")
WHOLE_SETS = frozenset({"oldnodes", "newnodes", "detail"})
LEVELS = {"warn": "yellow", "error": "red"}


@click.command()
@controller_options
@output_option
@click.option("--fleet", metavar="NAME", shell_complete=fleet_names, help="Of this fleet and its services only.")
@click.option(
    "--service", metavar="NAME", shell_complete=service_names, help="Of this shard service, and of its whole fleet, only."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The newest so many.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C (exit 0). As JSON: one event a line.")
def events(
    controller: Controller, output: Output, fleet: str | None, service: str | None, limit: int, *, follow: bool
) -> None:
    """Show the newest events, oldest first: what the log says, one line a decision."""
    if fleet and service:
        raise click.UsageError("either --fleet or --service")
    chosen = [(name, value) for name, value in (("fleet", fleet), ("service", service)) if value]
    if follow:
        with until_interrupted():
            _follow(controller, output, chosen, limit)
    answer = controller.get("/api/v1/events", list[Event], [("limit", str(limit)), *chosen])
    if not output.is_text:
        output.say(answer.plain())
        return
    _show(answer, output)


def _follow(controller: Controller, output: Output, chosen: Sequence[tuple[str, str]], limit: int) -> NoReturn:
    """The newest ``limit``, and what comes. A controller that does not answer is asked again, but the first time."""
    answer = controller.get("/api/v1/events", list[Event], [("limit", str(limit)), *chosen])
    _show(answer, output)
    seen = answer.data[-1] if answer.data else None
    while True:
        time.sleep(FOLLOW_S)
        end_if_nobody_reads()
        try:
            seen = _go_on(controller, output, chosen, seen)
        except click.ClickException as error:
            say(f"no answer, asked again: {error.message}", err=True)


def _go_on(controller: Controller, output: Output, chosen: Sequence[tuple[str, str]], seen: Event | None) -> Event | None:
    """Show what came after ``seen``; the last one that was shown. A restarted controller counts its events anew, so the last
    event is asked for again: another one in its place is of another process, and what is later than ``seen`` is shown.
    """

    def since(number: int) -> Answered[list[Event]]:
        return controller.get("/api/v1/events", list[Event], [("since", str(number)), ("limit", "1000"), *chosen])

    answer = since(seen.id - 1 if seen else 0)
    shown = 0
    if seen is not None and answer.data[:1] == [seen]:
        shown = 1
    elif seen is not None:
        answer = since(0)
        shown = sum(one.ts <= seen.ts for one in answer.data)
    _show(answer, output, shown)
    return answer.data[-1] if len(answer.data) > shown else seen


def _show(answer: Answered[list[Event]], output: Output, first: int = 0) -> None:
    """Those from the number ``first`` on."""
    if not output.is_text:
        plain = answer.plain()
        for one in plain[first:] if isinstance(plain, list) else ():
            output.say_next(one)
        return
    for event in answer.data[first:]:
        fields = "".join(f" {name}={_quoted(event.fields[name])}" for name in _shown(event.fields))
        names = (("fleet", event.fleet), ("service", event.service))
        about = "".join(f" {name}={value}" for name, value in names if value)
        say(f"{event.ts} ", paint(event.level, LEVELS.get(event.level, "reset")), f" {event.msg}{about}{fields}")


def _shown(fields: Mapping[str, object]) -> Sequence[str]:
    """The names of the fields to show, why and what changed first; where that is told, the whole set is not repeated."""
    left_out = WHOLE_SETS if {"joined", "left"} <= fields.keys() else frozenset()
    names = [name for name in fields if name not in left_out and fields[name] not in ("", None)]
    return sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def _quoted(value: object) -> str:
    """As logfmt has it."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ' "=') else text
