"""Which slices of one shard service each scraper has, and since when. There are three degrees of certainty:

- *Taken* is proved: the scraper came for the slice, or it was seen running the slice for ``RUNNING_S``, or every delivery
  that pushes has brought it. Where scrapers may also come for their slices, nobody knows which of both a scraper reads.
  There a push proves nothing about a scraper that the audit has ever seen.
- *Given* is possible: the scraper may have taken it. Here every push counts.
- *Offered* is assumed: any scraper that has the job would have taken it by now, here or at another controller.

Flow: ``deliveries`` notes what happened; ``moves`` and the search for idle scrapers decide by it.
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
"""How long a scraper must be seen running its slice before that counts: it may have read a newer list already."""
NOTHING = Taken()
SEEN_MORE = 100
"""How many scrapers that are gone are remembered, in case they come back."""


class Receipts:
    """In all methods ``upto`` means the slices that were put in force until then, monotonic seconds."""

    def __init__(self, visitors: Visitors, pulled: Sequence[bool], heard: Collection[str] = ()) -> None:
        """``pulled``: for each delivery, whether scrapers come for what it serves. ``heard``: scrapers that the audit saw
        before the start or the reload.
        """
        self._visitors = visitors
        self.two_ways = len(set(pulled)) > 1
        """Some deliveries push and others are pulled: a scraper may read either, and may come to another controller."""
        self.taken: dict[str, Taken] = {}
        self.given = dict[str, Taken]() if len(pulled) > 1 else self.taken
        self._only_pulled = all(pulled)
        self._everywhere: frozenset[str] = frozenset()
        """Scrapers that have their slice by every delivery that pushes."""
        self._seen = frozenset(heard if self.two_ways else ())
        """With ``two_ways``: scrapers that the audit has ever seen."""

    def pushed(self, outcomes: Sequence[Outcome], upto: float) -> set[str]:
        """Note what became of the pushes. Returns the scrapers that have their slice by at least one of them."""
        there = {o.scraper for o in outcomes if o.is_there}
        self._everywhere = frozenset(there - {o.scraper for o in outcomes if not o.is_there})
        self._note_pushed(there, upto)
        return there

    def still_there(self, upto: float) -> None:
        """The same slices are still in force, and every delivery has them everywhere."""
        self._note_pushed(self._everywhere, upto)

    def _note_pushed(self, there: Collection[str], upto: float) -> None:
        proved = (name for name in self._everywhere if not self._visitors.comes(name) and name not in self._seen)
        self._took(proved, upto)
        if self.given is not self.taken:
            _note(self.given, there, upto, time.monotonic())

    def came(self, scraper: str, upto: float, says_s: float = 0.0) -> None:
        """The scraper came for its slice. ``says_s``: when it will come again at the latest, as it says itself."""
        if self._visitors.came(scraper, says_s):
            self._took([scraper], upto)

    def sees(self, scrapers: Iterable[str]) -> None:
        """The audit asked these scrapers about this service, and they answered."""
        if self.two_ways:
            self._seen = self._seen.union(scrapers)

    def run(self, running: Mapping[str, Runs], upto: float, served: Taken | None) -> None:
        """These scrapers were seen running their slices. ``served``: what scrapers could come for, and when; None: they come
        for nothing. A scraper may run the right list by chance, and have come for an older one just before this was served.
        """
        if served is not None and running:
            upto = min(upto, served.upto(min(one.at for one in running.values()) - RUNNING_S))
        if upto > LONG_AGO:
            self._took((name for name, one in running.items() if one.at - one.since >= RUNNING_S), upto)

    def offered(self, *, follows: bool = False) -> Mapping[str, Taken]:
        """What each scraper was given, or should have fetched by now, here or from another controller. ``follows``: another
        controller pushes, too.
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
        """Forget all scrapers but these: the others have no slices any more."""
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
    """Note that these took, ``at`` this time, what was put in force until ``upto``."""
    made: dict[int, Taken] = {}
    """Scrapers that took the same slices share one object, before and after."""
    for name in scrapers:
        before = known.get(name, NOTHING)
        after = made.get(id(before))
        if after is None:
            after = made[id(before)] = before.and_then(upto, at)
        known[name] = after
