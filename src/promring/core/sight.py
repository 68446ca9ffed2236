"""One look at the scrapers of a fleet, as the loop gets it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from promring.core.coverage import Seen
from promring.model import Placement


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What the scrapers of a fleet were seen doing, by id. ``silent``: who does not answer; ``answering``: since when who
    does. ``running``: by service, which of those ``asked`` in this look have exactly what ``placement`` says, since when.
    ``intervals``: by service and id. ``began``: when the look began, if it was at all of them. Monotonic seconds.
    """

    placement: Placement
    seen: Mapping[str, Seen]
    silent: Collection[str]
    answering: Mapping[str, float]
    asked: Collection[str]
    running: Mapping[str, Mapping[str, float]]
    intervals: Mapping[tuple[str, str], float]
    began: float | None
