"""What the web needs of the process it is in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeVar

from promring.config.load import Loaded
from promring.config.settings import Settings
from promring.election.leadership import Leadership
from promring.fleet.fleet import Fleet, Service
from promring.model import Placement
from promring.reload.decisions import LeftBehind, Question, Reloaded
from promring.runtime.near import meant
from promring.telemetry.events import Events
from promring.telemetry.metrics import Metrics
from promring.web.answers.plans import ReloadPlan
from promring.web.answers.status import Setting
from promring.web.envelope import ApiError

T = TypeVar("T")


class ReloadState(Protocol):
    successful: bool
    at: float
    problems: list[str]


class Controller(Protocol):
    @property
    def settings(self) -> Settings:
        """Of the configuration in force; ``services`` may lack one of them that is being started."""

    @property
    def loaded(self) -> Loaded:
        """The same, with the lines of its file."""

    @property
    def flags(self) -> Sequence[Setting]:
        """The command line."""

    @property
    def fleets(self) -> Mapping[str, Fleet]: ...
    @property
    def services(self) -> Mapping[str, Service]:
        """Of all fleets."""

    @property
    def metrics(self) -> Metrics: ...
    @property
    def events(self) -> Events: ...
    @property
    def leadership(self) -> Leadership: ...
    @property
    def reload_state(self) -> ReloadState: ...

    @property
    def renamed(self) -> Mapping[str, str]:
        """Names that services had before a reload, and theirs now."""

    @property
    def left_behind(self) -> Sequence[LeftBehind]:
        """Services that are configured no more, and what of them is still there."""

    async def reload(self, *, force: bool = False) -> Reloaded:
        """Read the configuration again: the problems found, none when it is taken, and what was decided by it. ``force``:
        also when targets would be lost by it.
        """

    async def foresee(self, text: bytes, question: Question) -> ReloadPlan:
        """What a reload with this configuration would do. Raises ``ConfigError``, ``PromringError``."""

    def unready(self) -> list[str]:
        """Why the process is not ready; empty when it is."""


def service_of(controller: Controller, name: str) -> Service:
    """Raises ``ApiError``: 503 while a service that is configured is being started, 404 for any other name."""
    return _named(name, controller.services, [service.name for service in controller.settings.shard_services], "service")


def fleet_of(controller: Controller, name: str) -> Fleet:
    """Raises ``ApiError`` as ``service_of`` does."""
    return _named(name, controller.fleets, [fleet.name for fleet in controller.settings.every_fleet], "fleet")


def _named(name: str, running: Mapping[str, T], configured: Collection[str], what: str) -> T:
    if (found := running.get(name)) is not None:
        return found
    if name in configured:
        raise ApiError(503, "unavailable", f"{what} {name!r} is being started")
    raise ApiError(404, "not_found", f"no {what} {name!r}{meant(name, running)}")


def placement_of(service: Service) -> Placement:
    """Raises ``ApiError`` 503 when there is no plan yet."""
    placement = service.placement
    if placement is None:
        raise ApiError(503, "unavailable", service.unready() or "no plan yet")
    return placement
