"""The consistent-hash ring: tokens of the live scrapers on a circle of 2**64 positions.

Each scraper has ``virtual_nodes`` tokens, ``xxh3_64("{id}#{i}")``; one of another weight than 1 has ``virtual_nodes`` times
its weight, at least 1, and none when its weight is 0. A key belongs to the first token at or after it, clockwise. Where
two scrapers have an equal token, the smaller id has it. A ring is never changed: other members, other ring. Tokens depend
on nothing but the scraper itself, so one that leaves moves its own targets only.

A ring has ``TOKENS_MOST`` tokens at most, as memory and time grow with them and weights may come from outside: where there
would be more, ``virtual_nodes`` is halved until there are not (each scraper keeps one token at least). Shares stay as the
weights say; a change of members that crosses the bound moves more targets than its own.

After Karger et al., "Consistent Hashing and Random Trees" (STOC 1997).
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import xxhash

from promring.model import WEIGHT_MOST, Keys, Members, Owners, PlacementError, Scraper, TargetPool

TOKENS_MOST = 2**21
"""Of a ring: 4,096 scrapers of 512 virtual nodes."""
TOKENS_KEPT = 2 * TOKENS_MOST
"""32 MiB."""
HOPS, SEARCHED_GROUPS = 8, 64
SEARCHED_AT_ONCE = 2**14
Positions = npt.NDArray[np.intp]


class Kept:
    """The tokens that were made last, ``most`` in all. Used from several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._arrays: OrderedDict[tuple[str, int], Keys] = OrderedDict()
        self._lock = threading.Lock()
        self._total = 0

    def get(self, key: tuple[str, int]) -> Keys | None:
        with self._lock:
            if (found := self._arrays.get(key)) is not None:
                self._arrays.move_to_end(key)
            return found

    def put(self, key: tuple[str, int], made: Keys) -> None:
        with self._lock:
            if key not in self._arrays:
                self._total += len(made)
            self._arrays[key] = made
            while self._total > self._most:
                self._total -= len(self._arrays.popitem(last=False)[1])

    @property
    def total(self) -> int:
        return self._total


kept = Kept(TOKENS_KEPT)


def tokens(scraper_id: str, count: int) -> Keys:
    """The tokens of one scraper, in order of i: uint64, shape (count,). Kept for the next ring, hence read-only."""
    if (found := kept.get((scraper_id, count))) is not None:
        return found
    result = _tokens(scraper_id, count)
    kept.put((scraper_id, count), result)
    return result


def _tokens(scraper_id: str, count: int) -> Keys:
    values = (xxhash.xxh3_64_intdigest(f"{scraper_id}#{i}".encode()) for i in range(count))
    result = np.fromiter(values, dtype=np.uint64, count=count)
    result.setflags(write=False)
    return result


