"""Targets as answers: searches, where one is and why there, what the audit saw. Pools are long: call it in a thread."""

from __future__ import annotations

import json
import time
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from msgspec import structs

from promring.audit.look import Look
from promring.core import fragment
from promring.core.claims import Claims
from promring.core.coverage import Coverage, ScraperCoverage
from promring.core.fragment import decode, fragments, listed_part, target
from promring.core.joined import salted
from promring.core.plan import rows_of, shares
from promring.core.ring import Ring
from promring.fleet.fleet import Service
from promring.model import Keys, Placement, TargetPool
from promring.runtime.text import clean
from promring.web.answers.targets import (
    Beside,
    CoverageOfService,
    OwnedTarget,
    Place,
    SeenScraper,
    Target,
    Targets,
    Uncovered,
)

ANSWER_BYTES_MOST = 8 * 1024 * 1024
"""Of the targets in one answer, whatever the limit."""
WHERE_MOST = 100
KINDS = ("missing", "unproved", "doubled", "dropped", "down")
"""The lists of ``Coverage``."""


def places(service: Service, placement: Placement, rows: list[int], match: str) -> list[Place]:
    """Each of these targets: its owners, why these, and the ring's order of preference."""
    if not rows:
        return []
    ring = Ring(
        placement.scrapers, service.fleet.reconciler.planner.policy.virtual_nodes
    )  # the loop may have a newer one already
    claims = service.fleet.reconciler.memory.claims  # a newer plan's already, maybe

    idle = {scraper for one, scraper in service.fleet.reconciler.opinions.jobs.idle if one == service.name}
    dead = {node.id for node in service.fleet.membership.nodes() if "down" in (node.state, node.last)}

    def place(row: int) -> Place:
        one = _place(service.name, match, placement, ring, row)
        ident = salted(placement.pool.ids[row : row + 1], service.look.salt)
        down = [name for name in one.scrapers if name in dead]
        return structs.replace(one, down=down, besides=_besides(claims, ident, one, idle))

    return [place(row) for row in rows]


def _besides(claims: Claims, ident: Keys, place: Place, idle: Collection[str]) -> list[Beside]:
    """``ident``: of the target in the fleet, one. ``idle``: the scrapers that are, for its service."""
    found = {}
    for at in np.flatnonzero(claims.ids == ident).tolist():
        name = claims.names[int(claims.scrapers[at])]
        if name not in place.scrapers:
            held = bool(np.isfinite(claims.until[at]))
            found[name] = "hand_over" if held else "idle" if name in idle else "second_opinion"
    return [Beside(name, why) for name, why in sorted(found.items())]


def rows_at(pool: TargetPool, address: str) -> list[int]:
    """Rows of the targets with this address, the first ``WHERE_MOST``. Found in the blob: a pool has no index by address."""
    start = b'{"targets":[' + _json(address) + b"]"
    rows: list[int] = []
    at = pool.blob.find(start)
    while at >= 0 and len(rows) < WHERE_MOST:
        row = int(np.searchsorted(pool.bounds, at, side="right")) - 1
        if pool.bounds[row] == at:
            rows.append(row)
        at = pool.blob.find(start, at + 1)
    return rows


def search(placement: Placement, query: str, scraper: str | None, limit: int, *, begin: int = 0) -> Targets:
    """Targets with ``query`` in their address or labels, of ``scraper`` or all: ``limit`` of them, after the first
    ``begin``, and how many there are.
    """
    needle = _json(query)[1:-1]  # as it stands in the fragments
    pool, ids = placement.pool, [s.id for s in placement.scrapers]
    rows = range(len(pool)) if scraper is None else shares(placement).of(ids.index(scraper)).tolist()
    texts = fragments(pool) if scraper is None else map(pool.fragment, rows)
    found: list[OwnedTarget] = []
    total = size = 0
    for row, text in zip(rows, texts, strict=True):
        if needle in listed_part(text):
            total += 1
            if total > begin and len(found) < limit and (size := size + len(text)) <= ANSWER_BYTES_MOST:
                one, owners = decode(text), _owners(placement, row)
                found.append(_owned(pool, row, one, owners))
    return Targets(found, total, total > begin + len(found))


def listed(found: Coverage, placement: Placement, kind: str, begin: int, limit: int) -> Targets:
    """``limit`` targets of one of the ``KINDS``, after the first ``begin``, with their owners in ``placement``."""
    rows: npt.NDArray[np.integer] = getattr(found, kind)
    some = _first(found.pool, rows[begin:], limit)
    now = rows_of(placement.pool, found.pool.ids[some])
    shown = []
    for row, at in zip(some, now.tolist(), strict=True):
        owners = _owners(placement, at) if at < len(placement.pool) else []
        shown.append(_owned(found.pool, row, target(found.pool, row), owners))
    return Targets(shown, len(rows), len(rows) > begin + len(shown))


