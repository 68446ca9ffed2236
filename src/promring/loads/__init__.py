"""How heavy targets are. A source has one method, ``ask``: it gives the figures of one round, as many as can be had.

A kind is one file: its settings (``LoadSettings``), its source (``LoadSource``) and how the one is built from the other
(``LoadSettings.source``); and one row in ``kinds.py``. The loop that asks again and again, and learns, is ``learner.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from promring.config.kinds import Kind
from promring.config.scraper_api import PLAIN, ScraperApi
from promring.model import Placement

if TYPE_CHECKING:
    from promring.core.learning import Figures  # which needs numpy, and a configuration needs none of it


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
