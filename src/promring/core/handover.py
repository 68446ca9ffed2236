"""Make before break: who has a target in its slice besides its owners, and until when. Pure; time is given.

A target that moves stays with its old owner while that lives, until every new owner was seen scraping it or ``overlap_s``
has passed. A dead owner is not waited for. What a scraper holds beyond its share is a ``Claim`` with an end; what it holds
as an owner has none.

``schedule`` is a function of the claims in force, the wanted placement, what the scrapers were seen scraping, and now. The
placement itself never depends on the claims: the previous plan only schedules the way to the next one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promring.core.plan import rows_of
from promring.model import Keys, Owners, Placement, TargetPool

Times = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
NEVER = np.inf


@dataclass(frozen=True, slots=True)
class Handover:
    """``overlap_s``: the longest that a moved target stays with its old owner. ``confirm``: it leaves earlier, as soon as
    the new owner is seen scraping it.
    """

    overlap_s: float = 30.0
    confirm: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """Who has which target in its slice: one row a target and scraper, columns of one length.

    ``ids``       uint64: the target, as in ``TargetPool.ids``
    ``scrapers``  int32: index in ``names``
    ``since``     float64, seconds: when the claim was put in force
    ``until``     float64, seconds: when it ends at the latest; ``NEVER`` for an owner
    """

    names: tuple[str, ...]
    ids: Keys
    scrapers: Owners
    since: Times
    until: Times

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def held(self) -> int:
        """How many are beyond the owners'."""
        return int(np.isfinite(self.until).sum())

    @property
    def ends_next(self) -> float:
        """When the next one ends; ``NEVER`` when none does."""
        return float(self.until.min(initial=NEVER))

    def __eq__(self, other: object) -> bool:
        """The same claims, those that end the same ones; whenever that is."""
        if not isinstance(other, Claims):
            return NotImplemented
        columns = (
            (self.ids, other.ids),
            (self.scrapers, other.scrapers),
            (np.isfinite(self.until), np.isfinite(other.until)),
        )
        return self.names == other.names and all(np.array_equal(one, two) for one, two in columns)

    __hash__ = object.__hash__


NO_CLAIMS = Claims((), *(np.empty(0, dtype=kind) for kind in (np.uint64, np.int32, np.float64, np.float64)))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class Receipt:
    """What one scraper was seen scraping. ``at``: when it was asked, seconds; ``ids``: targets scraped at least once,
    uint64, ascending.
    """

    at: float
    ids: Keys


