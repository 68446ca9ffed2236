"""What the loss of a scraper or a zone would do to the rest."""

from __future__ import annotations

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
