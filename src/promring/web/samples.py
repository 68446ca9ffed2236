"""Samples of fleets and services at the moment they are asked for: one function a metric."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from promring.core.coverage import Coverage
from promring.core.loss import worst_scraper, worst_zone
from promring.delivery.askers import Asker
from promring.discovery import DroppingSource, TroubledSource
from promring.fleet.fleet import Fleet, Service
from promring.membership import Lists, Probes
from promring.model import Fact, TargetPool
from promring.web.answers.fleets import Loads, Room
from promring.web.views.asking import askers_of
from promring.web.views.room import loads_of, room_now

Sample = tuple[tuple[str, ...], float]


def gauge(name: str, text: str, labels: tuple[str, ...], samples: list[Sample]) -> Metric:
    family = GaugeMetricFamily(f"promring_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _cells(services: list[Service]) -> list[tuple[tuple[str, str], Fact[TargetPool]]]:
    return [((s.name, name), cell.fact) for s in services for name, cell in s.facts.cells.items()]


def _heard(services: list[Service]) -> list[Sample]:
    return [(labels, fact.good_at) for labels, fact in _cells(services) if fact.good_at]


def _refused(services: list[Service]) -> list[Sample]:
    return [(labels, float(fact.good.value.refused)) for labels, fact in _cells(services) if fact.good]


def _dropped(services: list[Service]) -> list[Sample]:
    sources = [((s.name, name), source) for s in services for name, source in s.sources.items()]
    return [(labels, float(one.dropped.count)) for labels, one in sources if isinstance(one, DroppingSource)]


def _troubles(services: list[Service]) -> list[Sample]:
    sources = [((s.name, name), source) for s in services for name, source in s.sources.items()]
    return [(labels, float(len(one.troubles))) for labels, one in sources if isinstance(one, TroubledSource)]


def _known(fleets: list[Fleet]) -> list[Sample]:
    return [((f.name,), f.facts.members.fact.good_at) for f in fleets if f.facts.members.fact.good_at]


def _lists(fleets: list[Fleet]) -> list[Sample]:
    return [((f.name,), f.membership.list_trouble()[1]) for f in fleets if isinstance(f.membership, Lists)]


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


def of_scrapers(fleets: list[Fleet]) -> Iterator[Metric]:
    """Of all services together."""
    assigned: list[Sample] = []
    loads: list[Sample] = []
    capacities: list[Sample] = []
    draining: list[Sample] = []
    for fleet in fleets:
        targets, drained = fleet.reconciler.memory.targets(), fleet.reconciler.memory.drained
        assigned += [((fleet.name, name), float(count)) for name, count in targets.items()]
        draining += [((fleet.name, name), float(count)) for name, count in targets.items() if name in drained]
        if (placement := fleet.placement) is None:
            continue
        loads += [((fleet.name, name), float(load)) for name, load in placement.carried().items()]
        if placement.limits is not None:
            limits = zip(placement.scrapers, placement.limits.tolist(), strict=True)
            capacities += [((fleet.name, s.id), float(limit)) for s, limit in limits]
    labels = ("fleet", "scraper")
    yield gauge("assigned_targets", "Targets that a scraper has, of all services.", labels, assigned)
    yield gauge(
        "assigned_load",
        "Load that a scraper has, of all services: targets, or samples a scrape where loads are learnt.",
        labels,
        loads,
    )
    yield gauge("capacity_load", "The most load that a scraper may have, by load_factor and capacity.", labels, capacities)
    yield gauge("draining_targets", "Targets that a drained scraper still has.", labels, draining)


def _excluded(fleets: list[Fleet]) -> list[Sample]:
    samples: list[Sample] = []
    for fleet in fleets:
        loop = fleet.reconciler
        opinions, failing, live = loop.opinions, loop.dispatcher.failing, {s.id for s in loop.history.members}
        every = {
            "undeliverable": set(failing.scrapers),
            "refusing": {name for _, name in failing.refusing},
            "sick": set(opinions.sick(time.monotonic())),
            "idle": {name for _, name in opinions.jobs.idle},
            "unresponsive": set(loop.health.unresponsive.scrapers),
            "alias": set(loop.nameless),
        }
        samples += [((fleet.name, reason), float(len(names & live))) for reason, names in every.items()]
    return samples


def _lacking(fleets: list[Fleet]) -> list[Sample]:
    samples: list[Sample] = []
    for fleet in fleets:
        if (placement := fleet.placement) is None:
            continue
        policy = fleet.reconciler.planner.policy
        for of, worst in (("scraper", worst_scraper), ("zone", worst_zone)):
            if (found := worst(placement, policy)) is not None:
                samples.append(((fleet.name, of), float(found.lacking)))
    return samples


def _needed(fleets: list[Fleet]) -> list[Sample]:
    """Of fleets with a capacity."""
    return [((name,), float(room.needed)) for name, room in _rooms(fleets)]


def _needed_after_loss(fleets: list[Fleet]) -> list[Sample]:
    samples: list[Sample] = []
    for name, room in _rooms(fleets):
        samples.append(((name, "scraper"), float(room.after_scraper)))
        if room.after_zone is not None:
            samples.append(((name, "zone"), float(room.after_zone)))
    return samples


def _rooms(fleets: list[Fleet]) -> list[tuple[str, Room]]:
    rooms = [(f.name, room_now(f)) for f in fleets]
    return [(name, room) for name, room in rooms if room is not None]


def _learning(value: Callable[[Loads], float | None]) -> Callable[[list[Fleet]], list[Sample]]:
    """Of fleets whose loads are learnt; nothing where it is not known."""

    def samples(fleets: list[Fleet]) -> list[Sample]:
        said = [(fleet.name, loads) for fleet in fleets if (loads := loads_of(fleet)) is not None]
        return [((name,), float(found)) for name, loads in said if (found := value(loads)) is not None]

    return samples


def _asking(at: Callable[[Asker], float | None]) -> Callable[[list[Fleet]], list[Sample]]:
    """Of those that ask, for any service; nothing of those that ``at`` is None of."""

    def samples(fleets: list[Fleet]) -> list[Sample]:
        ahead_s = time.time() - time.monotonic()
        said = [(fleet.name, name, at(one)) for fleet in fleets for name, one in askers_of(fleet.services.values()).items()]
        return [((fleet, name), round(when + ahead_s, 3)) for fleet, name, when in said if when is not None]

    return samples


def of_probes(fleets: list[Fleet]) -> Metric:
    family = CounterMetricFamily(
        "promring_probes",
        "Health checks of scrapers by promring itself: success, failure, distrusted (it answers, and password or "
        "certificate are wrong), not_made (this machine could not).",
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


def _looked(services: list[Service]) -> list[Sample]:
    return [((s.name,), s.look.at) for s in services if s.look.coverage is not None]


OF_FLEETS: tuple[tuple[str, str, tuple[str, ...], Callable[[list[Fleet]], list[Sample]]], ...] = (
    ("scrapers", "Scrapers by state: up, down, unknown.", ("state",), _states),
    (
        "scrapers_excluded",
        "Live scrapers that get no targets, or no more of a service: undeliverable, refusing, sick, idle, unresponsive, "
        "alias.",
        ("reason",),
        _excluded,
    ),
    ("membership_last_success_timestamp_seconds", "When somebody last said which scrapers live.", (), _known),
    ("scraper_list_last_success_timestamp_seconds", "When the list of scrapers could last be had.", (), _lists),
    ("plan_held", "1 while the last plan of a fleet, or a part of it, is kept, by reason.", ("reason",), _held),
    (
        "handing_over_targets",
        "Targets that an old scraper keeps until the new one is seen scraping them.",
        (),
        _holding,
    ),
    (
        "lacking_load_after_loss",
        "Load that would have no room without one scraper, or one zone, the worst to lose.",
        ("of",),
        _lacking,
    ),
    (
        "scrapers_needed",
        "Scrapers of the commonest weight that the load needs within the capacity; of fleets with one.",
        (),
        _needed,
    ),
    (
        "scrapers_needed_after_loss",
        "Scrapers that must be there for enough to be left without one scraper, or one zone.",
        ("of",),
        _needed_after_loss,
    ),
    (
        "load_spread_ratio",
        "Load of the fullest scraper over its fair share, by the newest figures; of fleets whose loads are learnt.",
        (),
        _learning(lambda loads: loads.spread),
    ),
    (
        "loads_learnt_targets",
        "Targets of which the leader has figures enough for a load of their own.",
        (),
        _learning(lambda loads: loads.learnt),
    ),
    (
        "loads_asked_timestamp_seconds",
        "When the leader last asked for figures of loads.",
        (),
        _learning(lambda loads: loads.asked_at),
    ),
    (
        "loads_moved_timestamp_seconds",
        "When loads alone last moved targets.",
        (),
        _learning(lambda loads: loads.moved_at),
    ),
    (
        "scraper_last_ask_timestamp_seconds",
        "When a scraper, or its agent, last asked for its list (http_sd); only of those that did more than once.",
        ("scraper",),
        _asking(lambda one: one.at if one.again else None),
    ),
    (
        "scraper_untaken_timestamp_seconds",
        "Since when a scraper, or its agent, asks for its list and has not taken it (http_sd); only of such scrapers.",
        ("scraper",),
        _asking(lambda one: one.untaken_since),
    ),
)
OF_SERVICES: tuple[tuple[str, str, tuple[str, ...], Callable[[list[Service]], list[Sample]]], ...] = (
    ("targets", "Targets of a service, those of all sources together.", (), _targets),
    ("target_conflicts", "Targets that two sources list with other labels; the first source wins.", (), _conflicts),
    ("unplaced_targets", "Targets that lack a scraper: none has room. A replica may have one.", (), _unplaced),
    (
        "coverage_ratio",
        "Share of the targets that are proved to be scraped, 0 to 1.",
        (),
        lambda all_: _audited(all_, lambda c: c.ratio),
    ),
    (
        "uncovered_targets",
        "Targets that are not proved to be scraped; the unproved ones among them.",
        (),
        lambda all_: _audited(all_, lambda c: c.uncovered),
    ),
    (
        "unproved_targets",
        "Targets of scrapers that cannot be asked what they scrape.",
        (),
        lambda all_: _audited(all_, lambda c: len(c.unproved)),
    ),
    (
        "doubled_targets",
        "Targets that a scraper scrapes although its slice lacks them.",
        (),
        lambda all_: _audited(all_, lambda c: len(c.doubled)),
    ),
    ("coverage_timestamp_seconds", "When the audit last asked all scrapers what they scrape.", (), _looked),
    (
        "source_doubted",
        "1 while the newest list of a source is not believed and the last one is kept, by reason.",
        ("source", "reason"),
        _doubted,
    ),
    ("discovery_last_success_timestamp_seconds", "When a source last gave a list of targets.", ("source",), _heard),
    (
        "discovery_refused_entries",
        "Entries of the last list of a source that cannot be given to a scraper and were left out.",
        ("source",),
        _refused,
    ),
    (
        "discovery_dropped_targets",
        "Targets of a source that relabelling dropped before they were placed.",
        ("source",),
        _dropped,
    ),
    (
        "discovery_behind_failing",
        "What failed in the last 10 minutes behind a source whose list is taken, such as kinds of discovery of an engine.",
        ("source",),
        _troubles,
    ),
)
"""Name, meaning, labels, and what the samples are."""
