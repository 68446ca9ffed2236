"""Who took each target last: tells relabelling that differs between scrapers from relabelling that all of them have. Pure.

A target that the relabelling of a scraper drops is nobody's to scrape (``coverage``), as long as all scrapers have the same
rules. A rule that one of them alone has (a ``hashmod`` shard that is left over, ``-promscrape.cluster.membersCount`` of
vmagent, an older configuration) drops targets that others would take: nobody scrapes those, and they must not count as
dropped.

So each look notes which scraper was last seen to scrape each target. A scraper's dropped target that *another* scraper
scraped last is *denied*. Once a scraper denies ``PROOF`` targets, every target that it drops is denied. A target that two
scrapers drop is dropped by agreement. A target that its scraper dropped after having scraped it itself is not denied: the
rules are new. While nothing is known of a scraper's dropped targets, ``PROOF`` of them are *untold*: another scraper shall
try them (``core/second_opinion``). What was seen is forgotten at a restart. Nothing is tried soon after one, so that a
restart changes no slice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from promring.core.coverage import NO_IDS, Seen
from promring.core.joined import carried_over
from promring.core.plan import rows_of
from promring.core.twins import twins_beside
from promring.model import Keys, Owners, TargetPool

NOBODY, AGREED = -1, -2
PROOF = 3
GONE, GONE_SHARE, GONE_LEAST = "", 2, 100
"""No scraper's name."""


class Takers:
    """Of one service; one writer. A number of four bytes is kept for each target."""

    def __init__(self) -> None:
        self._pool: TargetPool | None = None
        self._numbers: dict[str, int] = {}
        self._last: Owners
        """By row of the pool: the number of who scraped it last."""

    def judged(self, pool: TargetPool, seen: Mapping[str, Seen], *, tries: bool) -> dict[str, Seen]:
        """``seen`` after another look, with the targets that each scraper denies. ``tries``: whether untold targets are
        named, for other scrapers to try. Blocks for as long as a search of all ids takes.
        """
        if self._pool is None:
            self._last = np.full(len(pool), NOBODY, dtype=np.int32)
        else:
            self._last = carried_over(self._last, self._pool, pool, NOBODY)
        self._pool = pool
        last, times = np.append(self._last, NOBODY), np.zeros(len(pool) + 1, dtype=np.int32)  # with one for what it has not
        for name, one in seen.items():
            last[rows_of(pool, one.ids[one.scraped])] = self._numbers.setdefault(name, len(self._numbers))
        dropping = {name: self._dropping(pool, one) for name, one in seen.items()}
        for dropped in dropping.values():
            times[rows_of(pool, dropped)] += 1
        last[times > 1] = AGREED
        last = self._without_gone(last, seen)
        self._last = last[:-1]
        found = {}
        for name, one in seen.items():
            denied, untold = self._told(dropping[name], last[rows_of(pool, dropping[name])], self._numbers[name])
            untold = untold if tries else NO_IDS
            news = len(denied) or len(untold) or len(one.denied) or len(one.untold)
            found[name] = replace(one, denied=denied, untold=untold) if news else one
        return found

    def _without_gone(self, last: Owners, seen: Collection[str]) -> Owners:
        """``last``, with one number for all scrapers that are gone, where there are many."""
        if len(self._numbers) <= GONE_SHARE * len(seen) + GONE_LEAST:
            return last
        before, self._numbers = self._numbers, {name: i for i, name in enumerate((GONE, *seen))}
        now = np.zeros(len(before), dtype=np.int32)
        for name, number in before.items():
            now[number] = self._numbers.get(name, 0)
        return np.where(last >= 0, now[np.maximum(last, 0)], last)

    @staticmethod
    def _told(dropping: Keys, last: Owners, number: int) -> tuple[Keys, Keys]:
        """What a scraper denies, and what others shall try of it. ``last``: who took each of these."""
        denied = (last >= 0) & (last != number)
        if denied.sum() >= PROOF:
            return dropping[(last != AGREED) & (last != number)], NO_IDS
        known = (last == AGREED).sum() >= PROOF
        return dropping[denied], NO_IDS if known else dropping[last == NOBODY][:PROOF]

    @staticmethod
    def _dropping(pool: TargetPool, one: Seen) -> Keys:
        """What it drops, and not for being equal to another target that it has."""
        known = one.dropped[rows_of(pool, one.dropped) < len(pool)]
        return np.setdiff1d(known, twins_beside(pool, one.ids)) if len(known) else known
