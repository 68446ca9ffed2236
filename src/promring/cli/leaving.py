"""What a reload left over, for ``promring status``: services that are gone, deliveries that retire, names before."""

from __future__ import annotations

from collections.abc import Sequence

from promring.cli.output import paint, say
from promring.runtime.text import counted, few
from promring.web.answers.fleets import Retiring
from promring.web.answers.status import Status

NAMED_MOST = 10


def show_left_behind(data: Status) -> None:
    """Of the whole status."""
    for one in data.left_behind:
        said = f"left behind: {one.service}: {counted(one.targets, 'target')} on {_named(one.scrapers)}: {_named(one.where)}"
        say(paint(said, "yellow"))
    for before, now in data.renamed.items():
        say(f"renamed: /sd/{before}/ is answered as {now} until the next restart")


def show_retiring(retiring: Sequence[Retiring], margin: str = "  ") -> None:
    """Of one service."""
    for one in retiring:
        waiting = f"; not yet: {_named(one.waiting_for)}" if one.waiting_for else ""
        say(f"{margin}old delivery {one.kind} goes on until {one.until}{waiting}: {_named(one.places)}")


def _named(texts: list[str]) -> str:
    return few(texts, NAMED_MOST) or "-"
