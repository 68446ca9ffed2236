"""What one scraper was seen doing: of which targets that is known, and for how long it counts."""

from __future__ import annotations

import numpy as np
import pytest

from promring.core.coverage import ERRORS_KEPT, FOREIGN_KEPT, Active, Index, Seen
from promring.core.fragment import ID_LABEL
from promring.core.pool import pool_of
from promring.model import LONG_AGO, Keys, TargetGroup
from tests.seeing import told

POOL = pool_of([TargetGroup.of([f"t{n}:1" for n in range(9)])])


def keys(*some: int) -> Keys:
    return np.array(some, dtype=np.uint64)


def seen(*asked_at: float, interval_s: float = 0.0, up: bool = True, stale_s: list[float] | None = None) -> Seen:
    """Targets 10, 20, …, at 1000 s."""
    ids = keys(*(10 * (n + 1) for n in range(len(asked_at))))
    stale = None if stale_s is None else np.array(stale_s)
    return Seen(1000.0, ids, np.array(asked_at), np.full(len(ids), up), interval_s, stale_s=stale)


@pytest.mark.parametrize(("interval_s", "lasts_s"), [(0.0, 180.0), (1.0, 15.0), (5.0, 15.0), (10.0, 30.0), (60.0, 180.0)])
def test_a_scrape_proves_something_for_three_intervals_and_for_15_s_at_least(interval_s: float, lasts_s: float) -> None:
    one = seen(1000.0 - lasts_s, 999.9 - lasts_s, LONG_AGO, interval_s=interval_s)
    assert one.scraped.tolist() == [True, False, False]
    times, up = one.of(keys(10, 20, 30))
    assert (times.tolist(), up.tolist()) == ([1000.0 - lasts_s, LONG_AGO, LONG_AGO], [True, False, False])


def test_each_target_may_have_its_own_time_that_its_scrape_counts() -> None:
    assert seen(950.0, 950.0, interval_s=1.0, stale_s=[50.0, 49.0]).scraped.tolist() == [True, False]


def test_of_a_target_that_it_does_not_have_nothing_is_known() -> None:
    one = seen(1000.0, 999.0)
    times, up = one.of(keys(20, 5, 15, 10, 25, 2**64 - 1))
    assert times.tolist() == [999.0, LONG_AGO, LONG_AGO, 1000.0, LONG_AGO, LONG_AGO]
    assert up.tolist() == [True, False, False, True, False, False]
    assert not seen(1000.0, up=False).of(keys(10))[1].any()
    nothing, none = seen().of(keys(10, 20))
    assert (nothing.tolist(), none.tolist(), none.dtype) == ([LONG_AGO] * 2, [False] * 2, np.dtype(np.bool_))


def test_that_it_asked_nothing_lately_is_said_when_it_asked_something_once() -> None:
    assert "500 s before the Date" in seen(400.0, LONG_AGO, 500.0).still
    assert [one.still for one in (seen(), seen(LONG_AGO), seen(500.0, 1000.0), seen(1000.0, LONG_AGO))] == [""] * 4


def test_it_lists_targets_when_it_has_all_of_them() -> None:
    one = seen(1000.0, LONG_AGO, 1000.0)
    asked = [(), (10,), (10, 20, 30), (30, 10), (10, 15), (5,), (10, 35), (2**64 - 1,)]
    assert [one.lists(keys(*some)) for some in asked] == [True, True, True, True, False, False, False, False]
    assert [seen().lists(keys(*some)) for some in ((), (10,))] == [True, False]


def test_it_has_just_its_targets_when_it_has_these_or_drops_them_and_has_no_other() -> None:
    def has(ids: Keys, dropped: Keys, wanted: Keys) -> bool:
        nothing = np.zeros(len(ids))
        return Seen(1000.0, ids, nothing, nothing > 0, dropped=dropped).has_just(wanted)

    for dropped in (keys(), keys(15), keys(15, 30)):
        assert has(keys(10, 20), dropped, keys(10, 20))
        assert has(keys(10, 20), dropped, keys(10, 20, 30)) == (30 in dropped)
        assert not has(keys(10, 20), dropped, keys(10, 20, 40))
        assert not has(keys(10, 20), dropped, keys(10)), "20 is another one"
        assert not has(keys(10, 20), dropped, keys(20, 30))
    assert has(keys(), keys(10), keys(10))


