"""What is seen of one shard service: who scrapes which of its targets, and since when that differs from its slices.

``audit/asking`` asks the scrapers, and puts what they answer here; ``audit/watch`` compares it with the slices.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import numpy as np

from promring.audit.mistaken import with_mistaken
from promring.audit.outside import with_outside
from promring.core.coverage import Coverage, Index, Seen, coverage
from promring.core.fragment import newer_name_in
from promring.core.sight import Runs
from promring.core.takers import Takers
from promring.model import Keys, Placement, TargetPool
from promring.runtime.threads import computed
from promring.runtime.unforeseen import Lasting
from promring.telemetry.log import Logger

REFUSED_BY_2 = "a Prometheus 2 takes no slice that has it; label_names: legacy of the service leaves such targets out"
TRIES_AFTER_S = 900.0
"""What scrapers drop, and nobody was seen to take, is tried elsewhere so long after the start at the earliest."""


class Look:
    """What is seen of one shard service. ``job``: its scrape pool. Its attributes are what is known of the scrapers, a thing
    each.
    """

    def __init__(self, service: str, job: str, salt: int, log: Logger) -> None:
        self.service, self.job, self.salt = service, job, salt
        self._said = Said(log)
        self.index: Index | None = None
        self.seen: dict[str, Seen] = {}
        """By scraper, with the ids of the service."""
        self.failed: dict[str, str] = {}
        """Who gave no answer about it, and why."""
        self.jobless: set[str] = set()
        """Of ``seen``, those that have no such job."""
        self.coverage: Coverage | None = None
        self.at = 0.0
        """When ``coverage`` was made, wall-clock seconds, for people."""
        self.looked_at = 0.0
        """The same, monotonic seconds: its age does not change when somebody sets the clock."""
        self.behind_since: dict[str, float] = {}
        """Scrapers that do not run what their slice says, and since when that was seen (monotonic seconds)."""
        self.running: dict[str, tuple[Keys, float]] = {}
        """Who was seen to have exactly these targets, since then (monotonic seconds)."""
        self._uncovered_since: float | None = None
        self.lasting = Lasting()
        """What was said of who ``failed``."""
        self._takers, self._began = Takers(), time.monotonic()
        self._named: tuple[TargetPool | None, str] = None, ""
        """A pool, and the label name of it that a Prometheus 2 does not take."""

    def know(self, pool: TargetPool) -> None:
        """The targets are those of ``pool``. Blocks."""
        if self.index is None or self.index.pool is not pool:
            self.index = Index(pool)

    def forget_all_but(self, live: Collection[str]) -> None:
        for known in (self.seen, self.failed, self.running):
            for name in known.keys() - live:
                del known[name]
        self.jobless &= self.seen.keys()
        self.lasting.keep(set(live))

    def compare_one(self, scraper: str, wanted: Keys) -> None:
        """Whether it has just what its slice says: since when."""
        one, wanted = self.seen.get(scraper), np.sort(wanted)
        if one is None or not one.has_just(wanted):
            self.running.pop(scraper, None)
            return
        before = self.running.get(scraper)
        if before is None or not np.array_equal(before[0], wanted):
            self.running[scraper] = wanted, one.at

    def runs(self, scrapers: Collection[str]) -> dict[str, Runs]:
        """Which of these have exactly what they shall."""
        return {name: Runs(self.running[name][1], self.seen[name].at) for name in scrapers & self.running.keys()}

    def is_settling(self, lasts_s: float) -> bool:
        """Whether somebody scrapes less than it shall, and has not for so long that it is worth a warning."""
        return self._uncovered_since is not None and time.monotonic() - self._uncovered_since < lasts_s

    async def compare(self, in_force: Placement, lasts_s: float, outside: Mapping[str, Seen]) -> None:
        """``in_force``: its part of what the slices hold. Of a target that came while the scrapers were asked nothing is
        known yet. Any other change since then counts as behind. ``outside``: what live scrapers do that are not in the plan.
        """
        seen, failed = dict(self.seen), dict(self.failed)
        tries = time.monotonic() - self._began >= TRIES_AFTER_S
        judged = await computed(lambda: self._takers.judged(in_force.pool, seen, tries=tries))
        self.seen |= {name: one for name, one in judged.items() if self.seen.get(name) is seen[name]}
        asked = self.index.pool if self.index is not None else in_force.pool
        lasts = self._uncovered_since is not None and time.monotonic() - self._uncovered_since >= lasts_s

        behind = {name for name, since in self.behind_since.items() if time.monotonic() - since >= lasts_s}

        def compared() -> tuple[Coverage, str]:
            found = with_mistaken(coverage(in_force, judged, failed, asked), in_force, judged, behind)
            found = with_outside(found, outside) if outside else found
            news = lasts and len(found.missing) > 0 and self._said.is_news(found, lasting=True)
            return found, self._newer_name(found.pool) if news else ""

        found, name = await computed(compared)
        now = time.monotonic()
        self.behind_since = {
            name: self.behind_since.get(name, now) for name, one in found.scrapers.items() if one.behind and not one.error
        }
        self.coverage, self.at, self.looked_at = found, time.time(), now
        self._uncovered_since = (self._uncovered_since or now) if found.uncovered else None
        lasting = lasts and self._uncovered_since is not None
        self._said.compared(found, lasting=lasting, newer_name=name)

    def _newer_name(self, pool: TargetPool) -> str:
        """Looked for once a pool. Blocks."""
        if self._named[0] is not pool:
            self._named = pool, newer_name_in(pool)
        return self._named[1]


def _figures(found: Coverage, *, lasting: bool) -> tuple[int, int, int, bool]:
    return found.uncovered, len(found.doubled), len(found.dropped), lasting


class Said:
    """What the log was told of the coverage of one service."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._told: tuple[int, int, int, bool] | None = None
        self._denying: set[str] = set()
        """Whose relabelling is said to differ."""

    def is_news(self, found: Coverage, *, lasting: bool) -> bool:
        return self._told != _figures(found, lasting=lasting)

    def compared(self, found: Coverage, *, lasting: bool, newer_name: str = "") -> None:
        """Say what is new. What changed takes its scrapers a moment: only what is ``lasting`` is a warning. ``newer_name``:
        a label name of the targets that a Prometheus 2 does not take.
        """
        self._say_denied(found)
        told, self._told = self._told, _figures(found, lasting=lasting)
        if told != self._told:
            say = self._log.warning if lasting else self._log.info
            more = {"note": f"the label name {newer_name!r}: {REFUSED_BY_2}"} if newer_name else {}
            say(
                "coverage",
                ratio=round(found.ratio, 6),
                missing=len(found.missing),
                unproved=len(found.unproved),
                doubled=len(found.doubled),
                down=len(found.down),
                dropped=len(found.dropped),
                **more,
            )

    def _say_denied(self, found: Coverage) -> None:
        now = {name: one.denied for name, one in found.scrapers.items() if one.denied}
        for name in sorted(now.keys() - self._denying):
            self._log.warning(
                "relabelling_differs",
                scraper=name,
                targets=now[name],
                note="it drops what another scraper took: are the scrapers' relabelling rules and shard flags the same?",
            )
        self._denying = set(now)
