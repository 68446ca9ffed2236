"""Who scrapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

WEIGHT_MOST = 100.0
"""Of a scraper."""


@dataclass(frozen=True, slots=True, order=True)
class Scraper:
    """One Prometheus-compatible server. ``id`` is its identity: ``host:port``, or the host alone."""

    id: str
    host: str
    port: int
    zone: str = ""
    """Where it stands; empty: nobody said."""
    weight: float = 1.0
    """Its share of the targets, beside the others'; 0: it gets none."""
    draining: bool = False
    """Its membership says that it lives and is to be taken out, make before break: it gets none, until that is over."""

    @property
    def address(self) -> str:
        return join_host_port(self.host, self.port)

    @property
    def able(self) -> bool:
        """Whether it shall get targets at all."""
        return self.weight > 0 and not self.draining


class Reply(Enum):
    """What a scraper does that is asked directly, at its own address."""

    ANSWERS = "answers"
    REFUSES = "refuses"
    """Its machine says that nobody listens there, twice: it is dead."""
    HANGS = "hangs"
    """Its machine accepts the connection, and no whole answer comes."""
    SILENT = "silent"
    """No answer, or one that says nothing: it may be dead, hang, or be cut off from here."""


Members = tuple[Scraper, ...]
"""The live scrapers of a shard service, sorted by id, ids distinct."""


class NodeState(NamedTuple):
    """What a membership adapter says of one scraper, for people: ``state`` is ``up``, ``down`` or ``unknown``; ``last``: of
    one that is unknown now, what it was when somebody last knew.
    """

    id: str
    state: str
    reason: str = ""
    last: str = ""


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


ServiceScraper = tuple[str, str]
"""A service and a scraper, by name. A plain tuple: a cycle of 50 services and 1,000 scrapers makes 50,000 of them again and
again, and a ``NamedTuple`` takes three times as long to make.
"""


class Failing(NamedTuple):
    """Who lives, and what it cannot be given. Each sorted."""

    scrapers: tuple[str, ...] = ()
    """Ids: they get nothing."""
    refusing: tuple[ServiceScraper, ...] = ()
    """Services, and the scrapers that take the slices of others and not of these: they get nothing new of them."""
    aliases: tuple[tuple[str, str], ...] = ()
    """Ids that are another name of a server, and the id by which that gets its slices."""
    idle: tuple[ServiceScraper, ...] = ()
    """Services, and the scrapers that answer and do not have what they were given of these: they get nothing new of them."""

    @classmethod
    def of(
        cls,
        scrapers: Iterable[str],
        refusing: Iterable[ServiceScraper] = (),
        aliases: Iterable[tuple[str, str]] = (),
        idle: Iterable[ServiceScraper] = (),
    ) -> Failing:
        names = tuple(sorted(dict(aliases).items()))
        return cls(tuple(sorted(set(scrapers))), tuple(sorted(set(refusing))), names, tuple(sorted(set(idle))))

    def and_those_of(self, other: Failing) -> Failing:
        aliases = (*other.aliases, *self.aliases)
        refusing, idle = (*self.refusing, *other.refusing), (*self.idle, *other.idle)
        return Failing.of((*self.scrapers, *other.scrapers), refusing, aliases, idle)

    def nameless(self, living: Iterable[str]) -> dict[str, str]:
        """Who gets nothing under its name, since the server gets its slices by another one, which is among the ``living``
        and can be given something: that name. One that gives way to a second name gives way to whichever that gives way to:
        two controllers may have chosen differently.
        """
        able, off = set(living) - set(self.scrapers), dict[str, str]()

        def last(name: str) -> str:
            while name in off:
                name = off[name]
            return name

        for name, kept in self.aliases:
            if kept in able and last(kept) != name:  # never all names of one server
                off[name] = last(kept)
        return {name: last(kept) for name, kept in off.items()}


NONE_FAILING = Failing()
