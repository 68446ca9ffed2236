"""Places all targets at once: which scraper owns each row of the pool.

Plain (``load_factor`` None): the owner is the holder of the first token at or after the key.
Bounded: no scraper gets more than ``ceil(load_factor * targets / scrapers)``. Targets propose along the ring; a scraper
that has too many keeps the smaller keys and sends the rest on to the next scraper clockwise; rounds are synchronous, so
the order of the input does not matter. This is deferred acceptance (Gale and Shapley, 1962) on the bounded-load ring of
Mirrokni, Thorup and Zadimoghaddam ("Consistent Hashing with Bounded Loads", 2016). Where next to no room is left (a
``load_factor`` near 1) one target can drive another from scraper to scraper for thousands of rounds; who is still homeless
after ``ROUNDS_MAX`` takes the next scraper clockwise that has room, and drives nobody out.

The previous placement is not an input: every controller computes the same owners from the same facts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promring.core.ring import Ring
from promring.model import Keys, Owners, Placement, TargetPool

Rows = npt.NDArray[np.intp]
ROUNDS_MAX = 64


@dataclass(frozen=True, slots=True)
class Policy:
    """How to place. ``load_factor`` >= 1, or None for the plain ring."""

    virtual_nodes: int = 512
    load_factor: float | None = 1.10


def place(pool: TargetPool, ring: Ring, policy: Policy) -> Placement:
    """Owners of every target of ``pool``. Raises ValueError for a ring without scrapers: there is nobody to own them."""
    if not len(ring):
        raise ValueError("cannot place targets on a ring without scrapers")
    if policy.load_factor is None:
        owners = ring.holders[first_tokens(pool.keys, ring)]
    else:
        owners = bounded_owners(pool.keys, ring, capacity(len(pool), len(ring), policy.load_factor))
    return Placement(ring.scrapers, pool, owners)


def capacity(targets: int, scrapers: int, load_factor: float) -> int:
    """The most targets that one scraper may own. Always enough room for all: ``capacity * scrapers >= targets``."""
    return math.ceil(max(1.0, load_factor) * targets / scrapers)


def first_tokens(keys: Keys, ring: Ring) -> Rows:
    """Index of the first token at or after each key, clockwise: shape of ``keys``."""
    positions = np.searchsorted(ring.tokens, keys, side="left")
    positions[positions == len(ring.tokens)] = 0
    return positions


def bounded_owners(keys: Keys, ring: Ring, most: int, rounds_max: int = ROUNDS_MAX) -> Owners:
    """Owners of ascending ``keys`` with at most ``most`` a scraper, for which there must be room: int32, shape (n,)."""
    positions = first_tokens(keys, ring)
    owners = ring.holders[positions]
    onward = _next_holder(ring)
    for _ in range(rounds_max):
        sent_on = _beyond(owners, most, len(ring))
        if not sent_on.size:
            return owners
        # A scraper that once sent a row on is full of smaller keys for good, so meeting it again does no harm.
        positions[sent_on] = onward[positions[sent_on]]
        owners[sent_on] = ring.holders[positions[sent_on]]
    _fill(keys, owners, _beyond(owners, most, len(ring)), ring, most)
    return owners


def _beyond(owners: Owners, most: int, scrapers: int) -> Rows:
    """The rows that their scrapers have too many of. Rows are in key order, so the first ``most`` of a scraper stay."""
    counts = np.bincount(owners, minlength=scrapers)
    full = counts > most
    held = np.flatnonzero(full[owners])
    by_owner = held[np.argsort(owners[held], kind="stable")]
    sizes = counts[full]
    ranks = np.arange(len(by_owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return by_owner[ranks >= most]


def _fill(keys: Keys, owners: Owners, homeless: Rows, ring: Ring, most: int) -> None:
    """Give each of ``homeless`` the next scraper clockwise with room, the smaller key first; in place."""
    owners[homeless] = -1
    homeless = np.sort(homeless)
    while homeless.size:
        room = most - np.bincount(owners[owners >= 0], minlength=len(ring))
        open_tokens = np.flatnonzero(room[ring.holders] > 0)
        at = np.searchsorted(ring.tokens[open_tokens], keys[homeless], side="left") % len(open_tokens)
        asked = ring.holders[open_tokens[at]]
        order = np.argsort(asked, kind="stable")
        sizes = np.bincount(asked, minlength=len(ring))
        ranks = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        taken = order[ranks < room[asked[order]]]
        owners[homeless[taken]] = asked[taken]
        homeless = np.delete(homeless, taken)


def _next_holder(ring: Ring) -> Rows:
    """For each token the index of the next one clockwise that another scraper holds: shape (tokens,)."""
    holders, n = ring.holders, len(ring.holders)
    changes = np.flatnonzero(holders != np.roll(holders, 1))  # tokens whose holder differs from the one before
    if not changes.size:
        return np.arange(n)
    after = np.searchsorted(changes, np.arange(n), side="right")
    return changes[after % len(changes)]
