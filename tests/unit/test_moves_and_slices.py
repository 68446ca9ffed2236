"""Plans and slices beside what the owners of each target say: whatever the placement."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promring.core.difference import compare
from promring.core.fragment import encode, id_of, listed_part, suffix_of, target
from promring.core.joined import FleetPool, Part
from promring.core.placement import Policy, place
from promring.core.plan import EMPTY_BODY, Rows, Shares, bodies, bodies_of, body_of, rows_of, same_bodies, shares
from promring.core.pool import merge, pool_of
from promring.core.ring import Ring
from promring.fleet.slicing import InForce, slices_of
from promring.fleet.state import Memory, ServiceMemory
from promring.model import SEPARATOR, Generation, Placement, Scraper, Slice, TargetGroup, TargetPool

SCRAPERS = tuple(Scraper(name, name, 0) for name in "abcdef")
EVERY = [f"t{n}:1" for n in range(9)]


def listed(addresses: list[str]) -> TargetPool:
    return pool_of([TargetGroup.of([address]) for address in addresses])


def drawn(rng: np.random.Generator, *, loads: bool) -> Placement:
    pool = listed([address for address in EVERY if rng.random() < 0.8])
    some = tuple(s for s in SCRAPERS if rng.random() < 0.8) or SCRAPERS[:1]
    replicas = int(rng.integers(1, 4))
    owners = np.full((len(pool), replicas), -1, dtype=np.int32)
    for row in owners:
        them = rng.permutation(len(some))[:replicas]
        row[: len(them)] = np.where(rng.random(len(them)) < 0.2, -1, them)
    return Placement(some, pool, owners, None, rng.integers(1, 9, len(pool)) if loads else None)


def owned(placement: Placement) -> dict[int, set[str]]:
    ids = placement.pool.ids.tolist()
    return {
        one: {placement.scrapers[i].id for i in row if i >= 0}
        for one, row in zip(ids, placement.owners.tolist(), strict=True)
    }


@given(st.integers(0, 2**32))
def test_a_plan_is_what_each_target_gets_in_place_of_what_it_had(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(6):
        old, new = drawn(rng, loads=False), drawn(rng, loads=bool(rng.random() < 0.5))
        check(None if rng.random() < 0.1 else old, new)


def check(old: Placement | None, new: Placement) -> None:
    had = owned(old) if old is not None else {}
    total = defaultdict[tuple[str, str], list[int]](lambda: [0, 0])
    first = {}
    for row, (one, has) in enumerate(owned(new).items()):
        lost, gained = sorted(had.get(one, set()) - has), sorted(has - had.get(one, set()))
        if lost and gained:
            first[one] = lost[0], gained[0]
        for n in range(max(len(lost), len(gained))):
            pair = total[lost[n] if n < len(lost) else "~", gained[n] if n < len(gained) else "~"]
            pair[0] += 1
            pair[1] += 1 if new.loads is None else int(new.loads[row])
    plan = compare(old, new)
    found = [(move.source or "~", move.destination or "~", move.count, move.load) for move in plan.moves]
    assert found == [(*pair, *counted) for pair, counted in sorted(total.items())]
    assert (plan.targets is None) == (not first)
    if plan.targets is not None:
        moved = plan.targets
        named = zip(moved.ids.tolist(), moved.sources.tolist(), moved.destinations.tolist(), strict=True)
        assert {one: (moved.scrapers[of], moved.scrapers[to]) for one, of, to in named} == first


@given(st.integers(0, 2**32))
def test_a_slice_has_the_targets_of_its_scraper_in_the_order_of_the_pool(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(4):
        placement = drawn(rng, loads=False)
        cut, pool, made = shares(placement), placement.pool, list(bodies(placement))
        parts = []
        for i in range(len(placement.scrapers)):
            rows = [row for row in range(len(pool)) if i in placement.owners[row]]
            lines = b",\n".join(pool.fragment(row) for row in rows)
            body = b"[\n" + lines + b"\n]\n" if rows else EMPTY_BODY
            assert (cut.of(i).tolist(), cut.count(i), cut.body(i), made[i]) == (rows, len(rows), body, (i, body, len(rows)))
            parts.append(np.array(rows, dtype=np.intp))
            assert body_of(pool, parts[-1]) == body
        assert bodies_of(pool, parts) == [body for _, body, _ in made]
        other = drawn(rng, loads=False).pool
        expected = [other.ids.tolist().index(one) if one in other.ids else len(other) for one in pool.ids.tolist()]
        found = rows_of(other, pool.ids)
        assert (found.tolist(), found.dtype.kind) == (expected, "i")
    assert SEPARATOR == b",\n"


def test_rows_are_found_by_id_in_a_pool_of_none_of_one_and_where_ids_are_in_another_order() -> None:
    ids = listed(EVERY).ids
    assert rows_of(listed([]), ids).tolist() == [0] * len(EVERY)
    for name in EVERY:
        assert sorted(rows_of(listed([name]), ids).tolist()) == [0, *[1] * (len(EVERY) - 1)]
    twins = pool_of([TargetGroup.of([name], {"v": v}) for name in EVERY for v in "12"])
    assert rows_of(twins, twins.ids).tolist() == list(range(len(twins)))


def test_more_scrapers_than_16_bits_can_count_have_their_own_targets() -> None:
    count = 2**16
    owners = np.array([[count - 1], [0], [-1], [count - 1]], dtype=np.int32)
    cut = shares(Placement(SCRAPERS[:1] * count, listed(EVERY[:4]), owners))
    assert (cut.of(count - 1).tolist(), cut.of(0).tolist(), cut.count(1)) == ([0, 3], [1], 0)


def test_of_one_scraper_many_rows_stay_in_the_order_of_the_pool() -> None:
    pool = listed([f"t{n}:1" for n in range(400)])
    cut = shares(Placement(SCRAPERS, pool, np.arange(400, dtype=np.int32)[:, None] % 3))
    assert all((np.diff(cut.of(i)) == 3).all() for i in range(3))


def test_slices_are_the_same_where_their_rows_say_the_same() -> None:
    pool, again = listed(EVERY), listed(EVERY)
    names = [target(pool, row).address for row in range(len(pool))]
    changed = pool_of([TargetGroup.of(names[:1], {"v": "1"}), *(TargetGroup.of([name]) for name in names[1:])])
    rows = np.arange(3)

    def same(other: TargetPool, of: Rows, mine: Rows = rows) -> list[bool]:
        """Of one scraper that had rows ``mine`` of ``pool``, and of one that had none."""
        old, new = Shares(pool, mine, [0, len(mine)]), Shares(other, of, [0, len(of), len(of)])
        found: list[bool] = same_bodies(old, np.array([0, -1]), new).tolist()
        return found

    for other in (pool, again):
        assert same(other, rows) == [True, False]
        assert same(other, rows[:2]) == [False, False]
        assert same(other, np.array([0, 1, 3])) == [False, False]
    assert same(changed, rows) == [False, False]
    assert same(changed, rows[1:], rows[1:]) == [True, False]
    assert same(changed, rows[:0], rows[:0]) == [True, False], "nothing is nothing"


@given(st.integers(0, 2**32))
def test_a_slice_counts_as_unchanged_just_where_its_bytes_are(seed: int) -> None:
    """``old``: another list, or the same one, as the same object or read again, of which a few targets have moved."""
    rng = np.random.default_rng(seed)
    for _ in range(6):
        new = drawn(rng, loads=False)
        old = drawn(rng, loads=False)
        if rng.random() < 0.7:
            moved = rng.random(len(new.pool)) < 0.2
            owners = np.where(moved[:, None], np.maximum(new.owners - 1, -1), new.owners)
            again = listed([target(new.pool, row).address for row in range(len(new.pool))])
            old = replace(new, owners=owners, pool=again if rng.random() < 0.5 else new.pool)
        numbers = {s.id: i for i, s in enumerate(old.scrapers)}
        was = np.array([numbers.get(s.id, -1) for s in new.scrapers])
        had = [body for _, body, _ in bodies(old)]
        expected = [i >= 0 and had[i] == body for i, (_, body, _) in zip(was.tolist(), bodies(new), strict=True)]
        assert same_bodies(shares(old), was, shares(new)).tolist() == expected


def test_an_id_is_16_hex_digits_and_nothing_else() -> None:
    assert [id_of(text) for text in ("00000000000000ff", "ff", "0" * 17, "x" * 16, "")] == [255, None, None, None, None]
    fragment = pool_of([TargetGroup.of(["t:1"], {"v": "1"})]).fragment(0)
    assert listed_part(fragment) == b'{"targets":["t:1"],"labels":{"v":"1",'


def test_labels_that_redirect_name_a_target_in_whatever_order_they_stand() -> None:
    pairs = [("__scheme__", "https"), ("__param_b", "2"), ("env", "x"), ("__metrics_path__", "/m"), ("__param_a", "1")]
    expected = "\0__metrics_path__\0/m\0__param_a\0001\0__param_b\0002\0__scheme__\0https"
    assert {suffix_of(pairs), suffix_of(pairs[::-1]), suffix_of(sorted(pairs))} == {expected}


@pytest.mark.parametrize("text", ["plain", "a\x7fb", "ü", "ü\x85", "\u2028", "\ufeff", "\x7fü"])
def test_what_yaml_does_not_allow_is_escaped_and_nothing_else(text: str) -> None:
    bad = [one for one in text if one in "\x7f\x85\u2028\ufeff"]
    expected = "".join(f"\\u{ord(one):04x}" if one in bad else one for one in text)
    assert encode({"v": text}) == f'{{"v":"{expected}"}}'.encode()


def test_one_that_leaves_gets_no_slice_of_a_service_that_it_never_had() -> None:
    """A service came from another fleet, and its scrapers with it, to hand it over."""
    a, leaving = Scraper("a:1", "a", 1), Scraper("z:1", "z", 1, weight=0.0, draining=True)
    parts = {name: Part(merge([pool_of([TargetGroup.of([f"{name}:1"])])], None, None), 1, 0) for name in ("came", "own")}
    now = InForce.of(place(FleetPool.of(parts), Ring((a, leaving), 8), Policy(8)))
    had = {leaving.id: Slice("came", leaving, Generation(1, 1), b"[]\n", 0)}
    found = slices_of(now, None, Memory(services={"came": ServiceMemory(slices=had)}))
    assert {name: sorted(slices) for name, slices in found.items()} == {"came": ["a:1", "z:1"], "own": ["a:1"]}
