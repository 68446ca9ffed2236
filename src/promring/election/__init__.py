"""Which of several controllers leads.

A kind of lock is one file of its protocol's package: its settings (``LockSettings``) and its lock; and one row in
``kinds.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from promring.config.kinds import Kind, Sections
from promring.election.leadership import Leadership
from promring.telemetry.log import Logger


class Lock(Protocol):
    async def run(self) -> None:
        """For ever: keep ``Leadership`` true."""

    async def release(self) -> None:
        """Let another controller have it at once."""


@dataclass(frozen=True, slots=True)
class LockContext:
    """What a lock is built from beside its own settings. ``name``: of this controller, for people; ``informed``: whether we
    know as much as another controller may; ``highest``: the highest epoch that we know; ``drained``: the scrapers that are
    drained as far as we know, by fleet.
    """

    name: str
    sections: Sections
    leadership: Leadership
    informed: Callable[[], bool]
    highest: Callable[[], int]
    drained: Callable[[], Mapping[str, frozenset[str]]]
    log: Logger


class LockSettings(Kind):
    """The settings of a kind of lock."""

    @abstractmethod
    def lock(self, context: LockContext) -> AbstractAsyncContextManager[Lock]:
        """The lock, with a connection of its own. Raises ``ConfigError`` when there can be none."""
