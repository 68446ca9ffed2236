"""What a person takes for right although the guard holds it, for one verdict: said here, or at the leader."""

from __future__ import annotations

from collections.abc import Iterable

from promring.core.verdicts import RELEASABLE, Withheld
from promring.election.leadership import Leadership
from promring.model import Release
from promring.telemetry.log import Logger


class Releases:
    """Of one fleet, or of one shard service. ``name``: what the controllers call it among each other."""

    def __init__(self, name: str, leadership: Leadership, log: Logger) -> None:
        self._name, self._leadership, self._log = name, leadership, log
        self._released: tuple[Release, ...] = ()
        self._shared: tuple[Release, ...] = ()
        self._used: set[str] = set()

    def take(self, held: Iterable[Withheld]) -> tuple[Release, ...]:
        """What the next verdict lets go, once. ``held``: what the last one held."""
        released, self._released = self._released, ()
        return released + self._elsewhere(held)

    def _elsewhere(self, held: Iterable[Withheld]) -> tuple[Release, ...]:
        """What a person let go at the leader a moment ago, for one verdict here, too."""
        if self._leadership.leads():
            return ()
        let_go = self._leadership.shared.lately_released(self._name)
        if let_go is not self._shared:
            self._shared, self._used = let_go, set()
        mine = tuple(one for one in let_go if one.reason not in self._used)
        self._used |= {one.reason for one in mine} & {one.reason for one in held}
        return mine

    def release(self, held: Iterable[Withheld]) -> list[Withheld]:
        """Let go what is ``held`` now, in the next verdict only, and nothing that is more by then; where we lead, the others
        do, too. What is let go by that; empty when nothing is held that could be.
        """
        let_go = [one for one in held if one.reason in RELEASABLE]
        if let_go:
            self._log.warning("release", reasons=",".join(one.reason for one in let_go))
            self._released = tuple(one.let_go for one in let_go)
            if self._leadership.tells_others:
                self._leadership.shared.release(self._name, self._released)
        return let_go
