"""What must be true of moves and of what is said: I16 and I18. Looked at once a second, by what the scrapers really did.

``Moves``   I16: a target that moves while its old owner lives misses no scrape; I3: nor is it with nobody
``Claims``  I18: what a controller says was so at some moment within its age
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from promring.core.coverage import STALE_INTERVALS, STALE_LEAST_S, Coverage
from promring.core.fragment import decode, fragments
from promring.core.second_opinion import Sick
from promring.fleet.fleet import Fleet, Service
from promring.model import LONG_AGO, Slice, TargetPool
from tests.sim.jobs import job_of, targets_of
from tests.sim.scraper import Scraper
from tests.sim.traits import Looked
from tests.sim.wanted import AUDIT_S

if TYPE_CHECKING:
    from tests.sim.controller import Controller
    from tests.sim.world import World

SEEN_S = 15.0
"""A trouble is seen, and what was decided before it is at the scrapers, so long after it began at the latest."""
TIMEOUT_S, TICK_S = 5.0, 2.0
SIDE_BY_SIDE_S = 0.1
"""The files of one delivery are written so closely together, in whichever order."""
WOKEN_S = 60.0
"""A controller that stood still may say what was so before that."""


Heirs = tuple[tuple[Scraper, float], ...]
"""Who else has a target in a controller's plan, and since when."""


@dataclass(frozen=True)
class Off:
    """The newest list of a scraper is without a target. ``decided``: when that list was made; ``let_go``: since when that
    controller's lists are so, for which the scraper may have come much later; ``full``: it had no room for more, and what
    has no room stays with whoever had it first; ``heirs``: who had it in the controller's plan; ``first``: who had it when
    it was let go.
    """

    decided: float
    let_go: float
    full: bool = False
    heirs: Heirs = ()
    first: Heirs = ()


@dataclass(frozen=True)
class Left:
    """Who scraped the target last with success, since ``good_since``, asks it no more, since its list says so (``off``)."""

    at: float
    scraper: Scraper
    off: Off
    good_since: float


