"""One target: who has it and why, a sentence for each scraper; when it was last scraped, and where it was before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from promring.core.joined import salted
from promring.core.plan import rows_of
from promring.fleet.fleet import Service
from promring.fleet.timeline import MovedOnce
from promring.model import Placement
from promring.web.answers.parts import Scraper
from promring.web.answers.targets import Place
from promring.web.views.targets import places

REASONS = {
    "ring": "the first on the ring for this target",
    "zone": "chosen because of zones",
    "load_factor": "the first on the ring that has room: those before it are full",
    "no_room": "no scraper has room for it",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one scraper: whether it has the target, and why, or why not."""

    scraper: str
    has: bool
    why: str


@dataclass(frozen=True, slots=True)
class Scrape:
    """``by``: who; ``at``: wall-clock seconds; ``error``: why it failed, as far as the scraper says."""

    by: str
    at: float
    good: bool
    error: str


@dataclass(frozen=True, slots=True)
class Explained:
    """``asked``: the scrapers that the ring prefers to its last owner, and the next one; ``others``: the rest."""

    place: Place
    why: str
    asked: Sequence[Verdict]
    others: Sequence[Verdict]
    scrapes: Sequence[Scrape]
    moves: Sequence[MovedOnce]


def explained(service: Service, placement: Placement, ident: int, scrapers: Sequence[Scraper]) -> Explained | None:
    """The target with this id; None when there is none. In a thread. ``scrapers``: as the service shows them."""
    row = int(rows_of(placement.pool, np.array([ident], dtype=np.uint64))[0])
    if row == len(placement.pool):
        return None
    (place,) = places(service, placement, [row], "address")
    order = [*place.preference, *(s.id for s in scrapers if s.id not in place.preference)]
    verdicts = _verdicts(place, order, {s.id: s for s in scrapers})
    last = max((i for i, one in enumerate(verdicts) if one.has), default=len(place.preference) - 1)
    look = service.fleet.reconciler.memory.timeline
    moves = look.moves_of(int(salted(np.array([ident], dtype=np.uint64), service.look.salt)[0]))
    why = REASONS[place.reason]
    if place.reason == "ring" and len(place.scrapers) > 1:
        why = f"the first {len(place.scrapers)} on the ring for this target"
    return Explained(place, why, verdicts[: last + 2], verdicts[last + 2 :], _scrapes(service, ident), moves)


def _verdicts(place: Place, order: Sequence[str], scrapers: Mapping[str, Scraper]) -> list[Verdict]:
    last = max((order.index(name) for name in place.scrapers), default=len(order))
    owners = set(place.scrapers)
    return [Verdict(name, name in owners, _why(name, i, last, place, scrapers.get(name))) for i, name in enumerate(order)]


def _why(name: str, at: int, last: int, place: Place, scraper: Scraper | None) -> str:
    if name in place.scrapers:
        return f"number {at + 1} on the ring: it owns the target"
    if scraper is None:
        return "it is not known any more"
    if scraper.standing in ("joining", "out", None):
        return f"it does not count as alive ({scraper.standing or scraper.state})"
    if scraper.drained or scraper.departing:
        return "it is drained, or leaves"
    if scraper.sick:
        return f"it gets nothing: {scraper.sick}"
    if scraper.idle:
        return f"it gets no more of this service: {scraper.idle}"
    if scraper.unresponsive:
        return f"it gets nothing: it {scraper.unresponsive}"
    if scraper.alias_of:
        return f"the same server as {scraper.alias_of}, under another name"
    if scraper.cut_off:
        return "no slice reaches it"
    if name not in place.preference:
        return "it gets nothing now"
    if at > last:
        return f"number {at + 1} on the ring, after its owner"
    if scraper.limit is not None and place.reason != "zone":
        return f"full: it may carry {scraper.limit} and has {scraper.load}"
    return "another zone is wanted"


def _scrapes(service: Service, ident: int) -> list[Scrape]:
    """What the scrapers were last seen doing with it, the newest first."""
    ahead_s, found = time.time() - time.monotonic(), []
    for name, seen in list(service.look.seen.items()):
        (at,), (up,) = (column.tolist() for column in seen.of(np.array([ident], dtype=np.uint64)))
        if at > 0:
            found.append(Scrape(name, at + ahead_s, up, seen.errors.get(ident, "")))
    return sorted(found, key=lambda one: -one.at)
