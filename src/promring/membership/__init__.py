"""Who scrapes. An adapter has one method, ``run(publish)``: it says the whole set of live scrapers, again and again.
The loop that listens, says who joins and leaves, and runs it again after an unforeseen error is ``watching.py``.

It says ``Unknown`` when it got no answer and ``Empty`` when the answer was "none"; the two are never mixed up.

A kind of membership is one file: its settings (``ScraperSettings``), its adapter (``Membership``) and how the one is built
from the other (``ScraperSettings.membership``); and one row in ``kinds.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, runtime_checkable

from promring.config.kinds import Kind, Problem, Sections
from promring.config.node import Node
from promring.config.scraper_api import PLAIN, ScraperApi
from promring.model import Answer, Members, NodeState, Scraper
from promring.telemetry.log import Logger

if TYPE_CHECKING:
    from promring.consul.client import Client

Publish = Callable[[Answer[Members]], None]


class Membership(Protocol):
    async def run(self, publish: Publish) -> None:
        """Runs until cancelled. ``publish`` never blocks; an equal answer may be published again."""

    def listed(self) -> Members:
        """Who is listed, alive or not: sorted by id, ids distinct. One that is not listed any more stays for a while where
        that may be a restart.
        """

    def nodes(self) -> list[NodeState]:
        """What is known of each scraper, dead ones too, for people."""

    def silent(self) -> str:
        """Why what was published last is too old to go by, or an empty text."""


@runtime_checkable
class Probes(Protocol):
    """A membership that asks the scrapers itself."""

    probed: Mapping[str, int]
    """How many probes had which outcome: ``success``, ``failure``, or ``not_made`` for want of something on this machine."""


@runtime_checkable
class Lists(Protocol):
    """A membership whose scrapers stand in a list that changes."""

    def list_trouble(self) -> tuple[str, float]:
        """Why the list cannot be had, so that the last one stays; empty: it can. And since when, wall-clock seconds: now,
        where it can.
        """


@runtime_checkable
class Registering(Protocol):
    """A membership that writes who the scrapers are, beside reading it."""

    def deregister(
        self,
        departing: Callable[[], Members],
        gone: Callable[[], Members],
        of_others: Callable[[Collection[tuple[str, int]]], None],
    ) -> None:
        """``departing`` are not configured any more and still at work; ``gone`` shall not stay registered; ``of_others`` is
        told which of these somebody else registered.
        """


@runtime_checkable
class GoingOn(Protocol):
    """A membership that waits for something."""

    def go_on_from(self, before: Membership) -> None:
        """A reload made this one in the place of ``before``, which has ended: nothing is waited for anew."""


class Roster(NamedTuple):
    """``listed``: who is in a list that promring only reads; ``left``: who was taken out of it since the start."""

    listed: Members
    left: Members


@runtime_checkable
class Rostered(Protocol):
    """A membership with a list that changes while promring runs: who is taken out of it leaves by a plan, as one that is
    taken out of the configuration does.
    """

    def roster(self) -> Roster:
        """As it is now; the same object while nothing changes."""


class DirectCheck(NamedTuple):
    """How one of the scrapers is asked directly whether it lives. Seconds."""

    path: str = "/-/ready"
    timeout_s: float = 2.0


@dataclass(frozen=True, slots=True)
class MembershipContext:
    """What a membership is built from beside its own settings. ``name``: of the fleet; ``scraper``: a node as a scraper of
    the fleet; ``zone_label``: the name of the metadata that is a scraper's zone; ``last``: who lived before and does not
    depart; ``catalogue``: who was listed before; ``consul``: a client where a fleet needs one; ``leads``: whether we may
    write; ``sections``: the top-level ones; ``api``: how a scraper is asked.
    """

    name: str
    scraper: Callable[[Node], Scraper]
    zone_label: str | None
    last: Members
    catalogue: Members
    consul: Client | None
    leads: Callable[[], bool]
    log: Logger
    sections: Sections
    api: ScraperApi = PLAIN


class Observed(NamedTuple):
    """``remark``: what a run would do at first."""

    membership: Membership
    remark: str = ""


class ScraperSettings(Kind):
    """The settings of a kind of membership. ``lists_all``: nobody is a scraper but those in ``listed``, and their zones and
    weights are those of the list; ``names_scrapers``: the identities have names in them that are no addresses;
    ``watches_max``: so many fleets at most may have this kind; None: no limit.
    """

    lists_all: ClassVar[bool] = False
    names_scrapers: ClassVar[bool] = False
    watches_max: ClassVar[int | None] = None

    @abstractmethod
    def membership(self, context: MembershipContext) -> Membership:
        """The adapter. Reads nothing and connects to nothing."""

    @property
    def listed(self) -> Sequence[Node]:
        """The scrapers that the configuration names."""
        return ()

    @property
    def listed_at(self) -> tuple[str, ...]:
        """The key of ``listed``."""
        return ("nodes",)

    @property
    def registers(self) -> bool:
        """Whether it writes who the scrapers are."""
        return False

    def doubts(self) -> Iterator[Problem]:
        """What is valid, and hardly meant. Blocks."""
        yield from ()

    async def observing(self, context: MembershipContext) -> Observed:
        """The adapter without writing anything. Raises ``ConsulError``."""
        return Observed(self.membership(context))

    @property
    def direct_check(self) -> DirectCheck:
        """How promring asks one of the scrapers by itself."""
        return DirectCheck()

    def finds_the_same(self, other: ScraperSettings) -> bool:
        """Whether both look for scrapers in one place, so that they find the same ones, whoever these are."""
        return False

    def lines_name(self, fleet: str) -> str:
        """What the scrapers of ``fleet`` are called in log lines about who lives."""
        return fleet

    def unable(self, api: ScraperApi) -> Iterator[Problem]:
        """What of the fleet's ``scraper_api`` cannot be done with these settings; paths start at the fleet's keys."""
        yield from ()

    @property
    @abstractmethod
    def said(self) -> str:
        """Where the scrapers come from, for people."""
