"""How a slice reaches its scraper. A kind has one method: it is given every slice in force and makes the sinks so.

Promises of every kind: a slice is whole or not there; a sink that already has the bytes is left alone; what a scraper has
is never taken away because it left; one scraper's failure does not touch another's; nothing is written by one who does not
lead.

A kind of delivery is one file: its settings (``settings.DeliverySettings``), its adapter (``Delivery``) and how the one is
built from the other (``DeliverySettings.delivery``); and one row in ``kinds.py``. Agents use the receivers of this package
and load no settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from promring.model import Generation, Slice

Leads = Callable[[], bool]


def always() -> bool:
    """``Leads`` of a single controller."""
    return True


How = Literal["written", "same", "failed", "refused", "withheld", "waiting", "unsent"]
"""What became of a slice: ``refused`` by a receiver that has a newer one, ``withheld`` because we no longer lead,
``waiting`` while its push has not ended or is not due again, ``unsent`` for trouble on our own side or on the way. The last
two say nothing about the scraper.
"""


class Outcome(NamedTuple):
    """What became of one scraper's slice. ``error`` says why it was not taken."""

    scraper: str
    outcome: How
    error: str = ""
    fenced_by: Generation | None = None
    """The newer generation that the receiver has."""

    @property
    def is_there(self) -> bool:
        """The receiver has the slice."""
        return self.outcome in ("written", "same")

    @property
    def was_not_brought(self) -> bool:
        """It was tried, and the receiver may have anything."""
        return self.outcome in ("failed", "unsent")

    @property
    def is_theirs(self) -> bool:
        """The receiver is why it did not get there."""
        return self.outcome in ("failed", "refused")

    @property
    def is_trouble(self) -> bool:
        """Somebody has to know."""
        return self.was_not_brought or self.is_theirs

    @classmethod
    def not_taken(cls, scraper: str, error: str, have: Generation | None = None) -> Outcome:
        """``failed``, or ``refused`` when the receiver has ``have``, which is newer."""
        return cls(scraper, "failed" if have is None else "refused", error, have)


@runtime_checkable
class Visited(Protocol):
    """A delivery that scrapers come to for their slices."""

    taken: Callable[[str, float, float], None]
    """Told who has the slice that is served, or was until a moment ago, with all that was decided until then (monotonic
    seconds), and how many seconds it may be until that one asks again, as it says; 0: it does not say.
    """
    declined: Callable[[], None]
    """Called when somebody declines what it is offered, or does so no more."""

    def declining(self) -> Mapping[str, str]:
        """By scraper that cannot take what it is offered: why."""


@runtime_checkable
class Together(Protocol):
    """A delivery whose readers may wait for slices of several services at once."""

    def together(self) -> AbstractContextManager[None]:
        """Those are told when it ends, of all that was delivered until then."""


@runtime_checkable
class Closing(Protocol):
    """A delivery that holds connections."""

    async def close(self) -> None:
        """It will not be asked to deliver again."""


@runtime_checkable
class Background(Protocol):
    """A delivery that does not wait for slow receivers."""

    def when_done(self, wake: Callable[[], None]) -> None:
        """``wake`` is called when what was ``waiting`` has ended, or is due again: ``deliver`` then tells more."""


class Delivery(Protocol):
    means: str
    pulled: bool
    """Scrapers come for their slice: this is not for the leader alone."""

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        """Make every sink hold its slice. Level-triggered: called again and again with all of them. ``leads`` is asked
        before each write, from any thread. What it does not wait for goes on until it has ended or is closed; the newest
        slice wins.
        """


@runtime_checkable
class Resuming(Protocol):
    """A delivery that readers hold on to over a reload."""

    def resumed(self, before: Sequence[Delivery], slices: Iterable[Slice]) -> Delivery:
        """The one to go on with: that of ``before`` which is of this kind, else this one with ``slices``."""


# --- where slices go -------------------------------------------------------------------------------------------------


class Names(NamedTuple):
    """Whose slices are delivered."""

    fleet: str
    service: str


class Place(NamedTuple):
    """A file. ``host`` and ``port``: where promring writes it; an empty host: on this machine."""

    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"{self.host}:{self.path}" if self.host else self.path
