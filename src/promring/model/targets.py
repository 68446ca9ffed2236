"""What is scraped: groups as sources list them, and the pool of all targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Keys: TypeAlias = "npt.NDArray[np.uint64]"
Owners: TypeAlias = "npt.NDArray[np.int32]"
Loads: TypeAlias = "npt.NDArray[np.int64]"
Bounds: TypeAlias = "npt.NDArray[np.int64]"
Rows: TypeAlias = "npt.NDArray[np.intp]"


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


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class TargetPool:
    """Targets in columns, one row a target: what a source gave, and what all sources of a shard service give together.

    Rows are in order of key (ties by identity, then bytes), so one pool has one form, whatever the order in which it was
    listed.

    ``keys``     uint64, shape (n,): the hash that places the target on the ring: ``xxh3_64`` of the identity (the address,
                 then the labels that redirect a scrape), or of other labels that were chosen to place by
    ``ids``      uint64, shape (n,), all different: ``xxh3_64`` of the identity; of several targets with one identity, which
                 differ in other labels, each has one of its own. The same array as ``keys`` where all are equal
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
        order = self.ids.argsort(kind="stable")  # nearly in order: a merge sort is fast
        return self.ids[order], order

    @property
    def parts_in_order(self) -> Sequence[TargetPool]:
        """The pools whose rows follow each other here, each in order of key: this one alone."""
        return (self,)

    def by_service(self, rows: Rows) -> list[tuple[str, slice]]:
        """Which of these ascending rows are of which service. A pool of one service does not know its name."""
        return [("", slice(0, len(rows)))] if len(rows) else []

    def __eq__(self, other: object) -> bool:
        """The same targets, placed by the same keys, whatever was left out on the way."""
        if not isinstance(other, TargetPool):
            return NotImplemented
        zones = _equal(self.zones, other.zones) if self.zones is not None and other.zones is not None else None
        asked = self.zones is other.zones if zones is None else zones and self.zone_names == other.zone_names
        return self is other or (asked and self.blob == other.blob and _equal(self.keys, other.keys))

    __hash__ = object.__hash__

    def fragment(self, row: int) -> bytes:
        """One target as a file_sd group in JSON."""
        return self.blob[self.bounds[row] : self.bounds[row + 1] - len(SEPARATOR)]


def _equal(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> bool:
    return one.shape == other.shape and bool((one == other).all())


class Release(NamedTuple):
    """What a person takes for right although the guard doubts it: ``reason`` as it was held, ``what`` exactly then."""

    reason: str
    what: tuple[str, ...]


class Fingerprint(NamedTuple):
    """What tells one list of targets from another."""

    targets: int
    digest: str
