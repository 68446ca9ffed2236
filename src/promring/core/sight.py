"""One look at the scrapers of a fleet, as the loop gets it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from promring.core.coverage import Seen
from promring.model import Placement, ServiceScraper


class Runs(NamedTuple):
    """A scraper was seen to have exactly what it shall ``since`` then, and last ``at``. Monotonic seconds."""

    since: float
    at: float


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What the scrapers of a fleet were seen doing, by id. ``silent``: who does not answer; ``answering``: since when who
    does. ``running``: by service, which of those ``asked`` in this look have exactly what ``placement`` says.
    ``intervals``: by service and id. ``began``: when the look began, if it was at all of them. Monotonic seconds.
    """

    placement: Placement
    seen: Mapping[str, Seen]
    silent: Collection[str]
    answering: Mapping[str, float]
    asked: Collection[str]
    running: Mapping[str, Mapping[str, Runs]]
    intervals: Mapping[ServiceScraper, float]
    began: float | None
