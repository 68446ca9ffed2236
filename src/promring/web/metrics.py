"""``/metrics``: the counters of ``promring.metrics`` and gauges read from the live objects at the time of the scrape."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from promring import __version__
from promring.core.coverage import Coverage
from promring.service import Service
from promring.text import clean
from promring.threads import beside, heed
from promring.web.controller import Controller
from promring.web.gate import Shared


class LiveGauges(Collector):
    """``connections``: how many clients are connected; ``most``: how many may be."""

    def __init__(self, controller: Controller, connections: Callable[[], int] = lambda: 0, most: int = 0) -> None:
        self._controller = controller
        self._connections, self._most = connections, most

    def collect(self) -> Iterator[Metric]:
        services = list(self._controller.services.values())
        yield _gauge("scrapers", "Scrapers by state.", ("service", "state"), _states(services))
        yield _gauge("targets", "Targets in the pool.", ("service",), _targets(services))
        yield _gauge("target_conflicts", "Targets listed twice with other labels.", ("service",), _conflicts(services))
        assigned: list[Sample] = [
            ((s.name, n), float(x.targets)) for s in services for n, x in s.reconciler.memory.slices.items()
        ]
        yield _gauge("assigned_targets", "Targets of a scraper.", ("service", "scraper"), assigned)
        yield _gauge("assigned_load", "Load of a scraper.", ("service", "scraper"), _loads(services))
        yield _gauge("unplaced_targets", "Targets that lack an owner: no room is left.", ("service",), _unplaced(services))
        yield _gauge("handing_over_targets", "Targets that an old owner still holds.", ("service",), _holding(services))
        yield _gauge(
            "coverage_ratio", "Targets proved to be scraped, of all.", ("service",), _audited(services, lambda c: c.ratio)
        )
        yield _gauge(
            "uncovered_targets", "Not proved to be scraped.", ("service",), _audited(services, lambda c: c.uncovered)
        )
        unproved = _audited(services, lambda c: len(c.unproved))
        yield _gauge("unproved_targets", "Of those, with scrapers that cannot be asked.", ("service",), unproved)
        looked: list[Sample] = [((s.name,), s.audit.at) for s in services if s.audit.coverage is not None]
        yield _gauge("coverage_timestamp_seconds", "When the audit last looked at all scrapers.", ("service",), looked)
        yield _gauge("draining_targets", "That a drained scraper still has.", ("service", "scraper"), _draining(services))
        yield _gauge(
            "doubled_targets", "Scraped beyond the slices.", ("service",), _audited(services, lambda c: len(c.doubled))
        )
        yield _gauge(
            "plan_held",
            "1 while the last plan, or a part of it, is kept; the reason.",
            ("service", "reason"),
            _held(services),
        )
        yield from _facts(services)
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
    cells = [((s.name, name), cell.fact) for s in services for name, cell in s.facts.sources.items()]
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
        "membership_last_success_timestamp_seconds",
        "When the scrapers were last known.",
        ("service",),
        [((s.name,), s.facts.members.fact.good_at) for s in services if s.facts.members.fact.good_at],
    )


def _states(services: list[Service]) -> list[Sample]:
    samples: list[Sample] = []
    for service in services:
        counted = Counter(node.state for node in service.membership.nodes())
        samples += [((service.name, state), float(counted[state])) for state in ("up", "down", "unknown")]
    return samples


def _targets(services: list[Service]) -> list[Sample]:
    return [((s.name,), float(len(s.reconciler.placement.pool))) for s in services if s.reconciler.placement]


def _conflicts(services: list[Service]) -> list[Sample]:
    return [((s.name,), float(s.reconciler.placement.pool.conflicts)) for s in services if s.reconciler.placement]


def _loads(services: list[Service]) -> list[Sample]:
    return [
        ((s.name, scraper), float(load))
        for s in services
        if s.reconciler.placement
        for scraper, load in s.reconciler.placement.carried().items()
    ]


def _holding(services: list[Service]) -> list[Sample]:
    return [((s.name,), float(s.reconciler.memory.claims.held)) for s in services]


def _draining(services: list[Service]) -> list[Sample]:
    """0 once it is drained."""
    return [
        ((s.name, name), float(slice_.targets))
        for s in services
        for name, slice_ in s.reconciler.memory.slices.items()
        if name in s.reconciler.memory.drained
    ]


def _audited(services: list[Service], value: Callable[[Coverage], float]) -> list[Sample]:
    """Nothing for a service that was not audited yet."""
    return [((s.name,), float(value(s.audit.coverage))) for s in services if s.audit.coverage is not None]


def _unplaced(services: list[Service]) -> list[Sample]:
    return [((s.name,), float(s.reconciler.fit["unplaced"])) for s in services if s.reconciler.fit]


def _held(services: list[Service]) -> list[Sample]:
    return [((s.name, reason), 1.0) for s in services for reason in {w.reason for w in s.reconciler.verdict.withheld}]


class Rendered:
    """The text of ``/metrics``: rendered beside the loop, once for all who ask at the same time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families = Shared(lambda: list(registry.collect()))  # the live objects are the loop's
        self._work: asyncio.Future[bytes] | None = None

    async def get(self) -> bytes:
        if self._work is None or self._work.done():
            families = self._families.get()
            self._work = asyncio.ensure_future(beside(lambda: _text(families)))
            self._work.add_done_callback(heed)
        return await asyncio.shield(self._work)


def _text(families: list[Metric]) -> bytes:
    try:
        return generate_latest(_Collected(families))
    except UnicodeEncodeError:
        for family in families:
            family.samples = [s._replace(labels={k: clean(v) for k, v in s.labels.items()}) for s in family.samples]
        return generate_latest(_Collected(families))


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
