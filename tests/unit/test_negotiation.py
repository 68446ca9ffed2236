"""``If-None-Match`` and ``Accept-Encoding``, as RFC 9110 has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promring.web.negotiation import IfNoneMatch, chosen_coding

TAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "has"),
    [
        ("", False),
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", W/"abc"', True),
        ('"x","y" , "abc"', True),
        ("*", True),
        (" * ", True),
        ('w/"abc"', True),
        ("abc", False),
        ('"ABC"', False),
        ('"x", "abcd"', False),
        ('"a,b", "abc"', True),
        ('"a*"', False),
        ('"abc', False),
        ('W/"' + "x" * 100_000, False),
    ],
)
def test_entity_tags_are_compared_weakly_and_in_lists(header: str, has: bool) -> None:
    assert IfNoneMatch(header).has(TAG) is has


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", "identity"),
        ("gzip", "gzip"),
        ("GZIP;Q=0.5", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate, gzip, br", "gzip"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0.000", "identity"),
        ("gzip; q=0, *", "identity"),
        ("*", "gzip"),
        ("*;q=0", None),
        ("*;q=0, identity", "identity"),
        ("identity;q=0", None),
        ("identity;q=0, gzip", "gzip"),
        ("identity;q=0, *;q=0.1", "gzip"),
        ("identity;q=1, gzip;q=0.5", "identity"),
        ("br;q=1.0, deflate", "identity"),
        ("nogzip", "identity"),
        ("gzip;level=9", "identity"),
    ],
)
def test_codings_have_weights(header: str, coding: str | None) -> None:
    assert chosen_coding(header) == coding


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("gzip", "identity"),
        ("gzip, identity;q=0.5", "identity"),
        ("", "identity"),
        ("gzip, identity;q=0", "gzip"),
        ("gzip, *;q=0", "gzip"),
        ("*;q=0", None),
    ],
)
def test_something_small_is_packed_only_for_those_who_take_nothing_else(header: str, coding: str | None) -> None:
    assert chosen_coding(header, small=True) == coding


@given(st.text(max_size=300))
def test_any_text_is_understood(header: str) -> None:
    assert IfNoneMatch(header).has(TAG) in (True, False)
    assert chosen_coding(header) in ("gzip", "identity", None)
