"""Targets propose along the ring, and scrapers keep what they have room for: the rounds of a placement. Pure.

``core/placement`` says who proposes, in which order, and within which limits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from promring.core.ring import Circle, Positions
from promring.model import Keys, Loads, Owners

Rows = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
ROUNDS_MAX = 64
PACKINGS_MAX = 16
Digits = npt.NDArray[np.uint8]
NO_LIMIT = np.iinfo(np.int64).max
NOBODY = -1


class Ranked(NamedTuple):
    """The ``keys`` of rows, and whether these are ascending. The smaller key goes first, of equal ones the earlier row."""

    keys: Keys
    ascending: bool

    def of(self, rows: Rows) -> Ranked:
        """Of ascending ``rows``."""
        return Ranked(self.keys[rows], self.ascending)

    def sorted(self, rows: Rows) -> Rows:
        """Ascending ``rows`` in order of key: few at a time, or in long ascending runs, which a merge sort is fast with."""
        return rows if self.ascending else rows[np.argsort(self.keys[rows], kind="stable")]


def settled(
    ranked: Ranked,
    owners: Owners,
    at: Positions | None,
    loads: Loads | None,
    circle: Circle,
    taken: Owners,
    limits: Loads,
    used: Loads,
    rounds: int | None,
) -> Owners:
    """The rounds. ``owners`` are the first proposals, made at the tokens ``at``; None: at those of the bare keys. They are
    changed in place. Who proposes the heavier target has priority, then who proposes for the first time, then as ``ranked``.
    """
    keys, room = ranked.keys, limits - used
    alone = np.where(used == 0, limits, NO_LIMIT)  # what is heavier than this may stand here, alone
    sent = np.zeros(len(keys), dtype=np.uint8)
    at = np.full(len(keys), NOBODY) if at is None else at
    asked = summed(owners, loads, len(room))
    for _ in range(ROUNDS_MAX if rounds is None else rounds):
        sent_on = _turned_away(ranked, loads, owners, asked > room, room, alone, sent)
        if not sent_on.size:
            return owners
        mine = None if loads is None else loads[sent_on]
        asked -= summed(owners[sent_on], mine, len(room))
        unknown = sent_on[at[sent_on] == NOBODY]
        at[unknown] = circle.first(keys[unknown])
        # A scraper that once sent a row on is full of ones with priority, so meeting it again does little harm.
        at[sent_on] = circle.past(circle.onward[at[sent_on]], taken[sent_on])
        owners[sent_on] = circle.holders[at[sent_on]]
        asked += summed(owners[sent_on], mine, len(room))
        sent[sent_on] = 1
    owners[_turned_away(ranked, loads, owners, asked > room, room, alone, sent)] = NOBODY
    _fill(ranked, owners, loads, circle, used, room, taken)
    return owners


def _turned_away(
    ranked: Ranked, loads: Loads | None, owners: Owners, over: Flags, room: Loads, alone: Loads, sent: Digits
) -> Rows:
    """Which rows their scrapers do not keep, ascending: those ``over`` their ``room`` keep what fits, by priority. One that
    is heavier than ``alone`` says is kept when it is the first, and nothing beside it. ``sent``: 1 for who was sent on.
    """
    if not over.any():
        return np.empty(0, dtype=np.intp)
    held = ranked.sorted(np.flatnonzero(over[owners]))
    if not held.size:
        return held
    asked = owners[held]
    mine = None if loads is None else loads[held]
    order = _by_priority(asked, mine, sent[held])
    held, asked = held[order], asked[order]
    mine = None if mine is None else mine[order]
    kept = fitting(mine, asked, room)
    if mine is not None:
        firsts = np.flatnonzero(np.r_[True, asked[1:] != asked[:-1]])
        giants = firsts[mine[firsts] > alone[asked[firsts]]]
        kept[np.isin(asked, asked[giants])] = False
        kept[giants] = True
        kept[mine == 0] = True
    return np.sort(held[~kept])


def _by_priority(asked: Owners, loads: Loads | None, sent: Digits) -> Rows:
    """The order by scraper, then by weight, the heaviest first, then those of the first time, then as they are: a sort by
    digits of 16 bits, the last ones first, which numpy does by radix.
    """
    if loads is None:
        digits: list[npt.NDArray[np.unsignedinteger]] = [sent]
    else:
        lightness = 2 * (int(loads.max()) - loads) + sent
        digits = [(lightness >> 16 * n).astype(np.uint16) for n in range(-(-int(lightness.max()).bit_length() // 16))]
    digits += [(asked >> 16 * n).astype(np.uint16) for n in range(1 if asked.max() < 2**16 else 2)]
    order = np.argsort(digits[0], kind="stable")
    for digit in digits[1:]:
        order = order[np.argsort(digit[order], kind="stable")]
    return order


def fitting(loads: Loads | None, asked: Owners, room: Loads) -> Flags:
    """Which rows fit into the ``room`` of the scraper that they ask, the earlier first. Rows in order of ``asked``."""
    room = np.maximum(room, 0)
    if not len(asked):
        return np.ones(0, dtype=bool)
    if loads is None:
        sizes = np.bincount(asked)
        ranks = np.arange(len(asked)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        fits: Flags = ranks < room[asked]
        return fits
    fits = np.zeros(len(asked), dtype=bool)
    open_: Rows = np.arange(len(asked))
    for _ in range(PACKINGS_MAX):  # those that fit up to the first that does not; then the smaller ones behind it
        sums = np.cumsum(loads[open_])
        starts = np.flatnonzero(np.r_[True, asked[open_][1:] != asked[open_][:-1]])
        before = np.repeat(sums[starts] - loads[open_][starts], np.diff(np.r_[starts, len(open_)]))
        good = sums - before <= room[asked[open_]]
        fits[open_[good]] = True
        room = room - summed(asked[open_[good]], loads[open_[good]], len(room))
        open_ = open_[~good]
        open_ = open_[loads[open_] <= room[asked[open_]]]
        if not open_.size:
            break
    return fits


def _fill(
    ranked: Ranked, owners: Owners, loads: Loads | None, circle: Circle, used: Loads, room: Loads, taken: Owners
) -> None:
    """Give each row without an owner the next scraper clockwise with room for it, the heaviest first; in place. One that is
    too heavy for everybody gets one that has nothing, where there is one. Those for which nobody has room stay without.
    """
    keys, homeless = ranked.keys, ranked.sorted(np.flatnonzero(owners == NOBODY))
    if loads is not None:
        homeless = homeless[np.argsort(-loads[homeless], kind="stable")]
    housed = owners != NOBODY
    here = summed(owners[housed], None if loads is None else loads[housed], len(room))
    room, empty = room - here, used + here == 0
    present = np.zeros(len(room), dtype=bool)
    present[circle.present] = True
    while homeless.size:
        heaviest = 1 if loads is None else int(loads[homeless[0]])
        open_ = circle.only(present & (room >= heaviest))
        if not len(open_.tokens):
            if loads is None:
                return
            if _stands_alone(keys, owners, loads, circle.only(present & empty), int(homeless[0]), taken):
                room[owners[homeless[0]]] = NOBODY
                empty[owners[homeless[0]]] = False
                homeless = homeless[1:]
            else:
                most = int(room[present].max())
                homeless = homeless[loads[homeless] <= (max(most, heaviest - 1) if empty[present].any() else most)]
            continue
        asking = homeless if loads is None else homeless[2 * loads[homeless] >= heaviest]
        able = has_other_group(open_, taken[asking])
        if not able.all():  # a lighter one may find another group open later, the heaviest will not
            lost = asking[~able] if loads is None else asking[~able & (loads[asking] == heaviest)]
            homeless = homeless[~np.isin(homeless, lost)]
            asking = asking[able]
            if not asking.size:
                continue
        at = open_.past(open_.first(keys[asking]), taken[asking])
        asked = open_.holders[at]
        order = np.argsort(asked, kind="stable")
        mine = None if loads is None else loads[asking[order]]
        good = order[fitting(mine, asked[order], room)]
        owners[asking[good]] = asked[good]
        more = summed(asked[good], None if loads is None else loads[asking[good]], len(room))
        room, empty = room - more, empty & (more == 0)
        homeless = homeless[owners[homeless] == NOBODY]


def _stands_alone(keys: Keys, owners: Owners, loads: Loads, empty: Circle, row: int, taken: Owners) -> bool:
    """Put ``row`` on the next scraper of ``empty``, if there is one for it."""
    if not loads[row] or not len(empty.tokens) or not has_other_group(empty, taken[[row]])[0]:
        return False
    owners[row] = empty.holders[empty.past(empty.first(keys[[row]]), taken[[row]])[0]]
    return True


def has_other_group(circle: Circle, taken: Owners) -> Flags:
    """For each row whether some scraper of ``circle`` is of another group than those in its row of ``taken``."""
    there = np.unique(circle.groups[circle.present])
    if len(there) > taken.shape[1]:
        return np.ones(len(taken), dtype=bool)
    found = np.zeros(len(taken), dtype=bool)
    for group in there.tolist():
        found |= (taken != group).all(axis=1)
    return found


def summed(owners: Owners, loads: Loads | None, scrapers: int) -> Loads:
    """Load a scraper: int64, shape (scrapers,). Exact: floats hold every sum below 2**53."""
    return np.bincount(owners, weights=loads, minlength=scrapers).astype(np.int64)
