"""The settings that every kind of delivery has, and what a delivery is built from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from promring.config.kinds import Kind, Problem, Shared
from promring.delivery import Delivery, Names, Place
from promring.model import Scraper
from promring.telemetry.log import Logger


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
