"""The counting of missed scrapes, on notes written by hand."""

from __future__ import annotations

from promring.demo.exporter import Hit
from tests.gaps import missed_in, tally


def notes(*scrapes: tuple[float, str] | tuple[float, str, bool]) -> list[Hit]:
    return [Hit(each[0], each[1], each[2] if len(each) > 2 else True) for each in scrapes]


def test_a_gap_of_up_to_one_and_a_half_intervals_misses_nothing() -> None:
    assert [missed_in(gap, 10) for gap in (10, 15, 15.1, 24, 25.1, 105)] == [0, 0, 1, 1, 2, 10]


def test_a_move_without_a_gap() -> None:
    hits = notes((-1, "old"), (9, "old"), (13, "new"), (19, "old"), (23, "new"), (33, "new"), (43, "new"))
    found = tally({"t": hits}, 10, 0, 45)
    assert (found.missed, found.late, found.extra) == (0, 0, 2)
    assert found.handover_s == 19, "the old owner's last scrape"
    assert found.longest_s == 10


def test_nobody_scrapes_it_between_the_old_and_the_new_owner() -> None:
    found = tally({"t": notes((-1, "old"), (9, "old"), (43, "new"))}, 10, 0, 45)
    assert (found.missed, found.late, found.longest_s) == (2, 1, 34)


def test_the_end_of_the_window_is_the_end_of_a_gap() -> None:
    assert tally({"t": notes((-1, "old"))}, 10, 0, 40).missed == 3


def test_a_refused_scrape_is_none() -> None:
    found = tally({"t": notes((-1, "old"), (9, "new", False), (19, "new", False), (29, "new"))}, 10, 0, 30)
    assert (found.missed, found.longest_s) == (2, 30)


def test_what_was_never_scraped_is_missed_from_the_beginning() -> None:
    assert tally({"t": []}, 10, 100, 150).missed == 4


def test_two_copies_are_not_extra() -> None:
    hits = notes((1, "a"), (2, "b"), (11, "a"), (12, "b"))
    assert tally({"t": hits}, 10, 0, 20, copies=2).extra == 0
    assert tally({"t": hits}, 10, 0, 20).extra == 2
