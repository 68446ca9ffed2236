"""Make before break: who has a target in its slice besides its owners, and until when. Pure; time is given.

A target that moves stays with its old owner while that lives, until every new owner is *proved* to scrape it:

- it is seen asking the target, lately and since it was given it, when it had taken its slice (or so much later that no
  older list can take it away again, ``APPLIED_S``), and with success where the old owner has success. Where the old owner
  fails, too, that it was asked is enough; where the old owner's relabelling drops the target, that the new one's does.
- or time has passed: ``overlap_s`` (longer where the scrape interval needs it) since every new owner took its slice, and
  since it answers. Nobody lets go by time alone to a scraper that does not answer or has not taken its slice; nor when both
  owners can be seen, and the old one has success where the new one has none, or lists it where the new one does not.

A dead owner is not waited for; one that comes back holds what it had when it left (``Departed``). Of several that had it as
many hold on as there are owners, and twice as many where these are not seen scraping it. A target that has no room
anywhere stays with a live scraper that has it, within that one's capacity. What a scraper holds beyond its share is a
``Claim`` with an end; what it holds as an owner, or because there is no room elsewhere, has none.

``schedule`` is a function of the claims in force, the wanted placement, what is seen, and now. The placement itself never
depends on the claims: the previous plan only schedules the way to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from promring.core.claims import (
    APPLIED_S,
    Claims,
    Flags,
    Rows,
    Taken,
    Times,
    among,
    by_scraper,
    never,
    shown_by,
    taken_at,
)
from promring.core.evidence import Evidence, Handover
from promring.core.joined import carried_over
from promring.core.packing import NOBODY
from promring.core.room import Held, held_by, is_short, keeping
from promring.model import LONG_AGO, NEVER_ENDS, Loads, Owners, Placement, TargetPool

NO_ROW = np.int32(-2)


def schedule(
    wanted: Placement,
    before: Claims,
    evidence: Evidence,
    policy: Handover,
    now: float,
    *,
    replicas: int = 1,
    capacities: Loads | None = None,
) -> tuple[Claims, Placement]:
    """The claims from now on, and the placement of what each scraper's slice shall hold: owners first, then who holds on.

    ``wanted``: its first ``replicas`` columns are the owners that each target shall have, others try it besides.
    ``capacities``: int64, the most load of each scraper of ``wanted``; None: no bound.
    """
    pool, names = wanted.pool, tuple(s.id for s in wanted.scrapers)
    one_each = _of_one_owner_each(wanted, before, names, now)
    if one_each is not None:
        begun, rows, scrapers, since = one_each
        owned, owners = np.arange(len(pool)), wanted.owners[:, 0]
        until, stays = never(len(rows)), np.zeros(len(rows), dtype=bool)
    else:
        rows, scrapers, since, until = _still_there(before, pool, names)
        stays = np.zeros(len(rows), dtype=bool)
        if capacities is not None and is_short(wanted, replicas):
            held = held_by(pool, names, (rows, scrapers, since), evidence.sees, evidence.taken)
            wanted, stays = keeping(wanted, held, replicas, capacities)
        at = _owner_numbers(wanted, rows, scrapers)
        owned, owners = _owned(wanted)
        begun = np.full(len(owned), now)
        extra = at < 0
        begun[at[~extra]] = since[~extra]  # who was an owner, or held on, and is one now has it since then
        rows, scrapers, since, until, stays = rows[extra], scrapers[extra], since[extra], until[extra], stays[extra]
    if len(rows):
        held = held_by(pool, names, (rows, scrapers, since), evidence.sees, evidence.taken)
        has = taken_at(pool, names, (rows, scrapers, since), evidence.taken) < NEVER_ENDS
        about = np.zeros(len(pool), dtype=bool)
        about[rows] = True
        about = about[owned]  # of a million targets few are handed over at a moment
        found = _ends(wanted, owned[about], owners[about], begun[about], evidence, policy, replicas)
        until = np.where(until == NEVER_ENDS, now + policy.overlap_s, until)
        until = np.maximum(until, np.where(np.isfinite(found.due), found.due, LONG_AGO)[rows])
        ends = found.of(until <= now, held)
        ends |= policy.overlap_s <= 0
        kept = stays | _first_of_row(held, has, until, ~ends & ~stays, replicas, spare=policy.confirm)
        until = np.where(stays, NEVER_ENDS, until)
        rows, scrapers, since, until = rows[kept], scrapers[kept], since[kept], until[kept]
    return _claims(pool, names, (owned, owners, begun), (rows, scrapers, since, until)), _with_holders(
        wanted, rows, scrapers
    )


def _claims(
    pool: TargetPool,
    names: tuple[str, ...],
    owned: tuple[Rows, Owners, Times],
    held: tuple[Rows, Owners, Times, Times],
) -> Claims:
    """Of the owners, without an end, and of those that hold on: row, scraper, since; until."""
    (rows, owners, begun), (held_rows, holders, since, until) = owned, held
    alone = not len(held_rows) and len(rows) == len(pool) and bool((rows == np.arange(len(pool))).all())
    if alone:
        return Claims(names, pool.ids, owners, begun, never(len(rows)), (pool, None))
    return Claims(
        names,
        np.concatenate([pool.ids[rows], pool.ids[held_rows]]),
        np.concatenate([owners, holders]),
        np.concatenate([begun, since]),
        np.concatenate([never(len(rows)), until]),
        (pool, np.concatenate([rows, held_rows]).astype(np.int32)),
    )


def _of_one_owner_each(
    wanted: Placement, before: Claims, names: tuple[str, ...], now: float
) -> tuple[Times, Rows, Owners, Times] | None:
    """Since when each row has its owner, and who had it that is not its owner now: row, scraper, since. None where a row has
    not just one owner, now or ``before``: what follows is for this case, which is the usual one, and costs less.
    """
    if before.made_in is None or before.made_in[1] is not None or wanted.owners.shape[1] != 1 or (wanted.owners < 0).any():
        return None
    then, pool, owners = before.made_in[0], wanted.pool, wanted.owners[:, 0]
    had = before.scrapers
    if before.names != names:
        index = {name: i for i, name in enumerate(names)}
        had = np.array([index.get(name, NOBODY) for name in before.names], dtype=np.int32)[had]
    had, since = carried_over(had, then, pool, NOBODY), carried_over(before.since, then, pool, now)
    moved = np.flatnonzero(had != owners)
    left = moved[had[moved] >= 0]
    begun = since if not len(moved) else since.copy()
    begun[moved] = now
    return begun, left, had[left], since[left]


def waiting_for(claims: Claims, wanted: Placement) -> set[str]:
    """Who would be asked to end a hold: the owners, and who holds on."""
    held = np.isfinite(claims.until)
    if not held.any():
        return set()
    rows = np.unique(claims.rows(wanted.pool)[held])
    owners = wanted.owners[rows[rows < len(wanted.pool)]]
    names = {wanted.scrapers[i].id for i in np.unique(owners[owners >= 0]).tolist()}
    return names | {claims.names[i] for i in np.unique(claims.scrapers[held]).tolist()}


def without_room(claims: Claims, wanted: Placement) -> dict[str, int]:
    """How many targets each scraper keeps because there is no room for them elsewhere."""
    if not wanted.lacking().any():
        return {}
    _, scrapers = _stand_ins(claims, wanted)
    counts = np.bincount(scrapers, minlength=len(claims.names)).tolist()
    return {name: count for name, count in zip(claims.names, counts, strict=True) if count}


def owned_now(claims: Claims, placed: Placement) -> Placement:
    """``placed`` as it can be: without what was given up for want of room, and with those who keep a target instead."""
    if not placed.lacking().any():
        return placed
    rows, scrapers = _stand_ins(claims, placed)
    claimed = _owner_numbers(placed, claims.rows(placed.pool), claims.scrapers)
    owners = placed.owners.copy()
    owned, columns = np.nonzero(owners >= 0)
    kept = np.isin(np.arange(len(owned)), claimed)
    owners[owned, columns] = np.where(kept, owners[owned, columns], NOBODY)
    for row, scraper in zip(rows.tolist(), scrapers.tolist(), strict=True):
        wanted = owners.shape[1] if placed.wanted is None else int(placed.wanted[row])
        free = np.flatnonzero(owners[row, :wanted] < 0)
        owners[row, free[:1]] = scraper
    return replace(placed, owners=owners)


def _stand_ins(claims: Claims, wanted: Placement) -> tuple[Rows, Owners]:
    """Who keeps a target, without an end, that ``wanted`` does not give it: rows and scrapers."""
    rows = claims.rows(wanted.pool)
    stays = ~_are_owners(wanted, rows, claims.scrapers)
    stays &= (claims.until == NEVER_ENDS) & (rows < len(wanted.pool))
    return rows[stays], claims.scrapers[stays]


def _still_there(before: Claims, pool: TargetPool, names: tuple[str, ...]) -> tuple[Rows, Owners, Times, Times]:
    """The claims of scrapers that live, on targets that are in the pool: row, scraper, since, until."""
    index = {name: i for i, name in enumerate(names)}
    number = np.array([index.get(name, NOBODY) for name in before.names], dtype=np.int32)
    scrapers = number[before.scrapers]
    rows = before.rows(pool)
    there = (scrapers >= 0) & (rows < len(pool))
    return rows[there], scrapers[there], before.since[there], before.until[there]


def _owned(wanted: Placement) -> tuple[Rows, Owners]:
    """Row and scraper of each owner, row by row."""
    rows, columns = np.nonzero(wanted.owners >= 0)
    return rows, wanted.owners[rows, columns]


def _owner_numbers(wanted: Placement, rows: Rows, scrapers: Owners) -> Rows:
    """For each row and scraper which of the owners it is, counted row by row; ``NOBODY``: none, or there is no such row."""
    found = np.full(len(rows), NOBODY)
    numbers = np.cumsum(wanted.owners >= 0).reshape(wanted.owners.shape) - 1
    for column, number in zip(wanted.owners.T, numbers.T, strict=True):
        mine = np.append(column, NO_ROW)[rows] == scrapers
        np.copyto(found, np.append(number, NOBODY)[rows], where=mine)
    return found


def _are_owners(wanted: Placement, rows: Rows, scrapers: Owners) -> Flags:
    """For each row and scraper whether it is an owner. Not where there is no such row."""
    return np.asarray(_owner_numbers(wanted, rows, scrapers) != NOBODY)


@dataclass(frozen=True, slots=True, eq=False)
class _Ends:
    """What ends a hold, for each row of the pool. ``strong``: enough owners scrape it with success (all, where it has none);
    ``weak``: enough have tried it, or drop it; ``due``: when time alone is enough, seconds; ``readable``: every owner can be
    seen; ``lacked``: an owner is seen not to list it.
    """

    strong: Flags
    weak: Flags
    due: Times
    readable: Flags
    lacked: Flags

    def of(self, late: Flags, held: Held) -> Flags:
        """Which of those that are ``held`` end. ``late``: its time is over."""
        rows = held.rows
        by_time = late & (self.due[rows] < NEVER_ENDS) & ~(held.success & self.readable[rows])
        by_time &= ~(held.listed & self.lacked[rows])
        return np.asarray(self.strong[rows] | (held.failure & self.weak[rows]) | by_time)


def _ends(
    wanted: Placement, rows: Rows, owners: Owners, begun: Times, evidence: Evidence, policy: Handover, replicas: int
) -> _Ends:
    """``rows``, ``owners``, ``begun``: the owners that it is about, and since when."""
    pool = wanted.pool
    strong, weak, readable, lacked = (np.zeros(len(rows), dtype=bool) for _ in range(4))
    due = np.full(len(rows), NEVER_ENDS)
    for scraper, mine in zip(wanted.scrapers, by_scraper(owners, len(wanted.scrapers)), strict=True):
        if not len(mine) or (policy.confirm and scraper.id in evidence.silent):
            continue
        taken_at, given_at, overlap_s, fresh_s = (np.empty(len(mine)) for _ in range(4))
        told = np.zeros(len(mine), dtype=bool)
        for service, part in pool.by_service(rows[mine]):
            taken_at[part] = evidence.taken.get((service, scraper.id), Taken()).since(begun[mine[part]])
            given_at[part] = evidence.given_at(service, begun[mine[part]])
            overlap_s[part] = evidence.overlap_s(policy, service, scraper.id)
            fresh_s[part] = evidence.fresh_s(service, scraper.id)
            told[part] = (service, scraper.id) in evidence.intervals
        due[mine] = np.maximum(taken_at, evidence.answering.get(scraper.id, LONG_AGO)) + overlap_s
        one = evidence.seen.get(scraper.id) if policy.confirm else None
        if one is None:
            continue
        ids, has, since = pool.ids[rows[mine]], taken_at <= one.at, begun[mine]
        tried, up = one.of(ids)
        late = np.zeros(len(mine), dtype=bool) if evidence.pushes else one.at >= given_at + APPLIED_S
        tried_since = (tried >= np.maximum(np.where(has, since, given_at + APPLIED_S), one.at - fresh_s)) & (has | late)
        readable[mine] = has
        lacked[mine] = has & told & ~shown_by(one, ids) & (not one.hidden)
        strong[mine] = tried_since & up
        weak[mine] = tried_since | ((has | late) & among(one.dropped, ids))
    needed = (wanted.owners[:, :replicas] >= 0).sum(axis=1)
    latest = np.full(len(pool), LONG_AGO)
    proper = (wanted.owners[rows, :replicas] == owners[:, None]).any(axis=1)
    np.maximum.at(latest, rows[proper], due[proper])
    return _Ends(
        np.bincount(rows[strong], minlength=len(pool)) >= needed,
        np.bincount(rows[weak], minlength=len(pool)) >= needed,
        latest,
        np.bincount(rows[~readable & proper], minlength=len(pool)) == 0,
        np.bincount(rows[lacked & proper], minlength=len(pool)) > 0,
    )


def _first_of_row(held: Held, has: Flags, until: Times, among: Flags, most: int, *, spare: bool) -> Flags:
    """Of those ``among``, for each row the best ``most``; with ``spare`` for each of these that has no success, or not for
    ``sure``, one more that is not seen to lack the target. Better is a claim with success; among these the first by the
    scraper's id, which all controllers know alike (``Held.had_since``). Of the others: one that is not seen to lack the
    target, whose slice was taken (``has``), that began earlier, that ends earlier.
    """
    kept = np.zeros(len(held.rows), dtype=bool)
    chosen = np.flatnonzero(among)
    good = held.success
    until = np.where(good, NEVER_ENDS, until)
    worst = (held.scrapers, until, held.had_since, ~has & ~good, held.lacked, ~good, held.rows)  # the last counts first
    order = chosen[np.lexsort([one[chosen] for one in worst])]
    ordered = held.rows[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
    lengths = np.diff(np.r_[starts, len(ordered)])
    rank = np.arange(len(ordered)) - np.repeat(starts, lengths)
    best = rank < most
    if spare:
        unseen = np.add.reduceat((best & ~held.sure[order]).astype(np.intp), starts)
        best |= (rank < most + np.repeat(unseen, lengths)) & ~held.lacked[order]
    kept[order[best]] = True
    return kept


def _with_holders(wanted: Placement, rows: Rows, scrapers: Owners) -> Placement:
    """``wanted`` with further columns of owners for those who hold on."""
    if not len(rows):
        return wanted
    order = np.argsort(rows, kind="stable")
    rows, scrapers = rows[order], scrapers[order]
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    more = np.full((len(wanted.pool), int(rank.max()) + 1), NOBODY, dtype=np.int32)
    more[rows, rank] = scrapers
    owners = np.concatenate([wanted.owners, more], axis=1)
    return replace(wanted, owners=owners)
