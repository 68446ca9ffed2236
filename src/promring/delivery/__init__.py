"""How a slice reaches its scraper. A kind has one method: it is given every slice in force and makes the sinks so.

Promises of every kind: a slice is whole or not there; a sink that already has the bytes is left alone; what a scraper has
is never taken away because it left; one scraper's failure does not touch another's; nothing is written by one who does not
lead.

A kind of delivery is one file: its settings (``DeliverySettings``), its adapter (``Delivery``) and how the one is built from
the other (``DeliverySettings.delivery``); and one row in ``kinds.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from promring.config.kinds import Kind, Problem, Shared
from promring.model import Generation, Scraper, Slice
from promring.telemetry.log import Logger

Leads = Callable[[], bool]


def always() -> bool:
    """``Leads`` of a single controller."""
    return True


class Outcome(NamedTuple):
    """What became of one scraper's slice: ``written``, ``same``, ``failed``, ``refused`` by a receiver that has a newer one,
    ``withheld`` because we no longer lead, ``waiting`` while its push has not ended or is not due again, ``unsent`` for
    trouble on our own side or on the way. The last two say nothing about the scraper. ``error`` says why it was not taken.
    """

    scraper: str
    outcome: str
    error: str = ""
    fenced_by: Generation | None = None
    """The newer generation that the receiver has."""

    @classmethod
    def not_taken(cls, scraper: str, error: str, have: Generation | None = None) -> Outcome:
        """``failed``, or ``refused`` when the receiver has ``have``, which is newer."""
        return cls(scraper, "failed" if have is None else "refused", error, have)


@runtime_checkable
class Visited(Protocol):
    """A delivery that scrapers come to for their slices."""

    taken: Callable[[str, float], None]
    """Told who has the slice that is served, with all that was decided until then (monotonic seconds)."""


@runtime_checkable
class Closing(Protocol):
    """A delivery that holds connections."""

    async def close(self) -> None:
        """It will not be asked to deliver again."""


@runtime_checkable
class Background(Protocol):
    """A delivery that does not wait for slow receivers."""

    def when_done(self, ring: Callable[[], None]) -> None:
        """``ring`` is called when what was ``waiting`` has ended, or is due again: ``deliver`` then tells more."""


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


# --- settings --------------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """What a delivery is built from beside its own settings. ``fleet_log``: for what concerns a host, not one service."""

    names: Names
    shared: Shared
    log: Logger
    fleet_log: Logger


class DeliverySettings(Kind):
    """The settings of a kind of delivery. ``pulled``: scrapers come for their slices; ``local``: files are on this machine,
    for whatever scraper there is; ``path_at``: the key that says where a file is.
    """

    pulled: ClassVar[bool] = False
    local: ClassVar[bool] = False
    path_at: ClassVar[tuple[str, ...]] = ()
    trial_runs: ClassVar[bool] = False
    """Whether ``trial`` runs what the settings name: a playbook, the program that knows a password."""

    @abstractmethod
    def delivery(self, context: DeliveryContext) -> Delivery:
        """The adapter. Writes nothing and connects to nothing. Raises ``ConfigError`` for what is not installed."""

    def file(self, names: Names, scraper: Scraper) -> str:
        """The file on the machine that has it; empty: there is no file."""
        return ""

    def place(self, names: Names, scraper: Scraper) -> Place | None:
        """The file that is written for ``scraper``; None: no file, or nobody tells which."""
        return None

    def claim(self, names: Names, anybody: Scraper) -> Place | None:
        """What no other delivery may write, for a scraper that may be anybody; None: nothing, or it is not our business."""
        return self.place(names, anybody)

    @property
    def overridden_by(self) -> str:
        """A file of the operator's that may say another place, or an empty text."""
        return ""

    def places(self, names: Names, scrapers: Iterable[Scraper]) -> list[str]:
        """Where slices are, one place a scraper, for people."""
        found = {place for scraper in scrapers if (place := self.place(names, scraper)) is not None}
        return [str(place) for place in sorted(found)] or [self.kind]

    def shared_by(self, services: int) -> Iterator[Problem]:
        """What its files say that does not go with so many services of one fleet. Blocks."""
        yield from ()

    def trial(self, names: Names, scrapers: Iterable[Scraper]) -> Iterator[Problem]:
        """What cannot work here for these, or for others: for ``check`` and a reload. Blocks; writes nothing."""
        yield from ()

    def doubts(self) -> Iterator[Problem]:
        """What is valid, and hardly meant. Blocks."""
        yield from ()
