"""Who is kept by a scraper with little room, and who must go on: beside the words of it, one target after the other."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.packing import PACKINGS_MAX, Ranked, _by_priority, _turned_away, fitting, has_other_group, summed
from promring.core.ring import Ring
from promring.model import Loads, Scraper

seeds = st.integers(0, 2**32)
SCRAPERS = 5


def loads_of(rng: np.random.Generator, count: int) -> Loads | None:
    """Often equal ones, and sometimes large ones; None: each counts 1."""
    kind = rng.random()
    if kind < 0.3:
        return None
    most = int(rng.choice([2, 9, 2**17, 2**32 + 1]))
    return rng.integers(0, most, count)


@given(seeds)
def test_in_order_each_fits_that_finds_room_beside_those_before_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(6):
        scrapers = int(rng.choice([SCRAPERS, 60]))
        count = int(rng.integers(0, 2 * scrapers))
        asked = np.sort(rng.integers(0, scrapers, count)).astype(np.int32)
        loads = loads_of(rng, count)
        each = [1] * count if loads is None else loads.tolist()
        room = rng.integers(-2, 2 + max([1, *each]) * 2, scrapers)
        left, expected = np.maximum(room, 0).tolist(), []
        for scraper, load in zip(asked.tolist(), each, strict=True):
            expected.append(load <= left[scraper])
            left[scraper] -= load if expected[-1] else 0
        found = fitting(loads, asked, room.copy())
        assert (found.tolist(), found.dtype) == (expected, np.dtype(np.bool_))


@given(seeds)
def test_the_heaviest_go_first_then_those_that_ask_for_the_first_time_then_the_earlier(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(6):
        count = int(rng.integers(1, 40))
        asked = rng.choice([0, 1, 2, 2**16, 2**16 + 1, 2**17][: int(rng.integers(1, 7))], count).astype(np.int32)
        loads, sent = loads_of(rng, count), (rng.random(count) < 0.4).astype(np.uint8)
        each = [1] * count if loads is None else loads.tolist()
        expected = sorted(range(count), key=lambda n: (asked[n], -each[n], sent[n], n))
        assert _by_priority(asked, loads, sent).tolist() == expected


@given(seeds)
def test_sums_are_exact_and_nobody_is_forgotten(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 30))
    owners, loads = rng.integers(0, SCRAPERS, count).astype(np.int32), loads_of(rng, count)
    total = Counter[int]()
    for owner, load in zip(owners.tolist(), [1] * count if loads is None else loads.tolist(), strict=True):
        total[owner] += load
    found = summed(owners, loads, SCRAPERS)
    assert (found.tolist(), found.dtype) == ([total[i] for i in range(SCRAPERS)], np.dtype(np.int64))


@given(seeds)
def test_a_target_can_go_on_while_some_scraper_is_of_a_group_that_has_none_of_its_owners(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(4):
        zones = rng.integers(0, 4, SCRAPERS)
        weights = [float(rng.random() < 0.8) for _ in range(SCRAPERS - 1)]
        members = tuple(
            Scraper(f"s{n}", f"s{n}", 1, f"z{z}", w) for n, (z, w) in enumerate(zip(zones, [*weights, 1.0], strict=True))
        )
        ring = Ring(members, 3)
        for circle in (ring.circle, ring.circle.grouped(ring.zones)):
            taken = rng.choice(np.append(circle.groups, -1), (int(rng.integers(0, 9)), int(rng.integers(0, 4)))).astype(
                np.int32
            )
            there = {int(circle.groups[n]) for n, s in enumerate(members) if s.weight}
            found = has_other_group(circle, taken)
            assert (found.tolist(), found.dtype) == ([bool(there - set(row)) for row in taken.tolist()], np.dtype(np.bool_))


@given(seeds)
def test_a_scraper_with_too_little_room_keeps_the_heaviest_and_of_giants_one_alone(seed: int) -> None:
    """A giant is heavier than a scraper without anything may have: it stands there alone, but for what weighs nothing."""
    rng = np.random.default_rng(seed)
    for _ in range(6):
        count, ascending = int(rng.integers(0, 14)), bool(rng.random() < 0.5)
        keys = np.sort(rng.integers(0, 9, count)) if ascending else rng.integers(0, 9, count)
        owners, loads = rng.integers(0, SCRAPERS, count).astype(np.int32), loads_of(rng, count)
        sent = (rng.random(count) < 0.4).astype(np.uint8)
        each = [1] * count if loads is None else loads.tolist()
        room = rng.integers(-1, 2 + sum(each) // 2, SCRAPERS)
        alone = np.where(rng.random(SCRAPERS) < 0.7, np.maximum(room, 0), np.iinfo(np.int64).max)
        over = summed(owners, loads, SCRAPERS) > room
        kept = set[int]()
        for scraper in range(SCRAPERS):
            mine = [n for n in range(count) if owners[n] == scraper]
            mine.sort(key=lambda n: (-each[n], sent[n], keys[n], n))
            left = max(int(room[scraper]), 0)
            if not over[scraper]:
                kept |= set(mine)
            elif loads is not None and mine and each[mine[0]] > alone[scraper]:
                kept |= {mine[0], *(n for n in mine if not each[n])}
            else:
                for n in mine:
                    if each[n] <= left:
                        kept.add(n)
                        left -= each[n]
        ranked = Ranked(keys.astype(np.uint64), ascending)
        found = _turned_away(ranked, loads, owners, over, room, alone, sent)
        assert found.tolist() == [n for n in range(count) if n not in kept]
        assert found.dtype == np.dtype(np.intp), "rows are taken by them, also where there are none"


def test_what_weighs_nothing_is_kept_however_often_the_others_are_packed() -> None:
    """Each second target does not fit beside those before it, so that each of the others needs another packing."""
    left, loads = 2**40, list[int]()
    while left > 2**8:
        loads += [left // 2 + 1, left - left // 2]
        left -= loads[-2]
    count = len([*loads, 0, 0])
    owners, sent = np.zeros(count, dtype=np.int32), np.zeros(count, dtype=np.uint8)
    room, each = np.array([2**40]), np.array([*loads, 0, 0])
    ranked = Ranked(np.arange(count, dtype=np.uint64), ascending=True)
    found = _turned_away(ranked, each, owners, summed(owners, each, 1) > room, room, room, sent).tolist()
    assert set(found) < set(range(count - 2))
    assert set(range(1, 2 * PACKINGS_MAX, 2)) <= set(found)
