"""Who asks for slices over HTTP: each scraper, under which name of the service, how often, and when last.

A person who looks at a URL once is no scraper: who ``uses`` it has asked ``OFTEN`` times. What comes within ``ONE_LOOK_S``
is one question, such as a client that tries again at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from promring.delivery.askers import ONE_LOOK_S
from promring.model import LONG_AGO, ServiceScraper
from promring.runtime.clocks import monotonic

OFTEN = 2
LOOKED_APART_S = 60.0
KEPT_MOST, FORGOTTEN_S = 200_000, 3600.0
"""So many are remembered; of more those are forgotten that have not asked for so long."""


@dataclass(slots=True)
class _Asked:
    times: int = 0
    at: float = 0.0


@dataclass
class Asks:
    """Of one fleet, since it was started or reloaded. ``services``: their names, where there are several. ``wake`` is
    called when another scraper uses it.
    """

    wake: Callable[[], None] = lambda: None
    clock: Callable[[], float] = monotonic
    services: Collection[str] = ()
    _asked: dict[ServiceScraper, _Asked] = field(default_factory=dict)
    _look_again_at: float = LONG_AGO

    def note(self, service: str, scraper: str) -> None:
        """``scraper`` has asked for its slice of ``service``, by the name that it used."""
        one = self._asked.get((service, scraper))
        if one is None or self.clock() - one.at > ONE_LOOK_S:
            self._count(service, scraper, one)

    def note_agent(self, service: str, scraper: str, *, has: bool) -> None:
        """Its agent has asked, which asks for all slices at once. It uses one that it ``has``."""
        one = self._asked.get((service, scraper))
        if has:
            self._count(service, scraper, one)
        elif one is not None:
            one.at = self.clock()

    def _count(self, service: str, scraper: str, one: _Asked | None) -> None:
        if one is None:
            if len(self._asked) >= KEPT_MOST and not self._forget_old():
                return  # anybody may ask for any name
            one = self._asked[service, scraper] = _Asked()
        one.times, one.at = one.times + 1, self.clock()
        if one.times == OFTEN:
            self.wake()

    def _forget_old(self) -> bool:
        """Whether there is room then."""
        now = self.clock()
        if now >= self._look_again_at:
            self._asked = {pair: one for pair, one in self._asked.items() if now - one.at < FORGOTTEN_S}
            self._look_again_at = now + LOOKED_APART_S
        return len(self._asked) < KEPT_MOST

    def uses(self, service: str, scraper: str) -> bool:
        """Whether it has asked more than by chance."""
        return self.last(service, scraper) is not None

    def last(self, service: str, scraper: str) -> float | None:
        """When one that uses it last asked, monotonic seconds; None: it does not."""
        one = self._asked.get((service, scraper))
        return one.at if one is not None and one.times >= OFTEN else None

    def latest(self, scraper: str) -> float | None:
        """When it last asked: of several services, for the one that it asked for the longest ago. By whichever name."""
        found = {service: at for service, name in self._asked if name == scraper and (at := self.last(service, name))}
        several = [at for service, at in found.items() if service in self.services]
        return min(several) if several else max(found.values(), default=None)
