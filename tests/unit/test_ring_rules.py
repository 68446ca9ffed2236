"""What a ring is made of, at its limits."""

from __future__ import annotations

import numpy as np
import pytest

from promring.core.ring import TOKENS_MOST, Ring
from promring.model import Keys, PlacementError, Scraper


def one(name: str, weight: float = 1.0) -> Scraper:
    return Scraper(f"{name}:1", name, 1, weight=weight)


def in_turn(scraper_id: str, count: int) -> Keys:
    """Distinct tokens for up to 100,000 scrapers, without a hash."""
    return np.arange(count, dtype=np.uint64) * np.uint64(100_000) + np.uint64(int(scraper_id[1:6]))


def test_a_scraper_without_weight_holds_nothing() -> None:
    ring = Ring((one("a"), one("b", 0.0), one("c", 0.001)), 64)
    assert np.bincount(ring.circle.holders, minlength=3).tolist() == [64, 0, 1]
    assert sorted(ring.preference(7)) == [one("a"), one("c", 0.001)]


def test_a_ring_of_nobody_prefers_nobody() -> None:
    for ring in (Ring((), 64), Ring((one("a", 0.0),), 64)):
        assert ring.preference(7) == []
        assert len(ring.circle.tokens) == 0
        assert ring.circle.tokens.dtype == np.uint64


def test_two_scrapers_with_one_id_are_refused() -> None:
    with pytest.raises(PlacementError, match="two scrapers have the id b:1"):
        Ring((one("b"), one("a"), one("b", 2.0)), 64)


def test_whole_columns_need_four_bytes_a_row() -> None:
    circle = Ring((one("a"), one("b")), 64).circle
    assert circle.holders.dtype == circle.groups.dtype == np.int32


def test_zones_are_numbered_in_order_of_their_names() -> None:
    members = tuple(Scraper(f"{name}:1", name, 1, zone) for name, zone in zip("abcd", ("y", "x", "", "y"), strict=True))
    zones = Ring(members, 4).zones
    assert zones.tolist() == [2, 1, 0, 2]
    assert zones.dtype == np.int32


def test_after_the_token_of_the_only_scraper_comes_nobody_elses() -> None:
    assert Ring((one("a"),), 4).circle.onward.tolist() == [0, 1, 2, 3]
    assert Ring((one("a"), one("b")), 1).circle.onward.tolist() == [1, 0]


def test_a_lot_is_a_number_from_0_to_1_and_all_are_equally_likely() -> None:
    lots = Ring(tuple(one(f"s{n:05}") for n in range(1000)), 1).lots
    assert lots.min() >= 0
    assert lots.max() < 1
    assert np.histogram(lots, 4, (0, 1))[0].min() > 200


def test_a_ring_has_as_many_tokens_as_the_bound_allows_and_keeps_the_shares_beyond_it() -> None:
    half = TOKENS_MOST // 2
    full = Ring((one("s00000", 64.0), one("s00001", 64.0)), half // 64, tokens_of=in_turn)
    assert np.bincount(full.circle.holders).tolist() == [half, half]
    over = Ring((one("s00000", 64.0), one("s00001", 64.0)), half // 64 + 2, tokens_of=in_turn)
    assert np.bincount(over.circle.holders).tolist() == [half // 2 + 64] * 2, "halved, so that few sizes move many targets"
    many = TOKENS_MOST // 100 + 2
    beyond = Ring(tuple(one(f"s{n:05}", 100.0) for n in range(many)), 4, tokens_of=in_turn)
    assert np.bincount(beyond.circle.holders).tolist() == [100] * many, "with one virtual node each there is none to halve"
