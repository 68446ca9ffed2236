"""What a process uses, from ``/proc``, and whether that grows over its life. Linux only.

A gauge grows when it is higher in the last third of a process's life than in the first one, by more than a process that
does the same again and again may differ. The samples in between are of all states of the fleet, so the medians of the two
thirds are compared, and a life that is too short for that says nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

LIFE_LEAST_S = 300.0
WARM_S = 60.0
"""Of a process's life: its first minute is not judged, it fills its caches then."""
SLACK: Mapping[str, tuple[float, float]] = {
    "memory_mb": (0.15, 15.0),
    "descriptors": (0.0, 6.0),
    "threads": (0.0, 4.0),
    "inotify": (0.0, 2.0),
    "tasks": (0.0, 10.0),
}
"""How much higher the last third may be: a share of the first one, and so many more."""


class Sample(NamedTuple):
    """``at``: monotonic seconds; ``tasks`` None: the process did not answer."""

    at: float
    memory_mb: float
    descriptors: int
    threads: int
    inotify: int
    tasks: int | None = None


def sample(pid: int, at: float, tasks: int | None) -> Sample | None:
    """None: there is no such process any more."""
    process = Path("/proc", str(pid))
    try:
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        descriptors = [entry.name for entry in (process / "fd").iterdir()]
        return Sample(
            at,
            int(status["VmRSS"].split()[0]) / 1024,
            len(descriptors),
            int(status["Threads"]),
            sum(_watches(process / "fdinfo" / name) for name in descriptors),
            tasks,
        )
    except (OSError, KeyError):
        return None


def _watches(info: Path) -> int:
    """inotify watches of one descriptor."""
    with contextlib.suppress(OSError):
        return sum(line.startswith("inotify ") for line in info.read_text().splitlines())
    return 0


def growth(samples: Sequence[Sample]) -> list[str]:
    """Which gauges of one life grew, in words."""
    if not samples or samples[-1].at - samples[0].at < LIFE_LEAST_S:
        return []
    judged = [one for one in samples if one.at >= samples[0].at + WARM_S]
    third = max(1, len(judged) // 3)
    found = []
    for name, (share, more) in SLACK.items():
        first, last = (_median(part, name) for part in (judged[:third], judged[-third:]))
        if first is not None and last is not None and last > first * (1 + share) + more:
            found.append(f"{name} grew from {first:g} to {last:g}")
    return found


def _median(samples: Sequence[Sample], name: str) -> float | None:
    values = [value for one in samples if (value := getattr(one, name)) is not None]
    return median(values) if values else None
