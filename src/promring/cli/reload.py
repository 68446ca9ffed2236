"""``promring reload``: let the running controller read its configuration again."""

from __future__ import annotations

import click

from promring.cli.client import Controller, controller_options
from promring.cli.output import Output, output_option, say, working
from promring.cli.plan_change import say_decisions
from promring.web.answers.plans import Reloaded

RELOAD_S = 90.0


@click.command()
@click.option("--force", is_flag=True, help="Also when targets that are scraped now would be scraped by nobody.")
@controller_options
@output_option
def reload(controller: Controller, output: Output, *, force: bool) -> None:
    """Let the controller read its configuration again, and say what is decided by it. Needs --token-file. A configuration
    that is bad, cannot be built or would lose targets is refused, and nothing changes; promring plan says it before.
    """
    with working(f"{controller.url} reads its configuration"):
        answer = controller.post(f"/-/reload?force={'true' if force else 'false'}", Reloaded, timeout_s=RELOAD_S)
    if not output.is_text:
        output.say(answer.plain())
        return
    say("reloaded")
    say_decisions(answer.data.decisions)
