"""May we act on these facts? A verdict with a reason; a hold keeps the last plan.

Rules, in order (``failures.md`` rules 2 and 3):

1. no scraper was ever known: hold (there is nobody to place targets on);
2. the newest answer about scrapers is "none": hold, an empty membership never reshards;
3. a source has never answered: hold, unless there is a plan and every source in it is still known. So a first plan never
   lacks a part of the targets, a source that a reload replaced is not dropped before the new one has spoken, and a
   source that was added and is broken does not stop the others;
4. no source ever had a target: hold, there is nothing to decide;
5. otherwise act, on the last good value of each fact. "No answer" changes nothing, an empty source neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from promring.model import Empty, Fact, Groups, Members, Unknown


@dataclass(frozen=True, slots=True)
class Facts:
    """The newest facts of one shard service. ``sources`` in the order of the configuration."""

    members: Fact[Members]
    sources: Mapping[str, Fact[Groups]]


@dataclass(frozen=True, slots=True)
class Act:
    """Go on, with these members and these lists of groups."""

    members: Members
    sources: Mapping[str, Groups]


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the last plan. ``reason`` is a fixed word for the metric, ``detail`` a sentence for people."""

    reason: str
    detail: str


Verdict = Act | Hold


def judge(facts: Facts, *, planned: frozenset[str] | None) -> Verdict:
    """``planned``: names of the sources that the plan in force was made of; None when there is no plan."""
    members = facts.members
    if members.good is None:
        if isinstance(members.newest, Empty):
            return Hold("no_scrapers", "no scraper is alive")
        return Hold("scrapers_unknown", f"the scrapers are not known yet: {_why(members)}")
    if isinstance(members.newest, Empty):
        return Hold("no_scrapers", "no scraper is alive; the last plan stays")
    good = {name: fact.good.value for name, fact in facts.sources.items() if fact.good is not None}
    silent = [f"{n} ({_why(f)})" for n, f in facts.sources.items() if f.good is None and isinstance(f.newest, Unknown)]
    if silent and (planned is None or not planned <= good.keys()):
        return Hold("targets_unknown", f"no answer yet from {', '.join(silent)}")
    if not good:
        return Hold("no_targets", "no source has a target")
    return Act(members.good.value, good)


def _why(fact: Fact[Members] | Fact[Groups]) -> str:
    return fact.newest.reason if isinstance(fact.newest, Unknown) else "it answered with an empty list"