# --- from what it says -----------------------------------------------------------------------------------------------


def test_what_it_says_is_found_by_id_whatever_the_order_and_counts_from_its_last_scrape() -> None:
    some = [told(POOL, row, age_s=float(row)) for row in (5, 2, 7)]
    found = Index(POOL).seen(100.0, [some[0]._replace(interval_s=None), some[1]._replace(interval_s=20.0), some[2]])
    assert found.ids.tolist() == POOL.ids[[2, 5, 7]].tolist()
    assert (found.scraped_at.tolist(), found.up.tolist()) == ([98.0, 95.0, 93.0], [True] * 3)
    assert (found.interval_s, found.up.dtype) == (20.0, np.dtype(np.bool_))
    unknown = Index(POOL).seen(100.0, [some[0]._replace(interval_s=None)])
    assert (unknown.interval_s, unknown.never_asked, dict(unknown.errors)) == (0.0, "", {})
    nothing = Index(POOL).seen(100.0, [])
    assert (len(nothing.ids), len(nothing.scraped_at), nothing.up.dtype) == (0, 0, np.dtype(np.bool_))


def test_what_it_never_asked_is_not_up_and_the_first_reason_is_kept() -> None:
    some = [told(POOL, row) for row in range(4)]
    some[0] = some[0]._replace(age_s=None)
    some[1:3] = [one._replace(never_asked=why) for one, why in zip(some[1:3], ("a limit", "another one"), strict=True)]
    found = Index(POOL).seen(100.0, some)
    assert found.scraped_at.tolist() == [LONG_AGO, LONG_AGO, LONG_AGO, 100.0]
    assert (found.up.tolist(), found.never_asked) == ([False, False, False, True], "a limit")


def test_why_scrapes_failed_is_kept_of_the_first_hundred() -> None:
    pool = pool_of([TargetGroup.of([f"t{n}:1" for n in range(ERRORS_KEPT + 3)])])
    some = [told(pool, row, up=False) for row in range(len(pool))]
    some[1:] = [one._replace(error=f"why {n}") for n, one in enumerate(some[1:])]
    some[2] = some[2]._replace(up=True)
    errors = Index(pool).seen(100.0, some).errors
    assert errors == {int(pool.ids[row]): f"why {row - 1}" for row in [1, *range(3, ERRORS_KEPT + 2)]}


def test_what_no_list_has_is_counted_and_the_first_are_named() -> None:
    strangers = [Active({"__address__": f"s{n}:1"}, up=True) for n in range(FOREIGN_KEPT + 2)]
    strangers += [Active({ID_LABEL: text}, up=True) for text in ("no id", "0" * 16)]
    found = Index(POOL).seen(100.0, [*strangers, told(POOL, 0)])
    assert (found.foreign_count, len(found.ids)) == (FOREIGN_KEPT + 4, 1)
    assert found.foreign == tuple(f"s{n}:1" for n in range(FOREIGN_KEPT))


def test_what_it_drops_is_known_by_its_ids_each_once_and_in_order() -> None:
    some = [told(POOL, row).discovered for row in (4, 1, 4)]
    dropped = Index(POOL).dropped([*some, {ID_LABEL: "no id"}, {}, {ID_LABEL: f"{7:016x}"}])
    assert dropped.tolist() == sorted([7, *POOL.ids[[1, 4]].tolist()])
    assert Index(POOL).dropped([]).dtype == np.dtype(np.uint64)


def test_whether_lists_may_say_of_which_job_a_target_is() -> None:
    own = pool_of([TargetGroup.of(["t1:1"], {"job": "x"})])
    assert [Index(pool).own_jobs for pool in (POOL, own)] == [False, True]
