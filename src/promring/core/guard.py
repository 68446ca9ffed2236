"""May we act on these facts? A verdict with a reason; a hold keeps the last plan.

Rules, in order (``failures.md`` rules 2 and 3):

1. no scraper was ever known: hold (there is nobody to place targets on);
2. the newest answer about scrapers is "none": hold, an empty membership never reshards;
3. who counts as alive is ``admission``'s: joins and leaves are delayed; too many gone at once, and a start: hold;
4. there is no plan yet and a source has not answered: hold, a first plan must not lack a part of the targets;
5. a source that the plan was made of is no longer configured, and one that is configured never had a target: the gone
   one's targets stay until the new one has some, so a reload with a broken source takes nothing away;
6. a source says much less than the plan was made of, nothing at all, or very much more: its last list stays until it has
   said the same ``confirmations`` times; the other sources and the scrapers go on meanwhile;
7. no source ever had a target: hold, there is nothing to decide;
8. otherwise act, on the last good value of each fact. "No answer" changes nothing.

A person can release 3 to 6 as they were shown, for one verdict: then the newest answers are taken for right.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from promring.core.admission import Admitted, History, Rules, admit, unanswered
from promring.core.pool import pool_of
from promring.model import Empty, Fact, Known, LetGo, Members, TargetPool, Unknown

NO_TARGETS = pool_of(())
RELEASABLE = frozenset({"panic", "warming_up", "targets_unknown", "source_empty", "source_shrank", "source_grew"})


@dataclass(frozen=True, slots=True)
class Guard:
    """When a source's list is doubted: below ``shrink_threshold`` times the last one, or above ``growth_threshold`` times it
    and more than ``growth_least`` targets longer. None: never. ``confirmations``: so many equal answers end the doubt.
    """

    rules: Rules = field(default_factory=Rules)
    shrink_threshold: float = 0.7
    confirmations: int = 3
    growth_threshold: float | None = 10.0
    growth_least: int = 1000


@dataclass(frozen=True, slots=True)
class Facts:
    """The newest facts of one shard service. ``sources`` in the order of the configuration; ``probed``: who of the suspected
    scrapers answers a direct probe, the others are not probed yet.
    """

    members: Fact[Members]
    sources: Mapping[str, Fact[TargetPool]]
    probed: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Withheld:
    """A part of the facts that is not acted on yet. ``reason`` is a fixed word, ``detail`` a sentence for people, ``what``
    is what a person lets go who releases it: not more, if there is more by then.
    """

    reason: str
    detail: str
    what: tuple[str, ...] = ()
    until: float | None = None
    """When it ends by itself, seconds on the clock of the verdict; None: not known."""

    @property
    def let_go(self) -> LetGo:
        """What a release of it is."""
        return LetGo(self.reason, self.what)


@dataclass(frozen=True, slots=True)
class Act:
    """Go on, with these members and these lists of targets, in order of precedence."""

    members: Members
    sources: Mapping[str, TargetPool]
    kept: tuple[str, ...] = ()
    """Those of ``sources`` that are no longer configured."""
    withheld: tuple[Withheld, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the last plan. ``reason`` is a fixed word for the metric, ``detail`` a sentence for people."""

    reason: str
    detail: str
    what: tuple[str, ...] = ()
    until: float | None = None

    @property
    def withheld(self) -> tuple[Withheld, ...]:
        """As of an ``Act``: what is held, which is everything."""
        return (Withheld(self.reason, self.detail, self.what, self.until),)


