"""What is asked of Consul for targets, and what was heard of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from pydantic import Field

from promring.config.values import ENTRIES_MAX, Interval
from promring.consul.answers import Read
from promring.discovery import SourceSettings
from promring.model import LONG_AGO

DOUBT_S = 60.0
Texts = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=ENTRIES_MAX)]


class ConsulQuery(SourceSettings):
    """Which services, and how they are asked for. Empty ``services``: all. ``tags``: an instance has all of them. ``filter``
    is for the catalogue, ``health_filter`` for each service. ``allow_stale``: any server may answer. ``refresh_interval``:
    everything is read again at the latest after this. ``namespace`` and ``partition``: of the Enterprise edition.
    """

    services: Texts = Field(default=[])
    tags: Texts = Field(default=[])
    node_meta: dict[str, str] = Field(default={})
    filter: str = ""
    health_filter: str = ""
    allow_stale: bool = True
    tag_separator: str = ","
    namespace: str = ""
    partition: str = ""
    refresh_interval: Interval = 30.0

    @property
    def in_datacenters(self) -> Sequence[str]:
        """Empty: the agent's own."""
        return ()

    @property
    def instead_of_port(self) -> int | None:
        """In addresses, instead of the ports of the instances."""
        return None

    @property
    def are_named(self) -> bool:
        """Whether the services are known without the catalogue."""
        return bool(self.services) and not self.tags and not self.filter

    def query(self, datacenter: str, filter_: str) -> list[tuple[str, str]]:
        found = [("dc", datacenter), ("ns", self.namespace), ("partition", self.partition), ("filter", filter_)]
        meta = [("node-meta", f"{key}:{value}") for key, value in sorted(self.node_meta.items())]
        return [pair for pair in found if pair[1]] + ([("stale", "")] if self.allow_stale else []) + meta


class Place(NamedTuple):
    """A part of the source."""

    datacenter: str
    service: str

    def __str__(self) -> str:
        return f"{self.datacenter}/{self.service}"


@dataclass(slots=True)
class Indexes:
    """Of one thing that is read: the index of the newest answer, heard ``at``; doubted ``until``. Monotonic seconds."""

    newest: int = 0
    until: float = 0.0
    at: float = LONG_AGO

    def doubts(self, answer: Heard) -> bool:
        """Note an answer. Whether there is doubt about it."""
        if answer.read.index < self.newest:
            self.until = answer.at + DOUBT_S
        self.newest, self.at = answer.read.index, answer.at
        return answer.at < self.until


class Heard(NamedTuple):
    at: float
    read: Read
