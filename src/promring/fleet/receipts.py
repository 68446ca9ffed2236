"""Which slices of one shard service each scraper has taken, and when.

What is *taken* is proved: by a visit for it, by a scraper that was seen to run it for ``RUNNING_S``, or by a push that every
way that pushes has done. Where scrapers may come for their slices as well, nobody knows which of both a scraper reads, and a
push proves nothing of a scraper that the audit ever saw. What is *given* may have been taken: there every push counts.
What is *offered* would have been taken by any scraper that has the job: nobody knows who comes to another controller.
Flow: ``deliveries`` notes it, ``moves`` and the search for idle scrapers go by it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from promring.core.claims import Taken
from promring.core.sight import Runs
from promring.delivery import Outcome
from promring.fleet.visitors import Visitors
from promring.model import LONG_AGO

RUNNING_S = 6.0
"""So long a scraper was seen to run what it shall before it counts: it may have taken a list that it has not applied."""
NOTHING = Taken()
SEEN_MORE = 100
"""Scrapers come and go; so many that are gone are remembered, should they come back."""


class Receipts:
    """``upto``: the slices that were put in force until then, monotonic seconds."""

    def __init__(self, visitors: Visitors, pulled: Sequence[bool], heard: Collection[str] = ()) -> None:
        """``pulled``: of each delivery, whether scrapers come for what it serves. ``heard``: whom the audit saw before the
        start or the reload, when nobody has looked yet.
        """
        self._visitors = visitors
        self.two_ways = len(set(pulled)) > 1
        """Whether some ways push and others are pulled: a scraper may read either, and may come to another controller."""
        self.taken: dict[str, Taken] = {}
        self.given = dict[str, Taken]() if len(pulled) > 1 else self.taken
        self._only_pulled = all(pulled)
        self._everywhere: frozenset[str] = frozenset()
        """Who has its slice by every way that pushes."""
        self._seen = frozenset(heard if self.two_ways else ())
        """With ``two_ways``: whom the audit ever saw."""

    def pushed(self, outcomes: Sequence[Outcome], upto: float) -> set[str]:
        """What the pushes came to. Who has its slice by one of them."""
        there = {o.scraper for o in outcomes if o.is_there}
        self._everywhere = frozenset(there - {o.scraper for o in outcomes if not o.is_there})
        self._note_pushed(there, upto)
        return there

    def still_there(self, upto: float) -> None:
        """The same slices are in force, and every way had them everywhere."""
        self._note_pushed(self._everywhere, upto)

    def _note_pushed(self, there: Collection[str], upto: float) -> None:
        proved = (name for name in self._everywhere if not self._visitors.comes(name) and name not in self._seen)
        self._took(proved, upto)
        if self.given is not self.taken:
            _note(self.given, there, upto, time.monotonic())

    def came(self, scraper: str, upto: float, says_s: float = 0.0) -> None:
        """It came for its slice. ``says_s``: so long it may be until it comes again, as it says."""
        if self._visitors.came(scraper, says_s):
            self._took([scraper], upto)

    def sees(self, scrapers: Iterable[str]) -> None:
        """Whom the audit asks about this service, and hears."""
        if self.two_ways:
            self._seen = self._seen.union(scrapers)

    def run(self, running: Mapping[str, Runs], upto: float, served: Taken | None) -> None:
        """Who is seen to run its slice. ``served``: what scrapers could come for, and when; None: they come for nothing.
        A scraper may run the right list by chance, and have come for an older one just before this one was served.
        """
        if served is not None and running:
            upto = min(upto, served.upto(min(one.at for one in running.values()) - RUNNING_S))
        if upto > LONG_AGO:
            self._took((name for name, one in running.items() if one.at - one.since >= RUNNING_S), upto)

    def offered(self, *, follows: bool = False) -> Mapping[str, Taken]:
        """What each was given, or should have come for by now, here or to another controller. ``follows``: another one
        pushes, too.
        """
        if not self._only_pulled and not follows:
            return self.given
        now, offered = time.monotonic(), dict(self.given)
        waiting: defaultdict[float, list[str]] = defaultdict(list)
        for name, waited_s in self._visitors.away().items():
            waiting[waited_s].append(name)
        for waited_s, names in waiting.items():
            _note(offered, names, now - waited_s, now - waited_s)
        return offered

    def keep_only(self, names: Collection[str]) -> None:
        """There are no slices for others any more."""
        if names and len(self._seen) > 2 * len(names) + SEEN_MORE:
            self._seen = self._seen.intersection(names)
        for some in (self.taken, self.given):
            for gone in some.keys() - names:
                del some[gone]

    def _took(self, scrapers: Iterable[str], upto: float) -> None:
        scrapers = list(scrapers)
        now = time.monotonic()
        _note(self.taken, scrapers, upto, now)
        if self.given is not self.taken:
            _note(self.given, scrapers, upto, now)


def _note(known: dict[str, Taken], scrapers: Iterable[str], upto: float, at: float) -> None:
    """They took at this time what was put in force until ``upto``."""
    made: dict[int, Taken] = {}
    """Those that took the same slices until now have one object; they get another one together."""
    for name in scrapers:
        before = known.get(name, NOTHING)
        after = made.get(id(before))
        if after is None:
            after = made[id(before)] = before.and_then(upto, at)
        known[name] = after
