"""The fleets that run: one round a configuration, each from what those before it knew.

Promises: a configuration that is built replaces the running one whole; the services of the next go on with the facts and
slices of those before them, which may have had other names, ids and fleets. Two never write one state file.
Flow: ``supervisor`` builds configurations and puts the next one here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from promring.build import Context, Parts, Previous, build_fleet
from promring.config.settings import FleetOfServices, Settings
from promring.election.leadership import Leadership
from promring.fleet.fleet import Fleet, Service
from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.fleet.succession import heirs, inherited, origins
from promring.reload.decisions import LeftBehind
from promring.reload.left import LeftServices
from promring.runtime import certificates
from promring.runtime.actors import run_actors, said_in
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics

RELOAD_S = 30.0
"""A slow disk may hold a reload up; one that hangs ends the process, and the next serves the saved state."""


@dataclass(frozen=True, slots=True)
class Built:
    """A configuration and all that it asks for, built: nothing of it runs yet. ``stack`` has what is to be closed."""

    context: Context
    parts: Sequence[Parts]
    saved: Mapping[str, Memory]
    """From disk, of the fleets that do not run."""
    stores: Mapping[str, Store]
    """That those are from."""
    stack: AsyncExitStack
    before: Mapping[str, str] = field(default_factory=dict)
    """For each service that goes on with one that runs, the name of that one."""
    left: Sequence[LeftBehind] = ()
    """Services that are not in this configuration."""


class Running:
    """``left``: what reloads took out. ``renamed`` is called when services have other names or ids than a moment ago."""

    def __init__(
        self,
        left: LeftServices,
        leadership: Leadership,
        metrics: Metrics,
        log: Logger,
        *,
        renamed: Callable[[], None],
    ) -> None:
        self.fleets: dict[str, Fleet] = {}
        self.services: dict[str, Service] = {}
        """Of all fleets."""
        self.renamed: dict[str, str] = {}
        """Names that services had before a reload, and theirs now."""
        self.left = left
        self.runs = asyncio.Event()
        """The configuration that was put last runs."""
        self._settings: Settings | None = None
        """What the running fleets were built from."""
        self._ready: set[str] = set()
        """Services that once had a plan, over reloads too."""
        self._next: Built | None = None
        self._next_is_built = asyncio.Event()
        self._leadership, self._metrics, self._log = leadership, metrics, log
        self._when_renamed = renamed

    def put(self, built: Built) -> None:
        """Run these instead."""
        self.runs.clear()
        self._next = built
        self._next_is_built.set()

    async def run(self, built: Built) -> None:
        """Run all fleets of it until one fails or another configuration is put, then those of that one. Raises what a fleet
        raises.
        """
        try:
            while True:
                await self._round(built)
                assert self._next is not None  # or the round would not have ended
                built, self._next = self._next, None
        finally:
            if self._next is not None:
                await self._next.stack.aclose()

    async def _round(self, built: Built) -> None:
        """Until another configuration is put."""
        if self._next is None:  # else a reload was quicker than this round
            self._next_is_built.clear()
        async with built.stack:
            self._ready |= {name for name, service in self.services.items() if service.state.decided}
            left = self.services
            self.fleets = self._started(built)
            self._leadership.shared.fleets = frozenset(self.fleets)
            self.services = {name: service for fleet in self.fleets.values() for name, service in fleet.services.items()}
            self._forget(left)
            self._succeeded(built, left)
            shared = [one for one in built.left if one.service in left and left[one.service].fleet.name != one.service]
            await self.left.remember(shared, self.services.keys())  # the state of a fleet of its own stays, and says it
            if self._next is None:  # else it is over already
                self.runs.set()
            actors = {f"fleet {name}": fleet.run for name, fleet in self.fleets.items()}
            ended = await run_actors({"reload": self._next_is_built.wait, **actors}, RELOAD_S, said_in(self._log))
        if ended != "reload":
            raise RuntimeError(f"{ended} ended by itself")

    def _forget(self, left: Mapping[str, Service]) -> None:
        """The counters of what is gone, and certificates that may be."""
        certificates.forget()
        for name in left.keys() - self.services.keys():
            self._metrics.forget(service=name)
        for name in {service.fleet.name for service in left.values()} - self.fleets.keys():
            self._metrics.forget(fleet=name)

    def _started(self, built: Built) -> dict[str, Fleet]:
        """The fleets of ``built``, with what those before them know now. Those have ended: two would write one file."""
        memories = {**built.saved, **{name: fleet.memory() for name, fleet in self.fleets.items()}}
        came_from = origins(self._settings, built.context.settings, built.before, memories)
        found = {parts.fleet.name: inherited(parts.fleet, memories, came_from, self._settings) for parts in built.parts}
        replaced = heirs({name: names for name, (_, names) in found.items()})
        started = {}
        for parts in built.parts:
            fleet = parts.fleet
            memory, names = found[fleet.name]
            as_saved = names == [fleet.name] and memory == memories.get(fleet.name)
            before = {s.name: self.services.get(built.before.get(s.name, s.name)) for s in fleet.services}
            runs = self.fleets.get(fleet.name)
            store = runs.store if runs else built.stores.get(fleet.name)
            previous = Previous(memory, replaced[fleet.name], before, as_saved, store)
            started[fleet.name] = build_fleet(parts, built.context, previous)
            if runs is not None and runs.settings.identity == fleet.keys.identity:
                started[fleet.name].go_on_from(runs, built.before)
            moves = started[fleet.name].reconciler.moves
            goes_on = [one for name in names if (one := self.fleets.get(name)) and _means_the_same(fleet, one, built.before)]
            moves.before = runs.placement if runs in goes_on else None
            moves.takeover.taken = {pair: at for one in goes_on for pair, at in one.reconciler.moves.all_taken.items()}
        self._settings = built.context.settings
        return started

    def _succeeded(self, built: Built, left: Mapping[str, Service]) -> None:
        """The services of ``built`` go on with what those before them knew, which may have had other names and ids."""
        before = {new: old for new, old in built.before.items() if old in left}
        renamed = {old: new for new, old in before.items() if old != new}
        known = self.renamed | renamed
        followed = {name: renamed.get(new, new) for name, new in known.items()}
        self.renamed = {n: new for n, new in followed.items() if new in self.services and n not in self.services}
        self._ready |= {new for new, old in before.items() if old in self._ready}
        self._ready &= self.services.keys()  # one that comes again later is new
        self.left.after_reload(built.left, self.services.keys())
        pairs = [(left[old].settings, self.services[new].settings) for new, old in before.items()]
        self._leadership.rivals.keep_only(self.services.keys())
        if self._leadership.tells_others:
            self._leadership.shared.keep_only(self.fleets.keys(), self.services.keys())
        if not renamed and not any(a.identity != b.identity or a.fleet != b.fleet for a, b in pairs):
            return
        self._when_renamed()
        if self._leadership.tells_others:
            self._leadership.shared.drain_all({name: f.reconciler.memory.drained for name, f in self.fleets.items()})

    def save_again(self) -> None:
        """What was saved may be gone."""
        for fleet in self.fleets.values():
            fleet.save_again()

    def unready(self) -> list[str]:
        """Why not ready, a line a service. A fleet with a plan of one service is ready: the others hold only themselves. One
        that once was ready stays so, over a reload too, but not when nothing has been heard of its scrapers for longer than
        any answer takes.
        """
        if not self.fleets:
            return ["starting"]
        said: list[str] = []
        for fleet in self.fleets.values():
            waiting = [why for name, one in fleet.services.items() if name not in self._ready and (why := one.unready())]
            if len(waiting) == len(fleet.services):
                said += waiting
            if silent := fleet.silent():
                said.append(silent)
        return said


def _means_the_same(fleet: FleetOfServices, runs: Fleet, before: Mapping[str, str]) -> bool:
    """Whether scrapers and services are called in ``fleet`` as in the one that ``runs``, so that its plan can be told."""
    same_names = all(before.get(service.name, service.name) == service.name for service in fleet.services)
    return same_names and fleet.keys.identity == runs.settings.identity
