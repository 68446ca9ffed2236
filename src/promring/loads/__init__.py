"""How heavy targets are. A source has one method, ``ask``: it gives the figures of one round, as many as can be had.

A kind is one file: its settings (``LoadSettings``), its source (``LoadSource``) and how the one is built from the other
(``LoadSettings.source``); and one row in ``kinds.py``. The loop that asks again and again, and learns, is ``learner.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from promring.config.kinds import Kind
from promring.config.scraper_api import PLAIN, ScraperApi
from promring.core.learning import FIGURE_MOST, Figures
from promring.model import Placement


class LoadError(Exception):
    """No usable figures; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Of which targets figures are wanted: those of ``placement``, which scrapers have now. ``jobs``: by service."""

    placement: Placement
    jobs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Round:
    """``figures``: by service. ``troubles``: by the name of a scraper or server, why its figures are missing or odd."""

    figures: Mapping[str, Figures] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)


class LoadSource(Protocol):
    interval_s: float

    async def ask(self, asked: Asked) -> Round:
        """The figures of one round. What could not be had is among the troubles."""


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What a source is built from beside its own settings. ``api``: how a scraper is asked."""

    api: ScraperApi = PLAIN


class LoadSettings(Kind):
    """How the load of a target is known."""

    @abstractmethod
    def source(self, context: LoadContext) -> LoadSource | None:
        """None: nobody has to be asked."""

    @property
    def learns(self) -> bool:
        """Whether loads are learnt, and not each target counts 1."""
        return True


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
