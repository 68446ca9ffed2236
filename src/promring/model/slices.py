"""What a scraper is given, and how new it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from promring.model.scrapers import Scraper

EPOCH_MOST = 10**15
"""Neither part of a generation that a receiver accepts is so large. Epochs are seconds since 1970, or counts of locks."""
EPOCH_FOLLOWED_MOST = 10**14
"""No controller goes above an epoch that it hears of from here on: then there is room to climb below ``EPOCH_MOST``."""


class Generation(NamedTuple):
    """Orders the slices of one scraper. Only climbs; compares as a tuple; written ``epoch.n``."""

    epoch: int
    n: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.n}"

    @property
    def is_absurd(self) -> bool:
        """Whether no controller comes so far by itself."""
        return max(self) >= EPOCH_FOLLOWED_MOST


@dataclass(frozen=True)
class Slice:
    """The targets of one scraper as file_sd JSON (``body``), with the generation in which these bytes were decided."""

    service: str
    scraper: Scraper
    generation: Generation
    body: bytes = field(repr=False)
    targets: int

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()
