"""Whether what a state file gave can be true: every value that is decoded, before anything is made of it.

A file with the right checksum may still have been written by a program with a bug, another version, or a person. Each check
raises ``ValueError`` that says what is wrong. They look at what was decoded, column by column, whatever the columns are
called. What a run before this one may have written passes: odd names of scrapers do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import pairwise

import msgspec
import numpy as np

from promring.core.claims import Claims
from promring.core.fragment import Target
from promring.model import EPOCH_MOST, LONG_AGO, SEPARATOR, WEIGHT_MOST, Generation, Members, Scraper, Slice, TargetPool

TIME_MOST_S = 1e11
COUNT_MOST = 2**62
NAME_MOST = 4096
ROWS_AT_ONCE = 1000


class _Group(msgspec.Struct):
    targets: list[str]
    labels: dict[str, str] = {}


_decode_rows = msgspec.json.Decoder(list[Target]).decode
_decode_slice = msgspec.json.Decoder(list[_Group]).decode


def check_time(value: float, what: str) -> None:
    """Seconds, of any clock, or of a span."""
    if not (math.isfinite(value) and abs(value) <= TIME_MOST_S):
        raise ValueError(f"corrupt: {what}: {value!r} is no time")


def check_count(value: int, what: str) -> None:
    if not 0 <= value <= COUNT_MOST:
        raise ValueError(f"corrupt: {what}: {value!r} is no count")


def check_generation(generation: Generation) -> None:
    if not (0 <= generation.epoch < EPOCH_MOST and 0 <= generation.n < EPOCH_MOST):
        raise ValueError(f"corrupt: {generation} is no generation")


def check_scraper(scraper: Scraper) -> None:
    texts = (scraper.id, scraper.host)
    if not all(0 < len(text) <= NAME_MOST for text in texts) or len(scraper.zone) > NAME_MOST:
        raise ValueError(f"corrupt: {scraper.id[:40]!r} is no scraper")
    if not 0 <= scraper.port < 65536 or not 0 <= scraper.weight <= WEIGHT_MOST:
        raise ValueError(f"corrupt: {scraper.id[:40]!r}: port {scraper.port}, weight {scraper.weight}")


def check_members(members: Members) -> None:
    """Sorted by id, ids distinct: what a ring is made of."""
    for scraper in members:
        check_scraper(scraper)
    ids = [scraper.id for scraper in members]
    if any(one >= other for one, other in pairwise(ids)):
        raise ValueError("corrupt: the scrapers are not in order")


def check_pool(pool: TargetPool) -> None:
    """Columns of one length, rows in order, bounds that cut the blob into one target each."""
    for column in fields(pool):
        value = getattr(pool, column.name)
        rows = len(pool) + 1 if column.name == "bounds" else len(pool)
        if isinstance(value, np.ndarray) and value.shape != (rows,):
            raise ValueError(f"corrupt: a source's {column.name}: {value.shape[0]} for {len(pool)} targets")
        if isinstance(value, int):
            check_count(value, f"a source's {column.name}")
    bounds = pool.bounds
    if bounds[0] != 0 or bounds[-1] != len(pool.blob) or (np.diff(bounds) <= len(SEPARATOR)).any():
        raise ValueError("corrupt: a source's bounds are not those of its targets")
    if (pool.keys[1:] < pool.keys[:-1]).any():
        raise ValueError("corrupt: a source's targets are not in order")
    if len(np.unique(pool.ids)) != len(pool):
        raise ValueError("corrupt: two targets of a source have one id")
    blob = np.frombuffer(pool.blob, dtype=np.uint8)
    marks = [(bounds[:-1], b"{"[0]), *((bounds[1:] - len(SEPARATOR) + i, sign) for i, sign in enumerate(SEPARATOR))]
    if any((blob[at] != sign).any() for at, sign in marks):
        raise ValueError("corrupt: a source's bounds are not those of its targets")
    for first in range(0, len(pool), ROWS_AT_ONCE):
        ends = bounds[first : first + ROWS_AT_ONCE + 1].tolist()
        # A separator before a brace is nowhere inside a target: so many targets are one in each row.
        if len(_decode_rows(b"[%s]" % pool.blob[ends[0] : ends[-1] - len(SEPARATOR)])) != len(ends) - 1:
            raise ValueError("corrupt: a source's bounds are not those of its targets")


def check_claims(claims: Claims) -> None:
    """Columns of one length, indices of scrapers that are named, ends that can be waited for."""
    names = claims.names
    if len(set(names)) != len(names) or not all(0 < len(name) <= NAME_MOST for name in names):
        raise ValueError("corrupt: the claims' scrapers")
    if any(column.shape != (len(claims),) for column in (claims.scrapers, claims.since, claims.until)):
        raise ValueError("corrupt: the columns of the claims differ")
    if ((claims.scrapers < 0) | (claims.scrapers >= len(names))).any():
        raise ValueError("corrupt: claims of a scraper that is not named")
    ends = claims.until[np.isfinite(claims.until)]
    if np.isnan(claims.until).any() or (claims.until == LONG_AGO).any() or (np.abs(ends) > TIME_MOST_S).any():
        raise ValueError("corrupt: claims that end at no time")


def check_slices(slices: Iterable[Slice], newest: Generation) -> None:
    """Each scraper's once, a list of as many targets as it says, and none newer than the newest."""
    seen = set[str]()
    for slice_ in slices:
        check_scraper(slice_.scraper)
        check_generation(slice_.generation)
        name = slice_.scraper.id
        if name in seen or slice_.generation > newest:
            raise ValueError(f"corrupt: the slice of {name[:40]!r} is there twice, or from the future")
        seen.add(name)
        if sum(len(group.targets) for group in _decode_slice(slice_.body)) != slice_.targets:
            raise ValueError(f"corrupt: the slice of {name[:40]!r} does not have {slice_.targets} targets")


def check_times(times: Mapping[str, float]) -> None:
    for name, at in times.items():
        check_time(at, name[:40])
