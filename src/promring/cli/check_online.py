"""``promring check --online``: asks everything that a configuration names, once. Loaded by ``promring check`` only then."""

from __future__ import annotations

import asyncio
from pathlib import Path

from promring.cli.output import say, working
from promring.config.settings import Settings
from promring.once import Asked, ask_each
from promring.telemetry import log


def ask(settings: Settings, config_file: Path) -> bool:
    """Whether every scraper list and every source answered; says what each said. Nothing is written or registered."""
    log.configure("error")
    good = True
    for fleet in settings.every_fleet:
        sources = sum(len(service.targets) for service in fleet.services)
        with working(f"{fleet.name}: asking who its scrapers are, and {sources} sources"):
            found = asyncio.run(ask_each(settings, fleet, config_file, log.get()))
        for one in found:
            good = good and one.answered
            _say(one)
    return good


def _say(one: Asked) -> None:
    say(f"{one.of}: {one.what}: {one.said}", err=not one.answered)
