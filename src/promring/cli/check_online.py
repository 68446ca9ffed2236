"""``promring check --online``: asks everything that a configuration names, once. Loaded by ``promring check`` only then."""

from __future__ import annotations

import asyncio
from pathlib import Path

from promring.cli.output import Output, say, working
from promring.config.settings import Settings
from promring.read_facts import Asked, ask_each
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
        for one in found if output.is_text else ():
            say(f"{one.of}: {one.what}: {one.said}", err=not one.answered)
    return every
