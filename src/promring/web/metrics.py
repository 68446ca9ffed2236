"""``/metrics``: the counters of ``telemetry.metrics`` and gauges read from the live objects at the time of the scrape."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE_PLAIN
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from promring import __version__
from promring.core.coverage import Coverage
from promring.core.loss import worst_scraper, worst_zone
from promring.discovery import DroppingSource
from promring.fleet.fleet import Fleet, Service
from promring.membership import Probes
from promring.runtime.text import clean
from promring.runtime.threads import consume_error, in_thread
from promring.web.controller import Controller
from promring.web.gate import Shared
from promring.web.views.room import room_of


class LiveGauges(Collector):
    """``connections``: how many clients are connected; ``most``: how many may be."""

    def __init__(self, controller: Controller, connections: Callable[[], int] = lambda: 0, most: int = 0) -> None:
        self._controller = controller
        self._connections, self._most = connections, most

    def collect(self) -> Iterator[Metric]:
        services, fleets = list(self._controller.services.values()), list(self._controller.fleets.values())
        yield _gauge("scrapers", "Scrapers by state.", ("fleet", "state"), _states(fleets))
        yield _gauge("targets", "Targets in the pool.", ("service",), _targets(services))
        yield _gauge("target_conflicts", "Targets listed twice with other labels.", ("service",), _conflicts(services))
        yield from _of_scrapers(fleets)
        yield _gauge(
            "lacking_load_after_loss",
            "Load that would have no room without one scraper, or one zone, the worst to lose.",
            ("fleet", "of"),
            _lacking(fleets),
        )
        yield from _needed(fleets)
        yield _gauge("unplaced_targets", "Targets that lack an owner: no room is left.", ("service",), _unplaced(services))
        yield _gauge("handing_over_targets", "Targets that an old owner still holds.", ("fleet",), _holding(fleets))
        yield _gauge(
            "coverage_ratio", "Targets proved to be scraped, of all.", ("service",), _audited(services, lambda c: c.ratio)
        )
        yield _gauge(
            "uncovered_targets", "Not proved to be scraped.", ("service",), _audited(services, lambda c: c.uncovered)
        )
        unproved = _audited(services, lambda c: len(c.unproved))
        yield _gauge("unproved_targets", "Of those, with scrapers that cannot be asked.", ("service",), unproved)
        looked: list[Sample] = [((s.name,), s.look.at) for s in services if s.look.coverage is not None]
        yield _gauge("coverage_timestamp_seconds", "When the audit last looked at all scrapers.", ("service",), looked)
        yield _gauge(
            "doubled_targets", "Scraped beyond the slices.", ("service",), _audited(services, lambda c: len(c.doubled))
        )
        yield _gauge(
            "plan_held",
            "1 while the last plan, or a part of it, is kept; the reason.",
            ("fleet", "reason"),
            _held(fleets),
        )
        yield _gauge(
            "source_doubted",
            "1 while the last list of a source is kept; the reason.",
            ("service", "source", "reason"),
            _doubted(services),
        )
        yield _gauge(
            "membership_last_success_timestamp_seconds",
            "When the scrapers were last known.",
            ("fleet",),
            [((f.name,), f.facts.members.fact.good_at) for f in fleets if f.facts.members.fact.good_at],
        )
        yield from _facts(services)
        yield _gauge(
            "scraper_last_ask_timestamp_seconds",
            "When a scraper, or its agent, last came for its list.",
            ("fleet", "scraper"),
            _asked(fleets),
        )
        yield _probes(fleets)
        yield from self._process()

    def _process(self) -> Iterator[Metric]:
        reload = self._controller.reload_state
        yield _gauge("leader", "1 when this controller delivers.", (), [((), float(self._controller.leadership.leads()))])
        locked_out = self._controller.leadership.locked_out_by is not None
        yield _gauge("locked_out", "1 while receivers keep what another controller wrote.", (), [((), float(locked_out))])
        yield _gauge("config_last_reload_successful", "1 when the file is in force.", (), [((), float(reload.successful))])
        yield _gauge(
            "config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken.",
            (),
            [((), reload.at)],
        )
        yield _gauge("http_connections", "Clients that are connected.", (), [((), float(self._connections()))])
        yield _gauge("http_connections_max", "How many clients may be connected.", (), [((), float(self._most))])
        yield _gauge("build_info", "The version.", ("version",), [((__version__,), 1.0)])


Sample = tuple[tuple[str, ...], float]


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: list[Sample]) -> Metric:
    family = GaugeMetricFamily(f"promring_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _facts(services: list[Service]) -> Iterator[Metric]:
    cells = [((s.name, name), cell.fact) for s in services for name, cell in s.facts.cells.items()]
    yield _gauge(
        "discovery_last_success_timestamp_seconds",
        "When a source last gave targets.",
        ("service", "source"),
        [(labels, fact.good_at) for labels, fact in cells if fact.good_at],
    )
    yield _gauge(
        "discovery_refused_entries",
        "Entries of a source's list that were left out.",
        ("service", "source"),
        [(labels, float(fact.good.value.refused)) for labels, fact in cells if fact.good],
    )
    yield _gauge(
        "discovery_dropped_targets",
        "Targets of a source that relabelling dropped before they were placed.",
        ("service", "source"),
        [
            ((s.name, name), float(source.dropped.count))
            for s in services
            for name, source in s.sources.items()
            if isinstance(source, DroppingSource)
        ],
    )


def _states(fleets: list[Fleet]) -> list[Sample]:
    samples: list[Sample] = []
    for fleet in fleets:
        counted = Counter(node.state for node in fleet.membership.nodes())
        samples += [((fleet.name, state), float(counted[state])) for state in ("up", "down", "unknown")]
    return samples


def _targets(services: list[Service]) -> list[Sample]:
    return [((s.name,), float(len(p.pool))) for s in services if (p := s.placement)]


def _conflicts(services: list[Service]) -> list[Sample]:
    return [((s.name,), float(p.pool.conflicts)) for s in services if (p := s.placement)]


def _of_scrapers(fleets: list[Fleet]) -> Iterator[Metric]:
    """Of all services together."""
    assigned: list[Sample] = []
    loads: list[Sample] = []
    capacities: list[Sample] = []
    draining: list[Sample] = []
    for fleet in fleets:
        targets, drained = fleet.reconciler.memory.targets(), fleet.reconciler.memory.drained
        assigned += [((fleet.name, name), float(count)) for name, count in targets.items()]
        draining += [((fleet.name, name), float(count)) for name, count in targets.items() if name in drained]
        if (placement := fleet.reconciler.placement) is None:
            continue
        loads += [((fleet.name, name), float(load)) for name, load in placement.carried().items()]
        if placement.limits is not None:
            limits = zip(placement.scrapers, placement.limits.tolist(), strict=True)
            capacities += [((fleet.name, s.id), float(limit)) for s, limit in limits]
    labels = ("fleet", "scraper")
    yield _gauge("assigned_targets", "Targets of a scraper.", labels, assigned)
    yield _gauge("assigned_load", "Load of a scraper.", labels, loads)
    yield _gauge("capacity_load", "The most load that a scraper may have.", labels, capacities)
    yield _gauge("draining_targets", "That a drained scraper still has.", labels, draining)


def _lacking(fleets: list[Fleet]) -> list[Sample]:
    samples: list[Sample] = []
    for fleet in fleets:
        if (placement := fleet.reconciler.placement) is None:
            continue
        policy = fleet.reconciler.planner.policy
        for of, worst in (("scraper", worst_scraper), ("zone", worst_zone)):
            if (found := worst(placement, policy)) is not None:
                samples.append(((fleet.name, of), float(found.lacking)))
    return samples


def _needed(fleets: list[Fleet]) -> Iterator[Metric]:
    """Of fleets with a capacity."""
    needed: list[Sample] = []
    after_loss: list[Sample] = []
    for fleet in fleets:
        if (room := room_of(fleet.reconciler.placement, fleet.reconciler.planner.policy)) is None:
            continue
        needed.append(((fleet.name,), float(room.needed)))
        after_loss.append(((fleet.name, "scraper"), float(room.after_scraper)))
        if room.after_zone is not None:
            after_loss.append(((fleet.name, "zone"), float(room.after_zone)))
    yield _gauge("scrapers_needed", "Scrapers that the load needs within the capacity.", ("fleet",), needed)
    yield _gauge(
        "scrapers_needed_after_loss",
        "Scrapers that must be there for enough to be left without one scraper, or one zone.",
        ("fleet", "of"),
        after_loss,
    )


def _asked(fleets: list[Fleet]) -> list[Sample]:
    """Of those that came, for any service."""
    ahead_s, samples = time.time() - time.monotonic(), list[Sample]()
    for fleet in fleets:
        last: dict[str, float] = {}
        for couriers in fleet.reconciler.dispatcher.couriers.values():
            for name, visits in couriers.visitors.visits.items():
                last[name] = max(visits.at, last.get(name, visits.at))
        samples += [((fleet.name, name), round(at + ahead_s, 3)) for name, at in last.items()]
    return samples


def _probes(fleets: list[Fleet]) -> Metric:
    family = CounterMetricFamily(
        "promring_probes",
        "Health checks of scrapers by promring itself; not_made: this machine could not; distrusted: password, certificate.",
        labels=("fleet", "outcome"),
    )
    for fleet in fleets:
        if isinstance(fleet.membership, Probes):
            for outcome, count in fleet.membership.probed.items():
                family.add_metric((fleet.name, outcome), count)
    return family


def _holding(fleets: list[Fleet]) -> list[Sample]:
    return [((f.name,), float(f.reconciler.memory.claims.held)) for f in fleets]


def _audited(services: list[Service], value: Callable[[Coverage], float]) -> list[Sample]:
    """Nothing for a service that was not audited yet."""
    return [((s.name,), float(value(s.look.coverage))) for s in services if s.look.coverage is not None]


def _unplaced(services: list[Service]) -> list[Sample]:
    return [((s.name,), float(s.state.fit.unplaced)) for s in services if s.state.fit]


def _held(fleets: list[Fleet]) -> list[Sample]:
    """Of the scrapers, and of the lists of any service."""
    samples: list[Sample] = []
    for fleet in fleets:
        every = (*fleet.reconciler.verdict.withheld, *(one for s in fleet.services.values() for one in s.withheld))
        samples += [((fleet.name, reason), 1.0) for reason in sorted({one.reason for one in every})]
    return samples


def _doubted(services: list[Service]) -> list[Sample]:
    return [((s.name, source, one.reason), 1.0) for s in services for one in s.withheld for source in one.about]


@dataclass(frozen=True, slots=True)
class Form:
    """A text format of metrics."""

    content_type: str
    write: Callable[[Collector], bytes]


PLAIN = Form(CONTENT_TYPE_PLAIN, generate_latest)
OPEN_METRICS = Form(openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest)


class Rendered:
    """The text of ``/metrics``: rendered beside the loop, once for all who ask at the same time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families = Shared(lambda: list(registry.collect()))  # the live objects are the loop's
        self._work: dict[Form, asyncio.Future[bytes]] = {}

    async def get(self, form: Form = PLAIN) -> bytes:
        work = self._work.get(form)
        if work is None or work.done():
            families = self._families.get()
            work = self._work[form] = asyncio.ensure_future(in_thread(lambda: _text(families, form)))
            work.add_done_callback(consume_error)
        return await asyncio.shield(work)


def _text(families: list[Metric], form: Form) -> bytes:
    try:
        return form.write(_Collected(families))
    except UnicodeEncodeError:
        for family in families:
            family.samples = [s._replace(labels={k: clean(v) for k, v in s.labels.items()}) for s in family.samples]
        return form.write(_Collected(families))


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
