"""Completion in a shell: the commands, their options, and the names that the running controller has.

Promises: a controller that does not answer within ``ASKED_S`` costs that long and completes nothing; nothing is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

from promring.cli.client import Controller, controller_at
from promring.cli.output import say_text
from promring.web.answers.fleets import Fleet

ASKED_S = 1.0
SHELLS = ("bash", "zsh", "fish")
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _of_fleets(found: Callable[[Fleet], Iterable[tuple[str, str]]]) -> Complete:
    """``found``: names and what to say of each."""

    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        names = {name: text for fleet in _fleets(context) for name, text in found(fleet)}
        return [CompletionItem(name, help=text) for name, text in sorted(names.items()) if name.startswith(begun)]

    return complete


def _fleets(context: click.Context) -> list[Fleet]:
    controller = context.params.get("controller")
    if not isinstance(controller, Controller):
        controller = controller_at(context.lookup_default("url") or "http://127.0.0.1:9600", None)
    try:
        return controller.get("/api/v1/fleets", list[Fleet], timeout_s=ASKED_S).data
    except click.ClickException:
        return []


scraper_ids = _of_fleets(lambda fleet: ((one.id, f"{fleet.name}, {one.state}") for one in fleet.scrapers))
fleet_names = _of_fleets(lambda fleet: [(fleet.name, f"{len(fleet.scrapers)} scrapers")])
service_names = _of_fleets(lambda fleet: ((name, f"of {fleet.name}") for name in fleet.services))
releasable_names = _of_fleets(lambda fleet: [(fleet.name, "fleet"), *((name, "service") for name in fleet.services)])


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and names. The names are the scrapers, fleets and services of the controller
    at PROMRING_URL. For bash, in ~/.bashrc: eval "$(promring completion bash)"
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"no completion for {shell}")
    root = context.find_root()
    source = found(root.command, {}, "promring", "_PROMRING_COMPLETE").source()
    say_text(source.replace('string split ","', 'string split --max 1 ","'))  # fish: what is said of a name may have commas
