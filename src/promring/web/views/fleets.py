"""Fleets and services for people and programs: scrapers, sources, what is in force, held and proved."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from promring.config.settings import Fleet as FleetSettings
from promring.core.joined import salted
from promring.core.loss import Loss, worst_scraper, worst_zone
from promring.core.placement import Policy
from promring.core.preview import NAMED_MOST, Fit
from promring.core.verdicts import Act, Hold
from promring.discovery import Dropped, DroppingSource, Source, TroubledSource
from promring.fleet.facts import Cell
from promring.fleet.fleet import Fleet, Service
from promring.model import Placement, TargetPool
from promring.web.answers import fleets as answers
from promring.web.answers.parts import Coverage, Fits, Summary
from promring.web.views.handovers import hand_over_of
from promring.web.views.held import fact_of, membership_of, said, whole
from promring.web.views.room import loads_of, room_now
from promring.web.views.scrapers import scrapers_of
from promring.web.views.summary import summary

NO_SUMMARY = Summary("unknown", "")
"""Until the rest is known that it is made of."""


def describe_fleet(fleet: Fleet) -> answers.Fleet:
    """Its scrapers with the load of all services, what is held of them, and what each service has."""
    reconciler, services = fleet.reconciler, list(fleet.services.values())
    placement, verdict = fleet.placement, reconciler.verdict
    described = answers.Fleet(
        name=fleet.name,
        description=fleet.settings.description if isinstance(fleet.settings, FleetSettings) else "",
        services=list(fleet.services),
        generation=str(reconciler.memory.generation),
        targets=None if placement is None else len(placement.pool),
        load=None if placement is None else sum(placement.carried().values()),
        limit=None if placement is None or placement.limits is None else int(placement.limits.sum()),
        without_one=_loss(worst_scraper, fleet),
        without_zone=_loss(worst_zone, fleet),
        room=room_now(fleet),
        loads=loads_of(fleet),
        handing_over=reconciler.memory.claims.held,
        unlooked=reconciler.moves.unlooked,
        hand_over=hand_over_of(fleet),
        second_opinions=len(reconciler.opinions.trials),
        held=whole(verdict, reconciler.judge),
        withheld=said(verdict.withheld, reconciler.judge) if isinstance(verdict, Act) else [],
        services_held=[one.name for one in services if isinstance(one.state.verdict, Hold) or one.withheld],
        services_stale=[one.name for one in services if any(cell.fact.stale for cell in one.facts.cells.values())],
        membership=membership_of(fleet),
        scrapers=scrapers_of(fleet, services),
        coverage=_coverage_of(services),
        fits=_fits([fit for service in services if (fit := service.state.fit) is not None]),
        unsaved=reconciler.keeper.why,
        summary=NO_SUMMARY,
    )
    return msgspec.structs.replace(described, summary=summary(described))


def describe(service: Service, *, scrapers: bool = True) -> answers.Service:
    """The whole of it. ``scrapers``: also what each scraper of its fleet has of it, and the state of those."""
    fleet, pool = service.fleet, service.placement.pool if service.placement else None
    held = fleet.reconciler.verdict if isinstance(fleet.reconciler.verdict, Hold) else service.state.verdict
    every, judge = (*fleet.reconciler.verdict.withheld, *service.withheld), fleet.reconciler.judge
    slices = list(service.slices.values())
    described = answers.Service(
        name=service.name,
        fleet=fleet.name,
        job=service.settings.job,
        description=service.settings.description,
        generation=str(max(one.generation for one in slices)) if slices else None,
        targets=None if pool is None else len(pool),
        duplicates=None if pool is None else pool.duplicates,
        conflicts=None if pool is None else pool.conflicts,
        conflicts_named=[] if pool is None else list(pool.conflicts_named),
        fits=_fits([service.state.fit] if service.state.fit else []),
        handing_over=service.held,
        second_opinions=_second_opinions(service),
        held=whole(held, judge, service.name),
        withheld=[] if isinstance(held, Hold) else said(every, judge, service.name),
        membership=membership_of(fleet),
        scrapers=scrapers_of(fleet, [service]) if scrapers else [],
        sources=[_source(name, cell, service.sources.get(name)) for name, cell in service.facts.cells.items()],
        delivery=[d.means for d in service.deliveries],
        unsaved=fleet.reconciler.keeper.why if scrapers else "",
        retiring=[
            answers.Retiring(one.kind, one.service, list(one.places), one.until, list(one.waiting_for))
            for one in service.retirement.going_on(slices)
        ],
        coverage=_coverage(service),
        summary=NO_SUMMARY,
    )
    return msgspec.structs.replace(described, summary=summary(described))


def _source(name: str, cell: Cell[TargetPool], source: Source | None) -> answers.Source:
    """With its last good list: its length, how many entries were left out of it, and the first of those."""
    good = cell.fact.good.value if cell.fact.good else None
    targets, refused = (None, None) if good is None else (len(good), good.refused)
    remarks = list(good.remarks) if good else []
    troubles: list[str] = list(source.troubles) if isinstance(source, TroubledSource) else []
    return answers.Source(name, *fact_of(cell.fact), targets, refused, remarks, _dropped(source), troubles)


def _dropped(source: Source | None) -> answers.Dropped | None:
    dropped = source.dropped if isinstance(source, DroppingSource) else Dropped()
    return answers.Dropped(dropped.count, list(dropped.named)) if dropped.count else None


def _loss(worst: Callable[[Placement, Policy], Loss | None], fleet: Fleet) -> answers.Loss | None:
    """What the rest would carry without one, the worst to lose; None when that cannot be."""
    placement = fleet.placement
    found = worst(placement, fleet.reconciler.planner.policy) if placement is not None else None
    return None if found is None else answers.Loss(found.lost, round(found.each, 1), found.room, found.lacking)


def _second_opinions(service: Service) -> int:
    """How many of its targets are tried by another scraper, too."""
    trials, part = service.fleet.reconciler.opinions.trials, service.placement
    if not trials or part is None:
        return 0
    ids = np.array(list(trials), dtype=np.uint64)
    return int(np.isin(ids, salted(part.pool.ids, service.look.salt)).sum())


def _fits(every: Sequence[Fit]) -> Fits | None:
    """What has no room, of all these together; None when there are none."""
    if not every:
        return None
    return Fits(
        all=all(fit.all for fit in every),
        unplaced=sum(fit.unplaced for fit in every),
        ownerless=sum(fit.ownerless for fit in every),
        unplaced_load=sum(fit.unplaced_load for fit in every),
        unplaced_targets=[target for fit in every for target in fit.unplaced_targets][:NAMED_MOST],
        too_heavy=sum(fit.too_heavy for fit in every),
        too_heavy_targets=[target for fit in every for target in fit.too_heavy_targets][:NAMED_MOST],
    )


def _coverage(service: Service) -> Coverage | None:
    """What the last look of the audit at all scrapers proved, and how old that is; None where the audit is off."""
    found, look, audit = service.look.coverage, service.look, service.settings.audit
    if audit is None:
        return None
    if found is None:
        return Coverage.none_yet(audit.interval)
    return Coverage(
        at=look.at,
        age_s=round(time.monotonic() - look.looked_at, 1),
        interval_s=audit.interval,
        ratio=found.ratio,
        targets=len(found.pool),
        covered=len(found.pool) - found.uncovered - len(found.dropped),
        missing=len(found.missing),
        unproved=len(found.unproved),
        doubled=len(found.doubled),
        dropped=len(found.dropped),
        down=len(found.down),
    )


def coverage_of_fleet(fleet: Fleet) -> Coverage | None:
    """Of all its services together; None where the audit is off."""
    return _coverage_of(list(fleet.services.values()))


def _coverage_of(services: Sequence[Service]) -> Coverage | None:
    """Of all these together: the numbers of each added up, as old as the oldest."""
    every = [one for service in services if service.placement is not None and (one := _coverage(service)) is not None]
    if not every:
        return None
    looked = [one for one in every if one.at is not None]
    if len(looked) < len(every):
        return Coverage.none_yet(every[0].interval_s)
    targets, covered, missing, unproved, doubled, dropped, down = (
        sum(getattr(one, kind) for one in looked)
        for kind in ("targets", "covered", "missing", "unproved", "doubled", "dropped", "down")
    )
    wanted = targets - dropped
    return Coverage(
        at=min(one.at or 0.0 for one in looked),
        age_s=max(one.age_s or 0.0 for one in looked),
        interval_s=looked[0].interval_s,
        ratio=1.0 - (missing + unproved) / wanted if wanted else 1.0,
        targets=targets,
        covered=covered,
        missing=missing,
        unproved=unproved,
        doubled=doubled,
        dropped=dropped,
        down=down,
    )
