"""One look at the scrapers of a fleet, as the loop gets it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from promring.core.coverage import FOREIGN_KEPT, Seen
from promring.core.joined import salted
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


def together(seen: Mapping[str, Seen], salts: Mapping[str, int]) -> Seen:
    """What one scraper does of all services of a fleet, asked at one moment: with the ids of the fleet. ``seen`` by service,
    not empty.
    """
    if len(seen) == 1 and not any(salts.values()):
        return next(iter(seen.values()))
    each = [(one, salts[service]) for service, one in seen.items()]
    order = np.argsort(ids := np.concatenate([salted(one.ids, salt) for one, salt in each]), kind="stable")
    return Seen(
        min(one.at for one, _ in each),
        ids[order],
        np.concatenate([one.scraped_at for one, _ in each])[order],
        np.concatenate([one.up for one, _ in each])[order],
        max(one.interval_s for one, _ in each),
        dropped=np.sort(np.concatenate([salted(one.dropped, salt) for one, salt in each])),
        denied=np.sort(np.concatenate([salted(one.denied, salt) for one, salt in each])),
        untold=np.sort(np.concatenate([salted(one.untold, salt) for one, salt in each])),
        hidden=sum(one.hidden for one, _ in each),
        foreign=tuple(address for one, _ in each for address in one.foreign)[:FOREIGN_KEPT],
        foreign_count=sum(one.foreign_count for one, _ in each),
        never_asked=next((one.never_asked for one, _ in each if one.never_asked), ""),
        unlabelled=np.sort(np.concatenate([salted(one.unlabelled, salt) for one, salt in each])),
        dropped_bare=np.sort(np.concatenate([salted(one.dropped_bare, salt) for one, salt in each])),
        stale_s=np.concatenate([np.full(len(one.ids), one.stale_after_s) for one, _ in each])[order],
    )