class Moves:
    def __init__(self, world: World) -> None:
        self._world = world
        self.good: dict[str, float] = {}
        """When somebody last scraped the target with success."""
        self.asked: dict[str, dict[str, float]] = defaultdict(dict)
        """When each scraper last asked each target."""
        self.good_by: dict[str, dict[str, float]] = defaultdict(dict)
        """When it did so with success."""
        self._good_since: dict[tuple[str, str], float] = {}
        """Since when a scraper asks a target with success each time."""
        self._off: dict[tuple[str, str], Off] = {}
        self._let_go: dict[tuple[str, str], dict[str, tuple[float, Heirs]]] = defaultdict(dict)
        """By controller and scraper: targets that the one gives the other no more, since when, and who had them then."""
        self._left: dict[str, Left] = {}
        self.lost: list[tuple[float, Scraper, list[str]]] = []
        """When which targets were taken from a scraper, and nobody else had them yet."""
        self.listed: dict[str, float] = {}
        """Since when each target is listed."""

    def gives(
        self, who: str, scraper: Scraper, there: Collection[str], gone: Iterable[str], heirs: Mapping[str, Heirs]
    ) -> None:
        """A controller has made it a list with those that are ``there``, and without those that the last one had besides."""
        known = self._let_go[who, scraper.id]
        for target in known.keys() & there:
            del known[target]
        for target in gone:
            known[target] = self._world.now, heirs.get(target, ())

    def taken_off(self, who: str, scraper: Scraper, targets: Iterable[str], off: Off, heirs: Mapping[str, Heirs]) -> None:
        """Its newest list, which that controller made, is without these."""
        for target in targets:
            at, first = self._let_go[who, scraper.id].get(target, (off.decided, ()))
            one = replace(off, let_go=min(at, off.decided), heirs=heirs.get(target, ()), first=first)
            self._off.setdefault((scraper.id, target), one)

    def has(self, scraper: Scraper, targets: Iterable[str]) -> None:
        """Its newest list is with these."""
        for target in targets:
            self._off.pop((scraper.id, target), None)

    def off(self, scraper: Scraper, target: str) -> Off:
        """Why it does not have that target in its newest list; as of now, where nothing is known of it."""
        return self._off.get((scraper.id, target)) or Off(self._world.now, self._world.now)

    def looked(self, scraper: Scraper, found: Looked, now: float) -> None:
        """What it did in this second."""
        good = set(found.good)
        for target in found.asked:
            self.asked[target][scraper.id] = now
            if target not in good:
                self._good_since.pop((scraper.id, target), None)
        for target in found.good:
            self.good[target] = self.good_by[target][scraper.id] = now
            self._good_since.setdefault((scraper.id, target), now)
        for target in found.dropped:
            since = self._good_since.pop((scraper.id, target), now)
            self._left[target] = Left(now, scraper, self.off(scraper, target), since)

    def see(self, now: float) -> None:
        truth = self._world.truth()
        self._nobody_has(truth, now - SIDE_BY_SIDE_S)
        if truth != self.listed.keys():
            self.listed = {t: self.listed.get(t, now) for t in sorted(truth)}
        for target, left in list(self._left.items()):
            if target not in truth or self.good.get(target, LONG_AGO) > left.at:
                del self._left[target]
            elif now - self.good.get(target, now) > self._world.traits.missed_s:
                del self._left[target]
                if not self._excused(target, left):
                    gap_s = now - self.good[target]
                    self._world.wrong(
                        f"I16: {target} moved from {left.scraper.id} {now - left.at:.0f} s ago, no scrape for {gap_s:.0f} s"
                    )

    def _nobody_has(self, truth: set[str], until: float) -> None:
        """Nobody else was given what was taken from a scraper before ``until``, either."""
        due, self.lost = [one for one in self.lost if one[0] <= until], [one for one in self.lost if one[0] > until]
        for at, scraper, targets in due:
            had = {
                t for s in self._world.scrapers.values() for t, since in s.in_file.items() if since <= at + SIDE_BY_SIDE_S
            }
            if lost := [t for t in targets if t in truth and t not in had]:
                text = f"{len(lost)} targets ({lost[0]}) were taken from {scraper.id}, and nobody else has them"
                self._world.wrong(f"I3: {text}")

    def _excused(self, target: str, left: Left) -> bool:
        """The old owner was in trouble itself, so that it was not known to scrape the target; or a new one that scraped it
        with success fell ill when it was too late to take the decision back.
        """
        world, off = self._world, left.off
        seen_s = world.traits.interval_s + SEEN_S  # that one scrapes no more is seen when its next scrape is due
        before, late = off.decided - seen_s, off.let_go - seen_s - world.traits.poll_s
        if off.full or left.scraper.was_ill(target, before) or world.weak(left.scraper, target, off.decided):
            return True
        if not world.strict and off.heirs and all(self._fails_unseen(heir, target, before) for heir, _ in off.heirs):
            return True
        if (
            left.good_since > off.decided - SEEN_S
            and off.heirs
            and all(heir.failed(target, before) for heir, _ in off.heirs)
        ):
            return True  # they had failed it before, and that the old owner did not was not seen yet
        good, heirs = self.good_by[target], {*off.heirs, *off.first}
        return any(heir.fell_ill(target, late) and good.get(heir.id, LONG_AGO) >= at for heir, at in heirs)

    def _fails_unseen(self, heir: Scraper, target: str, since: float) -> bool:
        """Known to be weak: an owner that fails the target, and that nobody can see failing, gets it back by time when a
        restart forgot who was tried instead.
        """
        return heir.failed(target, since) and any(span.unseen for span in heir.past if span.ended >= since)

    def missed(self, since: float) -> list[str]:
        """Who was listed, and well, then, and has no good scrape for too long now."""
        traits = self._world.traits
        well, late = since - traits.missed_s, self._world.now - traits.missed_s
        return [
            t
            for t, at in self.good.items()
            if well <= at < late and self.listed.get(t, since) < since and not traits.drops(t)
        ]


