"""The nouns. Frozen values that every layer may hold; no I/O, no clock, no logging.

Owns: what a fact is (``Known``, ``Empty``, ``Unknown``), scrapers, target groups, the pool, placement, plan, slices.
Promises: values here are never changed after they were built; equal facts compare equal.
Flow: adapters make answers of these, ``core`` turns them into a ``Placement`` and ``Slice``s, deliveries carry those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from promring.runtime.redact import scrub

PROBLEM_MOST = 2000
"""Characters of one error of a configuration."""

T = TypeVar("T")

Keys = npt.NDArray[np.uint64]
Owners = npt.NDArray[np.int32]
Loads = npt.NDArray[np.int64]
Bounds = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]


class PromringError(Exception):
    """Base of every error that promring raises on purpose. Its text is for the operator: one line, names the entry."""


class ConfigError(PromringError):
    """The configuration is at fault. ``problems`` has one line an error, all that were found, without credentials."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = [scrub(problem[:PROBLEM_MOST]) for problem in problems]
        super().__init__("\n".join(self.problems))


class DiscoveryError(PromringError):
    """A target source gave no usable answer; its last good list stays.

    ``pool`` is not None when only a part of it failed and could be replaced by the last good one of that part: then it is
    whole, if partly stale. ``remembered``: a part of it is from before the start, so that it is no answer of this run.
    """

    def __init__(self, text: str, pool: TargetPool | None = None, *, remembered: bool = False) -> None:
        super().__init__(text)
        self.pool, self.remembered = pool, remembered


class PlacementError(PromringError):
    """Nothing can be placed so: the text names what is wrong (a weight, a load, no scraper)."""


class StoreError(PromringError):
    """Consul, etcd or Kubernetes gave no usable answer; the last facts stay. ``status``: HTTP's, or 0."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class ConsulError(StoreError):
    """Consul gave no usable answer."""


class EtcdError(StoreError):
    """etcd gave no usable answer. ``code``: gRPC's, 0 when it did not say one."""

    def __init__(self, text: str, status: int = 0, code: int = 0) -> None:
        super().__init__(text, status)
        self.code = code


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


@dataclass(frozen=True, slots=True)
class Waiting(Unknown):
    """No answer yet, and nothing is wrong: ``reason`` says for what is waited."""


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
    fresh: Answer[T] | None = None
    """The last answer that was whole and of this run of the program, no failure and nothing remembered in it; None: there
    was none.
    """
    repeats: int = 0
    """How many fresh answers, not closer than a second, were equal to ``fresh``, the last ones in a row."""
    since: float = 0.0
    """Since when (monotonic seconds) they were. Time from a failure to the next fresh answer is left out."""

    @property
    def is_fresh(self) -> bool:
        """Whether the newest answer is one that may confirm something."""
        return self.fresh is not None and self.newest is self.fresh

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


SEPARATOR = b",\n"


@dataclass(frozen=True, slots=True, eq=False)
class TargetPool:
    """Targets in columns, one row a target: what a source gave, and what all sources of a shard service give together.

    Rows are in order of key (ties by identity, then bytes), so one pool has one form, whatever the order in which it was
    listed.

    ``keys``     uint64, shape (n,): the hash that places the target on the ring: ``xxh3_64`` of the identity (the address,
                 then the labels that redirect a scrape), or of other labels that were chosen to place by
    ``ids``      uint64, shape (n,), all different: ``xxh3_64`` of the identity; of several targets with one identity, which
                 differ in other labels, the first has it, and the others one of their own. The same array as ``keys`` where
                 all are equal
    ``digests``  uint64, shape (n,): ``xxh3_64`` of the fragment
    ``blob``     the fragments of all rows, each a file_sd group of one target in JSON, with ``SEPARATOR`` after it
    ``bounds``   int64, shape (n + 1,): where the fragments begin in ``blob``, and where the last one's separator ends
    ``zones``    int32, shape (n,): index in ``zone_names`` of the zone that the target asks for; None: nobody asks
    ``replicas`` int32, shape (n,): how many owners each row shall have; None: as many as the policy says
    ``duplicates``  entries left out because they are there already: equal ones, and those of later sources with the same
                 identity; ``conflicts`` of them had other labels, ``conflicts_named`` has the first addresses
    ``refused``  entries that no scraper could be given; ``remarks`` names the first, and whatever else was done to the list
    """

    keys: Keys
    ids: Keys
    digests: Keys
    blob: bytes = field(repr=False)
    bounds: Bounds
    zones: npt.NDArray[np.int32] | None = None
    zone_names: tuple[str, ...] = ()
    duplicates: int = 0
    conflicts: int = 0
    conflicts_named: tuple[str, ...] = ()
    refused: int = 0
    remarks: tuple[str, ...] = ()
    replicas: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def by_id(self) -> tuple[Keys, Rows | None]:
        """The ids, ascending, and the row of each; None: in order of rows."""
        if self.ids is self.keys:
            return self.ids, None
        order = np.argsort(self.ids, kind="stable")  # nearly in order: a merge sort is fast
        return self.ids[order], order

    def by_key(self) -> Rows | None:
        """The rows in order of key; None: they are."""
        return None

    def by_service(self, rows: Rows) -> list[tuple[str, slice]]:
        """Which of these ascending rows are of which service. A pool of one service does not know its name."""
        return [("", slice(0, len(rows)))] if len(rows) else []

    def __eq__(self, other: object) -> bool:
        """The same targets, placed by the same keys, whatever was left out on the way."""
        if not isinstance(other, TargetPool):
            return NotImplemented
        zones = np.array_equal(self.zones, other.zones) if self.zones is not None and other.zones is not None else None
        asked = self.zones is other.zones if zones is None else zones and self.zone_names == other.zone_names
        return self is other or (asked and self.blob == other.blob and np.array_equal(self.keys, other.keys))

    __hash__ = object.__hash__

    def fragment(self, row: int) -> bytes:
        """One target as a file_sd group in JSON."""
        return self.blob[self.bounds[row] : self.bounds[row + 1] - len(SEPARATOR)]


