"""What a book of loads says: levels, who is told by itself, which books are the same, and which bytes are none."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import pytest

from promring.core.joined import FleetPool, Part
from promring.core.loads import (
    ALIKE,
    BOOK_BYTES_MOST,
    LEVELS,
    SERVICES_MOST,
    TABLE,
    LoadBook,
    ServiceLoads,
    _Book,
    _Service,
    _table,
    decode,
    encode,
    level_of,
    united,
)
from promring.model import Keys
from tests.laws.strategies import pool_of

# Kept for ever: with another table controllers of two versions would place by different loads.
TABLE_DIGEST = "7b5425c82680277a42ee17170f831e9ba5350a8340a297aa47e45b7cbcc10249"


def ids(*halves: int) -> Keys:
    return np.array(halves, dtype=np.uint64) << np.uint64(32)


def told(typical: int, levels: dict[int, int], most: int = 100) -> ServiceLoads:
    """``levels``: by the upper half of an id."""
    return ServiceLoads.of(typical, ids(*levels), np.array(list(levels.values()), dtype=np.uint16), most)


def by_half(some: ServiceLoads) -> dict[int, int]:
    return dict(zip(some.halves.tolist(), some.levels.tolist(), strict=True))


def test_each_level_is_one_percent_above_the_one_before() -> None:
    table = _table()
    assert table.dtype == np.int64
    assert hashlib.sha256(table.astype("<i8").tobytes()).hexdigest() == TABLE_DIGEST
    assert np.allclose(table, 1.01 ** np.arange(LEVELS), rtol=1e-12, atol=0.5)


def test_a_load_has_the_nearest_level_and_the_lowest_of_those_that_are_alike() -> None:
    levels = level_of(TABLE.astype(float))
    assert (TABLE[levels] == TABLE).all()
    assert level_of(np.array([0.0, 1.0])).tolist() == [0, 0]
    assert TABLE[level_of(np.array([1.4, 1.5, 2.0, 1e12]))].tolist() == [1, 2, 2, TABLE[-1]]
    edge = np.sqrt(TABLE[1000] * TABLE[1001])
    assert level_of(np.array([edge * 0.9999, edge * 1.0001])).tolist() == [1000, 1001]


def test_only_targets_that_differ_enough_are_told_and_where_there_is_no_room_those_that_differ_most() -> None:
    levels = {7: 1000, 3: 1000 + ALIKE, 9: 1000 + ALIKE + 1, 1: 1000 - ALIKE - 1, 5: 1200, 4: 600}
    every = {1: 1000 - ALIKE - 1, 4: 600, 5: 1200, 9: 1000 + ALIKE + 1}
    farthest = [5, 4, 9, 1]  # by load, not by level
    for most in range(6):
        found = told(1000, levels, most)
        assert by_half(found) == {half: every[half] for half in sorted(farthest[:most])}
    assert by_half(told(1000, levels, -1)) == {}
    assert found.level_of(ids(1, 2, 5, 9)).tolist() == [996, 1000, 1200, 1004]
    assert found.level_of(ids(2)).dtype == np.uint16
    low = told(0, {1: ALIKE + 1, 2: 200})
    assert by_half(low) == {2: 200}, "the lowest levels are all the load 1"
    assert by_half(told(0, {1: 41})) == {1: 41}, "a load of 2 is not one of 1"


def test_of_two_targets_with_one_half_the_one_that_differs_more_is_told_whatever_their_order() -> None:
    pair = np.array([5 << 32, (5 << 32) + 1], dtype=np.uint64)
    for levels in ([900, 1100], [1100, 900], [1100, 1100]):
        found = ServiceLoads.of(1000, pair, np.array(levels, dtype=np.uint16), 10)
        assert by_half(found) == {5: 1100}
    equal = [ServiceLoads.of(0, pair, np.array(levels, dtype=np.uint16), 10) for levels in ([69, 70], [70, 69])]
    assert by_half(equal[0]) == by_half(equal[1])


def test_books_are_the_same_when_all_that_they_say_of_loads_is() -> None:
    one = told(1000, {1: 1200, 2: 1300})
    assert one == told(1000, {2: 1300, 1: 1200})
    others = [
        told(1000, {1: 1200}),
        told(1000, {1: 1200, 2: 1400}),
        told(1000, {1: 1200, 3: 1300}),
        told(900, {1: 1200, 2: 1300}),
    ]
    assert not any(one == other for other in others)
    assert one != "a"
    book = LoadBook({"a": one}, 5.0)
    assert book.same_loads(LoadBook({"a": one}, 6.0)), "whenever they moved targets"
    assert not book.same_loads(LoadBook({"b": one}, 5.0))
    assert not book.same_loads(None)


def test_a_service_that_is_not_in_the_book_has_the_lower_median_of_the_others() -> None:
    assert LoadBook().typical == 0
    for typical, expected in (([700], 700), ([900, 700], 700), ([900, 700, 800], 800), ([900, 700, 800, 600], 700)):
        book = LoadBook({f"s{n}": told(one, {}) for n, one in enumerate(typical)})
        assert book.typical == expected
        loads = book.of(FleetPool.of({"new": Part(pool_of(["t:1"])), "s0": Part(pool_of(["t:1", "u:1"]), salt=9)}))
        assert loads.tolist() == [TABLE[expected], *[TABLE[typical[0]]] * 2]
        assert loads.dtype == np.int64


def test_of_services_that_are_one_fleets_now_the_first_book_counts_and_the_latest_move() -> None:
    one, two = LoadBook({"a": told(1, {}), "b": told(2, {})}, 5.0), LoadBook({"b": told(3, {}), "c": told(4, {})}, 7.0)
    both = united([one, two])
    assert both is not None
    assert ({name: said.typical for name, said in both.services.items()}, both.moved_at) == ({"a": 1, "b": 2, "c": 4}, 7.0)
    assert united([]) is None
    renamed = both.renamed({"a": "x", "c": "y"})
    assert ({name: said.typical for name, said in renamed.services.items()}, renamed.moved_at) == ({"x": 1, "y": 4}, 7.0)


HALVES = np.array([1, 2], "<u4").tobytes()
SERVICE = _Service(1000, HALVES, np.array([5, LEVELS - 1], "<u2").tobytes())


def packed(book: _Book) -> bytes:
    return msgspec.msgpack.encode(book)


def test_a_book_comes_back_from_its_bytes_and_equal_books_have_equal_bytes() -> None:
    book = LoadBook({"b": told(1000, {1: 1200, 2: 1300}), "a": told(7, {})}, 5.0)
    again = decode(encode(book))
    assert again is not None
    assert (again, again.moved_at) == (book, 5.0)
    assert encode(LoadBook(dict(reversed(list(book.services.items()))), 5.0)) == encode(book)
    assert again.services["b"].halves.dtype == np.uint32
    assert again.services["b"].levels.dtype == np.uint16
    assert decode(packed(_Book({"a": SERVICE}, 0.0))) is not None
    assert decode(packed(_Book({f"s{n}": _Service(0, b"", b"") for n in range(SERVICES_MOST)}))) is not None


@pytest.mark.parametrize(
    "book",
    [
        _Book({"a": SERVICE}, -1.0),
        _Book({"a": SERVICE}, float("nan")),
        _Book({"a": SERVICE}, float("inf")),
        _Book({f"s{n}": _Service(0, b"", b"") for n in range(SERVICES_MOST + 1)}),
        _Book({"a": _Service(LEVELS, b"", b"")}),
        _Book({"a": _Service(0, b"abc", b"ab")}),
        _Book({"a": _Service(0, HALVES, b"\0\0")}),
        _Book({"a": _Service(0, np.array([2, 1], "<u4").tobytes(), b"abcd")}),
        _Book({"a": _Service(0, np.array([1, 3, 2], "<u4").tobytes(), bytes(6))}),
        _Book({"a": _Service(0, np.array([1, 1], "<u4").tobytes(), b"\0\0\0\0")}),
        _Book({"a": _Service(0, HALVES, np.array([5, LEVELS], "<u2").tobytes())}),
    ],
)
def test_bytes_that_are_no_book_are_none(book: _Book) -> None:
    assert decode(packed(book)) is None


def test_more_bytes_than_a_book_can_have_are_not_read() -> None:
    rest = len(packed(_Book({"a" * 2**16: SERVICE}))) - 2**16
    for length, read in ((BOOK_BYTES_MOST - rest, True), (BOOK_BYTES_MOST - rest + 1, False)):
        book = packed(_Book({"a" * length: SERVICE}))
        assert len(book) == BOOK_BYTES_MOST + (not read)
        assert (decode(book) is not None) is read
    assert decode(b"") is None
