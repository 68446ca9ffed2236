"""Spans of time as people write them, in the configuration, in queries and on the command line."""

from __future__ import annotations

import re

DURATION_MOST_S = 366 * 86400.0
PATTERN = r"^([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"
"""Of a span in a file, for programs that check one without us."""
_DURATION = re.compile("".join(f"(?:([0-9]+){unit})?" for unit in ("y", "w", "d", "h", "m", "s", "ms")))
_UNITS_S = (365 * 86400.0, 604800.0, 86400.0, 3600.0, 60.0, 1.0, 0.001)


def parse_duration(text: object) -> float:
    """``1h30m``, ``5s``, ``500ms``, ``0`` → seconds, as Prometheus reads it. Raises ValueError."""
    if text == "0" or (type(text) is int and text == 0):
        return 0.0
    match = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 500ms, 5s or 1m")
    seconds = sum(int(n[:18]) * unit for n, unit in zip(match.groups(), _UNITS_S, strict=True) if n)
    if seconds > DURATION_MOST_S:
        raise ValueError(f"{text!r} is longer than a year")
    return seconds


def format_duration(seconds: float) -> str:
    """What ``parse_duration`` reads, to the millisecond: 14.9493 → ``14949ms``."""
    return f"{round(seconds * 1000)}ms"
