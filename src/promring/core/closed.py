"""Scrapers that count as alive while nobody listens at their address. Pure.

A check may say for ever that one lives: where there is none, an alias of something else, one of a Consul agent that is cut
off from its servers, or what was last known when the membership gives no answer. Who answered before and whose machine
refuses the connection for ``CLOSED_S`` is *closed*: its targets go elsewhere, until it refuses no more. One that is silent
may be cut off from here only, and keeps them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from promring.model import Members, Reply

CLOSED_S = 60.0
"""Longer than a restart, and than most checks need to tell that it is dead."""


@dataclass(frozen=True, slots=True)
class Closed:
    """``heard``: ids of those that answered since the start; ``since`` when each refuses, monotonic seconds; ``scrapers``:
    who is closed. Never changed: ``after`` makes the next.
    """

    heard: frozenset[str] = frozenset()
    since: Mapping[str, float] = field(default_factory=dict)
    scrapers: frozenset[str] = frozenset()

    def suspects(self, alive: Members, silent: Collection[str]) -> Members:
        """Who is to be asked directly, of those that count as ``alive``: who is ``silent`` and answered before."""
        return tuple(s for s in alive if s.id in self.scrapers or (s.id in self.heard and s.id in silent))

    def after(self, alive: Collection[str], answering: Collection[str], replies: Mapping[str, Reply], now: float) -> Closed:
        """``answering``: who answered at the last look; ``replies``: of those that were asked directly."""
        heard = (self.heard | frozenset(answering)) & frozenset(alive)
        mine = [name for name in alive if name in heard or name in self.scrapers]
        since = {name: self.since.get(name, now) for name in mine if replies.get(name) is Reply.REFUSES}
        still = {name for name in self.scrapers if name in alive and (name in since or name not in replies)}
        return Closed(heard, since, frozenset(still | {name for name, at in since.items() if now - at >= CLOSED_S}))

    @property
    def ends_next(self) -> float:
        """When the next one is closed, monotonic seconds."""
        return min((at + CLOSED_S for name, at in self.since.items() if name not in self.scrapers), default=float("inf"))
