"""Where room is short: who has a target keeps it, and what nobody has waits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.pool import pool_of
from promring.core.room import keeping
from promring.model import Loads, Owners, Placement, Scraper, TargetGroup, TargetPool

SCRAPERS = tuple(Scraper(name, name, 0) for name in "abcd")


@dataclass(frozen=True)
class Short:
    """A placement that lacks owners, and who had what. ``claims``: row, scraper, since when; each pair once."""

    owners: Owners
    loads: Loads | None
    wanted: np.ndarray | None
    claims: list[tuple[int, int, float]]
    most: Loads

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
    return Short(owners, loads, wanted, claims, carried + rng.integers(0, 3, 4))


def settled(short: Short) -> tuple[Owners, list[tuple[int, int, float]]]:
    rows, scrapers, since = (np.array([one[n] for one in short.claims]) for n in range(3))
    replicas = short.owners.shape[1]
    placement, stays = keeping(
        short.placement, rows.astype(np.intp), scrapers.astype(np.int32), since.astype(float), replicas, short.most
    )
    assert stays.dtype == np.bool_
    return placement.owners, [claim for claim, stay in zip(short.claims, stays.tolist(), strict=True) if stay]


@given(st.integers(0, 2**32))
def test_who_has_a_target_keeps_it_as_far_as_there_is_room_and_gives_up_first_what_another_one_keeps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(10):
        check(shortage(rng))


def check(short: Short) -> None:
    owners, kept_claims = settled(short)
    kept, had = {(row, scraper) for row, scraper, _ in kept_claims}, {(row, scraper) for row, scraper, _ in short.claims}
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
        waiting = [(since, s) for r, s, since in short.claims if r == row and s not in owning and (row, s) not in kept]
        for _, scraper in waiting if missing else ():
            room = short.most[scraper] - used[scraper] + sum(short.load(r) for r, s in newly if s == scraper)
            assert room < short.load(row), "it would have had room"
    for scraper in range(4):
        gave = [row for row, s in given_up if s == scraper]
        others_have = {row for row, _ in had}
        if any(row not in others_have for row in gave):
            assert not any(s == scraper and row in others_have for row, s in newly), "what nobody has goes last"
    if not short.placement.lacking().any():
        assert owners is short.owners


def short_of(owners: list[list[int]], claims: list[tuple[int, int, float]], room: list[int], loads: list[int]) -> Short:
    return Short(np.array(owners, dtype=np.int32), np.array(loads), None, claims, np.array(room))


def test_of_several_the_one_that_had_it_first_keeps_it_whatever_the_order_of_the_claims() -> None:
    claims = [(0, 2, 30.0), (0, 1, 10.0), (0, 0, 20.0)]
    for some in (claims, claims[::-1]):
        assert settled(short_of([[-1]], some, [1, 1, 1, 0], [1]))[1] == [(0, 1, 10.0)]
    same = [(row, scraper, row * 7.0 % 5) for scraper in (3, 1, 0, 2) for row in range(40)]
    assert {s for _, s, _ in settled(short_of([[-1]] * 40, same, [40] * 4, [1] * 40))[1]} == {3}


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