class Claims:
    def __init__(self, world: World) -> None:
        self._world = world
        self._coverages: dict[tuple[str, str], Coverage] = {}
        self._sick: dict[str, set[tuple[str, float]]] = defaultdict(set)
        self._found: set[tuple[str, str]] = set()
        """What some controller found of a scraper: that outlives a restart."""
        self._drained_since: dict[tuple[str, str], float] = {}
        self._slices: dict[tuple[str, str], Mapping[str, Slice]] = {}
        """By controller and service: those at the last look."""
        self._names: dict[int, tuple[TargetPool, list[str]]] = {}
        self._frozen_at: dict[str, float] = {}

    def see(self, now: float) -> None:
        for controller in self._world.controllers.values():
            if controller.process.frozen:
                self._frozen_at[controller.name] = now
            elif fleet := controller.fleet():
                judged = now - self._frozen_at.get(controller.name, LONG_AGO) > WOKEN_S
                self._of(controller, fleet, now, judged=judged)

    def _of(self, controller: Controller, fleet: Fleet, now: float, *, judged: bool) -> None:
        """What is new of what it says; ``judged`` False: it may be of the time before it stood still."""
        for service in fleet.services.values():
            found, key = service.look.coverage, (controller.name, service.name)
            if found is not None and found is not self._coverages.get(key) and service.name in self._world.jobs:
                self._coverages[key] = found
                if judged:
                    self._covered(controller.name, service, found, now)
        for name, one in fleet.reconciler.opinions.scrapers.items():
            if (name, one.until) not in self._sick[controller.name]:
                self._sick[controller.name].add((name, one.until))
                remembered = (name, one.found) in self._found  # by a run before, until when it was said to be sick
                self._found.add((name, one.found))
                if judged and not remembered:
                    self._is_sick(controller.name, name, one, now)
        if judged:
            self._drained(controller, fleet, now)

    # --- coverage ----------------------------------------------------------------------------------------------------

    def _covered(self, who: str, service: Service, found: Coverage, now: float) -> None:
        world, names = self._world, self._named(found.pool)
        stale_s = max(STALE_LEAST_S, STALE_INTERVALS * world.traits.interval_s) + TIMEOUT_S + TICK_S
        stale_s += 2 * world.pace.late_s  # to ask takes so long, and to compare
        for target in (names[row] for row in found.covered.nonzero()[0].tolist()):
            if max(world.moves.asked[target].values(), default=LONG_AGO) < now - stale_s:
                world.wrong(f"I18: {who} says that {target} is scraped")
        for target in (names[row] for row in found.dropped.tolist()):
            if not world.traits.drops(target):
                world.wrong(f"I18: {who} says that {target} is dropped")
        before, self._slices[who, service.name] = self._slices.get((who, service.name), {}), dict(service.slices)
        slices = {n: s for n, s in before.items() if s is service.slices.get(n)}  # of one that is new nothing is seen yet
        owners = {name: set(targets_of(slices[name].body)) for name in found.scrapers if name in slices}
        for target in (names[row] for row in found.missing.tolist()):
            if any(target in has and self._shows(world.scrapers[name], target, now) for name, has in owners.items()):
                world.wrong(f"I18: {who} says that {target} is missing")

    def _shows(self, scraper: Scraper, target: str, now: float) -> bool:
        """Whether it has had the target so long, and was so well, that everybody who asked it must have seen it."""
        traits = self._world.traits
        since = now - 2.0 * traits.interval_s - traits.stage_s - AUDIT_S - TIMEOUT_S - self._world.pace.late_s
        if scraper.was_ill(target, since) or scraper.in_file.get(target, now) > since:
            return False
        return (
            traits.drops(target) or self._world.moves.asked[target].get(scraper.id, LONG_AGO) > now - 2.0 * traits.interval_s
        )

    def _named(self, pool: TargetPool) -> list[str]:
        known = self._names.get(id(pool))
        if known is None or known[0] is not pool:
            known = self._names[id(pool)] = pool, [decode(one).address for one in fragments(pool)]
        return known[1]

    # --- sick, drained -----------------------------------------------------------------------------------------------

    def _is_sick(self, who: str, name: str, one: Sick, now: float) -> None:
        traits = self._world.traits
        since = now - AUDIT_S - TIMEOUT_S - TICK_S - max(STALE_LEAST_S, STALE_INTERVALS * traits.interval_s)
        since -= self._world.pace.late_s
        past = self._world.scrapers[name].past
        if not any(span.ended >= since and span.what in ("fails", "cut") for span in past):
            self._world.wrong(f"I18: {who} says that {name} is sick: {one.found}")

    def _drained(self, controller: Controller, fleet: Fleet, now: float) -> None:
        """It is drained, has taken its empty slices, and nothing is handed over: then it scrapes nothing."""
        memory, traits = fleet.reconciler.memory, self._world.traits
        said = memory.drained if memory.drained and controller.leads else frozenset()
        reached, left = controller.reached(fleet) if said else set[str](), memory.targets() if said else {}
        for name, scraper in self._world.scrapers.items():
            key = controller.name, name
            if name not in said or left.get(name) != 0 or name not in reached:
                self._drained_since.pop(key, None)
                continue
            since = self._drained_since.setdefault(key, now)
            if scraper.was_ill("", since) or scraper.disk:
                continue
            has = scraper.in_file if now - since > SEEN_S + traits.poll_s else {}
            found = [*(scraper.loaded if now - since > traits.stage_s + SEEN_S else has)]
            if scrapes := [t for t in found if job_of(t) in fleet.services]:  # of a job that was removed nothing is said
                self._world.wrong(f"I18: {controller.name} says that {name} is drained, and it has {len(scrapes)}")
