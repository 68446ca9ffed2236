"""Who is listed: the catalogue, and who left it a moment ago."""

from __future__ import annotations

from promring.membership.listed import LISTED_STILL_S, Listed
from promring.model import Scraper

A, B, C = (Scraper(f"{name}:1", name, 1) for name in "abc")


def ids(listed: Listed) -> str:
    return "".join(s.host for s in listed.members)


def test_one_that_leaves_the_catalogue_is_listed_for_a_while() -> None:
    now = [0.0]
    listed = Listed((A,), lambda: now[0])
    assert ids(listed) == "a"
    listed.heard((A, B, C), ())
    assert ids(listed) == "abc"
    now[0] = 100.0
    listed.heard((A, C), ())
    assert ids(listed) == "abc", "it may restart"
    now[0] += LISTED_STILL_S - 1
    listed.heard((A, C), ())
    assert ids(listed) == "abc"
    now[0] += 2
    assert ids(listed) == "ac"


def test_one_that_comes_back_stays_and_one_that_was_dismissed_goes_at_once() -> None:
    now = [0.0]
    listed = Listed((), lambda: now[0])
    listed.heard((A, B, C), ())
    listed.heard((A,), {B.id})
    assert ids(listed) == "ac"
    now[0] = LISTED_STILL_S / 2
    listed.heard((A, C), ())
    now[0] = LISTED_STILL_S * 1.2
    listed.heard((A, C), ())
    assert ids(listed) == "ac"
    listed.heard((A,), ())
    listed.heard((A,), {C.id})
    assert ids(listed) == "a", "dismissed after it left"
