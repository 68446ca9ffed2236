"""Medians, percentiles and one way to print them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

console = Console(highlight=False, width=120)


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank, so that p99 of 200 values is one that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def table(title: str, rows: Sequence[tuple[str, Sequence[float], str]], unit: str = "s", digits: int = 3) -> None:
    """``rows``: what, values, what the design asks. Of a row without values it says so."""
    made = Table(title=title, title_justify="left")
    for name in ("what", "n", "median", "p99", "max", "asked"):
        made.add_column(name, justify="left" if name in ("what", "asked") else "right")
    for what, values, asked in rows:
        numbers = (statistics.median(values), percentile(values, 99), max(values)) if values else ()
        made.add_row(what, str(len(values)), *([f"{n:.{digits}f} {unit}" for n in numbers] or ["none"] * 3), asked)
    console.print(made)
