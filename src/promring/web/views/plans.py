"""Previews of placements and what a reload decides, as answers. Pure; hashing the slices of a long list takes its time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from promring.core import preview as core
from promring.core.joined import FleetPool, FleetShares
from promring.core.plan import bodies
from promring.model import Placement
from promring.reload import decisions as reload
from promring.runtime.near import meant
from promring.web.answers.fleets import Room
from promring.web.answers.parts import Fits, Held
from promring.web.answers.plans import Decision, ForeseenFleet, Move, Plan, PlannedScraper, PlannedZone, Preview, ReloadPlan


def why_not(error: Exception) -> str:
    """Of a preview that cannot be made; the text ends with the scrapers that may have been meant."""
    return f"{error}{meant(error.name, error.live)}" if isinstance(error, core.NotLiveError) else str(error)


class Side(NamedTuple):
    """Of a scraper, before or after."""

    targets: int | None = None
    load: int | None = None
    limit: int | None = None


def described(found: core.Preview) -> Preview:
    """Each scraper before and after, and who gives how many to whom."""
    before, after = found.before, found.after
    now, then = _sides(before), _sides(after)
    zones = {s.id: s.zone for s in (*before.scrapers, *after.scrapers)}
    return Preview(
        targets=len(after.pool),
        load=len(after.pool) if after.loads is None else int(after.loads.sum()),
        moved=found.plan.moved,
        load_moved=found.plan.load_moved,
        most=None if after.limits is None else int(after.limits.max()),
        fits=fits(core.fit(after)),
        no_room=found.no_room,
        scrapers=_scrapers(found, now, then, zones),
        zones=_zones(now, then, zones),
        moves=[Move(m.source, m.destination, m.count, m.load) for m in found.plan.moves],
    )


def plan_of(
    preview: Preview,
    fleet: str,
    decided_by: str,
    room: Room | None,
    held: Sequence[Held] = (),
    drained: Iterable[str] = (),
) -> Plan:
    """The same as the plan of this fleet."""
    return Plan(
        targets=preview.targets,
        load=preview.load,
        moved=preview.moved,
        load_moved=preview.load_moved,
        most=preview.most,
        fits=preview.fits,
        no_room=preview.no_room,
        scrapers=preview.scrapers,
        zones=preview.zones,
        moves=preview.moves,
        fleet=fleet,
        decided_by=decided_by,
        room=room,
        held=list(held),
        drained=sorted(drained),
    )


def reload_plan(decisions: Sequence[reload.Decision], foreseen: Mapping[str, reload.Foreseen]) -> ReloadPlan:
    """``foreseen`` by fleet."""
    return ReloadPlan(
        decisions=[decision(one) for one in decisions],
        refused=any(one.loss for one in decisions),
        fleets=[
            ForeseenFleet(name, one.moved, one.owned, one.lost, None if one.preview is None else described(one.preview))
            for name, one in foreseen.items()
        ],
    )


def decision(one: reload.Decision) -> Decision:
    return Decision(one.kind, one.service, one.text, dict(one.numbers), one.loss)


def fits(one: core.Fit) -> Fits:
    return Fits(
        one.all,
        one.unplaced,
        one.ownerless,
        one.unplaced_load,
        list(one.unplaced_targets),
        one.too_heavy,
        list(one.too_heavy_targets),
    )


def _scrapers(
    found: core.Preview, now: Mapping[str, Side], then: Mapping[str, Side], zones: Mapping[str, str]
) -> list[PlannedScraper]:
    digests, none = _digests(found.after), Side()
    gains: Counter[str | None] = Counter()
    gives: Counter[str | None] = Counter()
    for move in found.plan.moves:
        gains[move.destination] += move.count
        gives[move.source] += move.count
    return [
        PlannedScraper(
            id=name,
            zone=zones[name],
            before=now.get(name, none).targets,
            after=then.get(name, none).targets,
            load_before=now.get(name, none).load,
            load_after=then.get(name, none).load,
            limit=then.get(name, none).limit,
            gains=gains[name],
            gives=gives[name],
            sha256=digests.get(name),
        )
        for name in sorted({*now, *then})
    ]


def _digests(placement: Placement) -> dict[str, str]:
    """Of each scraper's slices, by id: the SHA-256 of the one, or of those of all services in order of name."""
    pool = placement.pool
    if not isinstance(pool, FleetPool):
        return {placement.scrapers[i].id: hashlib.sha256(body).hexdigest() for i, body, _ in bodies(placement)}
    found = FleetShares(placement)
    return {
        scraper.id: hashlib.sha256(b"".join(found.body(i, name) for name in pool.names)).hexdigest()
        for i, scraper in enumerate(placement.scrapers)
    }


def _sides(placement: Placement) -> dict[str, Side]:
    counts, carried = placement.counts(), placement.carried()
    limits = [None] * len(counts) if placement.limits is None else placement.limits.tolist()
    return {name: Side(counts[name], carried[name], limit) for name, limit in zip(counts, limits, strict=True)}


def _zones(now: Mapping[str, Side], then: Mapping[str, Side], zones: Mapping[str, str]) -> list[PlannedZone]:
    """Targets and scrapers of each zone, now and then; nothing when no scraper has a zone."""
    if not any(zones.values()):
        return []
    rows = []
    for zone in sorted(set(zones.values())):
        before, after = ([side[name].targets or 0 for name in side if zones[name] == zone] for side in (now, then))
        rows.append(PlannedZone(zone, len(before), len(after), sum(before), sum(after)))
    return rows