class Circle:
    """Tokens in order, and who holds them: the whole ring, or the part of some of its scrapers.

    ``tokens``  uint64, ascending and distinct, shape (m,), m > 0
    ``holders`` int32, shape (m,): index of the scraper that holds the token
    ``groups``  int32, shape (scrapers,): scrapers of one group are one and the same where a target wants another one
    """

    def __init__(self, tokens: Keys, holders: Owners, groups: Owners) -> None:
        self.tokens, self.holders, self.groups = tokens, holders, groups
        self._of_pools: weakref.WeakKeyDictionary[TargetPool, Owners] = weakref.WeakKeyDictionary()

    def only(self, scrapers: npt.NDArray[np.bool_]) -> Circle:
        """The part of the scrapers that are True. Empty when nobody is."""
        if scrapers.all():
            return self
        kept = scrapers[self.holders]
        return Circle(self.tokens[kept], self.holders[kept], self.groups)

    def grouped(self, groups: Owners) -> Circle:
        return Circle(self.tokens, self.holders, groups)

    def first(self, keys: Keys) -> Positions:
        """Index of the first token at or after each key, clockwise: shape of ``keys``."""
        positions = np.searchsorted(self.tokens, keys)
        positions[positions == len(self.tokens)] = 0
        return positions

    def owners(self, pool: TargetPool) -> Owners:
        """Holder of the first token at or after each key of ``pool``. What was found for one service of many is kept as long
        as its list is: where one list changes, the others are not searched again.
        """
        parts = pool.parts_in_order
        if len(parts) == 1:
            return self._owners(pool.keys)
        for part in parts:
            if part not in self._of_pools:
                self._of_pools[part] = self._owners(part.keys)
        return np.concatenate([np.empty(0, dtype=np.int32), *(self._of_pools[part] for part in parts)])

    def _owners(self, ordered: Keys) -> Owners:
        """Of ascending keys."""
        if len(ordered) < len(self.tokens):
            return self.holders[self.first(ordered)]
        bounds = _ranks(ordered, self.tokens)
        counts = np.diff(bounds, prepend=0, append=len(ordered))
        return np.repeat(np.append(self.holders, self.holders[0]), counts)

    @cached_property
    def present(self) -> Owners:
        """The scrapers that hold a token, ascending."""
        return np.unique(self.holders)

    @cached_property
    def onward(self) -> Positions:
        """For each token the index of the next one clockwise that another scraper holds: shape (m,)."""
        return _next_other(self.holders)

    @cached_property
    def beyond_group(self) -> Positions:
        """For each token the index of the next one clockwise that a scraper of another group holds: shape (m,)."""
        return _next_other(self.groups[self.holders])

    def past(self, at: Positions, taken: Owners) -> Positions:
        """``at`` moved clockwise until no holder is of a group in its row of ``taken``, shape (len(at), k). There must be
        such a holder for every row.
        """
        hops = 0
        while taken.shape[1]:
            groups = self.groups[self.holders[at]]
            barred = groups == taken[:, 0]
            for column in taken.T[1:]:  # by column: numpy is slow in rows of two
                barred |= groups == column
            again = np.flatnonzero(barred)
            if not again.size:
                break
            if hops >= HOPS and len(self._by_group) <= SEARCHED_GROUPS:
                at[again] = self._next_free(at[again], taken[again])
                break
            at[again] = self.beyond_group[at[again]]
            hops += 1
        return at

    def _next_free(self, at: Positions, taken: Owners) -> Positions:
        """As ``past``, by a search for each group: where the free ones are rare, so that hopping would take long."""
        steps = np.full(len(at), len(self.tokens), dtype=np.intp)
        for group, places in self._by_group.items():
            free = np.flatnonzero((taken != group).all(axis=1))
            next_place = places[np.searchsorted(places, at[free]) % len(places)]
            steps[free] = np.minimum(steps[free], (next_place - at[free]) % len(self.tokens))
        return np.asarray((at + steps) % len(self.tokens))

    @cached_property
    def _by_group(self) -> dict[int, Positions]:
        """The places of each group that holds a token, ascending."""
        groups = self.groups[self.holders]
        return {group: np.flatnonzero(groups == group) for group in np.unique(groups).tolist()}


