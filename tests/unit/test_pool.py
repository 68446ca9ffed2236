"""From lists to pools: in whatever portions a list comes, and whatever sources are merged with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from promring.core.fragment import ID_LABEL, Whole, decode, fragments, identities, suffix_of
from promring.core.pool import (
    AT_ONCE,
    AT_ONCE_BYTES,
    CONFLICTS_NAMED,
    Listed,
    Wholes,
    fingerprint_of,
    merge,
    merge_sources,
    pool_of,
    pool_of_listed,
)
from promring.model import TargetGroup, TargetPool


def named(count: int, first: int = 0) -> list[str]:
    return [f"t{n}:1" for n in range(first, first + count)]


def columns(pool: TargetPool) -> tuple[object, ...]:
    return pool.keys.tolist(), pool.ids.tolist(), pool.digests.tolist(), pool.blob, pool.bounds.tolist()


# --- one list --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE + 5])
@pytest.mark.parametrize("labels", [{}, {"v": "1"}, {"v": "x" * (AT_ONCE_BYTES // 700)}], ids=["none", "short", "long"])
def test_a_list_is_the_same_pool_in_whatever_groups_it_comes(count: int, labels: dict[str, str]) -> None:
    names = named(count)
    at_once = pool_of([TargetGroup.of(names, labels)])
    one_by_one = pool_of(TargetGroup.of([name], labels) for name in names)
    mixed = pool_of([TargetGroup.of(names[:1], labels), TargetGroup.of(names[1:], labels)])
    suffix = suffix_of(tuple(labels.items()))
    made = Wholes([Whole((name,), labels) for name in names[::2]], [name + suffix for name in names[::2]])
    both = pool_of_listed([Listed(names[1::2], labels, suffix), made])
    assert columns(at_once) == columns(one_by_one) == columns(mixed) == columns(both)
    assert sorted(identities(at_once)) == sorted(names)
    assert [one.duplicates for one in (at_once, one_by_one, mixed, both)] == [0] * 4


def test_a_slice_may_be_a_source_and_its_ids_are_no_labels() -> None:
    labels = {"a": "1", "v": "2"}
    for names in (named(1), named(3)):
        sealed = pool_of([TargetGroup.of(names, {**labels, ID_LABEL: "00000000000000ff"})])
        assert columns(sealed) == columns(pool_of([TargetGroup.of(names, labels)]))


def test_a_list_is_told_from_another_by_any_target_and_any_label() -> None:
    some = [[TargetGroup.of(named(3), {"v": v})] for v in "12"] + [[TargetGroup.of(named(3, first))] for first in (0, 1)]
    prints = [fingerprint_of(pool_of(groups)) for groups in some]
    assert len(set(prints)) == 4
    assert prints == [fingerprint_of(pool_of(groups[::-1])) for groups in some]
    assert {one.targets for one in prints} == {3}
    one = pool_of(some[0])
    assert fingerprint_of(replace(one, ids=one.ids + np.uint64(1))) != prints[0]


# --- all lists -------------------------------------------------------------------------------------------------------


def twins(names: Sequence[str], *values: str) -> TargetPool:
    return pool_of([TargetGroup.of(names, {"v": v}) for v in values])


def test_a_target_keeps_its_id_whatever_other_sources_have_and_in_however_many_parts_its_list_comes() -> None:
    """Also one of several at one address, whose id depends on its labels: a scraper begins anew with another id."""
    one, more = twins(named(4), "1", "2"), twins(named(4, 2), "3")
    whole = twins(named(4), "1", "2", "3")
    apart = merge([one, twins(named(3, 50), "1", "2")])
    assert set(one.ids.tolist()) < set(apart.ids.tolist())
    parts = merge([twins(named(4), "1"), twins(named(4), "2", "3")], ranked=False)
    assert columns(parts) == columns(whole)
    assert columns(merge([merge([twins(named(4), "1", "2")]), twins(named(4), "3")], ranked=False)) == columns(whole)
    again = merge([merge([one, more]), twins(named(1, 90), "1")])
    assert columns(again) == columns(merge([one, more, twins(named(1, 90), "1")]))


def test_what_is_placed_by_one_label_stands_in_order_of_its_identity() -> None:
    hosts = [
        [TargetGroup.of([name], {"host": f"h{n % 3}"}) for n, name in enumerate(named(300, first))] for first in (0, 300)
    ]
    pools = [pool_of(groups) for groups in hosts]
    found = merge(pools, ["host"])
    assert len(set(found.keys.tolist())) == 3
    assert list(zip(found.keys, found.ids, strict=True)) == sorted(zip(found.keys, found.ids, strict=True))
    assert columns(found) == columns(merge(pools[::-1], ["host"]))


def test_a_single_list_is_taken_as_it_is_unless_it_is_placed_by_labels_or_asks_for_zones() -> None:
    one = pool_of([TargetGroup.of([f"{name}:1"], {"zone": name}) for name in ("z3", "z1", "z2", "z5", "z4")])
    assert merge([one]) is one
    assert (one.zones, merge([one, one]).zones, merge([one, one]).zone_names) == (None, None, ())
    zoned, placed = merge([one], None, "zone"), merge([one], ["zone"])
    assert zoned.zones is not None
    assert zoned.zone_names == ("z1", "z2", "z3", "z4", "z5"), "in the same order in every process"
    assert [zoned.zone_names[n] for n in zoned.zones] == [decode(one).labels["zone"] for one in fragments(zoned)]
    assert columns(zoned) == columns(one)
    assert placed.ids.tolist() != placed.keys.tolist()


def test_sources_without_a_rank_come_after_all_that_have_one_in_their_order() -> None:
    lists = {name: twins([*named(1), f"{name}:1"], name) for name in ("new", "newer", "low", "high")}

    def winner(*names: str, **ranks: int) -> str:
        pool = merge_sources({name: lists[name] for name in names}, ranks)
        assert pool.conflicts == len(names) - 1
        (found,) = [one.labels["v"] for one in map(decode, fragments(pool)) if one.address == "t0:1"]
        return found

    assert winner("new", "low", "high", low=5, high=2) == "high"
    assert winner("new", "low", low=5, gone=2) == "low"
    assert winner("new", "low", low=0) == "low"
    assert winner("newer", "new") == "newer"
    assert winner("new", "newer") == "new"


def test_the_first_ten_addresses_are_named_of_which_a_source_lost_a_target_each_once() -> None:
    first, later = twins(named(14), "1"), twins(named(14), "2", "3")
    pool = merge([first, later])
    assert (pool.conflicts, pool.duplicates, len(pool)) == (28, 28, 14)
    assert len(pool.conflicts_named) == len(set(pool.conflicts_named)) == CONFLICTS_NAMED
    assert set(pool.conflicts_named) <= set(named(14))
    assert sorted(merge([first, twins(named(3), "2")]).conflicts_named) == named(3)


def test_what_was_refused_and_remarked_of_all_sources_is_told_of_the_merged_list() -> None:
    told = [tuple(f"{name}{n}" for n in range(7)) for name in "ab"]
    some = [replace(twins(named(3, 9 * n), "1"), refused=n + 2, remarks=remarks) for n, remarks in enumerate(told)]
    found = merge(some)
    assert (found.refused, found.remarks) == (5, (*told[0], *told[1])[:CONFLICTS_NAMED])


def test_two_targets_with_one_hash_both_stay_in_order_of_their_identity() -> None:
    same = np.array([7], dtype=np.uint64)
    one, other = (replace(pool_of([TargetGroup.of([name])]), keys=same, ids=same) for name in ("a:1", "b:1"))
    for pools in ([one, other], [other, one]):
        found = merge(pools)
        assert identities(found) == ["a:1", "b:1"]
        assert (found.keys.tolist(), len(set(found.ids.tolist())), found.duplicates) == ([7, 7], 2, 0)
