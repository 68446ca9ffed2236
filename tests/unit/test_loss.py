"""What the loss of a scraper or a zone would do to the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from promring.core.loss import worst_scraper, worst_zone
from promring.core.placement import Policy, place
from promring.core.pool import pool_of
from promring.core.ring import Ring
from promring.model import Placement, Scraper, TargetGroup

POOL = pool_of([TargetGroup.of([f"t{n}:1" for n in range(90)])])


def placed(policy: Policy, *scrapers: tuple[str, str, float]) -> Placement:
    some = tuple(Scraper(f"{name}:1", name, 1, zone, weight) for name, zone, weight in scrapers)
    return place(POOL, Ring(some, policy.virtual_nodes), policy)


def test_the_heaviest_is_the_worst_to_lose() -> None:
    policy = Policy(64, 1.1)
    found = worst_scraper(placed(policy, ("a", "", 1.0), ("b", "", 2.0), ("c", "", 1.0)), policy)
    assert found is not None
    assert (found.lost, found.load, found.room, found.each, found.lacking) == ("b:1", 90, None, 45.0, 0)


def test_what_would_have_no_room_is_counted_with_one_scraper_and_with_one_zone_lost() -> None:
    policy = Policy(64, 1.5, 40.0)
    placement = placed(policy, ("a", "x", 1.0), ("b", "x", 1.0), ("c", "y", 1.0), ("d", "", 1.0))
    one, zone = worst_scraper(placement, policy), worst_zone(placement, policy)
    assert one is not None
    assert one.lacking == 0
    assert zone is not None
    assert (zone.lost, zone.room, zone.lacking) == ("x", 80, 10)


def test_nobody_is_left_without_the_only_one_and_no_zone_is_none_to_lose() -> None:
    policy = Policy(64, 1.1)
    assert worst_scraper(placed(policy, ("a", "", 1.0)), policy) is None
    assert worst_zone(placed(policy, ("a", "x", 1.0), ("b", "x", 1.0)), policy) is None
    assert worst_zone(placed(policy, ("a", "", 1.0), ("b", "", 1.0)), policy) is None


def test_who_has_no_share_or_drains_is_not_lost_and_has_no_room() -> None:
    policy = Policy(64, 1.5, 40.0)
    placement = placed(policy, ("a", "x", 1.0), ("b", "x", 3.0), ("c", "y", 1.0), ("d", "z", 1.0), ("e", "y", 0.0))
    members = tuple(replace(s, draining=s.host in "bd") for s in placement.scrapers)
    placement = replace(placement, scrapers=members)
    one, zone = worst_scraper(placement, policy), worst_zone(placement, policy)
    assert one is not None
    assert (one.lost, one.room, one.lacking) == ("c:1", 40, 50), "of equals the last by name"
    assert zone is not None
    assert (zone.lost, zone.room) == ("y", 40), "z is empty as it is"
    nobody = replace(placement, scrapers=tuple(replace(s, draining=True) for s in members))
    assert worst_scraper(nobody, policy) is None
    assert worst_zone(nobody, policy) is None


def test_those_without_a_zone_are_not_one_that_can_be_lost() -> None:
    policy = Policy(64, 1.1)
    found = worst_zone(placed(policy, ("a", "x", 1.0), ("b", "y", 1.0), ("c", "", 1.0), ("d", "", 1.0)), policy)
    assert found is not None
    assert (found.lost, found.each) == ("y", 30.0)


@pytest.mark.parametrize(
    ("scrapers", "targets", "capacity", "replicas"),
    [(3, 45, 18, 1), (3, 35, 10, 1), (2, 10, 10, 2), (3, 10, 10, 2), (3, 12, 10, 2), (4, 60, 20, 3)],
)
def test_what_is_said_to_lack_room_lacks_it_when_the_scraper_is_gone(
    scrapers: int, targets: int, capacity: int, replicas: int
) -> None:
    policy = Policy(64, None, capacity, replicas)
    pool = pool_of([TargetGroup.of([f"t{n}:1" for n in range(targets)])])
    members = tuple(Scraper(f"s{n}:1", f"s{n}", 1) for n in range(scrapers))
    found = worst_scraper(place(pool, Ring(members, policy.virtual_nodes), policy), policy)
    assert found is not None
    left = tuple(one for one in members if one.id != found.lost)
    after = place(pool, Ring(left, policy.virtual_nodes), policy)
    assert found.lacking == after.lacking().sum()
