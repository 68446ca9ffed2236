"""Figures as a source gathers them: what is no figure is counted and left out."""

from __future__ import annotations

import numpy as np

from promring.core.learning import FIGURE_MOST, Figures


def is_figure(value: float) -> bool:
    """Whether it can be the number of samples of a scrape."""
    return 0 <= value <= FIGURE_MOST  # NaN compares as false


def odd_figures(count: int, such_as: str) -> str:
    """What is said of figures that are none."""
    return f"{count} odd figures left out, such as {such_as}"


class Gathered:
    """Figures of targets by service, as they come; what is no figure is counted."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[int, float]]] = {}
        self._odd, self._such_as = 0, ""

    def add(self, service: str, target: int, value: float, name: str) -> None:
        """``target``: its id in the service; ``name``: its address, for people."""
        if not is_figure(value):
            self._odd += 1
            self._such_as = self._such_as or f"{value:g} of {name[:80]}"
        else:
            self._rows.setdefault(service, []).append((target, value))

    @property
    def count(self) -> int:
        """How many figures there are."""
        return sum(map(len, self._rows.values()))

    @property
    def trouble(self) -> str:
        """What was odd; empty: nothing."""
        return odd_figures(self._odd, self._such_as) if self._odd else ""

    def figures(self) -> dict[str, Figures]:
        return {service: _figures(rows) for service, rows in self._rows.items()}


def _figures(rows: list[tuple[int, float]]) -> Figures:
    return Figures(
        np.fromiter((target for target, _ in rows), dtype=np.uint64, count=len(rows)),
        np.fromiter((value for _, value in rows), dtype=np.float64, count=len(rows)),
    )