def schedule(
    wanted: Placement,
    before: Claims,
    receipts: Mapping[str, Receipt],
    policy: Handover,
    now: float,
    undelivered: Collection[str] = (),
) -> tuple[Claims, Placement]:
    """The claims from now on, and the placement of what each scraper's slice shall hold: owners first, then who holds on.

    ``undelivered``: scrapers whose slice has not reached them; what they shall get is not taken from anybody, however long.
    """
    pool, names = wanted.pool, tuple(s.id for s in wanted.scrapers)
    rows, scrapers, since, until = _still_there(before, pool, names)
    pairs = rows * len(names) + scrapers
    owned = _pairs(wanted)
    owners = _Sorted(owned)
    at = owners.find(pairs)
    begun = np.full(len(owned), now)
    begun[at[at >= 0]] = since[at >= 0]  # who was an owner, or held on, and is one now has it since then
    extra = at < 0
    rows, scrapers, since, until = rows[extra], scrapers[extra], since[extra], until[extra]
    until = np.where(until == NEVER, now + policy.overlap_s, until)
    ends: npt.NDArray[np.bool_] = ~_owned_by(wanted, undelivered)[rows] & (until <= now)
    ends |= (wanted.owners[rows] < 0).all(axis=1)  # there is no room for it: who had it has too much as well
    if policy.confirm and len(rows):
        ends |= _confirmed(wanted, owned, begun, receipts)[rows]
    keep = _first_of_row(rows, until, ~ends, wanted.owners.shape[1])
    rows, scrapers, since, until = rows[keep], scrapers[keep], since[keep], until[keep]
    claims = Claims(
        names,
        np.concatenate([pool.ids[owned // max(1, len(names))], pool.ids[rows]]),
        np.concatenate([owned % max(1, len(names)), scrapers]).astype(np.int32),
        np.concatenate([begun, since]),
        np.concatenate([np.full(len(owned), NEVER), until]),
    )
    return claims, _with_holders(wanted, rows, scrapers)


def with_seen(before: Claims, receipts: Mapping[str, Receipt]) -> Claims:
    """``before``, and what scrapers were seen scraping besides: another leader gave them that."""
    number = {name: i for i, name in enumerate(before.names)}
    names = (*before.names, *(name for name in receipts if name not in number))
    ids, scrapers, since = [before.ids], [before.scrapers], [before.since]
    for index, name in enumerate(names):
        if (receipt := receipts.get(name)) is not None:
            more = np.setdiff1d(receipt.ids, before.ids[before.scrapers == index])
            ids.append(more)
            scrapers.append(np.full(len(more), index, dtype=np.int32))
            since.append(np.full(len(more), receipt.at))
    until = np.concatenate([before.until, np.full(sum(map(len, ids)) - len(before), NEVER)])
    return Claims(names, np.concatenate(ids), np.concatenate(scrapers), np.concatenate(since), until)


def waiting_for(claims: Claims, wanted: Placement) -> set[str]:
    """The owners whose receipts would end a hold."""
    held = np.isfinite(claims.until)
    if not held.any():
        return set()
    rows = np.unique(rows_of(wanted.pool, claims.ids[held]))
    owners = wanted.owners[rows[rows < len(wanted.pool)]]
    return {wanted.scrapers[i].id for i in np.unique(owners[owners >= 0]).tolist()}


def _still_there(before: Claims, pool: TargetPool, names: tuple[str, ...]) -> tuple[Rows, Owners, Times, Times]:
    """The claims of scrapers that live, on targets that are in the pool: row, scraper, since, until."""
    index = {name: i for i, name in enumerate(names)}
    number = np.array([index.get(name, -1) for name in before.names] or [-1], dtype=np.int32)
    scrapers = number[before.scrapers]
    rows = rows_of(pool, before.ids)
    there = (scrapers >= 0) & (rows < len(pool))
    return rows[there], scrapers[there], before.since[there], before.until[there]


def _pairs(wanted: Placement) -> Rows:
    """Each row and owner as one number."""
    rows, columns = np.nonzero(wanted.owners >= 0)
    pairs: Rows = rows * len(wanted.scrapers) + wanted.owners[rows, columns]
    return pairs


class _Sorted:
    """Looks numbers up in an array."""

    def __init__(self, values: Rows) -> None:
        self._order = np.argsort(values)
        self._values = values[self._order]

    def find(self, wanted: Rows) -> Rows:
        """Index of each in the array, -1 for what is not in it."""
        if not len(self._values):
            return np.full(len(wanted), -1, dtype=np.intp)
        at = np.minimum(np.searchsorted(self._values, wanted), len(self._values) - 1)
        return np.where(self._values[at] == wanted, self._order[at], -1)


def _confirmed(wanted: Placement, owned: Rows, begun: Times, receipts: Mapping[str, Receipt]) -> npt.NDArray[np.bool_]:
    """For each row whether every owner was seen scraping it since it got it. A row without an owner is not."""
    pool, scrapers = wanted.pool, len(wanted.scrapers)
    rows, owners = owned // scrapers, owned % scrapers
    seen = np.zeros(len(owned), dtype=bool)
    for number, scraper in enumerate(wanted.scrapers):
        receipt = receipts.get(scraper.id)
        if receipt is None or not len(receipt.ids):
            continue
        mine = np.flatnonzero(owners == number)
        ids = pool.ids[rows[mine]]
        at = np.minimum(np.searchsorted(receipt.ids, ids), len(receipt.ids) - 1)
        seen[mine] = (receipt.ids[at] == ids) & (begun[mine] <= receipt.at)
    missing = np.bincount(rows[~seen], minlength=len(pool)) > 0
    return np.asarray(~missing & (wanted.owners >= 0).any(axis=1))


def _owned_by(wanted: Placement, names: Collection[str]) -> npt.NDArray[np.bool_]:
    """For each row whether one of ``names`` shall own it."""
    numbers = [i for i, s in enumerate(wanted.scrapers) if s.id in names]
    owned = np.isin(wanted.owners, numbers).any(axis=1)
    return np.asarray(owned)


def _first_of_row(rows: Rows, until: Times, among: npt.NDArray[np.bool_], most: int) -> npt.NDArray[np.bool_]:
    """Of those ``among``, for each row the ``most`` that end first: they have had the target longest."""
    kept = np.zeros(len(rows), dtype=bool)
    chosen = np.flatnonzero(among)
    order = chosen[np.lexsort((until[chosen], rows[chosen]))]
    ordered = rows[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
    rank = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    kept[order[rank < most]] = True
    return kept


def _with_holders(wanted: Placement, rows: Rows, scrapers: Owners) -> Placement:
    """``wanted`` with further columns of owners for those who hold on."""
    if not len(rows):
        return wanted
    order = np.argsort(rows, kind="stable")
    rows, scrapers = rows[order], scrapers[order]
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    more = np.full((len(wanted.pool), int(rank.max()) + 1), -1, dtype=np.int32)
    more[rows, rank] = scrapers
    owners = np.concatenate([wanted.owners, more], axis=1)
    return Placement(wanted.scrapers, wanted.pool, owners, wanted.limits, wanted.loads)
