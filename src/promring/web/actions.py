"""Who had promring do what, when and why: drains, releases, reloads. Kept in memory, and one line each in the log."""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Callable

from aiohttp import web

from promring.runtime.text import clean
from promring.telemetry.log import Logger
from promring.web.answers.status import Action

KEPT = 200
WHY_MOST = 200
"""Characters of a reason."""


class Actions:
    def __init__(self, log: Logger, clock: Callable[[], float] = time.time) -> None:
        self._log, self._clock = log, clock
        self._kept: deque[Action] = deque(maxlen=KEPT)

    def add(
        self,
        request: web.Request,
        action: str,
        result: str,
        *,
        fleet: str = "",
        service: str = "",
        scraper: str = "",
        targets: int | None = None,
    ) -> None:
        """``request``: one that was let through. Its reason is the query's ``reason``."""
        why = clean(" ".join(request.query.get("reason", "").split()))[:WHY_MOST]
        one = Action(self._clock(), action, fleet, service, scraper, who(request), why, targets, result)
        self._kept.append(one)
        named = {"fleet": fleet, "service": service, "scraper": scraper}
        said = {name: value for name, value in named.items() if value}
        self._log.info("action", action=action, **said, by=one.by, why=why, result=result)

    def had(self, fleet: str) -> dict[str, int]:
        """By scraper of the fleet that was drained, and not undrained since: how many targets it had then."""
        found: dict[str, int] = {}
        for one in self._kept:
            if (one.fleet, one.action) == (fleet, "drain") and one.targets is not None:
                found[one.scraper] = one.targets
            elif (one.fleet, one.action) == (fleet, "undrain"):
                found.pop(one.scraper, None)
        return found

    def of(self, fleet: str | None = None) -> list[Action]:
        """Of one fleet, and of the process; the newest first."""
        return [one for one in reversed(self._kept) if fleet is None or one.fleet in ("", fleet)]


def who(request: web.Request) -> str:
    """The user, where the request names one, and the address. Nothing that a request says of itself besides counts."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    user = ""
    if scheme.lower() == "basic":
        try:
            user = base64.b64decode(given, validate=True).decode().partition(":")[0]
        except ValueError:  # not base64, not text
            user = ""
    address = request.remote or "?"
    return clean(f"{user} at {address}" if user else address)
