"""How scrapers are that count as alive: what they cannot reach, whether they answer, which are another name of a server.

This is what the loop remembers of them.

``core/second_opinion`` decides, from what the scrapers were seen doing at each look at all of them; ``core/aliases``
decides about names, from what the scrapers tell of their births; ``core/unresponsive`` about those who answer nothing, from
what they do when they are asked directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from promring.core.aliases import Aliases, Shows, denied, judged, undecided
from promring.core.claims import Claims, Taken
from promring.core.coverage import Seen
from promring.core.idle import lacking
from promring.core.ring import Ring
from promring.core.second_opinion import SecondOpinions
from promring.core.unresponsive import NO_ANSWERS, Answers, Unresponsive
from promring.fleet.decision_log import say_aliases, say_opinions, say_unresponsive
from promring.fleet.facts import FactBoard
from promring.fleet.state import Memory
from promring.model import NEVER_ENDS, NONE_FAILING, Failing, Loads, Members, Placement, ServiceScraper
from promring.runtime.threads import computed
from promring.telemetry.log import Logger


class ScraperHealth:
    """Of one fleet. Of several controllers the leader says who is sick or idle: ``Term.failing``."""

    def __init__(
        self, opinions: SecondOpinions, aliases: Aliases = (), answers: Answers = NO_ANSWERS, *, log: Logger
    ) -> None:
        """``opinions``, ``aliases``, ``answers``: as the run before this one left them."""
        self.opinions = opinions
        """Targets that are tried elsewhere besides, and which scrapers are sick."""
        self.unresponsive = Unresponsive.of(answers)
        """Who counts as alive and answers nothing."""
        self.aliases = aliases
        """Names that get nothing, each with the name by which the same server gets its slices."""
        self._unsure: Aliases = ()
        """Those of them that the last round did not bear out; after a second such round each is a server of its own."""
        self._log = log
        self._used = NONE_FAILING
        self._follows = self._heard = False

    def begin_plan(self, idle: Collection[ServiceScraper] | None = None) -> Failing:
        """Who gets nothing, or nothing more of a service, in the plan that is made now: ``look`` says when another is due.
        ``idle``: who is, according to the leader that we follow; when we lead we go on from there.
        """
        self._follows = idle is not None
        if idle is not None and (jobs := self.opinions.jobs.told(idle)) is not self.opinions.jobs:
            self.opinions, self._heard = replace(self.opinions, jobs=jobs), True
        self._used = self.opinions.failing(time.monotonic())
        return self._used

    def go_on_from(self, before: ScraperHealth) -> None:
        """Of the fleet before a reload."""
        self.unresponsive = self.unresponsive.after_reload(before.unresponsive)

    def stood_still(self, seconds: float) -> None:
        """So long nobody was asked."""
        self.unresponsive = self.unresponsive.stood_still(seconds)

    @property
    def ends_next(self) -> float:
        """When the next scraper is not sick any more, or is unresponsive, monotonic seconds."""
        return min(
            self.unresponsive.ends_next, *(one.until for one in self.opinions.sick(time.monotonic()).values()), NEVER_ENDS
        )

    def doubts(self, facts: FactBoard, alive: Members) -> Members:
        """Those who count as ``alive`` and shall be asked directly."""
        before, ids, listed = self.unresponsive, {s.id for s in alive}, [s.id for s in facts.listed]
        self.unresponsive = before.after(ids, listed, facts.answering, facts.probed, time.monotonic())
        say_unresponsive(self._log, before.scrapers, self.unresponsive.scrapers)
        return self.unresponsive.suspects(alive, facts.silent)

    def noted(self, memory: Memory, undelivered: Failing) -> Memory:
        """``memory``, and what a restart shall know of who is ``undelivered``, an alias, or answers nothing."""
        undelivered, answers = undelivered._replace(aliases=self.aliases), self.unresponsive.answers
        if undelivered == memory.undelivered and answers == memory.answers:
            return memory
        return replace(memory, undelivered=undelivered, answers=answers)

    async def look(
        self,
        placement: Placement,
        ring: Ring,
        seen: Mapping[str, Seen],
        claims: Claims,
        taken: Mapping[ServiceScraper, Taken],
        told: Collection[ServiceScraper],
        capacities: Loads | None = None,
    ) -> bool:
        """All scrapers were looked at. Whether a plan would be another one by that. ``claims``: what the slices hold, which
        were ``taken`` then; ``told``: of which services and scrapers something is ``seen``; ``capacities``: int64, the most
        load of each scraper.
        """
        before = self.opinions

        def judged() -> SecondOpinions:
            lacks = lacking(placement.pool, claims, taken, seen, told)
            return before.judged(placement, ring, seen, time.monotonic(), lacks, told, claims, capacities)

        after = await computed(judged)
        if self._follows:
            after = replace(after, jobs=after.jobs.told(self.opinions.jobs.idle))
        self.opinions, now = after, time.monotonic()
        say_opinions(self._log, before, after, now)
        heard, self._heard = self._heard, False
        changed = _tried_by(after) != _tried_by(before) or after.scrapers.keys() != before.scrapers.keys()
        changed |= any(
            one.over != before.scrapers[name].over for name, one in after.scrapers.items() if name in before.scrapers
        )
        return heard or changed or self._used != after.failing(now)

    def found(self, undelivered: Failing, ours: Failing = NONE_FAILING) -> Failing:
        """Who gets nothing, or nothing new of a service, although it lives. ``ours``: by what was seen."""
        nothing = (*undelivered.scrapers, *self.unresponsive.scrapers)
        return Failing.of(nothing, undelivered.refusing, self.aliases).and_those_of(ours)

    def hear(
        self,
        known: Callable[[], Members],
        wake: Callable[[], None],
        births: Mapping[str, str],
        scraped: Mapping[str, int],
        shows: Shows,
    ) -> bool:
        """The scrapers told who they are; ``known``: all that are listed. ``wake`` is called when a plan would change by
        that. Whether it is decided which name of each server is used.
        """
        ids, before = {s.id for s in known()}, self.aliases
        unsure = denied(before, births, scraped, shows)
        kept = tuple(pair for pair in before if ids.issuperset(pair) and not (pair in unsure and pair in self._unsure))
        self.aliases = judged(kept, births, scraped, shows)
        self._unsure = tuple(pair for pair in unsure if pair in self.aliases)
        say_aliases(self._log, before, self.aliases)
        if self.aliases != before:
            wake()
        return not undecided(self.aliases, births, self._unsure)


def _tried_by(opinions: SecondOpinions) -> dict[int, str]:
    """By target, who tries it."""
    return {key: trial.scraper for key, trial in opinions.trials.items()}
