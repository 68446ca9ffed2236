"""How the page says times, numbers, names and events. Pure."""

from __future__ import annotations

import re
import time
from functools import lru_cache

from promring.telemetry.events import Event
from promring.web.answers.fleets import HandOver

TEXT_MOST, NAMES_MOST = 300, 6
"""Of a field of an event: longer texts are cut, lists to so many names."""
WHOLE_SETS = frozenset({"oldnodes", "newnodes", "detail"})
"""Fields with a whole set, beside ``joined`` and ``left``."""
STILL_S = 30.0
"""A hand-over of which nothing ended for so long is called stuck, and the page names its targets."""
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Control characters, and those that turn the direction of a line or take no room."""
_DIGITS = re.compile(r"(\d+)")
Natural = tuple[tuple[int, int, str], ...]


@lru_cache(maxsize=10_000)  # each page sorts all scrapers of a fleet
def natural(name: str) -> Natural:
    """Orders names as people do: ``a.2`` before ``a.10``."""
    parts = _DIGITS.split(name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def span(seconds: float) -> str:
    """``3 s``, ``12 min``."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(then: float | None, now: float) -> str:
    return f"{span(now - then)} ago" if then else "never"


def count(number: float) -> str:
    return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(share: float) -> str:
    """Never 100 % of what is less."""
    return f"{100 * share:.4g} %" if share in (0.0, 1.0) or share < 0.9999 else f"{int(1e6 * share) / 1e4:g} %"


def brief(event: Event) -> dict[str, str]:
    """The fields of an event for people: what a set lost and gained instead of all that is in it, and long lists cut."""
    whole = WHOLE_SETS if {"joined", "left"} <= event.fields.keys() else frozenset()
    return {name: _cut(str(value)) for name, value in event.fields.items() if name not in whole and value != ""}


def _cut(text: str) -> str:
    """Of a list of names the first ones, and how many more there are; any other text up to ``TEXT_MOST`` characters."""
    names = text.split(",")
    if len(names) > NAMES_MOST and " " not in text:
        more = "others" if names[-1].endswith("\N{HORIZONTAL ELLIPSIS}") else f"{len(names) - NAMES_MOST} more"
        return f"{', '.join(names[:NAMES_MOST])} and {more}"
    return text if len(text) <= TEXT_MOST else f"{text[:TEXT_MOST]}\N{HORIZONTAL ELLIPSIS}"


def clock(stamp: str, now: float) -> str:
    """The time of day of a time stamp of the log, which is UTC; with its day when that is not today."""
    return stamp[11:19] if stamp[:10] == _day(now) else f"{stamp[:10]} {stamp[11:19]}"


def hour(at: float, now: float | None = None) -> str:
    """The time of day, as the log has it: UTC. With its day when that is not the one of ``now``."""
    of_day = time.strftime("%H:%M:%S", time.gmtime(at))
    return of_day if now is None or _day(at) == _day(now) else f"{_day(at)} {of_day}"


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def still(one: HandOver, now: float) -> float:
    """For how many seconds nothing of it ended, if that is ``STILL_S`` or more; else 0."""
    changed = one.changed_at or one.since
    return now - changed if changed and now - changed >= STILL_S else 0.0


def visible(text: str) -> str:
    r"""A text from outside, its control characters as ``\uNNNN``: no label may look like another one."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def until(then: float | None, now: float) -> str:
    """When something ends by itself; empty when nobody knows."""
    return f"until {hour(then, now)} (in {span(then - now)})" if then else ""