Verdict = Act | Hold


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, what is remembered for the next one, and what else is wanted: ``suspects`` probed directly, another verdict
    ``again_at``.
    """

    verdict: Verdict
    history: History
    suspects: Members = ()
    again_at: float = float("inf")


def judge(
    facts: Facts,
    history: History,
    guard: Guard,
    now: float,
    *,
    planned: Mapping[str, TargetPool] | None,
    drained: Collection[str] = (),
    stale: Collection[str] = (),
    counts: Mapping[str, int] | None = None,
    released: Collection[LetGo] = (),
) -> Judgement:
    """A verdict, and what to remember for the next one.

    ``planned``: the lists that the plan in force was made of, by source; None when there is no plan. ``drained``: scrapers
    that get nothing, whatever their weight. ``stale``: sources that have not answered, whose remembered list is not that of
    the last leader; ``counts``: how long its lists were. ``released``: what a person saw held, and lets go. ``now`` in
    seconds, on the clock of ``history``.
    """
    members = facts.members
    if not isinstance(members.newest, Known):
        history = unanswered(history)
        if held := _nobody(members, history):
            return Judgement(held, history)
        admitted = Admitted(history)
    else:
        admitted = admit(
            members.newest.value,
            history,
            guard.rules,
            now,
            probed=facts.probed,
            drained=drained,
            let_go=[name for one in released if one.reason == "panic" for name in one.what],
            let_in=("warming_up", ()) in released,
        )
        if admitted.panic or admitted.warming_up:
            held = Hold("warming_up", admitted.warming_up)
            if admitted.panic:
                held = Hold("panic", admitted.panic, admitted.lost)
            return Judgement(held, admitted.history, admitted.suspects, admitted.again_at)
    alive = admitted.history.members
    if not any(scraper.able and scraper.id not in drained for scraper in alive):
        verdict: Verdict = Hold("no_scrapers", "every live scraper is drained or has weight 0; the last plan stays")
    else:
        verdict = _on_targets(facts.sources, alive, guard, planned, _doubted(admitted), released, counts or {})
        if stale and ("targets_unknown", (*stale,)) not in released:
            said = f"no answer since the start from {', '.join(stale)}; what is remembered is not what the last leader had"
            verdict = Hold("targets_unknown", said, (*stale,))
    return Judgement(verdict, admitted.history, admitted.suspects, admitted.again_at)


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
    others = len(admitted.lost) - len(admitted.vouched)
    more = f"; {others} more did until a moment ago" if others else ""
    names = ", ".join(admitted.vouched[:10])
    return (
        Withheld(
            "panic", f"gone from the membership, but they answer a direct probe and stay: {names}{more}", admitted.lost
        ),
    )


def _on_targets(
    sources: Mapping[str, Fact[TargetPool]],
    members: Members,
    guard: Guard,
    planned: Mapping[str, TargetPool] | None,
    withheld: tuple[Withheld, ...],
    let_go: Collection[LetGo],
    counts: Mapping[str, int],
) -> Verdict:
    good: dict[str, TargetPool] = {}
    for name, fact in sources.items():
        if planned is None and (held := _first_doubt(name, fact, guard, counts.get(name, 0), let_go)):
            return held
        pool, doubt = _list_of(name, fact, guard, (planned or {}).get(name), let_go)
        withheld += doubt
        if pool is not None:
            good[name] = pool
    never = {name: fact for name, fact in sources.items() if name not in good}
    silent = {name: _why(fact) for name, fact in never.items() if isinstance(fact.newest, Unknown)}
    if planned is None and silent and ("targets_unknown", tuple(silent)) not in let_go:
        named = ", ".join(f"{name} ({why})" for name, why in silent.items())
        return Hold("targets_unknown", f"no answer yet from {named}", tuple(silent))
    gone = {name: pool for name, pool in (planned or {}).items() if name not in sources}
    new = {name: pool for name, pool in good.items() if name not in (planned or {})}
    doubt = _replaced(gone, new, min((sources[name].repeats for name in new), default=0), guard, let_go)
    if not never and not doubt:
        gone = {}
    if not good and not gone:
        return Hold("no_targets", "no source has a target")
    return Act(members, good | gone, tuple(gone), withheld + doubt)


def _list_of(
    name: str, fact: Fact[TargetPool], guard: Guard, had: TargetPool | None, let_go: Collection[LetGo]
) -> tuple[TargetPool | None, tuple[Withheld, ...]]:
    """The list of one source to go on with, None when it never had one; and the doubt about the newest."""
    if had is None or isinstance(fact.newest, Unknown):
        return (fact.good.value if fact.good else None) if had is None else had, ()
    new = fact.newest.value if isinstance(fact.newest, Known) else NO_TARGETS
    reason, what = _doubt(len(new), len(had), guard), (name, str(len(new)))
    if not reason or (reason, what) in let_go or fact.repeats >= guard.confirmations:
        return new, ()
    said = f"{name} says {len(new)} targets, the plan has {len(had)} of it"
    return had, (Withheld(reason, f"{said}; {fact.repeats} of {guard.confirmations} equal answers", what),)


def _first_doubt(name: str, fact: Fact[TargetPool], guard: Guard, count: int, let_go: Collection[LetGo]) -> Hold | None:
    """There is no plan here yet, but another controller's was made of ``count`` targets."""
    if isinstance(fact.newest, Unknown):
        return None
    new = len(fact.newest.value) if isinstance(fact.newest, Known) else 0
    reason, what = _doubt(new, count, guard), (name, str(new))
    if not reason or (reason, what) in let_go or fact.repeats >= guard.confirmations:
        return None
    said = f"{name} says {new} targets, the last leader had {count} of it"
    return Hold(reason, f"{said}; {fact.repeats} of {guard.confirmations} equal answers", what)


def _replaced(
    gone: Mapping[str, TargetPool],
    new: Mapping[str, TargetPool],
    repeats: int,
    guard: Guard,
    let_go: Collection[LetGo],
) -> tuple[Withheld, ...]:
    """A reload put ``new`` sources in the place of ``gone`` ones, and they say much less."""
    before, after = (sum(map(len, pools.values())) for pools in (gone, new))
    what = (*new, str(after))
    if not new or after >= guard.shrink_threshold * before or repeats >= guard.confirmations:
        return ()
    if ("source_shrank", what) in let_go:
        return ()
    said = f"{', '.join(new)} says {after} targets, what it replaces has {before}; the old ones stay"
    return (Withheld("source_shrank", f"{said}; {repeats} of {guard.confirmations} equal answers", what),)


def _doubt(new: int, had: int, guard: Guard) -> str:
    """The reason to doubt a list of ``new`` targets after one of ``had``; empty when there is none."""
    if not new:
        return "source_empty" if had else ""
    if new < guard.shrink_threshold * had:
        return "source_shrank"
    grown = guard.growth_threshold is not None and had and new > guard.growth_threshold * had
    return "source_grew" if grown and new - had > guard.growth_least else ""


def _why(fact: Fact[Members] | Fact[TargetPool]) -> str:
    return fact.newest.reason if isinstance(fact.newest, Unknown) else "it answered with an empty list"
