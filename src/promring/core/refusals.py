"""Scrapers that take the slices of some services and refuse those of others: which targets must go elsewhere. Pure.

A scraper that takes nothing at all counts as dead (``fleet/dispatcher``). One that refuses a single service lives, and goes
on with its last slice of that service. So it keeps those targets; what is new to it must not wait for it. A scraper that is
idle for a service (``core/idle``) keeps what it has in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

import numpy as np

from promring.core.claims import NO_CLAIMS, Claims, Taken
from promring.core.coverage import Seen
from promring.model import NEVER_ENDS, Failing, Keys, Members, ServiceScraper

Refused = Mapping[ServiceScraper, Keys]
"""By service and scraper: the ids of the fleet that the scraper has, uint64. It gets no others of that service."""
NOTHING_REFUSED: Refused = MappingProxyType({})


def refused_now(
    failing: Failing,
    before: Refused,
    members: Members,
    claims: Claims,
    taken: Mapping[ServiceScraper, Taken],
    seen: Mapping[str, Seen],
    tried: Collection[ServiceScraper],
) -> Refused:
    """The ids that a scraper has of a service, for each refusing and each idle pair of ``failing``. A pair of ``before``
    keeps its ids. Of a refusing pair that was ``tried`` they are what ``taken`` says. The other refusals were found by
    another controller, or before a restart: there they are what the scraper is ``seen`` to have, or else what the plan
    says. An idle scraper has what it is seen to have.

    A service that most scrapers refuse, or all that may have targets, is left out: then the scrapers are not the cause, and
    nobody would be left.
    """
    able = {s.id for s in members if s.able}
    by_service: dict[str, set[str]] = {}
    for service, scraper in (*failing.refusing, *failing.idle):
        by_service.setdefault(service, set()).add(scraper)
    believed = {name for name, some in by_service.items() if len(some) * 2 <= len(members) and not able <= some}
    now = {
        (service, name): before[service, name]
        if (service, name) in before
        else _has(name, claims, taken.get((service, name), Taken()) if (service, name) in tried else None, seen.get(name))
        if (service, name) in failing.refusing
        else _has(name, NO_CLAIMS, None, seen.get(name))
        for service, name in sorted({*failing.refusing, *failing.idle})
        if service in believed
    }
    return before if now.keys() == before.keys() else now


def _has(scraper: str, claims: Claims, taken: Taken | None, seen: Seen | None) -> Keys:
    """What it has taken, or was seen to have; of all services, since the ids of others do no harm."""
    found = np.empty(0, dtype=np.uint64) if seen is None else seen.ids
    if scraper in claims.names and (taken is not None or seen is None):
        mine = claims.scrapers == claims.names.index(scraper)
        theirs = claims.ids[mine]
        found = np.union1d(found, theirs if taken is None else theirs[taken.since(claims.since[mine]) < NEVER_ENDS])
    return found
