"""Places all targets at once: which scraper owns each row of the pool.

Plain (``load_factor`` None): the owner is the holder of the first token at or after the key.
Bounded: no scraper gets more than ``ceil(load_factor * targets / scrapers)``. Targets propose along the ring; a scraper
that has too many keeps the smaller keys and sends the rest on to the next scraper clockwise; rounds are synchronous, so
the order of the input does not matter. This is deferred acceptance (Gale and Shapley, 1962) on the bounded-load ring of
Mirrokni, Thorup and Zadimoghaddam ("Consistent Hashing with Bounded Loads", 2016).

The previous placement is not an input: every controller computes the same owners from the same facts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promring.core.ring import Ring
from promring.model import Keys, Owners, Placement, TargetPool


@dataclass(frozen=True, slots=True)
class Policy:
    """How to place. ``load_factor`` >= 1, or None for the plain ring."""

    virtual_nodes: int = 512
    load_factor: float | None = 1.10


def place(pool: TargetPool, ring: Ring, policy: Policy) -> Placement:
    """Owners of every target of ``pool``. Raises ValueError for a ring without scrapers: there is nobody to own them."""
    if not len(ring):
        raise ValueError("cannot place targets on a ring without scrapers")
    positions = first_tokens(pool.keys, ring)
    if policy.load_factor is None:
        owners = ring.holders[positions]
    else:
        owners = _bounded(positions, ring, capacity(len(pool), len(ring), policy.load_factor))
    return Placement(ring.scrapers, pool, owners)


def capacity(targets: int, scrapers: int, load_factor: float) -> int:
    """The most targets that one scraper may own. Always enough room for all: ``capacity * scrapers >= targets``."""
    return math.ceil(max(1.0, load_factor) * targets / scrapers)


def first_tokens(keys: Keys, ring: Ring) -> npt.NDArray[np.intp]:
    """Index of the first token at or after each key, clockwise: shape of ``keys``."""
    positions = np.searchsorted(ring.tokens, keys, side="left")
    positions[positions == len(ring.tokens)] = 0
    return positions


def _bounded(positions: npt.NDArray[np.intp], ring: Ring, most: int) -> Owners:
    """Synchronous rounds. Rows are in key order, so "the smaller key" is "the smaller row"."""
    owners = ring.holders[positions]
    counts = np.bincount(owners, minlength=len(ring))
    onward = _next_holder(ring)
    while (full := np.flatnonzero(counts > most)).size:
        held = np.flatnonzero(np.isin(owners, full))  # rows at a scraper that has too many, in key order
        by_owner = held[np.argsort(owners[held], kind="stable")]
        sizes = counts[full]
        ranks = np.arange(len(by_owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        sent_on = by_owner[ranks >= most]
        # A scraper that once sent a row on is full of smaller keys for good, so meeting it again does no harm.
        positions[sent_on] = onward[positions[sent_on]]
        owners[sent_on] = ring.holders[positions[sent_on]]
        counts = np.bincount(owners, minlength=len(ring))
    return owners


def _next_holder(ring: Ring) -> npt.NDArray[np.intp]:
    """For each token the index of the next one clockwise that another scraper holds: shape (tokens,)."""
    holders, n = ring.holders, len(ring.holders)
    changes = np.flatnonzero(holders != np.roll(holders, 1))  # tokens whose holder differs from the one before
    if not changes.size:
        return np.arange(n)
    after = np.searchsorted(changes, np.arange(n), side="right")
    return changes[after % len(changes)]
