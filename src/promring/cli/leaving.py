"""What a reload left over, for ``promring status``: services that are gone, deliveries that retire, names before."""

from __future__ import annotations

from typing import Any

from promring.cli.output import paint, say

NAMED_MOST = 10


def show_left_behind(data: dict[str, Any]) -> None:
    """Of the whole status."""
    for one in data.get("left_behind", ()):
        said = (
            f"left behind: {one['service']}: {one['targets']} targets on {_named(one['scrapers'])}: {_named(one['where'])}"
        )
        say(paint(said, "yellow"))
    for before, now in data.get("renamed", {}).items():
        say(f"renamed: /sd/{before}/ is answered as {now} until the next restart")


def show_retiring(service: dict[str, Any], margin: str = "  ") -> None:
    """Of one service."""
    for one in service.get("retiring", ()):
        waiting = f"; not yet: {_named(one['waiting_for'])}" if one["waiting_for"] else ""
        say(f"{margin}old delivery {one['kind']} goes on until {one['until']}{waiting}: {_named(one['places'])}")


def _named(texts: list[str]) -> str:
    more = len(texts) - NAMED_MOST
    return (", ".join(texts[:NAMED_MOST]) or "-") + (f" and {more} more" if more > 0 else "")
