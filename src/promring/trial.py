"""Tries what a configuration asks for, before it is taken: by ``promring check`` and by a reload.

Promises: nothing that runs is touched, nothing is written, and nothing is delivered. A Python target function is imported in
a process of its own, and not called; Ansible reads a playbook. Of a text that came over the network neither is done: the
token is no right to run something here. What cannot be had is a problem with its key path, as ``config.py`` has them.
Not promised: that it is still so a moment later. A start does not try: what comes up without a disk or a key goes on
trying by itself, as a running one does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from promring.config.kinds import Problem
from promring.config.node import Node
from promring.config.settings import Settings

TRIAL_S = 20.0
"""For all of it; what there is no time for is a problem, too."""


def problems(
    settings: Settings, config_file: Path, running: Settings | None = None, *, sent: bool = False
) -> Iterator[Problem]:
    """What cannot be built, or cannot work. What is in ``running`` already is not tried: it is there. ``sent``: the settings
    came over the network, and nothing that they name is run. Blocks.
    """
    deadline = time.monotonic() + TRIAL_S
    folder = config_file.absolute().parent
    sources = [t for s in running.shard_services for t in s.targets] if running else []
    deliveries = [delivery for s in running.shard_services for delivery in s.delivery] if running else []
    for i, service in enumerate(settings.shard_services):
        for j, targets in enumerate(service.targets):
            if targets not in sources and not (sent and targets.trial_runs):
                for path, why in targets.trial(folder, deadline - time.monotonic()):
                    yield ("shard_services", i, "targets", j, targets.kind, *path), why
        scrapers = [service.scraper(node) for node in (Node("any", 1), *service.listed)]
        for j, delivery in enumerate(service.delivery):
            if delivery not in deliveries and not (sent and delivery.trial_runs):
                for path, why in delivery.trial(service.names, scrapers):
                    yield (*settings.keys_at(i), "delivery", j, delivery.kind, *path), why


def warnings(settings: Settings) -> Iterator[Problem]:
    """What is valid, and hardly meant. Blocks."""
    for i, fleet in enumerate(settings.fleets):
        for path, what in fleet.scrapers.doubts():
            yield ("fleets", i, "scrapers", fleet.scrapers.kind, *path), what
    for i, service in enumerate(settings.shard_services):
        if settings.keys_at(i)[0] == "shard_services":
            for path, what in service.scrapers.doubts():
                yield ("shard_services", i, "scrapers", service.scrapers.kind, *path), what
        for j, targets in enumerate(service.targets):
            for path, what in targets.doubts():
                yield ("shard_services", i, "targets", j, targets.kind, *path), what
        for j, delivery in enumerate(service.delivery):
            for path, what in delivery.doubts():
                yield (*settings.keys_at(i), "delivery", j, delivery.kind, *path), what