class Ring:
    """An immutable ring of scrapers. ``circle`` has the tokens; scrapers are sorted by id.

    Raises ``PlacementError`` for a weight that is negative, not a number or above ``WEIGHT_MOST``, and for equal ids.
    """

    def __init__(self, members: Members, virtual_nodes: int, tokens_of: Callable[[str, int], Keys] = tokens) -> None:
        self.scrapers: Members = tuple(sorted(members, key=lambda s: s.id))
        for one, other in zip(self.scrapers, self.scrapers[1:], strict=False):
            if one.id == other.id:
                raise PlacementError(f"two scrapers have the id {one.id}")
        self.wanted = tokens_wanted(self.scrapers, virtual_nodes)
        """How many tokens the weights ask for; above ``TOKENS_MOST`` there are fewer."""
        counts = _token_counts(self.scrapers, virtual_nodes)
        columns = [tokens_of(s.id, count) for s, count in zip(self.scrapers, counts, strict=True)]
        every = np.concatenate(columns) if columns else np.empty(0, dtype=np.uint64)
        holders = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        order = np.argsort(every)
        every, holders = every[order], holders[order]
        starts = np.flatnonzero(np.r_[True, every[1:] != every[:-1]][: len(every)])
        if len(starts) < len(every):  # the smaller id, which is the smaller index, among equals
            every, holders = every[starts], np.minimum.reduceat(holders, starts)
        self.circle = Circle(every, holders, np.arange(len(counts), dtype=np.int32))

    def __len__(self) -> int:
        return len(self.scrapers)

    def __repr__(self) -> str:
        return f"Ring({', '.join(self.members)})"

    @property
    def members(self) -> list[str]:
        """The ids of the scrapers, sorted."""
        return [s.id for s in self.scrapers]

    @cached_property
    def weights(self) -> npt.NDArray[np.float64]:
        """Shape (scrapers,)."""
        return np.array([s.weight for s in self.scrapers], dtype=np.float64)

    @cached_property
    def lots(self) -> npt.NDArray[np.float64]:
        """A number from 0 to 1 for each scraper, which depends on nothing but its id: shape (scrapers,)."""
        return np.array([xxhash.xxh3_64_intdigest(s.id.encode()) for s in self.scrapers], dtype=np.float64) / 2.0**64

    @cached_property
    def zones(self) -> Owners:
        """Number of each scraper's zone: int32, shape (scrapers,). Those without a zone are in one together."""
        return _numbered([s.zone for s in self.scrapers])

    def preference(self, key: int) -> list[Scraper]:
        """Every scraper that has tokens once, in the order in which the ring would give them ``key``."""
        circle = self.circle
        if not len(circle.tokens):
            return []
        start = int(np.searchsorted(circle.tokens, np.uint64(key)))
        size = 16 * len(self.scrapers)
        while True:  # nearly always the first part of the walk meets everybody
            walk = circle.holders.take(range(start, start + size), mode="wrap")
            _, firsts = np.unique(walk, return_index=True)
            if len(firsts) == len(circle.present):
                return [self.scrapers[walk[i]] for i in np.sort(firsts)]
            size *= 4


def _token_count(scraper: Scraper, virtual_nodes: int) -> int:
    if not 0 <= scraper.weight <= WEIGHT_MOST:
        raise PlacementError(f"{scraper.id}: its weight must be from 0 to {WEIGHT_MOST:g}, not {scraper.weight}")
    return max(1, round(virtual_nodes * scraper.weight)) if scraper.weight else 0


def _token_counts(scrapers: Members, virtual_nodes: int) -> list[int]:
    counts = [_token_count(s, virtual_nodes) for s in scrapers]
    while sum(counts) > TOKENS_MOST and virtual_nodes > 1:
        virtual_nodes //= 2
        counts = [_token_count(s, virtual_nodes) for s in scrapers]
    return counts


def tokens_wanted(members: Members, virtual_nodes: int) -> int:
    """How many tokens a ring of ``members`` would have without the bound. Raises ``PlacementError`` for odd weights."""
    return sum(_token_count(s, virtual_nodes) for s in members)


def _numbered(names: Sequence[str]) -> Owners:
    numbers = {name: i for i, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int32)


def _ranks(ordered: Keys, tokens: Keys) -> Positions:
    """How many of the ``ordered`` keys are at or before each token. Tokens are ascending, so some that follow each other are
    searched in the few keys that lie between them, which the processor's cache holds: a third faster.
    """
    ranks = np.empty(len(tokens), dtype=np.intp)
    cuts = [0, *np.searchsorted(ordered, tokens[SEARCHED_AT_ONCE - 1 :: SEARCHED_AT_ONCE], side="right"), len(ordered)]
    for n, (begin, end) in enumerate(pairwise(cuts)):
        some = slice(n * SEARCHED_AT_ONCE, (n + 1) * SEARCHED_AT_ONCE)
        ranks[some] = begin + np.searchsorted(ordered[begin:end], tokens[some], side="right")
    return ranks


def _next_other(values: Owners) -> Positions:
    """For each place on the circle the next one clockwise with another value; itself when there is none."""
    n = len(values)
    changes = np.flatnonzero(values != np.roll(values, 1))  # places whose value differs from the one before
    if not changes.size:
        return np.arange(n)
    after = np.searchsorted(changes, np.arange(n), side="right")
    return changes[after % len(changes)]