def _owned(pool: TargetPool, row: int, one: fragment.Target, owners: list[str]) -> OwnedTarget:
    return OwnedTarget(_id(pool, row), one.address, one.labels, owners[0] if owners else None, owners)


def _id(pool: TargetPool, row: int) -> str:
    return f"{int(pool.ids[row]):016x}"


def coverage_of(service: str, found: Coverage, look: Look, limit: int) -> CoverageOfService:
    """A look of the audit, with the first ``limit`` targets of each kind."""
    now, seen, behind = time.monotonic(), look.seen, dict(look.behind_since)  # they go on changing

    def scraper(name: str, one: ScraperCoverage) -> SeenScraper:
        return SeenScraper(
            id=name,
            expected=one.expected,
            scraped=one.scraped,
            missing=one.missing,
            foreign=one.foreign,
            foreign_targets=list(one_seen.foreign[:limit]) if (one_seen := seen.get(name)) else [],
            down=one.down,
            dropped=one.dropped,
            denied=one.denied,
            never_asked=one.never_asked or None,
            behind_s=round(now - behind[name], 1) if name in behind else 0.0,
            error=one.error,
        )

    return CoverageOfService(
        service=service,
        at=look.at,
        ratio=found.ratio,
        targets=len(found.pool),
        uncovered=found.uncovered,
        missing=len(found.missing),
        unproved=len(found.unproved),
        doubled=len(found.doubled),
        dropped=len(found.dropped),
        down=len(found.down),
        lists=uncovered(found, limit),
        scrapers=[scraper(name, one) for name, one in sorted(found.scrapers.items())],
    )


def uncovered(found: Coverage, limit: int) -> Uncovered:
    """The first ``limit`` targets of each kind."""

    def first(rows: npt.NDArray[np.integer]) -> list[Target]:
        return [_target(found.pool, row) for row in _first(found.pool, rows, limit)]

    kinds = (found.missing, found.unproved, found.doubled, found.dropped, found.down)
    return Uncovered(*map(first, kinds))


def _target(pool: TargetPool, row: int) -> Target:
    one = target(pool, row)
    return Target(_id(pool, row), one.address, one.labels)


def _json(text: str) -> bytes:
    """As it stands in the fragments of a pool."""
    return json.dumps(clean(text), ensure_ascii=False).encode()


def _first(pool: TargetPool, rows: npt.NDArray[np.integer], limit: int) -> list[int]:
    """The first ``limit`` of ``rows``, fewer when their fragments have more than ``ANSWER_BYTES_MOST``."""
    some = rows[:limit]
    sizes = np.cumsum(pool.bounds[some + 1] - pool.bounds[some])
    return list(map(int, some[: np.searchsorted(sizes, ANSWER_BYTES_MOST, side="right")]))


def _owners(placement: Placement, row: int) -> list[str]:
    """The first one first; none when it has no room."""
    return [placement.scrapers[i].id for i in placement.owners[row].tolist() if i >= 0]


def _place(service: str, match: str, placement: Placement, ring: Ring, row: int) -> Place:
    key, one = int(placement.pool.keys[row]), target(placement.pool, row)
    preference, owners = [s.id for s in ring.preference(key)], _owners(placement, row)
    return Place(
        service=service,
        match=match,
        id=_id(placement.pool, row),
        target=one.address,
        labels=one.labels,
        scraper=owners[0] if owners else None,
        scrapers=owners,
        down=[],
        besides=[],
        load=1 if placement.loads is None else int(placement.loads[row]),
        key=f"{key:016x}",
        preference=preference,
        reason=_reason(placement, ring, row, owners, preference),
    )


def _reason(placement: Placement, ring: Ring, row: int, owners: list[str], preference: list[str]) -> str:
    """Why these: ``ring`` as it prefers, ``zone`` because of zones, ``load_factor`` because others are full, ``no_room``."""
    if len(owners) < _replicas(placement, row):
        return "no_room"
    if owners == preference[: len(owners)]:
        return "ring"
    pool = placement.pool
    asked = pool.zone_names[pool.zones[row]] if pool.zones is not None else ""
    zones = {s.id: s.zone for s in ring.scrapers}
    there = [name for name in preference if asked and zones[name] == asked]
    if there and owners[0] == there[0]:
        return "zone"
    different = len({zones[name] for name in owners}) == len(owners) > 1
    return "zone" if owners[0] == preference[0] and different else "load_factor"


def _replicas(placement: Placement, row: int) -> int:
    """How many owners a target shall have."""
    return placement.owners.shape[1] if placement.wanted is None else int(placement.wanted[row])
