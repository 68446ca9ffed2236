"""Tries what a configuration asks for, before it is taken: by ``promring check`` and by a reload.

Promises: nothing that runs is touched, nothing is written, and nothing is delivered. A Python target function is imported in
a process of its own, and not called. What cannot be had is a problem with its key path, as ``config.py`` has them.
Not promised: that it is still so a moment later. A start does not try: what comes up without a disk or a key goes on
trying by itself, as a running one does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from promring.build import ansible_settings, ssh_settings
from promring.config.kinds import Problem
from promring.config.node import Node
from promring.config.settings import (
    AnsibleDelivery,
    FileDelivery,
    Settings,
    ShardService,
    SshDelivery,
)
from promring.delivery.ansible_run import NOT_INSTALLED, find_program
from promring.delivery.ssh import require_asyncssh
from promring.delivery.ssh_trust import UnsentError, read_trust, why_not_valid
from promring.model import ConfigError
from promring.runtime.disk import why_not_writable
from promring.runtime.paths import of_fleet, render

TRIAL_S = 20.0
"""For all of it; what there is no time for is a problem, too."""


def problems(settings: Settings, config_file: Path, running: Settings | None = None) -> Iterator[Problem]:
    """What cannot be built, or cannot work. What is in ``running`` already is not tried: it is there. Blocks."""
    deadline = time.monotonic() + TRIAL_S
    folder = config_file.absolute().parent
    sources = [t for s in running.shard_services for t in s.targets] if running else []
    deliveries = [d.chosen for s in running.shard_services for d in s.delivery] if running else []
    for i, service in enumerate(settings.shard_services):
        for j, targets in enumerate(service.targets):
            if targets not in sources:
                for path, why in targets.trial(folder, deadline - time.monotonic()):
                    yield ("shard_services", i, "targets", j, targets.kind, *path), why
        for j, delivery in enumerate(service.delivery):
            if delivery.kind in TRIALS and delivery.chosen not in deliveries:
                for key, why in TRIALS[delivery.kind](delivery.chosen, service):
                    yield ("shard_services", i, "delivery", j, delivery.kind, *key), why


def warnings(settings: Settings) -> Iterator[Problem]:
    """What is valid, and hardly meant. Blocks."""
    for i, service in enumerate(settings.shard_services):
        for j, targets in enumerate(service.targets):
            for path, what in targets.doubts():
                yield ("shard_services", i, "targets", j, targets.kind, *path), what
        for j, delivery in enumerate(service.delivery):
            if isinstance(delivery.chosen, SshDelivery) and (said := _skipped_lines(delivery.chosen)):
                yield ("shard_services", i, "delivery", j, "ssh", "known_hosts"), said


Found = Iterator[tuple[tuple[str, ...], str]]


def _file(wanted: FileDelivery, service: ShardService) -> Found:
    """The folders of the scrapers that are listed, and of one that any service may have."""
    nodes = [Node("any", 1), *service.listed]
    for folder in {
        render(of_fleet(wanted.path, service.fleet), service.name, service.scraper(node)).parent for node in nodes
    }:
        if why := why_not_writable(folder):
            yield ("path",), why
            return


def _ssh(wanted: SshDelivery, _: ShardService) -> Found:
    try:
        require_asyncssh()
    except ConfigError as error:
        yield (), str(error)
        return
    try:
        trust = read_trust(ssh_settings(wanted).key_files)
    except UnsentError as error:
        yield (_named(wanted, str(error), ("identity_file", "known_hosts", "certificate_file")),), str(error)
        return
    if trust.skipped and not trust.lines:
        yield ("known_hosts",), f"{wanted.known_hosts}: {trust.said}"
    if why := why_not_valid(trust.certificate):
        yield ("certificate_file",), f"{ssh_settings(wanted).key_files.certificate}: {why}"


def _skipped_lines(wanted: SshDelivery) -> str:
    """Of known_hosts; empty where it cannot be read or has no line, which is a problem already."""
    try:
        require_asyncssh()
        trust = read_trust(ssh_settings(wanted).key_files)
    except (ConfigError, UnsentError):
        return ""
    return f"{wanted.known_hosts}: {trust.said}" if trust.skipped and trust.lines else ""


def _ansible(wanted: AnsibleDelivery, _: ShardService) -> Found:
    if find_program() is None:
        yield (), NOT_INSTALLED
    elif why := ansible_settings(wanted).run.why_not_runnable():
        yield (_named(wanted, why, ("playbook", "identity_file", "vault_password_file", "extra_vars_file")),), why


def _named(wanted: AnsibleDelivery | SshDelivery, why: str, keys: Sequence[str]) -> str:
    """The key whose file ``why`` begins with, else the first."""
    return next((key for key in keys if why.startswith(f"{getattr(wanted, key)}: ")), keys[0])


TRIALS: Mapping[str, Callable[[Any, ShardService], Found]] = {"file": _file, "ssh": _ssh, "ansible": _ansible}
