"""Scrapers that count as alive and answer nothing, asked directly. Pure.

The membership may call a dead scraper alive for ever: its service in Consul has no check, a check that only connects
(TCP), or an alias of another service; its Consul agent is cut off from the servers; or Consul gives no answer. A scraper
that answered before is *unresponsive* when its machine refuses the connection for ``REFUSES_S``, or accepts the
connection and no answer comes for ``HANGS_S``. An unresponsive scraper gets nothing until it answers. A scraper that is
silent in another way may be cut off from this controller only, and keeps its targets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from promring.model import NEVER_ENDS, Members, Reply

REFUSES_S = 60.0
"""Longer than a restart, and than most checks need to tell that it is dead."""
HANGS_S = 180.0
"""Longer than an overloaded server is late with its answer."""


class Answers(NamedTuple):
    """What is remembered over a reload or a restart. Ids, sorted."""

    heard: tuple[str, ...] = ()
    unresponsive: tuple[str, ...] = ()

    def renamed(self, names: Mapping[str, str]) -> Answers:
        """``names``: of each scraper that is still known, by the one before."""
        return Answers(*(tuple(sorted({names[one] for one in some if one in names})) for some in self))

    def and_those_of(self, other: Answers) -> Answers:
        return Answers(*(tuple(sorted({*ours, *theirs})) for ours, theirs in zip(self, other, strict=True)))


NO_ANSWERS = Answers()


@dataclass(frozen=True, slots=True)
class Unresponsive:
    """``heard``: the ids of the scrapers that ever answered. ``since``: when a scraper refused or hung first, with no answer
    after that, monotonic seconds. ``scrapers``: the unresponsive scrapers, with what each does; None: not asked since the
    start. Never changed: ``after`` makes the next.
    """

    heard: frozenset[str] = frozenset()
    since: Mapping[str, float] = field(default_factory=dict)
    scrapers: Mapping[str, Reply | None] = field(default_factory=dict)
    ends_next: float = NEVER_ENDS
    """When the next scraper becomes unresponsive if it gives no answer until then, monotonic seconds."""

    @classmethod
    def of(cls, before: Answers) -> Unresponsive:
        return cls(frozenset({*before.heard, *before.unresponsive}), scrapers=dict.fromkeys(before.unresponsive))

    def after_reload(self, before: Unresponsive) -> Unresponsive:
        """With what was known ``before`` it of those that are still known."""
        since = {name: at for name, at in before.since.items() if name in self.heard}
        known = {name: reply for name, reply in before.scrapers.items() if name in self.scrapers}
        return replace(self, since=since, scrapers={**self.scrapers, **known}, ends_next=before.ends_next)

    def stood_still(self, seconds: float) -> Unresponsive:
        """So long nobody was asked."""
        since = {name: at + seconds for name, at in self.since.items()}
        return replace(self, since=since, ends_next=self.ends_next + seconds)

    @property
    def answers(self) -> Answers:
        return Answers(tuple(sorted(self.heard)), tuple(sorted(self.scrapers)))

    def suspects(self, alive: Members, silent: Collection[str]) -> Members:
        """The scrapers to ask directly, of those that count as ``alive``: the unresponsive ones, and those that answered
        before and were ``silent`` at the last look.
        """
        return tuple(s for s in alive if s.id in self.scrapers or (s.id in self.heard and s.id in silent))

    def after(
        self,
        alive: Collection[str],
        listed: Collection[str],
        answering: Collection[str],
        replies: Mapping[str, Reply],
        now: float,
    ) -> Unresponsive:
        """``listed``: the scrapers that the membership lists, alive or not; ``answering``: those that answered the last
        look; ``replies``: what those did that were asked directly.
        """
        heard = (self.heard | frozenset(answering)).intersection({*alive, *listed})
        mute = {
            name: replies.get(name)
            for name in alive
            if name in heard and name not in answering and replies.get(name) is not Reply.ANSWERS
        }
        off = {name for name, reply in mute.items() if reply in (Reply.REFUSES, Reply.HANGS)}
        since = {name: self.since.get(name, now) for name in mute if name in off or name in self.since}
        found = {
            name: self.scrapers.get(name) if reply is None else reply
            for name, reply in mute.items()
            if name in self.scrapers or (name in off and now - since[name] >= _patience_s(reply))
        }
        waits = (since[name] + _patience_s(mute[name]) for name in off if name not in found)
        return Unresponsive(heard, since, found, min(waits, default=NEVER_ENDS))


def _patience_s(reply: Reply | None) -> float:
    return REFUSES_S if reply is Reply.REFUSES else HANGS_S
