"""May we act on these facts? A verdict with a reason; a hold keeps the last plan.

Rules, in order (``failures.md`` rules 2 and 3):

1. no scraper was ever known: hold (there is nobody to place targets on);
2. the newest answer about scrapers is "none": hold, an empty membership never reshards;
3. there is no plan yet and a source has not answered: hold, a first plan must not lack a part of the targets;
4. a source that the plan was made of is no longer configured, and one that is configured never had a target: the gone
   one's targets stay until the new one has some, so a reload with a broken source takes nothing away;
5. no source ever had a target: hold, there is nothing to decide;
6. otherwise act, on the last good value of each fact. "No answer" changes nothing, an empty source neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from promring.model import Empty, Fact, Members, TargetPool, Unknown


@dataclass(frozen=True, slots=True)
class Facts:
    """The newest facts of one shard service. ``sources`` in the order of the configuration."""

    members: Fact[Members]
    sources: Mapping[str, Fact[TargetPool]]


@dataclass(frozen=True, slots=True)
class Act:
    """Go on, with these members and these lists of targets, in order of precedence."""

    members: Members
    sources: Mapping[str, TargetPool]
    kept: tuple[str, ...] = ()
    """Those of ``sources`` that are no longer configured."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the last plan. ``reason`` is a fixed word for the metric, ``detail`` a sentence for people."""

    reason: str
    detail: str


Verdict = Act | Hold


def judge(facts: Facts, planned: Mapping[str, TargetPool] | None) -> Verdict:
    """``planned``: the lists that the plan in force was made of, by source; None when there is no plan."""
    members = facts.members
    if members.good is None:
        if isinstance(members.newest, Empty):
            return Hold("no_scrapers", "no scraper is alive")
        return Hold("scrapers_unknown", f"the scrapers are not known yet: {_why(members)}")
    if isinstance(members.newest, Empty):
        return Hold("no_scrapers", "no scraper is alive; the last plan stays")
    if not any(scraper.weight for scraper in members.good.value):
        return Hold("no_scrapers", "every live scraper has weight 0; the last plan stays")
    good = {name: fact.good.value for name, fact in facts.sources.items() if fact.good is not None}
    never = {name: fact for name, fact in facts.sources.items() if fact.good is None}
    silent = [f"{name} ({_why(fact)})" for name, fact in never.items() if isinstance(fact.newest, Unknown)]
    if planned is None and silent:
        return Hold("targets_unknown", f"no answer yet from {', '.join(silent)}")
    gone = {name: pool for name, pool in (planned or {}).items() if name not in facts.sources} if never else {}
    if not good and not gone:
        return Hold("no_targets", "no source has a target")
    return Act(members.good.value, good | gone, tuple(gone))


def _why(fact: Fact[Members] | Fact[TargetPool]) -> str:
    return fact.newest.reason if isinstance(fact.newest, Unknown) else "it answered with an empty list"
