"""Who asks for the slices of some services, as people are told it (``delivery.askers``)."""

from __future__ import annotations

import time
from collections.abc import Iterable

from promring.delivery.askers import Asker, together
from promring.fleet.fleet import Service
from promring.web.answers import parts

SAID_AFTER_S = 10.0
"""A slice that changed just now is on its way to the disk."""


def askers_of(services: Iterable[Service]) -> dict[str, Asker]:
    """By scraper."""
    return together(delivery.askers for service in services if (delivery := service.http_sd) is not None)


def asking(one: Asker | None) -> parts.Asking | None:
    """Of one scraper."""
    if one is None:
        return None
    now = time.monotonic()
    untaken_s = None if one.untaken_since is None else round(now - one.untaken_since, 1)
    return parts.Asking(round(now - one.at, 1), untaken_s, one.why or None)


def untaken(one: parts.Asking | None) -> str:
    """What is wrong; empty: nothing."""
    if one is None or one.untaken_s is None or one.untaken_s < SAID_AFTER_S:
        return ""
    return f"asks for its list, and has not taken it for {one.untaken_s:.0f} s{f': {one.why}' if one.why else ''}"
