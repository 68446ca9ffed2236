"""Who may have targets, who is listed, what a scraper that refuses a service keeps, and what was owned before."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest

from promring.core.claims import Claims, Taken
from promring.core.coverage import Seen
from promring.core.eligible import eligible, entitled, listed
from promring.core.fragment import target
from promring.core.pool import build_pool, pool_of
from promring.core.recall import recalled
from promring.core.refusals import NOTHING_REFUSED, Refused, refused_now
from promring.core.twins import twins_beside
from promring.core.verdicts import Act, Hold, Withheld, ends_next
from promring.model import NEVER_ENDS, Failing, Members, Scraper, TargetGroup, TargetPool

FOUR = tuple(Scraper(name, name, 0) for name in "abcd")


def drawn(letters: str, *, draining: str = "", weightless: str = "") -> Members:
    return tuple(
        Scraper(name, name, 0, weight=0.0 if name in weightless else 1.0, draining=name in draining) for name in letters
    )


def able(members: Members) -> str:
    return "".join(s.id for s in members if s.weight > 0)


@pytest.mark.parametrize(
    ("members", "drained", "failing", "expected"),
    [
        (drawn("abcd"), "", "", "abcd"),
        (drawn("abcd"), "b", "", "acd"),
        (drawn("abcd", draining="c"), "", "", "abd"),
        (drawn("abcd"), "", "ab", "cd"),  # half of them fail
        (drawn("abcd"), "", "abc", "abcd"),  # most fail: it is not the scrapers
        (drawn("abcd"), "d", "abc", "abc"),
        (drawn("abcd"), "ab", "cd", "cd"),  # all that are left fail
        (drawn("abcd", weightless="ab"), "", "cd", "cd"),
        (drawn("abcd", draining="ab"), "", "cd", "cd"),
        (drawn("abcde"), "ab", "abc", "de"),  # two are drained and switched off: of the others one fails
        (drawn("abcde", draining="ab"), "", "abc", "de"),
        (drawn("abcde", weightless="ab"), "", "abc", "de"),
        (drawn("abcd"), "x", "xyz", "abcd"),  # of those that are not there nothing follows
        (drawn("abc", weightless="c"), "", "a", "b"),
    ],
)
def test_those_get_targets_that_are_not_drained_and_do_not_fail_unless_most_do(
    members: Members, drained: str, failing: str, expected: str
) -> None:
    found = eligible(members, set(drained), set(failing))
    assert able(found) == expected
    assert [s.id for s in found] == [s.id for s in members]


def test_where_nobody_is_left_out_the_members_are_the_same_object() -> None:
    assert eligible(FOUR, {"x"}, {"y"}) is FOUR


def test_of_one_server_under_several_names_one_gets_targets_and_the_others_do_not_count_as_failing() -> None:
    failing = Failing.of(["c"], aliases=[("a", "b")])
    assert able(entitled(FOUR, {"d"}, failing)) == "b"
    assert able(entitled(FOUR, (), failing)) == "bd"


def test_listed_are_the_members_and_the_catalogue_with_the_share_each_has_when_it_lives() -> None:
    a, b, c, d = FOUR
    found = listed((replace(d, weight=3.0), replace(a, draining=True)), (replace(a, weight=2.0), c), ())
    assert found == (a, c, replace(d, weight=3.0)), "a member says its weight, in order of names, and a drain is no loss"
    left = listed((a, b), (b, c, d), {"b", "c"})
    assert left == (a, replace(b, weight=0.0), d), "who was taken out stays while it lives, without a share"


# --- refusals --------------------------------------------------------------------------------------------------------

NO_KEYS = np.empty(0, dtype=np.uint64)
POOL = pool_of([TargetGroup.of([f"t{n}:1" for n in range(6)])])


def who_claims(owners: str, since: Collection[float] = (), *, ending: str = "") -> Claims:
    """Target ``n`` is with the letter at ``n``; those at the places in ``ending`` end."""
    rows, until = np.arange(len(owners)), [9.0 if str(n) in ending else NEVER_ENDS for n in range(len(owners))]
    numbers = np.array(["abcd".index(one) for one in owners], dtype=np.int32)
    begun = np.array(list(since) or [0.0] * len(owners))
    return Claims(("a", "b", "c", "d"), POOL.ids[rows], numbers, begun, np.array(until))


def sees(*rows: int) -> Seen:
    return Seen(1.0, np.sort(POOL.ids[list(rows)]), np.zeros(len(rows)), np.ones(len(rows), dtype=bool))


def refusing(
    *pairs: tuple[str, str],
    before: Refused = NOTHING_REFUSED,
    members: Members = FOUR,
    claims: Claims | None = None,
    taken: dict[tuple[str, str], Taken] | None = None,
    seen: dict[str, Seen] | None = None,
    tried: Collection[tuple[str, str]] = (),
) -> dict[tuple[str, str], list[int]]:
    order = {int(id): row for row, id in enumerate(POOL.ids.tolist())}
    found = refused_now(
        Failing(refusing=tuple(pairs)), before, members, claims or who_claims("abcdab"), taken or {}, seen or {}, tried
    )
    return {pair: sorted(order[id] for id in ids.tolist()) for pair, ids in found.items()}


PAIR = ("node", "a")


def test_a_scraper_that_refuses_keeps_what_it_took_and_was_seen_with_and_nothing_that_came_later() -> None:
    claims = who_claims("aaabbb", [1.0, 2.0, 3.0, 1.0, 1.0, 1.0])
    took = {PAIR: Taken().and_then(2.0, 2.5)}
    assert refusing(PAIR, claims=claims, taken=took, tried=[PAIR]) == {PAIR: [0, 1]}
    assert refusing(PAIR, claims=claims, taken=took, seen={"a": sees(5)}, tried=[PAIR]) == {PAIR: [0, 1, 5]}
    assert refusing(PAIR, claims=claims, tried=[PAIR]) == {PAIR: []}, "it never took one"


def test_where_another_controller_found_the_refusal_it_is_what_is_seen_or_else_the_plan() -> None:
    claims = who_claims("aaabbb", [1.0, 2.0, 3.0, 1.0, 1.0, 1.0])
    took = {PAIR: Taken().and_then(1.0, 1.5)}
    assert refusing(PAIR, claims=claims, taken=took) == {PAIR: [0, 1, 2]}, "its own receipts are about other slices"
    assert refusing(PAIR, claims=claims, taken=took, seen={"a": sees(5)}) == {PAIR: [5]}
    assert refusing(("node", "x"), claims=claims) == {("node", "x"): []}, "nobody knows it"
    assert refusing(("node", "x"), claims=claims, seen={"x": sees(2)}) == {("node", "x"): [2]}


def test_what_was_refused_before_stays_as_it_was() -> None:
    before = {PAIR: POOL.ids[4:5]}
    claims = who_claims("abcdab")
    assert refused_now(Failing(refusing=(PAIR,)), before, FOUR, claims, {}, {}, ()) is before
    found = refused_now(Failing(refusing=(PAIR, ("node", "b"))), before, FOUR, claims, {}, {}, ())
    assert found[PAIR] is before[PAIR]
    assert list(found) == [PAIR, ("node", "b")]
    assert refused_now(Failing(), before, FOUR, claims, {}, {}, ()) == {}


@pytest.mark.parametrize(
    ("members", "pairs", "expected"),
    [
        (FOUR, ["a", "b"], ["a", "b"]),  # half of them
        (FOUR, ["a", "b", "c"], []),  # most
        (drawn("abcd", draining="ab"), ["c", "d"], []),  # all that may have targets
        (drawn("abcd", weightless="ab"), ["c", "a"], ["a", "c"]),
    ],
)
def test_what_most_refuse_or_all_that_may_have_targets_is_not_their_fault(
    members: Members, pairs: list[str], expected: list[str]
) -> None:
    other = ("ping", "a")
    found = refusing(*(("node", name) for name in pairs), other, members=members)
    assert [name for service, name in found if service == "node"] == expected
    assert other in found, "services are judged one by one"


# --- twins -----------------------------------------------------------------------------------------------------------


def entries(*some: tuple[str, dict[str, str]]) -> TargetPool:
    return build_pool([[TargetGroup.of([address], labels) for address, labels in some]])


def ids_where(pool: TargetPool, *wanted: tuple[str, str]) -> np.ndarray:
    found = [row for row in range(len(pool)) if (target(pool, row).address, target(pool, row).labels.get("v", "")) in wanted]
    assert len(found) == len(wanted)
    return np.sort(pool.ids[found])


def test_a_twin_has_the_address_and_the_redirecting_labels_of_one_that_is_there() -> None:
    three = [("t:1", {"v": v}) for v in ("1", "2", "3")]
    lone = [(f"l{n}:1", {"v": "1"}) for n in range(8)]
    module = ("t:1", {"v": "m", "__param_module": "x"})
    pool = entries(*three, ("u:1", {"v": "1"}), ("u:1", {"v": "2"}), module, *lone)
    found = twins_beside(pool, ids_where(pool, ("t:1", "2"), ("l0:1", "1")))
    assert found.tolist() == ids_where(pool, ("t:1", "1"), ("t:1", "3")).tolist(), "ascending, without the one that is there"
    assert twins_beside(pool, ids_where(pool, ("t:1", "m"))).tolist() == []
    assert twins_beside(pool, NO_KEYS).tolist() == []
    both = twins_beside(pool, ids_where(pool, ("t:1", "1"), ("t:1", "2"), ("t:1", "3"), ("u:1", "2")))
    assert both.tolist() == ids_where(pool, ("u:1", "1")).tolist()


def test_of_targets_with_one_key_by_hash_labels_only_those_of_one_identity_are_twins() -> None:
    pool = build_pool([[TargetGroup.of(["a:1", "b:1"], {"rack": "r"}), TargetGroup.of(["a:1"], {"v": "1"})]], ["rack"])
    with_rack = np.sort(pool.ids[[row for row in range(3) if "rack" in target(pool, row).labels]])
    (other,) = (row for row in range(3) if "v" in target(pool, row).labels)
    assert twins_beside(pool, with_rack).tolist() == []
    ranked = build_pool([[TargetGroup.of(["a:1", "b:1"], {"v": "1"}), TargetGroup.of(["a:1"], {"v": "2"})]], ["rack"])
    here = ids_where(ranked, ("a:1", "2"), ("b:1", "1"))
    assert twins_beside(ranked, here).tolist() == ids_where(ranked, ("a:1", "1")).tolist()
    assert twins_beside(pool, pool.ids[other : other + 1]).tolist() == []


def test_where_every_target_is_listed_once_there_is_no_twin() -> None:
    found = twins_beside(POOL, POOL.ids[:2])
    assert found.tolist() == []
    assert found.dtype == np.uint64


# --- what was owned before -------------------------------------------------------------------------------------------


def test_what_is_recalled_are_the_owners_of_the_targets_that_are_still_there() -> None:
    assert recalled(who_claims(""), POOL) is None
    claims = who_claims("abcdab", ending="15")
    fewer = pool_of([TargetGroup.of([target(POOL, row).address for row in (0, 1, 2, 4)])])
    found = recalled(claims, fewer)
    assert found is not None
    names = [s.id for s in found.scrapers]
    assert names == ["a", "b", "c", "d"]
    order = {int(id): row for row, id in enumerate(POOL.ids.tolist())}
    owned = {order[int(fewer.ids[row])]: owners for row, owners in enumerate(found.owners.tolist())}
    assert owned == {0: [0], 1: [-1], 2: [2], 4: [0]}
    assert found.owners.dtype == np.int32
    nothing = recalled(who_claims("abcdab"), pool_of([]))
    assert nothing is not None
    assert nothing.owners.shape == (0, 1)


def test_several_owners_of_one_target_are_recalled_in_the_order_of_their_claims() -> None:
    rows, numbers = np.array([3, 0, 3, 1, 3, 1]), np.array([2, 1, 0, 3, 1, 0], dtype=np.int32)
    claims = Claims(("a", "b", "c", "d"), POOL.ids[rows], numbers, np.zeros(6), np.full(6, NEVER_ENDS))
    found = recalled(claims, POOL)
    assert found is not None
    nobody = [-1, -1, -1]
    assert found.owners.tolist() == [[1, -1, -1], [3, 0, -1], nobody, [2, 0, 1], nobody, nobody]
    many = np.tile(np.arange(6), 30)
    order = np.arange(180, dtype=np.int32)[::-1]
    found = recalled(Claims(tuple(map(str, order)), POOL.ids[many], order, np.zeros(180), np.full(180, NEVER_ENDS)), POOL)
    assert found is not None
    assert (np.diff(found.owners, axis=1) == -6).all()


# --- what is held ----------------------------------------------------------------------------------------------------


def test_a_doubt_is_about_its_sources_and_what_else_is_held_about_nothing() -> None:
    assert Withheld("source_shrank", "", ("http", "main", "12")).about == ("http", "main")
    assert Withheld("panic", "", ("a:1", "b:1")).about == ()


def test_the_next_thing_to_end_is_the_first_that_has_not_ended() -> None:
    held = tuple(Withheld("panic", "", (), until) for until in (9.0, 5.0, None, 7.0, 3.0))
    assert [ends_next(Act((), held), now) for now in (0.0, 3.0, 4.0, 8.0, 9.0)] == [3.0, 5.0, 5.0, 9.0, float("inf")]
    assert ends_next(Hold("panic", "", until=4.0), 1.0) == 4.0
    assert ends_next(Act(()), 1.0) == float("inf")
