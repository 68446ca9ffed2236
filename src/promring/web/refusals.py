"""What clients did that the server refused: counted by reason, told in the log at most once a minute and reason.

Anybody may connect, so nothing of this is an event: it never pushes decisions out of the log or the ring of events.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from prometheus_client import Counter

from promring.telemetry.log import Logger

Reason = Literal[
    "busy",
    "connections",
    "descriptors",
    "error",
    "header_timeout",
    "host",
    "idle",
    "malformed",
    "origin",
    "password",
    "read_timeout",
    "tls",
    "token",
]
TOLD_EVERY_S = 60.0


class Refusals:
    """``counter`` has the label ``reason``; ``now`` is the clock, in seconds."""

    def __init__(self, counter: Counter, log: Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._counter = counter
        self._log = log
        self._now = now
        self._told: dict[str, float] = {}
        self._since: dict[str, int] = {}

    def add(self, reason: Reason, detail: str = "", error: BaseException | None = None) -> None:
        """Count one. ``error`` is a fault of ours: its traceback is logged, as often as other lines."""
        self._counter.labels(reason).inc()
        self._since[reason] = self._since.get(reason, 0) + 1
        now = self._now()
        if now - self._told.get(reason, -TOLD_EVERY_S) < TOLD_EVERY_S:
            return
        self._told[reason] = now
        count = self._since.pop(reason)
        fields = {"logger": "promring.web", "reason": reason, "count": count, "detail": detail[:200]}
        if error is not None:
            self._log.error("http_error", **fields, exc_info=error)
        else:
            self._log.info("http_refused", **fields)
