"""What is scraped. A source has one method, ``fetch()``: the whole list of targets, or an error.

Stale beats partial: an adapter that cannot get everything raises ``DiscoveryError`` and gives nothing; the last good list
stays. The loop that asks, counts failures and hands on is ``polling.py``, the same for every kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

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