class LetGo(NamedTuple):
    """What a person takes for right although the guard doubts it: ``reason`` as it was held, ``what`` exactly then."""

    reason: str
    what: tuple[str, ...]


class ListMark(NamedTuple):
    """What tells one list of targets from another."""

    targets: int
    digest: str


# --- placement and plan ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Who owns what.

    ``owners``  int32, shape (n, replicas): indices in ``scrapers`` of the owners of each row of the pool, all different;
                -1 where none has room
    ``limits``  int64, shape (scrapers,): the most load that each may own; None without a bound. A single target that is
                heavier than its owner's limit is there alone
    ``loads``   int64, shape (n,): load of each row; None: each counts 1
    ``wanted``  int32, shape (n,): how many owners each row shall have, the first columns; None: all columns
    """

    scrapers: Members
    pool: TargetPool
    owners: Owners
    limits: Loads | None = None
    loads: Loads | None = None
    wanted: npt.NDArray[np.int32] | None = None

    def counts(self) -> dict[str, int]:
        """Targets a scraper, zero included."""
        return dict(zip((s.id for s in self.scrapers), self._summed(None).tolist(), strict=True))

    def carried(self) -> dict[str, int]:
        """Load a scraper, zero included."""
        return dict(zip((s.id for s in self.scrapers), self._summed(self.loads).tolist(), strict=True))

    def lacking(self, replicas: int | None = None) -> npt.NDArray[np.bool_]:
        """Shape of ``owners``: where an owner should be and is none. Of the first ``replicas`` columns, or of all."""
        lacking = self.owners < 0
        if replicas is not None:
            lacking[:, replicas:] = False
        if self.wanted is not None:
            lacking &= np.arange(self.owners.shape[1]) < self.wanted[:, None]
        return lacking

    def unplaced(self) -> npt.NDArray[np.intp]:
        """Rows that lack an owner, or one of their owners: there is no room for them within the capacity."""
        return np.flatnonzero(self.lacking().any(axis=1))

    def giants(self) -> npt.NDArray[np.intp]:
        """Rows that are heavier than the limit of a scraper that owns them."""
        if self.limits is None or self.loads is None or not len(self.owners):
            return np.empty(0, dtype=np.intp)
        most = np.append(self.limits, np.iinfo(np.int64).max)[self.owners]  # -1 is the last: nobody's
        return np.flatnonzero((self.loads[:, None] > most).any(axis=1))

    def _summed(self, loads: Loads | None) -> Loads:
        total = np.zeros(len(self.scrapers) + 1, dtype=np.int64)
        for column in self.owners.T:
            np.add.at(total, column, 1 if loads is None else loads)
        return total[:-1]


@dataclass(frozen=True, slots=True)
class Move:
    """``count`` targets go from one scraper to another, ``load`` together.

    ``source`` is None for what had no owner before (a new target, one more replica, one that had no room),
    ``destination`` for what has none any more.
    """

    source: str | None
    destination: str | None
    count: int
    load: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference between two placements of one shard service."""

    moves: tuple[Move, ...]

    @property
    def moved(self) -> int:
        """Targets that had an owner and get another one."""
        return sum(m.count for m in self.moves if m.source is not None and m.destination is not None)

    @property
    def load_moved(self) -> int:
        return sum(m.load for m in self.moves if m.source is not None and m.destination is not None)


# --- slices ----------------------------------------------------------------------------------------------------------


EPOCH_MOST = 10**15
"""Neither part of a generation that a receiver accepts is so large. Epochs are seconds since 1970, or counts of locks."""
EPOCH_FOLLOWED_MOST = 10**14
"""No controller goes above an epoch that it hears of from here on: then there is room to climb below ``EPOCH_MOST``."""


class Generation(NamedTuple):
    """Orders the slices of one scraper. Only climbs; compares as a tuple; written ``epoch.n``."""

    epoch: int
    n: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.n}"

    @property
    def is_absurd(self) -> bool:
        """Whether no controller comes so far by itself."""
        return max(self) >= EPOCH_FOLLOWED_MOST


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
