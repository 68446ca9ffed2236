"""Scrapers that count as alive and answer nothing, asked directly. Pure.

A check may say for ever that one lives: where there is none, one that only connects (TCP), an alias of something else, one
of a Consul agent that is cut off from its servers, or what was last known when the membership gives no answer. Who answered
before is *unresponsive* when its machine refuses the connection for ``REFUSES_S``, or accepts it and nothing answers for
``HANGS_S``: its targets go elsewhere, until it answers. One that is silent in another way may be cut off from here, and
keeps them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from promring.model import Members, Reply

REFUSES_S = 60.0
"""Longer than a restart, and than most checks need to tell that it is dead."""
HANGS_S = 180.0
"""Longer than a server that has very much to do hardly answers."""


class Answers(NamedTuple):
    """What is remembered over a reload or a restart. Ids, sorted."""

    heard: tuple[str, ...] = ()
    unresponsive: tuple[str, ...] = ()


NO_ANSWERS = Answers()


@dataclass(frozen=True, slots=True)
class Unresponsive:
    """``heard``: ids of those that ever answered; ``since`` when each does not, having refused or hung first, monotonic
    seconds; ``scrapers``: who is unresponsive, and what it does; None: that is not known since the start. Never changed:
    ``after`` makes the next.
    """

    heard: frozenset[str] = frozenset()
    since: Mapping[str, float] = field(default_factory=dict)
    scrapers: Mapping[str, Reply | None] = field(default_factory=dict)
    ends_next: float = float("inf")
    """When the next one is unresponsive if it goes on like that, monotonic seconds."""

    @classmethod
    def of(cls, before: Answers) -> Unresponsive:
        return cls(frozenset(before.heard), scrapers=dict.fromkeys(before.unresponsive))

    @property
    def answers(self) -> Answers:
        return Answers(tuple(sorted(self.heard)), tuple(sorted(self.scrapers)))

    def suspects(self, alive: Members, silent: Collection[str]) -> Members:
        """Who is to be asked directly, of those that count as ``alive``: who is ``silent`` and answered before."""
        return tuple(s for s in alive if s.id in self.scrapers or (s.id in self.heard and s.id in silent))

    def after(
        self,
        alive: Collection[str],
        listed: Collection[str],
        answering: Collection[str],
        replies: Mapping[str, Reply],
        now: float,
    ) -> Unresponsive:
        """``listed``: who is, alive or not; ``answering``: who answered at the last look; ``replies``: of those that were
        asked directly.
        """
        heard = (self.heard | frozenset(answering)).intersection({*alive, *listed})
        mute = {
            name: replies.get(name)
            for name in alive
            if (name in heard or name in self.scrapers) and name not in answering and replies.get(name) is not Reply.ANSWERS
        }
        off = {name for name, reply in mute.items() if reply in (Reply.REFUSES, Reply.HANGS)}
        since = {name: self.since.get(name, now) for name in mute if name in off or name in self.since}
        found = {
            name: self.scrapers.get(name) if reply is None else reply
            for name, reply in mute.items()
            if name in self.scrapers or (name in off and now - since[name] >= _patience_s(reply))
        }
        waits = (since[name] + _patience_s(mute[name]) for name in off if name not in found)
        return Unresponsive(heard, since, found, min(waits, default=float("inf")))


def _patience_s(reply: Reply | None) -> float:
    return REFUSES_S if reply is Reply.REFUSES else HANGS_S
