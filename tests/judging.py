"""The two judgements of the loop, as one of a fleet with a single service."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from promring.core import verdicts
from promring.core.admission import NOBODY_ASIDE, Aside
from promring.core.guard import judge_lists, judge_members
from promring.core.standing import History, Rules
from promring.core.verdicts import Hold, Withheld, ends_next
from promring.model import Fact, Members, Release, Reply, TargetPool


@dataclass(frozen=True)
class Guard:
    """Of the scrapers, and of the lists."""

    rules: Rules = field(default_factory=Rules)
    shrink_threshold: float = 0.7
    shrink_hold_s: float = 300.0
    empty_hold_s: float = 3600.0
    confirmations: int = 3
    growth_threshold: float | None = 10.0

    @property
    def lists(self) -> verdicts.Guard:
        return verdicts.Guard(
            self.shrink_threshold, self.shrink_hold_s, self.empty_hold_s, self.confirmations, self.growth_threshold
        )


@dataclass(frozen=True)
class Facts:
    members: Fact[Members]
    sources: Mapping[str, Fact[TargetPool]]
    probed: Mapping[str, Reply] = field(default_factory=dict)


@dataclass(frozen=True)
class Act:
    members: Members
    sources: Mapping[str, TargetPool]
    kept: tuple[str, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    aside: Aside = NOBODY_ASIDE


@dataclass(frozen=True)
class Judgement:
    verdict: Act | Hold
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
    older: Collection[str] = (),
    counts: Mapping[str, int] | None = None,
    released: Collection[Release] = (),
) -> Judgement:
    of_fleet = verdicts.Facts(facts.members, {"x": facts.sources}, facts.probed)
    judged = judge_members(of_fleet, history, guard.rules, now, drained=drained, released=released)
    members = judged.verdict
    if isinstance(members, Hold):
        return Judgement(members, judged.history, judged.suspects, judged.again_at)
    lists = judge_lists(
        facts.sources, guard.lists, now, planned=planned, stale=stale, older=older, counts=counts, released=released
    )
    again_at = min(judged.again_at, ends_next(lists, now))
    if isinstance(lists, Hold):
        return Judgement(lists, judged.history, judged.suspects, again_at)
    verdict = Act(members.members, lists.sources, lists.kept, (*members.withheld, *lists.withheld), members.aside)
    return Judgement(verdict, judged.history, judged.suspects, again_at)
