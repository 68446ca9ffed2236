"""What a fleet knows across a restart or a reload: the last good facts, and the slices that are in force.

Values only: ``records`` says how they look on disk, ``store`` keeps them there. Written by ``reconcile`` before a delivery,
read once at start by ``supervisor``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from promring.core.claims import NO_CLAIMS, Claims, Departed
from promring.core.loads import LoadBook
from promring.core.second_opinion import SecondOpinions
from promring.core.standing import History
from promring.core.unresponsive import NO_ANSWERS, Answers
from promring.fleet.timeline import Timeline
from promring.fleet.totals import Total, Totals
from promring.model import NONE_FAILING, Failing, Generation, Members, Slice, TargetPool

NO_GENERATION = Generation(0, 0)


@dataclass(frozen=True, slots=True)
class ServiceMemory:
    """Of one shard service: the lists that its plan was made of, and its slices. All empty: there is no plan."""

    sources: Mapping[str, TargetPool] = field(default_factory=dict)
    slices: Mapping[str, Slice] = field(default_factory=dict)
    """By scraper id: one a scraper of the last plan."""
    sources_at: Mapping[str, float] = field(default_factory=dict)
    """When each source last gave targets, wall-clock seconds."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a fleet knows across a restart or a reload, an attribute for each thing. All empty: it knows nothing."""

    members: Members = ()
    services: Mapping[str, ServiceMemory] = field(default_factory=dict)
    generation: Generation = NO_GENERATION
    claims: Claims = NO_CLAIMS
    """Who has which target in its slice, by the ids of the fleet; times are monotonic seconds of this process."""
    drained: frozenset[str] = frozenset()
    """Scrapers that a person drained."""
    history: History = field(default_factory=History)
    """Who counted as alive, who left when and how often; times are monotonic seconds of this process."""
    members_at: float = 0.0
    """When the members were last known, wall-clock seconds."""
    departing: Members = ()
    """Scrapers that were taken out of the list and were alive: they keep what they have until others scrape it."""
    listed: frozenset[tuple[str, int]] = frozenset()
    """Host and port of the scrapers that the configuration names."""
    catalogue: Members = ()
    """Who was listed, alive or not, as the membership said it last: what the plan was made over."""
    loads: LoadBook | None = None
    """The loads that targets are placed by; None: each counts 1."""
    opinions: SecondOpinions = field(default_factory=SecondOpinions)
    """Targets that are tried elsewhere besides, and who was found sick; times are monotonic seconds of this process."""
    undelivered: Failing = NONE_FAILING
    """Who cannot be given anything, or nothing of a service."""
    answers: Answers = NO_ANSWERS
    """Which scrapers ever answered the audit, and which count as alive and answer nothing."""
    departed: Departed = field(default_factory=Departed, compare=False, repr=False)
    """The targets of scrapers that left the plan lately. It is not saved, and goes on over a reload."""
    unlooked: bool = field(default=False, compare=False, repr=False)
    """Whether it is still to be looked what the scrapers have (``takeover``)."""
    timeline: Timeline = field(default_factory=Timeline, compare=False, repr=False)
    """What people are told of the plans before. It is not saved, and goes on over a reload."""

    counted: Totals = field(default_factory=Totals, compare=False, repr=False)
    """What ``totals`` has counted."""

    def after_leaving(self, departed: Departed) -> Memory:
        """With ``departed``; the same object when nobody left or came back, which need not be saved."""
        return self if departed is self.departed else replace(self, departed=departed)

    def of(self, service: str) -> ServiceMemory:
        return self.services.get(service, NOTHING_KNOWN)

    def newest(self, service: str) -> Generation:
        """Of its slices."""
        return max((s.generation for s in self.of(service).slices.values()), default=NO_GENERATION)

    @property
    def planned(self) -> bool:
        """Whether there is a plan of any service."""
        return any(one.slices for one in self.services.values())

    @property
    def every_slice(self) -> list[Slice]:
        return [s for one in self.services.values() for s in one.slices.values()]

    def totals(self) -> Mapping[str, Total]:
        """By scraper: what its slices have, of all services together."""
        return self.counted.get(self.services, (s for one in self.services.values() for s in one.slices.values()))

    def targets(self) -> dict[str, int]:
        """By scraper: how many targets its slices have, of all services."""
        return {name: total.targets for name, total in self.totals().items()}


NOTHING_KNOWN = ServiceMemory()
