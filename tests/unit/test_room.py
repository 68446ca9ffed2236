"""Where room is short: who has a target keeps it, and what nobody has waits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.claims import APPLIED_S, Taken
from promring.core.coverage import Seen
from promring.core.pool import pool_of
from promring.core.room import Held, held_by, is_short, keeping
from promring.model import Loads, Owners, Placement, Scraper, TargetGroup, TargetPool

SCRAPERS = tuple(Scraper(name, name, 0) for name in "abcd")


@dataclass(frozen=True)
class Short:
    """A placement that lacks owners, and who had what. ``claims``: row, scraper, since when; each pair once. ``success``,
    ``lacked``: which of them scrape it well, and which are seen not to have it, by row and scraper.
    """

    owners: Owners
    loads: Loads | None
    wanted: np.ndarray | None
    claims: list[tuple[int, int, float]]
    most: Loads
    success: frozenset[tuple[int, int]] = frozenset()
    lacked: frozenset[tuple[int, int]] = frozenset()

    @property
    def placement(self) -> Placement:
        return Placement(SCRAPERS, targets(len(self.owners)), self.owners, None, self.loads, self.wanted)

    def load(self, row: int) -> int:
        return 1 if self.loads is None else int(self.loads[row])

    def missing(self, row: int, owners: Owners, kept: set[tuple[int, int]]) -> int:
        shall = owners.shape[1] if self.wanted is None else int(self.wanted[row])
        return int((owners[row, :shall] < 0).sum()) - sum(one == row for one, _ in kept)


@cache
def targets(count: int) -> TargetPool:
    return pool_of([TargetGroup.of([f"t{n}:1" for n in range(count)])])


def shortage(rng: np.random.Generator) -> Short:
    """Few targets, few scrapers, little room: most of what can happen happens."""
    count, replicas, scrapers = int(rng.integers(1, 8)), int(rng.integers(1, 3)), int(rng.integers(2, 5))
    wanted = rng.integers(1, replicas, count, endpoint=True).astype(np.int32) if rng.random() < 0.5 else None
    owners = np.full((count, replicas), -1, dtype=np.int32)
    for row in range(count):
        shall = replicas if wanted is None else int(wanted[row])
        some = rng.permutation(scrapers)[:shall]
        owners[row, : len(some)] = np.where(rng.random(len(some)) < 0.5, some, -1)
    loads = rng.integers(1, 4, count) if rng.random() < 0.5 else None
    pairs = [(row, scraper) for row in range(count) for scraper in range(scrapers) if rng.random() < 0.4]
    since = rng.permutation(len(pairs)).astype(float)
    claims = [(*pairs[n], float(since[n])) for n in rng.permutation(len(pairs))]
    carried = np.zeros(4, dtype=np.int64)
    for row, owning in enumerate(owners.tolist()):
        for scraper in owning:
            if scraper >= 0:
                carried[scraper] += 1 if loads is None else int(loads[row])
    seen = {pair: rng.random() for pair in pairs}
    success = frozenset(pair for pair, number in seen.items() if number < 0.3)
    lacked = frozenset(pair for pair, number in seen.items() if number > 0.7)
    return Short(owners, loads, wanted, claims, carried + rng.integers(0, 3, 4), success, lacked)


def settled(short: Short) -> tuple[Owners, list[tuple[int, int, float]]]:
    rows, scrapers, since = (np.array([one[n] for one in short.claims]) for n in range(3))
    replicas = short.owners.shape[1]
    success, lacked = (
        np.array([(r, s) in some for r, s, _ in short.claims], dtype=bool) for some in (short.success, short.lacked)
    )
    sight = (success, success, ~success, ~lacked, lacked)
    held = Held(rows.astype(np.intp), scrapers.astype(np.int32), since.astype(float), *sight)
    placement, stays = keeping(short.placement, held, replicas, short.most)
    assert stays.dtype == np.bool_
    return placement.owners, [claim for claim, stay in zip(short.claims, stays.tolist(), strict=True) if stay]


@given(st.integers(0, 2**32))
def test_who_has_a_target_keeps_it_as_far_as_there_is_room_and_gives_up_first_what_another_one_keeps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(10):
        check(shortage(rng))


def check(short: Short) -> None:
    owners, kept_claims = settled(short)
    kept, claimed = {(row, scraper) for row, scraper, _ in kept_claims}, {(row, scraper) for row, scraper, _ in short.claims}
    had = claimed - short.lacked
    given_up = {(row, int(s)) for row, column in np.argwhere(owners != short.owners) for s in [short.owners[row, column]]}
    assert set(owners[owners != short.owners].tolist()) <= {-1}, "nobody newly gets anything"
    assert not given_up & had, "nobody gives up what it has"
    used = np.zeros(4, dtype=np.int64)
    for row, scraper in [*kept, *((int(r), int(owners[r, c])) for r, c in np.argwhere(owners >= 0))]:
        used[scraper] += short.load(row)
    assert (used <= short.most).all(), "within the capacity of each"
    newly = {(int(r), int(owners[r, c])) for r, c in np.argwhere(owners >= 0)} - had
    for row in range(len(owners)):
        missing, owning = short.missing(row, owners, kept), set(owners[row].tolist())
        assert not missing < 0
        assert not owning & {s for r, s in kept if r == row}, "an owner is no other holder"
        waiting = [s for r, s in had if r == row and s not in owning and (row, s) not in kept]
        for scraper in waiting if missing else ():
            room = short.most[scraper] - used[scraper] + sum(short.load(r) for r, s in newly if s == scraper)
            assert room < short.load(row), "it would have had room"
    for scraper in range(4):
        gave = [row for row, s in given_up if s == scraper]
        others_have = {row for row, _ in had}
        if any(row not in others_have for row in gave):
            assert not any(s == scraper and row in others_have for row, s in newly), "what nobody has goes last"
    lacks_one = any(short.missing(row, short.owners, set()) for row in range(len(owners)))
    assert is_short(short.placement, owners.shape[1]) == lacks_one
    if not lacks_one:
        assert owners is short.owners


def short_of(owners: list[list[int]], claims: list[tuple[int, int, float]], room: list[int], loads: list[int]) -> Short:
    return Short(np.array(owners, dtype=np.int32), np.array(loads), None, claims, np.array(room))


def test_of_several_the_one_that_had_it_first_keeps_it_whatever_the_order_of_the_claims() -> None:
    claims = [(0, 2, 30.0), (0, 1, 10.0), (0, 0, 20.0)]
    for some in (claims, claims[::-1]):
        assert settled(short_of([[-1]], some, [1, 1, 1, 0], [1]))[1] == [(0, 1, 10.0)]
    same = [(row, scraper, row * 7.0 % 5) for scraper in (3, 1, 0, 2) for row in range(40)]
    assert {s for _, s, _ in settled(short_of([[-1]] * 40, same, [40] * 4, [1] * 40))[1]} == {0}, "by name"


def test_nobody_gives_up_more_than_what_it_keeps_needs() -> None:
    owners, kept = settled(short_of([[-1], [0], [0], [0]], [(0, 0, 1.0)], [3, 0, 0, 0], [2, 1, 1, 1]))
    assert kept == [(0, 0, 1.0)]
    assert (owners[1:] == 0).sum() == 1


def test_what_is_given_up_stays_with_who_has_it() -> None:
    """``a`` gives up row 1 for row 0; ``b`` has row 1, and gives up row 2 for it, which nobody has."""
    owners, kept = settled(short_of([[-1], [0], [1]], [(0, 0, 1.0), (1, 1, 2.0)], [1, 1, 0, 0], [1, 1, 1]))
    assert sorted(kept) == [(0, 0, 1.0), (1, 1, 2.0)]
    assert owners.tolist() == [[-1], [-1], [-1]]


def test_a_target_that_loses_an_owner_again_is_kept_by_one_more_and_by_no_others() -> None:
    """Row 0 lacks one of two owners, and ``b`` keeps it; then ``a`` gives it up for row 1, and ``c`` keeps it, too."""
    claims = [(0, 1, 1.0), (0, 2, 2.0), (0, 3, 3.0), (1, 0, 1.0)]
    wanted = np.array([2, 1], dtype=np.int32)
    owners, kept = settled(
        Short(np.array([[0, -1], [-1, -1]], dtype=np.int32), None, wanted, claims, np.array([1, 3, 3, 3]))
    )
    assert sorted(kept) == [claims[0], claims[1], claims[3]]
    assert (owners == -1).all()


def test_of_several_the_one_that_scrapes_it_keeps_it_though_it_has_it_later() -> None:
    claims = [(0, 0, 1.0), (0, 1, 2.0), (0, 2, 3.0)]
    short = replace(short_of([[-1]], claims, [1, 1, 1, 0], [1]), success=frozenset({(0, 2)}))
    assert settled(short)[1] == [(0, 2, 3.0)]
    assert settled(replace(short, success=frozenset(), lacked=frozenset({(0, 0)})))[1] == [(0, 1, 2.0)]


def test_what_an_owner_is_seen_not_to_have_is_given_up_as_what_is_new() -> None:
    """``a`` shall have row 1, and nothing but its plan says so; it scrapes row 0, for which it has no room."""
    claims = [(0, 0, 9.0), (1, 0, 1.0)]
    short = short_of([[-1], [0]], claims, [1, 0, 0, 0], [1, 1])
    assert settled(short)[1] == [], "as far as anybody knows it has row 1"
    owners, kept = settled(replace(short, lacked=frozenset({(1, 0)})))
    assert (owners.tolist(), kept) == ([[-1], [-1]], [(0, 0, 9.0)])


def test_nothing_is_given_up_for_what_a_scraper_is_seen_not_to_have_and_it_has_the_room_that_others_leave() -> None:
    claims = [(0, 0, 1.0), (1, 0, 2.0)]
    for room, kept in ((1, [claims[1]]), (2, claims)):
        short = short_of([[-1], [-1], [0]], claims, [room + 1, 0, 0, 0], [1, 1, 1])
        owners, left = settled(replace(short, lacked=frozenset({(0, 0)})))
        assert (owners.tolist(), left) == ([[-1], [-1], [0]], kept)
    full = replace(short_of([[-1], [0]], claims[:1], [1, 0, 0, 0], [1, 1]), lacked=frozenset({(0, 0)}))
    owners, left = settled(full)
    assert (owners.tolist(), left) == ([[-1], [0]], [])


def test_what_another_one_is_seen_not_to_have_goes_last_too() -> None:
    """``a`` gives up one of rows 1 and 2 for row 0: ``b`` has row 2, and has a claim only on row 1."""
    claims = [(0, 0, 1.0), (1, 1, 2.0), (2, 1, 3.0)]
    for lacked, given_up in ((frozenset({(1, 1)}), 2), (frozenset({(2, 1)}), 1)):
        owners, _ = settled(replace(short_of([[-1], [0], [0]], claims, [2, 2, 0, 0], [1, 1, 1]), lacked=lacked))
        assert np.flatnonzero((owners == -1).all(axis=1)).tolist() == [0, given_up]


def test_held_says_what_each_is_seen_doing_and_what_it_is_seen_not_to_have() -> None:
    pool = targets(4)
    up, old = (np.array([pool.ids[n]], dtype=np.uint64) for n in range(2))
    sees = {
        "a": Seen(10.0, up, np.array([9.0]), np.array([True]), dropped=old),
        "b": Seen(10.0, up, np.array([9.0]), np.array([False]), hidden=1),
    }
    rows, scrapers = np.tile(np.arange(4), 3), np.repeat(np.arange(3, dtype=np.int32), 4)
    since = np.where(np.arange(12) % 4 == 3, 11.0, 10.0)
    held = held_by(pool, ("a", "b", "c"), (rows, scrapers, since), sees, {})
    assert held.success.tolist() == [True, *[False] * 11]
    assert held.failure.tolist() == [False, *[True] * 7, *[False] * 4], "of who is not seen nothing is known"
    assert np.flatnonzero(held.listed).tolist() == [0, 4], "the list says so, whether it is scraped well or not"
    assert held.lacked.tolist() == [False, False, True, False, *[False] * 8], "dropped, given later than the look, hidden"
    since = np.zeros(12)
    for took, lacks in ((0.0, [2, 3]), (10.0 - APPLIED_S, [2, 3]), (10.5 - APPLIED_S, [])):
        held = held_by(pool, ("a", "b", "c"), (rows, scrapers, since), sees, {("", "a"): Taken((5.0,), (took,))})
        assert np.flatnonzero(held.lacked).tolist() == lacks, "the list that it took was not applied yet"
