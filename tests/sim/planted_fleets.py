"""Bugs of fleets of several services, to plant in promring as those of ``planted``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import structs

from promring import running
from promring.core import admission, aside
from promring.core.claims import NO_CLAIMS
from promring.core.joined import FleetPool, Part
from promring.core.placement import Policy, place_living
from promring.core.ring import Ring
from promring.election.shared import Shared
from promring.fleet import planner, succession
from promring.fleet.judge import Judge
from promring.fleet.planner import Planner
from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.model import Loads, Placement, TargetPool

Places = list[tuple[Any, str, Any]]


def one_doubt_holds_all() -> Places:
    """When the lists of one service are held, no other service gets new ones."""
    real = Judge.lists

    def lists(self: Judge, memory: Memory) -> Any:
        found = real(self, memory)
        if any(service.lists is None or service.verdict.withheld for service in self.services.values()):
            return {name: memory.of(name).sources if memory.of(name).slices else one for name, one in found.items()}
        return found

    return [(Judge, "lists", lists)]


def a_broken_service_holds_all() -> Places:
    """A service that never gave a list keeps the fleet from acting."""
    real = Judge.lists

    def lists(self: Judge, memory: Memory) -> Any:
        found = real(self, memory)
        return found if len(found) == len(self.services) else {}

    return [(Judge, "lists", lists)]


def capacity_by_service() -> Places:
    """Each service is placed by itself, as if it had all scrapers for itself."""

    def placed(pool: TargetPool, ring: Ring, listed: Ring, policy: Policy, loads: Loads | None = None) -> Placement:
        whole = place_living(pool, ring, listed, policy, loads)
        if not isinstance(pool, FleetPool) or len(pool.names) < 2:
            return whole
        owners = np.full_like(whole.owners, -1)
        for name in pool.names:
            part = place_living(FleetPool.of({name: pool.parts[name]}), ring, listed, policy).owners
            owners[pool.rows(name), : part.shape[1]] = part
        return replace(whole, owners=owners)

    return [(aside, "place_living", placed)]


def replicas_in_one_zone() -> Places:
    """The owners of a target are different scrapers, wherever those stand."""

    def nowhere(ring: Ring, nodes: int) -> Ring:
        return Ring(tuple(replace(s, zone="") for s in ring.scrapers), nodes)

    def placed(pool: TargetPool, ring: Ring, listed: Ring, policy: Policy, loads: Loads | None = None) -> Placement:
        nodes = policy.virtual_nodes
        found = place_living(pool, nowhere(ring, nodes), nowhere(listed, nodes), policy, loads)
        return replace(found, scrapers=ring.scrapers)

    return [(aside, "place_living", placed)]


def one_replica_for_all() -> Places:
    """How often the targets of a service shall be scraped is forgotten: once."""

    def part(pool: TargetPool, _: int = 1, salt: int = 0) -> Part:
        return Part(pool, 1, salt)

    return [(planner, "Part", part)]


def placed_over_the_living() -> Places:
    """Who is listed and dead is forgotten: a death moves more than what the dead one had."""
    real = Planner.place

    async def place(self: Planner, pool: Any, ring: Ring, listed: Any, *rest: Any) -> Placement:
        return await real(self, pool, ring, ring.scrapers, *rest)

    return [(Planner, "place", place)]


def drained_by_the_first_service() -> Places:
    """A scraper is drained as soon as it has nothing of one service."""

    def targets(self: Memory) -> dict[str, int]:
        first = min(self.services, default="")
        return {s.scraper.id: s.targets for s in self.every_slice if s.service == first}

    return [(Memory, "targets", targets)]


def claims_end_with_a_reload() -> Places:
    """What scrapers hold is forgotten when another configuration is read."""
    real = succession.inherited

    def inherited(*args: Any, **more: Any) -> Any:
        memory, names = real(*args, **more)
        return replace(memory, claims=NO_CLAIMS), names

    return [(running, "inherited", inherited)]


def lists_of_the_note_ignored() -> Places:
    """Who comes to lead does not ask which lists the leader before it had."""
    real = Shared.hear
    return [(Shared, "hear", lambda self, told: real(self, structs.replace(told, lists=self.told.lists)))]


def a_list_that_was_overtaken_is_taken() -> Places:
    """Who comes to lead goes on with what it has read, however old."""
    return [(Shared, "listed_at", lambda *_: float("-inf"))]


def amnesia() -> Places:
    """A controller that starts does not read what it saved."""
    return [(Store, "load", lambda _: Memory())]


def a_record_is_lost() -> Places:
    """What changes after the first save is never written, and nobody says so."""
    real = Store._append

    def append(self: Store, memory: Memory) -> bool:
        return self._position is not None or real(self, memory)

    return [(Store, "_append", append)]


def drained_until_a_restart() -> Places:
    """Who is drained is not saved."""
    real = Store.load
    return [(Store, "load", lambda self: replace(real(self), drained=frozenset()))]


def twice_on_one_scraper() -> Places:
    """The second owner of a target is the first one again."""

    def placed(pool: TargetPool, ring: Ring, listed: Ring, policy: Policy, loads: Loads | None = None) -> Placement:
        found = place_living(pool, ring, listed, policy, loads)
        owners = found.owners.copy()
        if owners.shape[1] > 1:
            owners[:, 1] = np.where(owners[:, 1] >= 0, owners[:, 0], owners[:, 1])
        return replace(found, owners=owners)

    return [(aside, "place_living", placed)]


def capacity_is_forgotten() -> Places:
    """A scraper takes whatever the ring gives it."""

    def placed(pool: TargetPool, ring: Ring, listed: Ring, policy: Policy, loads: Loads | None = None) -> Placement:
        return place_living(pool, ring, listed, replace(policy, capacity=None), loads)

    return [(aside, "place_living", placed)]


def weights_are_forgotten() -> Places:
    """Each scraper that may have targets has as many."""

    def even(ring: Ring, nodes: int) -> Ring:
        return Ring(tuple(replace(s, weight=min(1.0, s.weight * 100)) for s in ring.scrapers), nodes)

    def placed(pool: TargetPool, ring: Ring, listed: Ring, policy: Policy, loads: Loads | None = None) -> Placement:
        nodes = policy.virtual_nodes
        found = place_living(pool, even(ring, nodes), even(listed, nodes), policy, loads)
        return replace(found, scrapers=ring.scrapers)

    return [(aside, "place_living", placed)]


def nobody_is_needed() -> Places:
    """Who left too often waits its whole time, however few are left."""
    return [(admission, "_needed", lambda *_, **__: ())]


def followers_count_for_themselves() -> Places:
    """Whom a controller lets in goes by the leaves that it has seen itself, also when it follows."""
    return [(Judge, "_led", None)]


FLEET_BUGS: Mapping[str, Callable[[], Places]] = {
    bug.__name__: bug
    for bug in (
        one_doubt_holds_all,
        a_broken_service_holds_all,
        capacity_by_service,
        replicas_in_one_zone,
        one_replica_for_all,
        placed_over_the_living,
        drained_by_the_first_service,
        claims_end_with_a_reload,
        lists_of_the_note_ignored,
        a_list_that_was_overtaken_is_taken,
        amnesia,
        a_record_is_lost,
        drained_until_a_restart,
        twice_on_one_scraper,
        capacity_is_forgotten,
        weights_are_forgotten,
        nobody_is_needed,
        followers_count_for_themselves,
    )
}
