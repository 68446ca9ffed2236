"""May we act on these facts? A verdict with a reason; a hold keeps the last plan.

About the scrapers of a fleet (``judge_members``), in order:

1. no scraper was ever known: hold (there is nobody to place targets on);
2. the newest answer about scrapers is "none": hold, an empty membership never reshards;
3. who counts as alive is ``admission``'s: joins and leaves are delayed; too many gone at once, and a start: hold.

About the lists of one shard service (``judge_lists``); what is held holds that service and no other:

4. there is no plan yet and a source has not answered: hold, a first plan must not lack a part of the targets;
5. a source that the plan was made of is no longer configured, and one that is configured never had a target: the gone
   one's targets stay until the new one has some, so a reload with a broken source takes nothing away;
6. a source says much less than the plan was made of, nothing at all, or very much more: its last list stays until fresh
   answers have said the same ``confirmations`` times and for ``shrink_hold_s`` or ``empty_hold_s``, whatever the interval at
   which it is asked, and the newest answer is one of them; the other sources and the scrapers go on meanwhile. What it has
   lost to another source of the service is not lost;
7. no source ever had a target: hold, there is nothing to decide;
8. otherwise act, on the last good value of each fact. "No answer" changes nothing.

A person can release 3 to 6 as they were shown, for one verdict: then the newest answers are taken for right.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from promring.core.admission import Admitted, Led, admit, unanswered
from promring.core.missing import NAMED_MOST
from promring.core.pool import pool_of
from promring.core.standing import History, Rules
from promring.core.verdicts import (
    SOURCE_DOUBTS,
    Act,
    Facts,
    Guard,
    Hold,
    Judgement,
    Lists,
    ServiceVerdict,
    Verdict,
    Withheld,
)
from promring.model import Empty, Fact, Known, Members, Release, TargetPool, Unknown

NO_TARGETS = pool_of(())


def judge_members(
    facts: Facts,
    history: History,
    rules: Rules,
    now: float,
    *,
    drained: Collection[str] = (),
    released: Collection[Release] = (),
    no_room: bool = False,
    led: Led | None = None,
) -> Judgement:
    """About the scrapers of a fleet: a verdict, and what to remember for the next one.

    ``drained``: scrapers that get nothing, whatever their weight. ``released``: what a person saw held, and lets go.
    ``no_room``: some targets have none in the last plan. ``led``: as of ``admit``. ``now`` in seconds, on the clock of
    ``history``.
    """
    members = facts.members
    if not isinstance(members.newest, Known):
        admitted = unanswered(history, rules, now, probed=facts.probed, drained=drained)
        if held := _nobody(members, history):
            return Judgement(held, admitted.history, admitted.suspects)
    else:
        admitted = admit(
            members.newest.value,
            history,
            rules,
            now,
            probed=facts.probed,
            drained=drained,
            let_go=[name for one in released if one.reason == "panic" for name in one.what],
            let_in=("warming_up", ()) in released,
            no_room=no_room,
            led=led,
        )
        if admitted.panic or admitted.warming_up:
            held = Hold("warming_up", admitted.warming_up, until=admitted.until)
            if admitted.panic:
                held = Hold("panic", admitted.panic, admitted.lost, admitted.until)
            return Judgement(held, admitted.history, admitted.suspects, admitted.again_at)
    alive = admitted.history.members
    verdict: Verdict = Act(alive, _doubted(admitted), admitted.aside)
    if not any(scraper.able and scraper.id not in drained for scraper in alive):
        verdict = Hold("no_scrapers", "every live scraper is drained or has weight 0; the last plan stays")
    return Judgement(verdict, admitted.history, admitted.suspects, admitted.again_at)


def judge_lists(
    sources: Mapping[str, Fact[TargetPool]],
    guard: Guard,
    now: float,
    *,
    planned: Mapping[str, TargetPool] | None,
    stale: Collection[str] = (),
    older: Collection[str] = (),
    counts: Mapping[str, int] | None = None,
    released: Collection[Release] = (),
) -> ServiceVerdict:
    """About the lists of one shard service.

    ``planned``: the lists that the plan in force was made of, by source; None when there is no plan. ``stale``: sources of
    which the last leader had another list than we know, and that have not answered us since. ``older``: sources of which
    the last leader had another list than our plan was made of. While the answer of such a source is doubted, there is no
    list of the source to go on with. ``counts``: how long the last leader's lists were.
    ``released``, ``now``: as for ``judge_members``.
    """
    verdict = _Sources(sources, guard, now, planned, released, counts or {}).verdict()
    doubts = [one for one in verdict.withheld if older and one.reason in SOURCE_DOUBTS and one.what[0] in older]
    stale = [*stale, *(one.what[0] for one in doubts if one.what[0] not in stale)]
    if stale and ("targets_unknown", (*stale,)) not in released:
        said = f"the last leader had another list of {', '.join(stale)} than is known here; a newer answer is needed"
        said = "; ".join((said, *(f"this one is doubted: {one.detail}" for one in doubts)))
        return Hold("targets_unknown", said, (*stale,), min((one.until for one in doubts if one.until), default=None))
    return verdict


def _nobody(members: Fact[Members], history: History) -> Hold | None:
    """When there is no answer with a scraper in it, and nobody to go on with."""
    if isinstance(members.newest, Empty):
        more = "; the last plan stays" if history.members else ""
        return Hold("no_scrapers", f"no scraper is alive{more}")
    if not history.members:
        return Hold("scrapers_unknown", f"the scrapers are not known yet: {_why(members)}")
    return None


def _doubted(admitted: Admitted) -> tuple[Withheld, ...]:
    """Scrapers that are said to be gone and count as alive."""
    if not admitted.lost:
        return ()
    more = ""
    if admitted.vouched:
        more = f"; these answer a direct probe and stay: {', '.join(admitted.vouched[:NAMED_MOST])}"
    if held := sorted(admitted.aside.scrapers):
        more += f"; these keep what they have and get nothing new meanwhile: {', '.join(held[:NAMED_MOST])}"
    return (Withheld("panic", f"{admitted.said}{more}", admitted.lost, admitted.until),)


@dataclass(frozen=True, slots=True)
class _Sources:
    """The lists of all sources, as they are judged at one moment. The fields as the arguments of ``judge_lists``."""

    sources: Mapping[str, Fact[TargetPool]]
    guard: Guard
    now: float
    planned: Mapping[str, TargetPool] | None
    let_go: Collection[Release]
    counts: Mapping[str, int]

    def verdict(self) -> ServiceVerdict:
        planned = self.planned or {}
        good: dict[str, TargetPool] = {}
        doubts: dict[str, Withheld] = {}
        for name, fact in self.sources.items():
            if self.planned is None and (first := self._first_doubt(name, fact)):
                return Hold(first.reason, first.detail, first.what, first.until, first.confirmed)
            pool, doubt = self._list_of(name, fact)
            if pool is not None:
                good[name] = pool
            if doubt is not None:
                doubts[name] = doubt
        for name in list(doubts):
            if self._went_elsewhere(name, good):
                del doubts[name]
                good[name] = _newest(self.sources[name])
        return self._with(good, planned, tuple(doubts.values()))

    def _with(
        self,
        good: dict[str, TargetPool],
        planned: Mapping[str, TargetPool],
        withheld: tuple[Withheld, ...],
    ) -> ServiceVerdict:
        never = {name: fact for name, fact in self.sources.items() if name not in good}
        silent = {name: _why(fact) for name, fact in never.items() if isinstance(fact.newest, Unknown)}
        if self.planned is None and silent and ("targets_unknown", tuple(silent)) not in self.let_go:
            named = ", ".join(f"{name} ({why})" for name, why in silent.items())
            return Hold("targets_unknown", f"no answer yet from {named}", tuple(silent))
        gone = {name: pool for name, pool in planned.items() if name not in self.sources}
        new = {name: pool for name, pool in good.items() if name not in planned}
        doubt = self._replaced(gone, new)
        if not never and not doubt:
            gone = {}
        if not good and not gone:
            return Hold("no_targets", "no source has a target")
        return Lists(good | gone, tuple(gone), withheld + doubt)

    def _list_of(self, name: str, fact: Fact[TargetPool]) -> tuple[TargetPool | None, Withheld | None]:
        """The list of one source to go on with, None when it never had one; and the doubt about what it says."""
        had = (self.planned or {}).get(name)
        if had is None:
            return (fact.good.value if fact.good else None), None
        if isinstance(fact.newest, Unknown) and (fact.fresh is None or not self._doubt(_newest(fact), had)):
            return had, None
        new = _newest(fact)
        reason = self._doubt(new, had)
        doubt = self._still(name, fact, reason, f"the plan has {len(had)} of it")
        return (new, None) if doubt is None else (had, doubt)

    def _first_doubt(self, name: str, fact: Fact[TargetPool]) -> Withheld | None:
        """There is no plan here yet, but another controller's was made of so many targets."""
        if isinstance(fact.newest, Unknown) and fact.fresh is None:
            return None
        count = self.counts.get(name, 0)
        return self._still(name, fact, _reason(len(_newest(fact)), count, self.guard), f"the last leader had {count} of it")

    def _doubt(self, new: TargetPool, had: TargetPool) -> str:
        return _reason(len(new), len(had), self.guard)

    def _still(self, name: str, fact: Fact[TargetPool], reason: str, before: str) -> Withheld | None:
        """The doubt about what ``fact`` says, while it lasts."""
        what = (name, str(len(_newest(fact))))
        if not reason or (reason, what) in self.let_go:
            return None
        return self._unconfirmed(reason, f"{name} says {what[1]} targets, {before}", what, [fact])

    def _unconfirmed(
        self, reason: str, said: str, what: tuple[str, ...], facts: Collection[Fact[TargetPool]]
    ) -> Withheld | None:
        """The doubt until ``facts`` were said often and long enough. A failure ends none, whatever the time."""
        needed, hold = self.guard.confirmations, self.guard.ends_at(reason, 0.0)
        fresh = all(fact.is_fresh for fact in facts)
        repeats = min(fact.repeats for fact in facts) if fresh else 0
        ends_at = self.guard.ends_at(reason, max(fact.since for fact in facts))
        if repeats >= needed and ends_at <= self.now:
            return None
        more = f"{min(repeats, needed)} of {needed} fresh equal answers over at least {hold:g} s"
        if failing := [why for fact in facts if (why := _trouble(fact))]:
            more = f"and its newest answer confirms nothing: {failing[0]}"
        until = ends_at if repeats >= needed else None  # nobody knows when an answer comes
        return Withheld(reason, f"{said}; {more}", what, until, (min(repeats, needed), needed))

    def _went_elsewhere(self, name: str, good: Mapping[str, TargetPool]) -> bool:
        """Whether a list that shrank is only doubted because of targets that other sources have now."""
        new, had = _newest(self.sources[name]), (self.planned or {})[name]
        others = [pool.ids for other, pool in good.items() if other != name]
        if len(new) >= len(had) or isinstance(self.sources[name].newest, Unknown):
            return False
        if sum(map(len, others)) < self.guard.shrink_threshold * len(had) - len(new):
            return False
        lost = np.setdiff1d(had.ids, np.concatenate([new.ids, *others]))
        return not _reason(len(had) - len(lost), len(had), self.guard)

    def _replaced(self, gone: Mapping[str, TargetPool], new: Mapping[str, TargetPool]) -> tuple[Withheld, ...]:
        """A reload put ``new`` sources in the place of ``gone`` ones, and they say much less."""
        before, after = (sum(map(len, pools.values())) for pools in (gone, new))
        what = (*new, str(after))
        if not new or after >= self.guard.shrink_threshold * before or ("source_shrank", what) in self.let_go:
            return ()
        said = f"{', '.join(new)} says {after} targets, what it replaces has {before}; the old ones stay"
        doubt = self._unconfirmed("source_shrank", said, what, [self.sources[name] for name in new])
        return () if doubt is None else (doubt,)


def _newest(fact: Fact[TargetPool]) -> TargetPool:
    """The list that a source gave last, if its newest answer is none: before that."""
    answer = fact.fresh if isinstance(fact.newest, Unknown) else fact.newest
    return answer.value if isinstance(answer, Known) else NO_TARGETS


def _reason(new: int, had: int, guard: Guard) -> str:
    """The reason to doubt a list of ``new`` targets after one of ``had``; empty when there is none."""
    if not new:
        return "source_empty" if had else ""
    if new < guard.shrink_threshold * had:
        return "source_shrank"
    grown = guard.growth_threshold is not None and had and new > guard.growth_threshold * had
    return "source_grew" if grown and new - had > guard.growth_least else ""


def _why(fact: Fact[Members] | Fact[TargetPool]) -> str:
    """Why there is no answer."""
    return fact.newest.reason if isinstance(fact.newest, Unknown) else ""


def _trouble(fact: Fact[TargetPool]) -> str:
    """Why the newest answer is no fresh one."""
    return fact.trouble or _why(fact)
