"""The consistent-hash ring: tokens of the live scrapers on a circle of 2**64 positions.

Each scraper has ``virtual_nodes`` tokens, ``xxh3_64("{id}#{i}")``. A key belongs to the first token at or after it,
clockwise. Where two scrapers have an equal token, the smaller id has it. A ring is never changed: other members, other
ring. Tokens depend on nothing but the id, so a scraper that leaves moves its own targets only.

After Karger et al., "Consistent Hashing and Random Trees" (STOC 1997).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import xxhash

from promring.model import Keys, Members, Owners, Scraper


@lru_cache(maxsize=4096)
def tokens(scraper_id: str, virtual_nodes: int) -> Keys:
    """The tokens of one scraper, in order of i: uint64, shape (virtual_nodes,). Cached, hence read-only."""
    values = (xxhash.xxh3_64_intdigest(f"{scraper_id}#{i}".encode()) for i in range(virtual_nodes))
    result = np.fromiter(values, dtype=np.uint64, count=virtual_nodes)
    result.setflags(write=False)
    return result


class Ring:
    """An immutable ring of scrapers.

    ``tokens``  uint64, ascending and distinct, shape (m,)
    ``holders`` int32, shape (m,): index in ``scrapers`` of the scraper that holds the token
    """

    def __init__(self, members: Members, virtual_nodes: int, tokens_of: Callable[[str, int], Keys] = tokens) -> None:
        if virtual_nodes < 1:
            raise ValueError(f"virtual_nodes must be at least 1, not {virtual_nodes}")
        self.scrapers: Members = tuple(sorted(members, key=lambda s: s.id))
        self.virtual_nodes = virtual_nodes
        ids = [s.id for s in self.scrapers]
        if len(set(ids)) != len(ids):
            raise ValueError(f"scraper ids must be distinct: {ids}")
        columns = [tokens_of(scraper_id, virtual_nodes) for scraper_id in ids]
        every = np.concatenate(columns) if columns else np.empty(0, dtype=np.uint64)
        holders = np.repeat(np.arange(len(ids), dtype=np.int32), virtual_nodes)
        order = np.argsort(every, kind="stable")  # stable, and ids ascend: the smaller id comes first among equals
        every, holders = every[order], holders[order]
        first = np.ones(len(every), dtype=bool)
        first[1:] = every[1:] != every[:-1]
        self.tokens: Keys = every[first]
        self.holders: Owners = holders[first]

    def __len__(self) -> int:
        return len(self.scrapers)

    def __repr__(self) -> str:
        return f"Ring({', '.join(s.id for s in self.scrapers)}; virtual_nodes={self.virtual_nodes})"

    @property
    def members(self) -> list[str]:
        """The ids of the scrapers, sorted."""
        return [s.id for s in self.scrapers]

    def preference(self, key: int) -> list[Scraper]:
        """Every scraper once, in the order in which the ring would give them ``key``."""
        if not self.scrapers:
            return []
        start = int(np.searchsorted(self.tokens, np.uint64(key), side="left"))
        walk = np.roll(self.holders, -start)
        _, firsts = np.unique(walk, return_index=True)
        return [self.scrapers[walk[i]] for i in np.sort(firsts)]
