"""What the guard is given and what it answers. Pure.

``core/guard`` judges the scrapers of a fleet and the lists of each service with these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from promring.core.admission import NOBODY_ASIDE, Aside
from promring.core.standing import History
from promring.model import NEVER_ENDS, Fact, Members, Release, Reply, TargetPool

SOURCE_DOUBTS = frozenset({"source_empty", "source_shrank", "source_grew"})
RELEASABLE = SOURCE_DOUBTS | {"panic", "warming_up", "targets_unknown"}


@dataclass(frozen=True, slots=True)
class Guard:
    """When a list of a shard service is doubted: below ``shrink_threshold`` times the last one, or above
    ``growth_threshold`` times it and more than ``growth_least`` targets longer. None: never. So many fresh equal answers end
    the doubt, ``confirmations``, when they have been given for ``shrink_hold_s``; for ``empty_hold_s``, when it is empty.
    """

    shrink_threshold: float = 0.7
    shrink_hold_s: float = 300.0
    empty_hold_s: float = 3600.0
    confirmations: int = 3
    growth_threshold: float | None = 10.0
    growth_least: int = 1000

    def ends_at(self, reason: str, since: float) -> float:
        """When a doubt for ``reason`` may end, about a list that has been given ``since`` then."""
        return since + (self.empty_hold_s if reason == "source_empty" else self.shrink_hold_s)


@dataclass(frozen=True, slots=True)
class Facts:
    """The newest facts of one fleet. ``services``: of each shard service its sources, in the order of the configuration;
    ``probed``: what the suspected scrapers do when they are asked directly, those that are not in it were not heard yet.
    """

    members: Fact[Members]
    services: Mapping[str, Mapping[str, Fact[TargetPool]]]
    probed: Mapping[str, Reply] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Withheld:
    """A part of the facts that is not acted on yet. ``reason`` is a fixed word, ``detail`` a sentence for people, ``what``
    is what a person lets go who releases it: not more, if there is more by then. ``until``: when it ends by itself if
    nothing changes, in seconds on the clock of the verdict; None: only a person or another answer ends it. ``confirmed``: so
    many fresh equal answers of those that are needed, for a doubt about a list; while some are missing ``until`` is None.
    """

    reason: str
    detail: str
    what: tuple[str, ...] = ()
    until: float | None = None
    confirmed: tuple[int, int] | None = None

    @property
    def about(self) -> tuple[str, ...]:
        """What tells two of one reason apart: the sources whose list is doubted."""
        return self.what[:-1] if self.reason in SOURCE_DOUBTS else ()

    @property
    def let_go(self) -> Release:
        """What a release of it is."""
        return Release(self.reason, self.what)


@dataclass(frozen=True, slots=True)
class Act:
    """Go on, with these scrapers."""

    members: Members
    withheld: tuple[Withheld, ...] = ()
    aside: Aside = NOBODY_ASIDE
    """Those of ``members`` of which nobody knows whether they live."""


@dataclass(frozen=True, slots=True)
class Lists:
    """Go on with these lists of a service, in order of precedence."""

    sources: Mapping[str, TargetPool]
    kept: tuple[str, ...] = ()
    """Those of ``sources`` that are no longer configured."""
    withheld: tuple[Withheld, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the last plan. ``reason`` is a fixed word for the metric, the rest as of ``Withheld``."""

    reason: str
    detail: str
    what: tuple[str, ...] = ()
    until: float | None = None
    confirmed: tuple[int, int] | None = None

    @property
    def withheld(self) -> tuple[Withheld, ...]:
        """As of an ``Act``: what is held, which is everything."""
        return (Withheld(self.reason, self.detail, self.what, self.until, self.confirmed),)


Verdict = Act | Hold
ServiceVerdict = Lists | Hold


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, what is remembered for the next one, and what else is wanted: ``suspects`` probed directly, another verdict
    ``again_at``.
    """

    verdict: Verdict
    history: History
    suspects: Members = ()
    again_at: float = NEVER_ENDS


def ends_next(verdict: Verdict | ServiceVerdict, now: float) -> float:
    """When the next thing that it holds ends by itself; infinity when none does."""
    return min((one.until for one in verdict.withheld if one.until is not None and one.until > now), default=NEVER_ENDS)
