"""Which fleet of a running controller a command is about: the one that is named, or the only one that it can mean."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click

from promring.cli.client import Controller
from promring.runtime.near import meant
from promring.web.answers.fleets import Fleet


def fleets_of(controller: Controller) -> list[Fleet]:
    """Every fleet, as the API describes it."""
    return controller.get("/api/v1/fleets", list[Fleet]).data


def one_fleet(fleets: Sequence[Fleet], named: str | None, scrapers: Collection[str] = ()) -> str:
    """The fleet that is ``named``; else the only one, or the only one that has these scrapers. Else ends the command with a
    message that names the fleets.
    """
    names = [fleet.name for fleet in fleets]
    if named is not None:
        return known_fleet(names, named)
    if len(names) == 1:
        return names[0]
    having = [fleet.name for fleet in fleets if set(scrapers) <= {one.id for one in fleet.scrapers}]
    if not scrapers or len(having) > 1:
        raise click.UsageError(f"--fleet: which one? There is {', '.join(having or names)}")
    if not having:
        one = "the scraper" if len(scrapers) == 1 else "the scrapers"
        ids = [scraper.id for fleet in fleets for scraper in fleet.scrapers]
        hint = meant(next(iter(scrapers)), ids)
        raise click.ClickException(f"no fleet has {one} {', '.join(map(repr, scrapers))}; there is {', '.join(names)}{hint}")
    return having[0]


def known_fleet(names: Sequence[str], named: str) -> str:
    if named not in names:
        raise click.ClickException(f"no fleet {named!r}; there is {', '.join(names)}{meant(named, names)}")
    return named
