"""The last hours as small charts: lines of an SVG, and the same as rows of a table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from promring.web.answers.fleets import Sample
from promring.web.page.words import count, percent

WIDTH, HEIGHT = 300.0, 60.0
POINTS_MOST = 150
"""Of a line; of several samples the worst counts."""
ROWS_MOST = 30


@dataclass(frozen=True, slots=True)
class Chart:
    """``lines``: points of polylines, several where something was not known between; ``low``, ``high``: what the ends of the
    axis are; ``newest``: the last value; ``rows``: time and value, the newest first.
    """

    name: str
    note: str
    lines: Sequence[str]
    low: str
    high: str
    newest: str
    begin: float
    end: float
    rows: Sequence[tuple[float, str]]


def charts_of(samples: Sequence[Sample]) -> list[Chart]:
    """Nothing while there are less than two samples."""
    if len(samples) < 2:
        return []
    made = [
        _chart("covered", "lowest in 15 s", samples, lambda s: s.covered, min, percent, _zoomed),
        _chart("balance", "highest / mean", samples, lambda s: s.balance, max, "{:.3f}".format, _from_one),
        _chart("moved", "targets in 15 s", samples, lambda s: float(s.moved), sum, count, _from_zero),
        _chart("load", "of all", samples, lambda s: float(s.load), max, count, _from_zero),
    ]
    return [one for one in made if one is not None]


def _chart(
    name: str,
    note: str,
    samples: Sequence[Sample],
    value: Callable[[Sample], float | None],
    worst: Callable[[list[float]], float],
    said: Callable[[float], str],
    ends: Callable[[list[float]], tuple[float, float]],
) -> Chart | None:
    points = _points(samples, value, worst, POINTS_MOST)
    known = [v for _, v in points if v is not None]
    if not known:
        return None
    low, high = ends(known)
    begin, end = points[0][0], samples[-1].at
    rows = [(at, said(v)) for at, v in reversed(_points(samples, value, worst, ROWS_MOST)) if v is not None]
    lines = _lines(points, begin, end, low, high)
    return Chart(name, note, lines, said(low), said(high), said(known[-1]), begin, end, rows)


def _points(
    samples: Sequence[Sample],
    value: Callable[[Sample], float | None],
    worst: Callable[[list[float]], float],
    most: int,
) -> list[tuple[float, float | None]]:
    """At most so many, each with the worst of its samples."""
    size = -(-len(samples) // most)
    found: list[tuple[float, float | None]] = []
    for begin in range(0, len(samples), size):
        some = samples[begin : begin + size]
        known = [v for s in some if (v := value(s)) is not None]
        found.append((some[-1].at, worst(known) if known else None))
    return found


def _lines(points: Sequence[tuple[float, float | None]], begin: float, end: float, low: float, high: float) -> list[str]:
    across, up = WIDTH / ((end - begin) or 1.0), (HEIGHT - 4) / ((high - low) or 1.0)
    lines: list[list[str]] = [[]]
    for at, v in points:
        if v is None:
            lines.append([])
        else:
            lines[-1].append(f"{(at - begin) * across:.1f},{HEIGHT - 2 - (v - low) * up:.1f}")
    return [" ".join(line if len(line) > 1 else line * 2) for line in lines if line]


def _zoomed(known: list[float]) -> tuple[float, float]:
    return min(0.99, *known), 1.0


def _from_one(known: list[float]) -> tuple[float, float]:
    return 1.0, max(1.2, *known)


def _from_zero(known: list[float]) -> tuple[float, float]:
    return 0.0, max(1.0, *known)
