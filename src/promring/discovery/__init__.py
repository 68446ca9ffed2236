"""What is scraped. A source has one method, ``fetch()``: the whole list of targets, or an error.

Stale beats partial: an adapter that cannot get everything raises ``DiscoveryError`` and gives nothing; the last good list
stays. The loop that asks, counts failures and hands on is ``polling.py``, the same for every kind.

A kind of source is one file: its settings (``SourceSettings``), its adapter (``Source``) and how the one is built from the
other (``SourceSettings.source``); and one row in ``kinds.py``.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from promring.config.kinds import Kind, Problem, Sections, Shared
from promring.model import TargetPool


class Source(Protocol):
    @property
    def interval_s(self) -> float:
        """Seconds between two fetches."""

    async def fetch(self) -> TargetPool:
        """The whole list. Ends by itself (every wait in it has a time-out). Raises ``DiscoveryError``."""


@runtime_checkable
class RememberingSource(Protocol):
    """A source that needs the list of a run before this one while a part of its answer fails."""

    def remember(self, pool: TargetPool) -> None:
        """Called before the first ``fetch``."""


class WatchedSource(Source, Protocol):
    """A source that also knows when it changed."""

    def changes(self, stop: asyncio.Event) -> AsyncIterator[object]:
        """One item a change, until ``stop`` is set."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What relabelling dropped before anybody placed it: how many targets, and the first addresses."""

    count: int = 0
    named: tuple[str, ...] = ()


@runtime_checkable
class DroppingSource(Protocol):
    """A source that knows what relabelling dropped."""

    @property
    def dropped(self) -> Dropped:
        """As its last good answer said."""


@runtime_checkable
class TroubledSource(Protocol):
    """A source that knows what fails behind it while its list is taken."""

    @property
    def troubles(self) -> Sequence[str]:
        """A text each; empty: nothing that it knows of."""


class OwnEngine(Protocol):
    """A Prometheus that promring runs to discover."""

    async def url(self) -> str:
        """Where it is, as soon as it is ready. Raises ``DiscoveryError`` while there is none."""

    @property
    def condition(self) -> str:
        """Why it may not answer, such as that it is stopped; mostly empty."""

    @property
    def last_words(self) -> str:
        """Its newest warning or error; empty: there was none."""


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a source is built from beside its own settings. ``folder``: that of the configuration file; ``engine``: the
    Prometheus that promring runs, None: here is none; ``legacy_names``: only label names that Prometheus 2 takes; ``once``:
    they are asked one time, so what is not there yet is not awaited; ``reloaded``: they replace those of a running service;
    ``sections``: the top-level ones; ``shared``: what all sources have in common.
    """

    folder: Path
    engine: OwnEngine | None = None
    legacy_names: bool = False
    once: bool = False
    reloaded: bool = False
    sections: Sections = field(default_factory=Sections)
    shared: Shared = field(default_factory=Shared)


class SourceSettings(Kind):
    """The settings of a kind of source. ``trusted``: its lists may have labels that redirect a scrape."""

    joins: ClassVar[bool] = False
    """Whether entries that stand side by side are one list, in which all that differs stays, as in a job of Prometheus."""

    trial_runs: ClassVar[bool] = False
    """Whether ``trial`` runs code that the settings name."""

    trusted: bool = True

    @property
    def parts(self) -> Sequence[SourceSettings]:
        """The sources that it stands for, mostly itself alone."""
        return (self,)

    @property
    @abstractmethod
    def source_name(self) -> str:
        """What the source is called in logs, metrics and the state: the same across a reload, and without a secret."""

    @abstractmethod
    def source(self, context: SourceContext) -> Source:
        """The adapter. Reads nothing and connects to nothing."""

    def trial(self, folder: Path, patience_s: float) -> Iterator[Problem]:
        """What cannot work here: for ``check`` and a reload. Blocks for ``patience_s`` at most; touches nothing."""
        yield from ()

    def reads(self, path: str) -> Sequence[str | int] | None:
        """Which of its keys makes it read this file of this machine; None: it does not."""
        return None

    def doubts(self) -> Iterator[Problem]:
        """What is valid, and hardly meant. Blocks."""
        yield from ()
