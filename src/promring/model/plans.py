"""Who owns which target, and what moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from promring.model.scrapers import Members
from promring.model.targets import Keys, Loads, Owners, TargetPool

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


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
        if self.wanted is not None and lacking.any():
            for column in range(self.owners.shape[1]):
                lacking[:, column] &= column < self.wanted
        return lacking

    def unplaced(self) -> npt.NDArray[np.intp]:
        """Rows that lack an owner, or one of their owners: there is no room for them within the capacity."""
        import numpy as np

        return np.flatnonzero(self.lacking().any(axis=1))

    def giants(self) -> npt.NDArray[np.intp]:
        """Rows that are heavier than the limit of a scraper that owns them."""
        import numpy as np

        if self.limits is None or self.loads is None or not len(self.owners):
            return np.empty(0, dtype=np.intp)
        most = np.append(self.limits, np.iinfo(np.int64).max)[self.owners]  # -1 is the last: nobody's
        return np.flatnonzero((self.loads[:, None] > most).any(axis=1))

    def _summed(self, loads: Loads | None) -> Loads:
        import numpy as np

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


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """Which targets got another owner; of one with several owners that change, one of them.

    ``ids``           uint64, shape (n,): by the ids of the fleet
    ``sources``       int32, shape (n,): index in ``scrapers`` of who had it
    ``destinations``  int32, shape (n,): index in ``scrapers`` of who has it now
    """

    scrapers: tuple[str, ...]
    ids: Keys
    sources: Owners
    destinations: Owners

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference between two placements of one shard service."""

    moves: tuple[Move, ...]
    targets: Moved | None = field(default=None, compare=False, repr=False)
    """The targets of those moves that have both ends; None: there are none."""

    @property
    def moved(self) -> int:
        """Targets that had an owner and get another one."""
        return sum(m.count for m in self.moves if m.source is not None and m.destination is not None)

    @property
    def load_moved(self) -> int:
        return sum(m.load for m in self.moves if m.source is not None and m.destination is not None)
