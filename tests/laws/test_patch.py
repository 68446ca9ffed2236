"""What a merged pool becomes when one of its lists changes is what a merge of all lists gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.patch import merge_again
from promring.core.pool import merge, pool_of
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
