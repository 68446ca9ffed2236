"""From what the guard let through to a placement of all targets of a fleet: lists, pools, ring, placement.

Each step is kept as long as what it is made of is the same object, so that a change of one service merges that service's
lists and no others, and a cycle without a change costs nothing. Flow: called by ``reconcile``, decides nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from promring.core.admission import NOBODY_ASIDE, Aside
from promring.core.aside import place_around
from promring.core.claims import Claims
from promring.core.joined import FleetPool, Part
from promring.core.placement import Policy, capacities
from promring.core.pool import merge_sources
from promring.core.refusals import NOTHING_REFUSED, Refused
from promring.core.ring import TOKENS_MOST, Ring
from promring.model import Loads, Members, Placement, TargetPool
from promring.runtime.threads import computed
from promring.telemetry.log import Logger, difference

Lists = Mapping[str, TargetPool]
"""Of one service: by source, in order of precedence."""


@dataclass(frozen=True, slots=True)
class Placing:
    """How the targets of one service are placed. ``salt``: as ``joined.salt_of`` has it; ``ranks``: of its sources."""

    hash_labels: Sequence[str] | None = None
    replicas: int = 1
    salt: int = 0
    ranks: Mapping[str, int] = field(default_factory=dict)


class Planner:
    """Of one fleet. ``placing``: by service."""

    def __init__(
        self,
        policy: Policy,
        placing: Mapping[str, Placing],
        zone_label: str | None,
        members: Members,
        log: Logger,
    ) -> None:
        """``members``: the scrapers of the last plan."""
        self.policy = policy
        self._placing, self._zone_label, self._log = placing, zone_label, log
        self.ring: Ring | None = Ring(members, policy.virtual_nodes) if members else None
        self.placed: Placement | None = None
        """The last placement that was put in force, by ring and policy alone."""
        self._listed: Ring | None = None
        """Of all that are listed, where others live."""
        self._heard: Members | None = None
        self._merged: dict[str, tuple[Lists, TargetPool]] = {}
        self._pool: FleetPool | None = None
        self._computed: Placement | None = None
        """The last placement that was computed, and what it was made with besides pool and scrapers."""
        self._made_with: tuple[Aside, Refused, Ring | None, Loads | None] = NOBODY_ASIDE, NOTHING_REFUSED, None, None

    async def update_ring(self, members: Members) -> Ring:
        """Compare the live scrapers with the ring's; when they differ, a new ring replaces the old one whole."""
        if self.ring is None:  # the ring starts from the scrapers that are alive, whatever the configuration lists
            self.ring = await self._make_ring(members)
        old, new = self.ring.members, [s.id for s in members]
        if old != new:
            self._log.info(
                "node_update_reshard",
                old_num=len(old),
                new_num=len(new),
                oldnodes=",".join(old),
                newnodes=",".join(new),
                **difference(old, new),
            )
        elif members != self._heard:
            self._log.info("node_same", nodes=",".join(new))
        if self.ring.scrapers != members:  # other ids, or an id that now stands for another address
            self.ring = await self._make_ring(members)
        self._heard = members
        return self.ring

    async def _make_ring(self, members: Members) -> Ring:
        ring = await computed(lambda: Ring(members, self.policy.virtual_nodes))
        if ring.wanted > TOKENS_MOST:  # weights may come from outside, and nothing ends because of one
            self._log.warning("ring_bounded", wanted=ring.wanted, most=TOKENS_MOST, note="fewer virtual nodes, equal shares")
        return ring

    async def merge(self, lists: Mapping[str, Lists]) -> FleetPool:
        """The pool of all services with ``lists``; a service's is built again only when one of its lists is another one."""
        merged = {name: await self._merge(name, sources) for name, sources in lists.items()}
        self._merged = {name: (lists[name], pool) for name, pool in merged.items()}
        known = self._pool
        if (
            known is None
            or known.names != tuple(sorted(merged))
            or any(known.parts[n].pool is not merged[n] for n in merged)
        ):
            parts = {n: Part(pool, self._placing[n].replicas, self._placing[n].salt) for n, pool in merged.items()}
            known = self._pool = await computed(lambda: FleetPool.of(parts))
        return known

    async def _merge(self, service: str, sources: Lists) -> TargetPool:
        known = self._merged.get(service)
        if known is not None and same_lists(known[0], sources):
            return known[1]
        placing = self._placing[service]
        pool = await computed(lambda: merge_sources(sources, placing.ranks, placing.hash_labels, self._zone_label))
        if pool.conflicts:
            self._log.warning(
                "targets_conflict",
                service=service,
                conflicts=pool.conflicts,
                among=",".join(pool.conflicts_named),
                kept="what the first source says",
            )
        return pool

    async def place(
        self,
        pool: FleetPool,
        ring: Ring,
        listed: Members,
        aside: Aside,
        had: Claims,
        refused: Refused,
        loads: Loads | None = None,
        *,
        trial: bool = False,
    ) -> Placement:
        """Who shall own what. A pure function of pool, ring, who is ``listed``, ``loads`` and policy: made of the same ones,
        it is the same. Those that are ``aside`` get nothing new, nor of a service those that have ``refused`` it. A
        ``trial`` is not kept for the next time.
        """
        base, known = await self._ring_of(listed, ring), self._computed
        if (
            known is not None
            and known.pool is pool
            and known.scrapers == ring.scrapers
            and self._made_with[0] == aside
            and self._made_with[1] is refused
            and self._made_with[2] is base
            and self._made_with[3] is loads
        ):
            return known  # whether it is in force yet, or an error came in between, is for the loop to say
        found = await computed(lambda: place_around(pool, ring, base, self.policy, aside, had, refused, loads))
        if not trial:
            self._computed, self._made_with = found, (aside, refused, base, loads)
        return found

    def capacities(self, placed: Placement, members: Members) -> Loads | None:
        """The most load of each scraper of ``placed``, int64; None: no bound. Who is no member counts with a weight of 1."""
        weights = {s.id: s.weight for s in members}
        return capacities([weights.get(s.id) or 1.0 for s in placed.scrapers], self.policy)

    async def _ring_of(self, listed: Members, ring: Ring) -> Ring:
        if listed == ring.scrapers:
            return ring
        if self._listed is None or self._listed.scrapers != listed:
            self._listed = await computed(lambda: Ring(listed, self.policy.virtual_nodes))
        return self._listed


def same_lists(one: Lists, other: Lists) -> bool:
    """Whether both hold the very same lists: facts keep the identity of a list that did not change."""
    return list(one) == list(other) and all(pool is other[name] for name, pool in one.items())
