"""Files that a configuration names: whether they can be read, and make what they are for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from promring.config.document import KeyPath
from promring.config.http_client import Tls
from promring.config.kinds import Kind, Problem
from promring.config.settings import FLEET_ONLY, Settings, ShardService
from promring.config.values import SecretPath
from promring.runtime import regular, secretfile


def why_unreadable(error: OSError | ValueError) -> str:
    """What the system says, without the name of the file."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def shared_name_problems(settings: Settings) -> Iterator[Problem]:
    """Files that a delivery of a fleet names, and that do not go with so many services."""
    services = Counter(service.fleet for service in settings.shard_services)
    for number, fleet in enumerate(settings.fleets):
        for i, delivery in enumerate(fleet.delivery):
            for inner, what in delivery.shared_by(services[fleet.name]):
                yield ("fleets", number, "delivery", i, delivery.kind, *inner), what


def file_problems(settings: Settings) -> Iterator[Problem]:
    """Files that are named and cannot be read, TLS files that make no TLS, secrets that cannot be sent. What a fleet says is
    looked at there, and not again in each of its services.
    """
    for name, info in Settings.model_fields.items():
        if name != "shard_services":
            yield from _problems(getattr(settings, name), (info.alias or name,))
    for i, service in enumerate(settings.shard_services):
        of_fleet = settings.keys_at(i)[0] == "fleets"
        said_there = {*FLEET_ONLY, "placement", "guard"} if of_fleet else set()  # of the last two a service says no files
        for name in ShardService.model_fields.keys() - said_there:
            yield from _problems(getattr(service, name), ("shard_services", i, name))


def _problems(value: object, path: KeyPath) -> Iterator[Problem]:
    if isinstance(value, Path):
        try:
            regular.check(value)
            if isinstance(value, SecretPath):
                secretfile.check_line(value)
        except (OSError, ValueError) as error:
            yield path, f"{value}: {why_unreadable(error)}"
        except secretfile.SecretError as error:  # its text names the file
            yield path, str(error)
    elif isinstance(value, BaseModel):
        unreadable = False
        path = (*path, value.kind) if isinstance(value, Kind) else path
        for name, info in type(value).model_fields.items():
            for problem in _problems(getattr(value, name), (*path, info.alias or name)):
                unreadable = True
                yield problem
        if isinstance(value, Tls) and not unreadable:
            try:
                value.files().context()
            except (OSError, ValueError) as error:
                yield path, f"makes no TLS context: {' '.join(str(error).split())}"
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _problems(item, (*path, i))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _problems(item, (*path, key))
