"""What scrapers have in common, and what is remembered of each of their targets and troubles."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from zlib import crc32

from promring.model import LONG_AGO

PORT = 9090
APPLIED_S = 5.0
"""A list is applied at the latest so long after the scraper has it."""
GO_ON_S = 600.0
"""So long vmagent shows what it dropped."""
MIXED_SHARE = 0.5
"""Of the fleets with http_sd."""
LIMIT = "target_limit exceeded (number of targets: 900, limit: 2)"


def is_mixed(seed: int) -> bool:
    """Whether every other scraper of a fleet with http_sd reads files."""
    return bool(os.environ.get("SIM_MIXED")) or Random(f"mixed {seed}").random() < MIXED_SHARE


@dataclass(frozen=True)
class Traits:
    """What the scrapers of a fleet have in common. ``poll_s``: how often they fetch their lists; 0: they read files."""

    server: str = "3.5"
    interval_s: float = 1.0
    dropped: float = 0.0
    """Which share of the targets relabelling drops."""
    check: str = "/-/healthy"
    poll_s: float = 0.0
    own_job: bool = False
    """Whether each of them scrapes itself, too."""

    @classmethod
    def drawn(cls, rng: Random, *, polls: bool) -> Traits:
        return cls(
            rng.choice(("2.42", "3.5", "vmagent")),
            rng.choice((1.0, 1.0, 5.0, 5.0, 5.0, 5.0, 15.0, 60.0)),
            rng.choice((0.0, 0.0, 0.3, 0.5)),
            rng.choice(("/-/healthy", "/-/ready")),
            rng.choice((1.0, 30.0, 60.0)) if polls else 0.0,
            rng.random() < 0.5,
        )

    def drops(self, target: str) -> bool:
        return share_of(target) < self.dropped

    @property
    def stage_s(self) -> float:
        """Until a scraper has its new list, applied it, and asked all of it."""
        return self.poll_s + APPLIED_S + self.interval_s

    @property
    def missed_s(self) -> float:
        """So long without a good scrape is a missed one."""
        return 1.5 * self.interval_s + APPLIED_S + 1.0


@dataclass
class Loaded:
    """One target that a scraper has. ``shown_at``: what it says of ``asked_at``."""

    id: str
    offset_s: float
    asked_at: float = LONG_AGO
    shown_at: float = LONG_AGO
    up: bool = False
    error: str = ""
    said: tuple[object, bytes] = (None, b"")
    """What its server answers of it, and what that was made of."""


@dataclass
class Span:
    """A trouble of a scraper, of all its targets or of one; ``share``: of so many of them."""

    what: str
    began: float
    ended: float
    target: str = ""
    share: float = 1.0

    @property
    def unseen(self) -> bool:
        """Whether what it says of its targets is none, or wrong."""
        return self.what not in ("gone", "starts", "fails", "cut")

    def concerns(self, target: str) -> bool:
        return self.target in ("", target) and reach_of(target) < self.share


@dataclass(frozen=True)
class Looked:
    """What became of a second: which targets were ``asked``, which were ``good``, which it asks no more that were good."""

    asked: tuple[str, ...] = ()
    good: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


@lru_cache(4096)
def share_of(target: str) -> float:
    return crc32(f"drop {target}".encode()) % 1000 / 1000


@lru_cache(4096)
def reach_of(target: str) -> float:
    return crc32(f"reach {target}".encode()) % 1000 / 1000
