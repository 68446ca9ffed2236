"""``promring check --online``: asks everything that a configuration names, once. Loaded by ``promring check`` only then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from promring.cli.output import Output, say, working
from promring.config.settings import Settings
from promring.read_facts import NAMED, Asked, ask_each, ask_lock
from promring.telemetry import log


def ask(settings: Settings, config_file: Path, output: Output) -> list[Asked]:
    """What scrapers and sources said, each of them told at once where people read it. Nothing is written or registered."""
    log.configure("error")
    every: list[Asked] = []
    for fleet in settings.every_fleet:
        sources = sum(len(service.targets) for service in fleet.services)
        with working(f"{fleet.name}: asking who its scrapers are, and {sources} sources"):
            found = asyncio.run(ask_each(settings, fleet, config_file, log.get()))
        every += found
        _say(found, output)
    with working("asking who leads"):
        lock = asyncio.run(ask_lock(settings))
    more = [one for one in (_shared(every), lock) if one is not None]
    _say(more, output)
    return every + more


def _say(found: Sequence[Asked], output: Output) -> None:
    for one in found if output.is_text else ():
        say(f"{one.of}: {one.what}: {one.said}", err=not one.answered)


def _shared(every: Sequence[Asked]) -> Asked | None:
    """Servers that several fleets have: each fleet then gives it a whole share, and knows nothing of the other's."""
    fleets: dict[str, list[str]] = {}
    for one in every:
        for name, birth in one.servers.items():
            fleets.setdefault(birth, []).append(f"{name} of {one.of}")
    shared = [names for names in fleets.values() if len({name.rpartition(" of ")[2] for name in names}) > 1]
    if not shared:
        return None
    said = "; ".join(f"{' and '.join(names)} are one server" for names in shared[:NAMED])
    return Asked("fleets", "scrapers", False, f"{said}: fleets do not know each other's load")
