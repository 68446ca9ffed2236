"""A list that is made of parts, each with an answer of its own: services of Consul, names of DNS, pools of an engine.

Promises: a part that gives no answer keeps its last good list, the others go on; a part that was never heard since the start
leaves the list that a run before had (``remember``) beside what is known, so nothing of it goes. Without such a list the
first answer waits ``patience_s`` for every part, and is then made of those that are known.
Does not ask anybody: its owner puts in what it heard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from promring.model import DiscoveryError, TargetPool
from promring.runtime.text import few

PATIENCE_S = 30.0
SAID_MOST = 10


@dataclass(slots=True)
class Part:
    """``pool``: the last good list, None: there was none yet; ``failure``: why the newest answer is none, mostly empty."""

    pool: TargetPool | None = None
    failure: str = "not asked yet"


class Parts:
    """The parts of one source, in the order in which they were put in."""

    def __init__(self, patience_s: float = PATIENCE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s, self._clock = patience_s, clock
        self._parts: dict[str, Part] = {}
        self._remembered: TargetPool | None = None
        self._complete = False
        """Whether every part was heard since the start."""
        self._began: float | None = None
        self._whole: tuple[list[TargetPool], TargetPool] | None = None

    def remember(self, pool: TargetPool) -> None:
        """The list that a run before this one had."""
        self._remembered = pool

    def only(self, names: Collection[str]) -> None:
        """These are the parts from now on, in this order; others are gone."""
        self._parts = {name: self._parts.get(name) or Part() for name in names}

    def of(self, name: str) -> TargetPool | None:
        """The last good list of a part."""
        part = self._parts.get(name)
        return part.pool if part else None

    def put(self, name: str, answer: TargetPool | DiscoveryError) -> None:
        part = self._parts.setdefault(name, Part())
        if isinstance(answer, DiscoveryError):
            part.failure = str(answer)
        else:  # an equal list keeps its identity, so that nothing is computed from it again
            part.pool, part.failure = part.pool if part.pool == answer and _said(part.pool, answer) else answer, ""

    def whole(self, failure: str = "") -> TargetPool:
        """The list of all parts. ``failure``: what is wrong with all of them. Raises ``DiscoveryError`` while something is
        wrong, with the list to go on with where there is one.
        """
        failures = [*dict.fromkeys(part.failure for part in self._parts.values() if part.failure)]
        said = "; ".join(filter(None, (failure, few(failures, SAID_MOST, "; "))))
        lists = [part.pool for part in self._parts.values() if part.pool is not None]
        if not said:
            self._complete, self._remembered = True, None
            return self._join(lists)
        if self._complete:
            raise DiscoveryError(said, self._join(lists))
        raise DiscoveryError(said, self._without_a_part(lists), remembered=self._remembered is not None)

    def _without_a_part(self, lists: list[TargetPool]) -> TargetPool | None:
        """What to go on with while some part was never heard."""
        now = self._clock()
        self._began = now if self._began is None else self._began
        if not lists:
            return None
        if self._remembered is not None:
            return self._join([*lists, self._remembered], ranked=True)
        if now < self._began + self._patience_s or not any(map(len, lists)):
            return None
        return self._join(lists)

    def _join(self, lists: list[TargetPool], *, ranked: bool = False) -> TargetPool:
        """One list of all; the same object while the parts are. ``ranked``: the last one only adds what the others lack."""
        from promring.core.pool import merge, pool_of  # numpy, which the settings of a source need not

        known = self._whole
        if known is None or len(known[0]) != len(lists) or any(a is not b for a, b in zip(known[0], lists, strict=True)):
            first = lists[:-1] if ranked else lists
            whole = merge(first, ranked=False) if first else pool_of(())
            known = self._whole = lists, merge([whole, lists[-1]]) if ranked else whole
        return known[1]


def _said(one: TargetPool, other: TargetPool) -> bool:
    return (one.refused, one.remarks) == (other.refused, other.remarks)
