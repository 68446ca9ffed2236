"""Tries what a configuration asks for, before it is taken: by ``promring check`` and by a reload.

Promises: nothing that runs is touched, nothing is written, and nothing is delivered. A Python target function is imported in
a process of its own, and not called; Ansible reads a playbook. Of a text that came over the network neither is done: the
token is no right to run something here. What cannot be had is a problem with its key path, as ``config.load`` has them.
Not promised: that it is still so a moment later. A start does not try: what comes up without a disk or a key goes on
trying by itself, as a running one does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from promring.config.document import KeyPath
from promring.config.http_client import HttpConfig
from promring.config.kinds import Problem
from promring.config.node import Node
from promring.config.settings import FleetKeys, Settings
from promring.discovery import SourceSettings
from promring.runtime.address import UNSPECIFIED, is_unspecified
from promring.runtime.text import counted

TRIAL_S = 20.0
"""For all of it; what there is no time for is a problem, too."""
OFTEN_S = 0.1
"""A source that is asked more often than that is hardly meant."""


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
        yield from _of_few_scrapers(("fleets", i), fleet)
        yield from _passwordless(("fleets", i, "scraper_api"), fleet.scraper_api)
    for i, service in enumerate(settings.shard_services):
        if settings.keys_at(i)[0] == "shard_services":
            for path, what in service.scrapers.doubts():
                yield ("shard_services", i, "scrapers", service.scrapers.kind, *path), what
            yield from _of_few_scrapers(("shard_services", i), service)
            yield from _passwordless(("shard_services", i, "scraper_api"), service.scraper_api)
        listed, copies = len(service.listed), service.placement.replication_factor
        if service.scrapers.lists_all and copies > listed:
            path = ("shard_services", i, "placement", "replication_factor")
            yield path, f"only {counted(listed, 'scraper')} listed: a target is on that many at most"
        for j, targets in enumerate(service.targets):
            for path, what in targets.doubts():
                yield ("shard_services", i, "targets", j, targets.kind, *path), what
            yield from _asked_often(("shard_services", i, "targets", j, targets.kind), targets)
            yield from _passwordless(("shard_services", i, "targets", j, targets.kind), targets)
        for j, delivery in enumerate(service.delivery):
            for path, what in delivery.doubts():
                yield (*settings.keys_at(i), "delivery", j, delivery.kind, *path), what


def _of_few_scrapers(at: KeyPath, keys: FleetKeys) -> Iterator[Problem]:
    """What asks for more of the scrapers that the configuration lists than they are."""
    wait, listed = keys.wait_for, len(keys.listed)
    if keys.scrapers.lists_all and wait is not None and wait.scrapers > listed:
        what = f"only {counted(listed, 'scraper')} listed: each cold start lasts {wait.at_most:g} s (at_most)"
        yield (*at, "wait_for", "scrapers"), what
    for i, node in enumerate(keys.listed):
        if is_unspecified(node.host):
            yield (*at, "scrapers", keys.scrapers.kind, *keys.scrapers.listed_at, i), UNSPECIFIED


def _blocks(targets: SourceSettings) -> Iterator[tuple[KeyPath, SourceSettings]]:
    """What stands under the key of its kind, and where."""
    yield from [((i,), part) for i, part in enumerate(targets.parts)] if targets.joins else [((), targets)]


def _passwordless(at: KeyPath, keys: object) -> Iterator[Problem]:
    """Prometheus sends an empty password, too, and it is hardly meant."""
    blocks = _blocks(keys) if isinstance(keys, SourceSettings) else [((), keys)]
    for path, one in blocks:
        user = one.basic_auth if isinstance(one, HttpConfig) else None
        if user is not None and user.password is None and user.password_file is None:
            yield (*at, *path, "basic_auth"), "no password: an empty one is sent"


def _asked_often(at: KeyPath, targets: SourceSettings) -> Iterator[Problem]:
    """``5ms`` may be meant to be ``5m``."""
    for path, one in _blocks(targets):
        for key in ("interval", "refresh_interval"):
            if (every_s := getattr(one, key, OFTEN_S)) < OFTEN_S:
                yield (*at, *path, key), f"asks every {every_s * 1000:g}ms: ms are milliseconds, m are minutes"
