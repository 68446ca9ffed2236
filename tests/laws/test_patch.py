"""What a merged pool becomes when one of its lists changes is what a merge of all lists gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.patch import merge_again
from promring.core.pool import CONFLICTS_NAMED, merge, pool_of
from promring.model import TargetGroup, TargetPool

entries = st.tuples(st.integers(0, 60), st.sampled_from(["a", "b"]))
lists = st.lists(entries, max_size=40)


def pool(listed: list[tuple[int, str]]) -> TargetPool:
    return pool_of([TargetGroup.of([f"t{number}:1"], {"v": value}) for number, value in listed])


def columns(one: TargetPool) -> tuple[object, ...]:
    return (
        one.keys.tolist(),
        one.ids.tolist(),
        one.digests.tolist(),
        one.bounds.tolist(),
        one.blob,
        one.duplicates,
        one.refused,
        one.remarks,
    )


@given(st.lists(lists, min_size=1, max_size=4), st.data())
def test_a_merge_made_again_is_the_merge_of_all(before: list[list[tuple[int, str]]], data: st.DataObject) -> None:
    pools = [pool(one) for one in before]
    after = list(pools)
    for number in data.draw(st.sets(st.integers(0, len(pools) - 1))):
        gone = data.draw(st.sets(st.integers(0, 40), max_size=2))
        stays = [entry for at, entry in enumerate(before[number]) if at not in gone]
        after[number] = pool(stays + data.draw(st.lists(entries, max_size=2)))
    found = merge_again(after, pools, merge(pools, ranked=False))
    assert columns(found) == columns(merge(after, ranked=False))


def test_a_small_change_of_a_long_list_is_patched_and_not_merged() -> None:
    parts = [pool([(number, "a") for number in range(first, first + 500)]) for first in (0, 500)]
    changed = [pool([(number, "b" if number == 7 else "a") for number in range(499)]), parts[1]]
    once = merge(parts, ranked=False)
    found, wanted = merge_again(changed, parts, once), merge(changed, ranked=False)
    assert columns(found) == columns(wanted)
    assert found.ids is found.keys
    assert np.array_equal(found.bounds, wanted.bounds)


MARK = pool([(1000, "a")])
"""In no list: a pool that is merged again has it only where it was patched."""


def patched(before: list[TargetPool], after: list[TargetPool], merged: TargetPool | None = None) -> bool:
    found = merge_again(after, before, merged or merge([*before, MARK], ranked=False))
    if not (is_patched := MARK.keys[0] in found.keys):
        assert columns(found) == columns(merge(after, ranked=False))
    return is_patched


def numbers(*ranges: range, v: str = "a") -> list[tuple[int, str]]:
    return [(n, v) for some in ranges for n in some]


def test_what_is_patched_is_a_few_rows_of_lists_that_share_no_target() -> None:
    one, two = pool(numbers(range(11))), pool(numbers(range(20, 40)))  # and the mark: 32 rows
    assert patched([one, two], [pool(numbers(range(2, 11), range(11, 13))), two]), "four are an eighth"
    assert not patched([one, two], [pool(numbers(range(2, 11), range(11, 14))), two])
    assert not patched([one, two], [pool(numbers(range(2, 14))), two])
    assert patched([one, two], [one, two]), "nothing is another"
    assert patched([one, two], [pool(numbers(range(10))), pool(numbers(range(21, 40)))]), "both, each a little"
    assert patched([one, two], [pool([(0, "b"), *numbers(range(1, 11))]), two]), "a label"
    assert patched([pool([]), two], [pool([(50, "a")]), two])
    assert patched([pool([(50, "a")]), two], [pool([]), two])
    assert not patched([one], [pool(numbers(range(1, 11)))]), "one list is the pool"
    assert not patched([one, two], [one, two, pool([(50, "a")])])
    assert not patched([one, two], [one])


def test_what_two_lists_share_or_one_server_is_asked_twice_is_merged_anew() -> None:
    one, two = pool(numbers(range(11))), pool(numbers(range(20, 40)))
    less = pool(numbers(range(10)))
    assert not patched([one, pool(numbers(range(10, 40)))], [less, pool(numbers(range(10, 40)))]), "both had it"
    assert not patched([one, two], [pool(numbers(range(11), range(20, 21))), two]), "both have it now"
    assert not patched([one, two], [pool([*numbers(range(11)), (0, "b")]), two]), "twice in one list"
    assert not patched([pool([*numbers(range(11)), (0, "b")]), two], [one, two])
    twice = merge([one, two, MARK, pool([(1000, "b")])], ranked=False)
    assert not patched([one, two], [less, two], twice)
    assert not patched([one, two], [less, two], merge([two, MARK], ranked=False)), "what was merged lacks the list"
    assert not patched([one, two], [less, two], merge([pool(numbers(range(10))), two, MARK], ranked=False))


def test_zones_are_merged_anew() -> None:
    one, two = pool(numbers(range(11))), pool(numbers(range(20, 40)))
    zoned = merge([one, two, MARK], zone_label="v")
    assert zoned.zones is not None
    assert not patched([one, two], [pool(numbers(range(10))), two], zoned)


def test_what_was_refused_and_remarked_and_listed_twice_is_that_of_all_lists() -> None:
    lists = [pool(numbers(range(first, first + 20))) for first in (0, 20, 40)]
    lists = [
        replace(one, refused=n + 1, duplicates=2 * n + 1, remarks=tuple(f"{n}.{k}" for k in range(5)))
        for n, one in enumerate(lists)
    ]
    changed = replace(pool(numbers(range(1, 20))), refused=7, duplicates=4, remarks=("new",))
    found = merge_again([changed, *lists[1:]], lists, merge(lists, ranked=False))
    assert columns(found) == columns(merge([changed, *lists[1:]], ranked=False))
    assert (found.refused, found.duplicates, len(found.remarks)) == (12, 12, CONFLICTS_NAMED)


@given(st.integers(0, 2**32))
def test_few_rows_anywhere_are_patched_into_what_a_merge_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    every = [(int(n), "a") for n in rng.permutation(200)[:48]]
    before = [pool(every[:24]), pool(every[24:])]
    for _ in range(4):
        gone, came = rng.integers(0, 3), rng.integers(0, 4)
        kept = [every[n] for n in rng.permutation(24)[: 24 - gone]]
        fresh = [(int(n), "b") for n in rng.permutation(200)[:came] + 300]
        if gone + came < 4:
            kept[0] = (kept[0][0], "b")
        after = [pool(kept + fresh), before[1]]
        assert columns(merge_again(after, before, merge(before, ranked=False))) == columns(merge(after, ranked=False))
        assert patched(before, after)
