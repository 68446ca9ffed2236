"""Which slice an agent may take instead of the one that it has.

A term is the epoch of the leader under which a slice was made. Slices are ordered by term; in a term the leader's slices
come after those of its followers.

Promises: a slice of an earlier term is never taken, even when it is the only one that is offered. In a term no older slice
is taken while some controller shows a slice that is as new as the agent's. When no controller has done so for ``ALONE_S``
since the first refusal, a follower's slice of the same term is taken: it is the newest there is, and followers compute the
same plan from the same facts. The bytes that the agent has are accepted from every controller.
Not promised: an order between two followers; each counts its generations for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from promring.delivery.receiver import Envelope, Note, Rule, note_of, refusal

ALONE_S = 10.0
"""About as long as a new leader takes at most."""
FROZEN_S = 60.0


class Fence:
    """What an agent remembers of what it refused and saw. ``clock`` in seconds, without those in which it asked nobody."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first_at: float | None = None
        """When the first slice of our term was refused since the last that was as new as ours."""
        self._refused_since: float | None = None
        self._refused_at = 0.0
        self._why = ""

    @property
    def doubts(self) -> bool:
        """Whether a slice of the same term was refused and waits for a better one: ask around."""
        return self._first_at is not None

    def rule(self) -> Rule:
        """The rule for the next slice; it may be used in a thread."""
        alone = self._first_at is not None and self._clock() - self._first_at >= ALONE_S

        def decide(path: Path, have: Note, offer: Envelope) -> str:
            if offer.sha256 == have.sha256 or offer.note.rank > have.rank or (alone and _may_do(have, offer.note)):
                return ""
            if offer.note.rank == have.rank:
                return f"has another slice of generation {have.generation}"
            under = f" (that was made under the leader of epoch {have.follows})" if have.follows else ""
            return refusal(have.generation, offer.generation, note_of(path)) + under

        return decide

    def saw(self, offer: Note, have: Note | None) -> None:
        """A controller's slice is what we have, or was taken."""
        self._refused_since = None
        if have is None or offer.rank >= have.rank:
            self._first_at = None

    def refused(self, offer: Note, have: Note | None, why: str) -> None:
        now, self._why = self._clock(), why
        self._refused_at = now
        if self._refused_since is None:
            self._refused_since = now
        if self._first_at is None and have is not None and _may_do(have, offer) and offer.rank <= have.rank:
            self._first_at = now

    def frozen(self) -> str:
        """Why the slice stays as it is though controllers answer; empty when it is what one of them says."""
        now = self._clock()
        if self._refused_since is None or now - self._refused_since < FROZEN_S or now - self._refused_at > FROZEN_S:
            return ""
        return f"every slice is refused since {now - self._refused_since:.0f} s: {self._why}"


def _may_do(have: Note, offer: Note) -> bool:
    """For want of a better one: a follower's of our term. A leader's own numbers climb, so an older one of it is stale."""
    return bool(offer.follows) and offer.rank[0] == have.rank[0]
