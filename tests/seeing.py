"""What scrapers would be seen doing, for tests of what follows from it."""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np

from promring.core.coverage import Active, Seen
from promring.core.fragment import ID_LABEL, decode, fragments
from promring.model import Placement, Scraper, TargetPool


def seen_with(ids: Collection[int], at: float, *, down: Collection[int] = (), asked_at: float | None = None) -> Seen:
    """These targets, asked just then or ``asked_at``, all with success but for those that are ``down``."""
    column = np.array(sorted(ids), dtype=np.uint64)
    up = np.array([key not in down for key in column.tolist()], dtype=bool)
    return Seen(at, column, np.full(len(column), at if asked_at is None else asked_at), up, interval_s=5.0)


def owned(placement: Placement, scraper: Scraper) -> list[int]:
    """The ids of what ``placement`` gives a scraper."""
    number = [s.id for s in placement.scrapers].index(scraper.id)
    ids: list[int] = placement.pool.ids[(placement.owners == number).any(axis=1)].tolist()
    return ids


def without_ids(body: bytes) -> bytes:
    """A slice as it would be if its lines held no ids."""
    seal = rb'"%s":"[0-9a-f]{16}"' % ID_LABEL.encode()
    return re.sub(b',"labels":{' + seal + b"}|," + seal, b"", body)


def told(pool: TargetPool, row: int, *, up: bool = True, age_s: float | None = 0.0, **labels: str) -> Active:
    """A target as a scraper lists it, with its id."""
    one = decode(list(fragments(pool))[row])
    discovered = {"__address__": one.address, "job": "x", ID_LABEL: f"{int(pool.ids[row]):016x}", **one.labels, **labels}
    return Active(discovered, up=up, age_s=age_s, interval_s=5.0)
