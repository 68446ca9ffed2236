"""Which target that is which a scraper shows: by the id in its labels, and by the labels where ids have changed."""

from __future__ import annotations

import pytest

from promring.core.coverage import Active, Index
from promring.core.fragment import ID_LABEL, target
from promring.core.pool import pool_of
from promring.core.shown import ids_shown
from promring.model import TargetGroup, TargetPool

OLD, NEW = TargetGroup.of(["a:1"], {"team": "x"}), TargetGroup.of(["a:1"], {"team": "y"})
OTHER = TargetGroup.of(["b:1"])
ONE, BOTH, LAST = pool_of((OLD, OTHER)), pool_of((OLD, NEW, OTHER)), pool_of((NEW, OTHER))
"""The careful way to change a label: the new entry is added, then the old one is taken away."""


def id_in(pool: TargetPool, address: str, team: str = "") -> int:
    found = {(one.address, one.labels.get("team", "")): row for row in range(len(pool)) for one in [target(pool, row)]}
    return int(pool.ids[found[address, team]])


def shows(key: int, address: str = "a:1", **labels: str) -> dict[str, str]:
    """As vmagent does, with labels of its own."""
    own = {"__address__": address, "__meta_filepath": "/f.json", "__scheme__": "http", "__metrics_path__": "/metrics"}
    return own | {"job": "node", ID_LABEL: f"{key:016x}", **labels}


FIRST_X, THEN_X, THEN_Y, LAST_Y = (
    id_in(ONE, "a:1", "x"),
    id_in(BOTH, "a:1", "x"),
    id_in(BOTH, "a:1", "y"),
    id_in(LAST, "a:1", "y"),
)


def test_an_id_that_is_listed_is_believed_and_one_that_is_not_needs_an_address_that_is() -> None:
    found = ids_shown(ONE, [shows(FIRST_X, team="anything"), shows(id_in(ONE, "b:1"), "b:1"), shows(7, "c:1")])
    assert found == [FIRST_X, id_in(ONE, "b:1"), None]
    assert ids_shown(ONE, []) == []


def test_the_ids_change_when_an_address_is_listed_twice_and_once_again() -> None:
    assert len({FIRST_X, THEN_X, THEN_Y}) == 3
    assert LAST_Y == FIRST_X, "which is why an id alone does not tell which labels a target had"


def test_an_id_that_is_in_no_list_any_more_is_the_target_with_these_labels() -> None:
    assert ids_shown(BOTH, [shows(FIRST_X, team="x"), shows(THEN_Y, team="y")]) == [THEN_X, THEN_Y]
    assert ids_shown(LAST, [shows(THEN_Y, team="y")]) == [LAST_Y]
    assert ids_shown(LAST, [shows(THEN_X, team="x")]) == [None], "that one is gone"
    assert ids_shown(BOTH, [shows(FIRST_X, "c:1", team="x")]) == [None]
    assert ids_shown(BOTH, [shows(7, team="x")]) == [None], "an id that it never had is another target's"


@pytest.mark.parametrize("more", [{"zone": "n"}, {"team": ""}])
def test_labels_that_differ_are_another_target(more: dict[str, str]) -> None:
    assert ids_shown(BOTH, [shows(FIRST_X, **{"team": "x", **more})]) == [None]


def test_labels_that_redirect_are_told_from_those_of_the_job() -> None:
    """The list has one of them, the job the others."""
    path = TargetGroup.of(["a:1"], {"__metrics_path__": "/probe", "team": "x"})
    pool = pool_of((path, TargetGroup.of(["a:1"], {"__metrics_path__": "/probe", "team": "y"}), OLD))
    (row,) = [row for row in range(len(pool)) if target(pool, row).labels == dict(path.labels)]
    before = int(pool_of((path,)).ids[0])
    assert ids_shown(pool, [shows(before, team="x", __metrics_path__="/probe")]) == [int(pool.ids[row])]


def test_who_shows_no_id_proves_nothing() -> None:
    bare = shows(0, team="y")
    del bare[ID_LABEL]
    assert ids_shown(LAST, [bare, shows(0, team="y")]) == [None, None]


def test_what_a_vmagent_scrapes_under_an_older_id_is_seen() -> None:
    shown = [(FIRST_X, "x"), (THEN_Y, "y")]
    active = [Active(shows(key, team=team), up=True, age_s=1.0, interval_s=15.0) for key, team in shown]
    seen = Index(BOTH).seen(100.0, active)
    assert sorted(seen.ids.tolist()) == sorted([THEN_X, THEN_Y])
    assert seen.scraped.all()
    assert seen.foreign_count == 0
