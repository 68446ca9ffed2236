"""What a fleet is configured to do, as promring reads it, and what comes of it by the pure core: who shall have what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promring.core.joined import FleetPool, FleetShares, Part, salt_of
from promring.core.placement import Policy, place_living
from promring.core.plan import EMPTY_BODY
from promring.core.pool import merge, pool_of
from promring.core.ring import Ring
from promring.model import Members, TargetGroup, TargetPool
from promring.model import Scraper as Member
from tests.sim.jobs import Job, Source, targets_of
from tests.sim.lockstores import ETCD, KUBERNETES
from tests.sim.scraper import Scraper
from tests.sim.traits import PORT

OVERLAP_S = 15.0
RECONCILE_S = 15.0
AUDIT_S = 10.0
LOAD_FACTOR = 1.10
FEW_NODES, MORE_NODES = 32, 48
ZONE = "zone"
Delivered = Sequence[Mapping[str, Any]]
"""What ``delivery`` lists."""


@dataclass
class Wanted:
    """``whole``: a fleet of several jobs, even if it has one now;
    else the one job has a fleet of its own.
    """

    jobs: dict[str, Job]
    """All that there ever are, by name."""
    active: set[str]
    """Those that are configured now."""
    whole: bool
    capacity: int | None = None
    load_factor: float = LOAD_FACTOR
    virtual_nodes: int = FEW_NODES
    lock: str = ""
    """Which store the controllers have the lock in; empty: there is one controller."""
    name: str = "main"
    """Of a fleet of several jobs."""
    kubeconfig: str = ""
    check: str = "/-/healthy"
    _pools: dict[str, tuple[list[list[str]], TargetPool]] = field(default_factory=dict)

    @property
    def here(self) -> list[Job]:
        return [job for name, job in self.jobs.items() if name in self.active]

    @property
    def fleet(self) -> str:
        return self.name if self.whole else self.here[0].name

    @property
    def load(self) -> int:
        """Of all targets, each as often as it is scraped."""
        return sum(len(job.targets) * job.replicas for job in self.here)

    # --- as promring reads it ----------------------------------------------------------------------------------------

    def settings(self, scrapers: dict[str, Any], delivery: Delivered, others: list[dict[str, Any]]) -> dict[str, Any]:
        """``scrapers``: where they are listed; ``others``: further services."""
        fleet, services = self._fleet(scrapers, delivery), [self._service(job) for job in self.here]
        if self.whole:
            fleets, services = [fleet], [one | {"fleet": self.name} for one in services]
        else:
            fleets, services = [], [_together(fleet, services[0])]
        return {
            "global": {"reconcile_interval": f"{RECONCILE_S:g}s"},
            "consul": {"address": "consul:8500"},
            "controllers": {"lock": {self.lock: {}}} if self.lock else {},
            **({"etcd": {"endpoints": ["http://etcd:2379"]}} if self.lock == ETCD else {}),
            **({"kubernetes": {"kubeconfig": self.kubeconfig}} if KUBERNETES in (self.lock, *scrapers) else {}),
            "fleets": fleets,
            "shard_services": [*services, *others],
        }

    def _fleet(self, scrapers: dict[str, Any], delivery: Delivered) -> dict[str, Any]:
        return {
            "name": self.name,
            "scrapers": scrapers,
            "join_delay": "2s",
            "zones": {"label": ZONE},
            "placement": {"virtual_nodes": self.virtual_nodes, "load_factor": self.load_factor}
            | ({"capacity": self.capacity} if self.capacity else {}),
            "handover": {"overlap": f"{OVERLAP_S:g}s"},
            "guard": {"panic_hold": "10s"},
            "audit": {"interval": f"{AUDIT_S:g}s"},
            "delivery": delivery,
        }

    def _service(self, job: Job) -> dict[str, Any]:
        return {
            "name": job.name,
            "targets": [{"http": {"url": f"http://cmdb/{job.name}/{n}", "refresh_interval": "5s"}} for n in job.sources],
            "placement": {"replication_factor": job.replicas},
            "guard": {"shrink_hold": "8s", "empty_hold": "16s"},
        }

    # --- what comes of it --------------------------------------------------------------------------------------------

    def slices(self, scrapers: Mapping[str, Scraper], live: set[str], drained: set[str]) -> dict[str, dict[str, bytes]]:
        """For each live scraper by job what it shall have, from nothing but the truth."""
        members = _members([s for s in scrapers.values() if s.id in live], drained)
        every = _members(list(scrapers.values()), set())
        nodes = self.virtual_nodes
        pool = FleetPool.of({j.name: Part(self._pool(j), j.replicas, salt_of(self.fleet, j.name)) for j in self.here})
        policy = Policy(nodes, self.load_factor, self.capacity)
        placement = place_living(pool, Ring(members, nodes), Ring(every, nodes), policy)
        found, numbers = FleetShares(placement), {s.id: i for i, s in enumerate(placement.scrapers)}
        return {
            name: {j.name: found.body(numbers[name], j.name) if name in numbers else EMPTY_BODY for j in self.here}
            for name in sorted(live)
        }

    def fit(self, source: Source, new: int, scrapers: Mapping[str, Scraper]) -> None:
        """Leave out as many of its last ``new`` targets as have no place where all scrapers live: which one of all targets
        lacks a place depends on who came first.
        """
        while self.capacity and new:
            slices = self.slices(scrapers, set(scrapers), set())
            if sum(len(targets_of(body)) for of_one in slices.values() for body in of_one.values()) >= self.load:
                return
            source.targets, new = source.targets[:-1], new - 1

    def _pool(self, job: Job) -> TargetPool:
        """Of all its sources. Made again only for other lists."""
        lists = [list(source.targets) for source in job.sources.values()]
        known = self._pools.get(job.name)
        if known is None or known[0] != lists:
            known = self._pools[job.name] = lists, merge([_listed(s) for s in job.sources.values()], None, ZONE)
        return known[1]


def _members(scrapers: list[Scraper], drained: set[str]) -> Members:
    weights = {s.id: 0.0 if s.id in drained else s.weight for s in scrapers}
    return tuple(sorted(Member(s.id, s.host, PORT, zone=s.zone, weight=weights[s.id]) for s in scrapers))


def _listed(source: Source) -> TargetPool:
    return pool_of([TargetGroup.of(source.targets)])


def _together(fleet: dict[str, Any], service: dict[str, Any]) -> dict[str, Any]:
    """A service with the keys of a fleet."""
    both = {key: {**fleet[key], **service[key]} for key in ("placement", "guard")}
    return {**fleet, **service, **both}
