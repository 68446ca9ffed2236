"""What the web needs of the process it is in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from promring.events import Events
from promring.leadership import Leadership
from promring.metrics import Metrics
from promring.service import Service


class ReloadState(Protocol):
    successful: bool
    at: float
    problems: list[str]


class Controller(Protocol):
    @property
    def services(self) -> Mapping[str, Service]: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def events(self) -> Events: ...
    @property
    def leadership(self) -> Leadership: ...
    @property
    def reload_state(self) -> ReloadState: ...

    async def reload(self) -> list[str]:
        """Read the configuration again; the problems found, none when it is taken."""

    def unready(self) -> list[str]:
        """Why the process is not ready; empty when it is."""
