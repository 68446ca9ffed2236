"""Scrapers that Consul forgot all at once: they are waited for until all are back, or the time is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from promring.consul.registration import Node as HostPort


class Settling:
    """``over`` is called when the time is over."""

    def __init__(self, over: Callable[[], None]) -> None:
        self.nodes: frozenset[HostPort] = frozenset()
        """Who is waited for."""
        self._over, self._ends_at = over, 0.0
        self._timer: asyncio.TimerHandle | None = None

    def wait_for(self, nodes: frozenset[HostPort], seconds: float) -> None:
        """Also for these; for so long from the first."""
        if nodes and not self.nodes:
            self._ends_at = time.monotonic() + seconds
            self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._over)
        self.nodes |= nodes

    def go_on_from(self, before: Settling) -> None:
        """That of the membership before a reload, which has ended."""
        self.wait_for(before.nodes, before._ends_at - time.monotonic())

    def stop(self) -> None:
        """The time is not waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Nobody is waited for any more."""
        self.stop()
        self.nodes = frozenset()
