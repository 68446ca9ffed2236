"""What a soak saw as an SVG: coverage with the faults behind it, and below the gauges of the witness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from soak.gauges import SLACK, Sample

WIDTH, LEFT, RIGHT = 1000, 110, 20
COVERAGE_HEIGHT, GAUGE_HEIGHT, GAP, TOP = 150, 70, 26, 40
INK, FAINT, LINE, MARK, BAD = "#222", "#999", "#1f6f8b", "#e8e2d0", "#c0392b"


class Band(NamedTuple):
    """A fault: from, to (monotonic seconds), and how long a target was without a scrape."""

    name: str
    since: float
    until: float
    gap_s: float
    bad: bool


class _Axes(NamedTuple):
    """Where a diagram is: its top, its height, and the values at its bottom and top."""

    top: float
    height: float
    least: float
    most: float
    began: float
    ended: float

    def at(self, when: float, value: float) -> str:
        share = (when - self.began) / max(1.0, self.ended - self.began)
        up = (value - self.least) / ((self.most - self.least) or 1.0)
        return f"{LEFT + share * (WIDTH - LEFT - RIGHT):.1f},{self.top + self.height * (1 - up):.1f}"


def drawn(
    began: float, coverage: Sequence[tuple[float, float]], bands: Sequence[Band], lives: Mapping[str, Sequence[Sample]]
) -> str:
    """The whole file."""
    ended = max([at for at, _ in coverage] + [band.until for band in bands] + [began + 1.0])
    axes = _Axes(TOP, COVERAGE_HEIGHT, 0.0, 1.0, began, ended)
    parts = [_bands(axes, bands), _curve(axes, "targets scraped", coverage, "0 %", "100 %")]
    top = TOP + COVERAGE_HEIGHT + GAP
    for process, life in lives.items():
        for gauge in SLACK:
            points = [(one.at, float(value)) for one in life if (value := getattr(one, gauge)) is not None]
            if not points:
                continue
            most = max(value for _, value in points) * 1.1 or 1.0
            gauges = _Axes(top, GAUGE_HEIGHT, 0.0, most, began, ended)
            parts.append(_curve(gauges, f"{gauge.replace('_', ' ')}, {process}", points, "0", f"{most:.0f}"))
            top += GAUGE_HEIGHT + GAP
    minutes = (ended - began) / 60
    title = f"{len(bands)} faults of {len({band.name for band in bands})} kinds in {minutes:.0f} minutes"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{top:.0f}" fill="#fff"/>{_text(LEFT, 20, title)}{"".join(parts)}</svg>\n'
    )


def _bands(axes: _Axes, bands: Sequence[Band]) -> str:
    found = []
    for band in bands:
        x, y = axes.at(band.since, 1.0).split(",")
        width = float(axes.at(band.until, 1.0).split(",")[0]) - float(x)
        title = escape(f"{band.name}: longest gap {band.gap_s:.1f} s")
        found.append(
            f'<rect x="{x}" y="{y}" width="{max(0.5, 0.8 * width):.1f}" height="{axes.height}" '
            f'fill="{BAD if band.bad else MARK}"><title>{title}</title></rect>'
        )
    return "".join(found)


def _curve(axes: _Axes, name: str, points: Sequence[tuple[float, float]], least: str, most: str) -> str:
    line = " ".join(axes.at(when, value) for when, value in points)
    bottom = axes.top + axes.height
    return (
        f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}" stroke="{FAINT}"/>'
        f'<polyline points="{line}" fill="none" stroke="{LINE}" stroke-width="1.5"/>'
        f"{_text(LEFT, axes.top - 6, name)}{_text(LEFT - 8, axes.top + 8, most, end=True)}"
        f"{_text(LEFT - 8, bottom, least, end=True)}"
    )


def _text(x: float, y: float, text: str, *, end: bool = False) -> str:
    anchor = "end" if end else "start"
    return f'<text x="{x}" y="{y}" fill="{INK}" text-anchor="{anchor}">{escape(text)}</text>'
