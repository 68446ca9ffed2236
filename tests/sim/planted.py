"""Bugs to plant in promring, one at a time, that a run must find. Each returns what to replace: where, name, with what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from promring import model
from promring.agent import slicefile
from promring.consul.client import Client
from promring.core import aside
from promring.core.evidence import Handover
from promring.core.guard import NO_TARGETS, judge_lists, judge_members
from promring.core.handover import schedule
from promring.core.placement import Policy, place_living
from promring.core.plan import rows_of
from promring.core.ring import Ring
from promring.core.standing import History, Rules
from promring.core.verdicts import Act, Facts, Guard, Judgement, Lists
from promring.delivery import file, receiver
from promring.delivery.receiver import Envelope
from promring.discovery import polling
from promring.election.leadership import Leadership
from promring.election.loop import Election
from promring.fleet import facts, judge, moves, reconcile
from promring.model import Empty, Fact, Known, Loads, Members, Placement, TargetPool, Unknown
from promring.runtime import disk
from tests.sim.planted_fleets import FLEET_BUGS
from tests.sim.planted_handovers import HANDOVER_BUGS
from tests.sim.planted_lists import LIST_BUGS
from tests.sim.planted_locks import LOCK_BUGS
from tests.sim.planted_people import PEOPLE_BUGS
from tests.sim.planted_rare import RARE_BUGS

Places = list[tuple[Any, str, Any]]


def no_fence() -> Places:
    """The receiver takes any whole slice, an older one too."""

    def install(path: Path, sent: Envelope, **_: object) -> bool:
        receiver.check(sent)
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists() and path.read_bytes() == sent.body
        if receiver.held(path) != (sent.generation, sent.sha256):
            disk.install(receiver.note_of(path), f"{sent.generation} {sent.sha256}\n".encode())
        if not there:
            disk.install(path, sent.body)
        return not there

    return [(receiver, "install", install), (slicefile, "install", install)]


def no_check_at_the_receiver() -> Places:
    """It takes bytes that are not those of the digest."""
    return [(receiver, "check", lambda _: None)]


def short_write() -> Places:
    """Half of the bytes reach the disk, and nobody reads them back."""
    real = disk.install

    def install(path: Path, body: bytes, **options: Any) -> None:
        real(path, body[: len(body) // 2] if path.suffix == ".json" else body, **options)

    return [(disk, "install", install)]


def guard_always_acts() -> Places:
    """The newest answers are taken for right, at once; no answer is not one."""

    def members(facts: Facts, history: History, rules: Rules, now: float, **more: Any) -> Judgement:
        good = facts.members.good
        if good is None:
            return judge_members(facts, history, rules, now, **more)
        return Judgement(Act(good.value), History.of(good.value))

    def lists(sources: Mapping[str, Fact[TargetPool]], guard: Guard, now: float, **more: Any) -> Any:
        if any(fact.good is None for fact in sources.values()):
            return judge_lists(sources, guard, now, **more)
        return Lists({name: _newest(fact.newest, fact.good) for name, fact in sources.items()})

    return [(judge, "judge_members", members), (judge, "judge_lists", lists)]


def no_panic() -> Places:
    """However many scrapers vanish at once, it is believed."""

    def judged(facts: Facts, history: History, rules: Rules, *rest: Any, **more: Any) -> Judgement:
        return judge_members(facts, history, replace(rules, panic_threshold=1.0), *rest, **more)

    return [(judge, "judge_members", judged)]


def no_confirmations() -> Places:
    """A source that says much less is believed the first time."""

    def judged(sources: Mapping[str, Fact[TargetPool]], guard: Guard, *rest: Any, **more: Any) -> Any:
        return judge_lists(sources, replace(guard, confirmations=1, shrink_hold_s=0.0, empty_hold_s=0.0), *rest, **more)

    return [(judge, "judge_lists", judged)]


def no_answer_confirms() -> Places:
    """What a source said last counts again whenever it fails."""
    real = facts.Cell._run

    def run(self: Any, answer: Any, *, confirms: bool) -> Any:
        said = answer if confirms else self.fact.fresh
        return real(self, said, confirms=True) if said is not None else real(self, answer, confirms=confirms)

    def is_fresh(self: Any) -> bool:
        return self.fresh is not None

    return [(facts.Cell, "_run", run), (model.Fact, "is_fresh", property(is_fresh))]


def _newest(newest: Any, good: Known[TargetPool] | None) -> TargetPool:
    if isinstance(newest, Unknown) and good is not None:
        return good.value
    return newest.value if isinstance(newest, Known) else NO_TARGETS


def empty_on_an_error() -> Places:
    """A source that fails is one without targets, and nobody says that it failed: else it would confirm nothing."""
    real = polling._ask

    async def ask(name: str, source: Any, faults: Any) -> Any:
        heard = await real(name, source, faults)
        return polling._Heard(Empty()) if isinstance(heard.answer, Unknown) else heard

    return [(polling, "_ask", ask)]


def edge_triggered() -> Places:
    """A cycle runs when a fact changes, and only then; what changes during one is not seen."""
    real = reconcile.Reconciler.cycle

    async def woken(self: Any) -> float | None:
        await self._facts.wait(1e9)
        return float(self._facts.take() or 0.0)

    async def cycle(self: Any, changed_at: float | None = None) -> None:
        await real(self, changed_at)
        self._facts.take()

    return [(reconcile.Reconciler, "_woken", woken), (reconcile.Reconciler, "cycle", cycle)]


def lost_wake() -> Places:
    """What changes during a cycle is seen in the next full one only."""
    real = reconcile.Reconciler.cycle

    async def cycle(self: Any, changed_at: float | None = None) -> None:
        await real(self, changed_at)
        self._facts.take()
        self._next_wake += 3600.0

    return [(reconcile.Reconciler, "cycle", cycle)]


def break_before_make() -> Places:
    """A moved target is taken from its old owner at once."""

    def at_once(wanted: Any, before: Any, evidence: Any, _: Handover, now: float, **more: Any) -> Any:
        return schedule(wanted, before, evidence, Handover(0.0), now, **more)

    return [(moves, "schedule", at_once)]


def lower_index_ignored() -> Places:
    """An answer of a Consul that is behind is as good as any."""
    real = Client.instances

    async def instances(self: Client, *args: Any, index: int | None = None, **more: Any) -> Any:
        found = await real(self, *args, index=index, **more)
        return replace(found, index=max(found.index, index or 0))

    return [(Client, "instances", instances)]


def previous_plan_chooses() -> Places:
    """Who had a target keeps it."""
    before: dict[Any, Placement] = {}

    def placed(pool: TargetPool, ring: Ring, listed: Ring, policy: Policy, loads: Loads | None = None) -> Placement:
        task = asyncio.get_running_loop()
        wanted, had = place_living(pool, ring, listed, policy), before.get(task)
        if had is not None:
            index = {s.id: i for i, s in enumerate(ring.scrapers)}
            old = np.array([*(index.get(s.id, -1) for s in had.scrapers), -1], dtype=np.int32)
            nobody = np.full((1, had.owners.shape[1]), -1, dtype=np.int32)
            owners = np.vstack([old[had.owners], nobody])[rows_of(had.pool, pool.ids)]
            if owners.shape == wanted.owners.shape:
                wanted = replace(wanted, owners=np.where(owners >= 0, owners, wanted.owners))
        before[task] = wanted
        return wanted

    return [(aside, "place_living", placed)]


def lease_never_ends() -> Places:
    """Who led once leads until it hears otherwise."""
    return [(Leadership, "leads", lambda self: self.alone or self.lease_ends_at > 0)]


def epoch_stays() -> Places:
    """A new leader goes on in the epoch of the last one."""

    def epoch(self: Any, seen: Any) -> int:
        return int(max(self._note.epoch if self._note is not None else 0, self._highest(), 1))

    return [(Election, "_next_epoch", epoch)]


def lock_is_deleted() -> Places:
    """The key goes with the session, and what stood in it: the epoch."""
    real = Client._call

    async def call(self: Client, method: str, path: str, *rest: Any, **more: Any) -> Any:
        if path == "/v1/session/create":
            more["body"] = {**more["body"], "Behavior": "delete"}
        return await real(self, method, path, *rest, **more)

    return [(Client, "_call", call)]


def never_looked_at_again() -> Places:
    """A file that was written once holds for ever what was written."""
    return [(file, "_signature", lambda _: (0, 0, 0, 0))]


def members_forgotten() -> Places:
    """No answer about the scrapers is taken for the last one without the first scraper."""
    real = facts.Cell.put

    def put(self: Any, answer: Any, *rest: Any, **more: Any) -> None:
        good = self.fact.good.value if self.fact.good else None
        if isinstance(answer, Unknown) and isinstance(good, tuple) and len(good) > 1:
            members: Members = good[1:]
            answer = Known(members)
        real(self, answer, *rest, **more)

    return [(facts.Cell, "put", put)]


BUGS: Mapping[str, Callable[[], Places]] = {
    **{
        bug.__name__: bug
        for bug in (
            no_fence,
            no_check_at_the_receiver,
            short_write,
            guard_always_acts,
            no_panic,
            no_confirmations,
            no_answer_confirms,
            empty_on_an_error,
            members_forgotten,
            edge_triggered,
            lost_wake,
            break_before_make,
            lower_index_ignored,
            previous_plan_chooses,
            lease_never_ends,
            epoch_stays,
            lock_is_deleted,
            never_looked_at_again,
        )
    },
    **FLEET_BUGS,
    **HANDOVER_BUGS,
    **LIST_BUGS,
    **LOCK_BUGS,
    **PEOPLE_BUGS,
    **RARE_BUGS,
}
