"""The nouns. Frozen values that every layer may hold; no I/O, no clock, no logging.

Owns: what a fact is (``Known``, ``Empty``, ``Unknown``), scrapers, target groups, the pool, placement, plan, slices.
Promises: values here are never changed after they were built; equal facts compare equal.
Flow: adapters make answers of these, ``core`` turns them into a ``Placement`` and ``Slice``s, deliveries carry those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

Keys = npt.NDArray[np.uint64]
Owners = npt.NDArray[np.int32]


class PromringError(Exception):
    """Base of every error that promring raises on purpose. Its text is for the operator: one line, names the entry."""


class ConfigError(PromringError):
    """The configuration is at fault. ``problems`` has one line an error, all that were found."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class DiscoveryError(PromringError):
    """A target source gave no usable answer; its last good list stays.

    ``groups`` is not None when only a part of it failed and could be replaced by the last good one of that part: then it is
    whole, if partly stale.
    """

    def __init__(self, text: str, groups: Groups | None = None) -> None:
        super().__init__(text)
        self.groups = groups


class ConsulError(PromringError):
    """Consul gave no usable answer; the last facts stay."""


class ListenError(PromringError):
    """The web server's address cannot be had."""


# --- facts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """An answer with something in it."""

    value: T


@dataclass(frozen=True, slots=True)
class Empty:
    """An answer, and it says: none. Never the same as no answer."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer. ``reason`` says why, in the words of the adapter that asked."""

    reason: str


Answer = Known[T] | Empty | Unknown


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """What is known of one thing: the newest answer, and the last one that had something in it.

    ``asked_at`` and ``good_at`` are wall-clock seconds; ``good_at`` is 0 while there never was a good answer.
    """

    newest: Answer[T]
    asked_at: float = 0.0
    good: Known[T] | None = None
    good_at: float = 0.0
    trouble: str = ""
    """What failed although there is an answer: it is whole, but partly from before."""

    @property
    def stale(self) -> bool:
        """True when the last good value is not, or not wholly, what the newest answer says."""
        return not isinstance(self.newest, Known) or bool(self.trouble)


# --- membership ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Scraper:
    """One Prometheus-compatible server. ``id`` is its identity: ``host:port``, or the host alone."""

    id: str
    host: str
    port: int

    @property
    def address(self) -> str:
        return join_host_port(self.host, self.port)


Members = tuple[Scraper, ...]
"""The live scrapers of a shard service, sorted by id, ids distinct."""


class NodeState(NamedTuple):
    """What a membership adapter says of one scraper, for people: ``state`` is ``up``, ``down`` or ``unknown``."""

    id: str
    state: str
    reason: str = ""


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# --- discovery -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """One group of a file_sd or http_sd list: addresses that share labels."""

    targets: tuple[str, ...]
    labels: tuple[tuple[str, str], ...] = ()
    """Sorted by name."""

    @classmethod
    def of(cls, targets: Sequence[str], labels: Mapping[str, str] | None = None) -> TargetGroup:
        return cls(tuple(targets), tuple(sorted((labels or {}).items())))


Groups = tuple[TargetGroup, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TargetPool:
    """All targets of a shard service in columns, sorted by key (ties by identity), one row a target.

    ``keys``        uint64, shape (n,): the hash that places the target on the ring
    ``identities``  n strings: the address, then the labels that change what is scraped; distinct
    ``fragments``   n byte strings: the target as one file_sd group in JSON
    ``duplicates``  rows left out because an earlier source had the identity; ``conflicts`` of them had other labels
    """

    keys: Keys
    identities: list[str]
    fragments: list[bytes]
    duplicates: int = 0
    conflicts: int = 0

    def __len__(self) -> int:
        return len(self.identities)


# --- placement and plan ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Who owns what: ``owners[i]`` is the index in ``scrapers`` of the owner of row i of the pool."""

    scrapers: Members
    pool: TargetPool
    owners: Owners

    def counts(self) -> dict[str, int]:
        """Targets a scraper, zero included."""
        counted = np.bincount(self.owners, minlength=len(self.scrapers)).tolist()
        return {s.id: n for s, n in zip(self.scrapers, counted, strict=True)}


@dataclass(frozen=True, slots=True)
class Move:
    """``count`` targets go from one scraper to another; ``source`` is None for targets that are new in the pool."""

    source: str | None
    destination: str
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference between two placements of one shard service."""

    moves: tuple[Move, ...]

    @property
    def moved(self) -> int:
        """Targets that had an owner and get another one."""
        return sum(m.count for m in self.moves if m.source is not None)


# --- slices ----------------------------------------------------------------------------------------------------------


class Generation(NamedTuple):
    """Orders the slices of one scraper. Only climbs; compares as a tuple; written ``epoch.n``."""

    epoch: int
    n: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.n}"


@dataclass(frozen=True)
class Slice:
    """The targets of one scraper as file_sd JSON (``body``), with the generation in which these bytes were decided."""

    service: str
    scraper: Scraper
    generation: Generation
    body: bytes = field(repr=False)
    targets: int

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()
