"""A scraper whose clock was put back stores nothing; one behind a proxy with another clock does."""

from __future__ import annotations

import io

import msgspec
import pytest

from promring.audit.active import decoded
from promring.audit.answers import AheadError, Told
from promring.audit.clocks import CLOCK_BACK, STANDS_INTERVALS, Clocks
from promring.core.coverage import Active
from promring.telemetry import log

NOON = "2026-01-01T12:00:00Z"
NOON_S = 1767268800.0
HOUR_S = 3600.0


def told(last_scrape: str, clock: float, *, behind: bool = False, interval: str = "15s") -> Told:
    target = {
        "discoveredLabels": {"__address__": "a:1"},
        "scrapePool": "x",
        "health": "up",
        "lastScrape": last_scrape,
        "scrapeInterval": interval,
    }
    return Told(msgspec.json.encode({"status": "success", "data": {"activeTargets": [target]}}), clock, behind)


def ahead(last_scrape: str, clock: float) -> AheadError:
    with pytest.raises(AheadError) as raised:
        list(decoded(told(last_scrape, clock), "x"))
    return raised.value


def test_a_last_scrape_ahead_that_does_not_move_is_that_of_a_clock_that_was_put_back(said: io.StringIO) -> None:
    clocks = Clocks(log.get())
    for passed in (0.0, 15.0, 30.0):
        assert not clocks.stands("s", ahead(NOON, NOON_S - HOUR_S + passed), passed)
        assert not clocks.is_behind("s", NOON_S - HOUR_S + passed)
    assert clocks.stands("s", ahead(NOON, NOON_S - HOUR_S + 45), STANDS_INTERVALS * 15)
    assert clocks.is_behind("s", NOON_S - HOUR_S + 60)
    assert not clocks.is_behind("other", NOON_S - HOUR_S + 60)
    assert said.getvalue().count("msg=scraper_clock_put_back") == 1
    assert not clocks.is_behind("s", NOON_S), "until its clock has caught up"
    assert said.getvalue().count("msg=scraper_clock_is_right") == 1
    assert not clocks.is_behind("s", NOON_S - HOUR_S)


def test_behind_a_proxy_with_another_clock_last_scrapes_move_on_and_nothing_is_said_of_the_scraper(
    said: io.StringIO,
) -> None:
    clocks = Clocks(log.get())
    for passed in range(0, 3600, 5):  # scraped each minute, asked each 5 s
        last = f"2026-01-01T12:{passed // 60:02}:00Z"
        found = ahead(last, NOON_S - HOUR_S + passed)
        found.interval_s = 60.0
        assert not clocks.stands("s", found, float(passed))
    assert said.getvalue() == ""


def test_what_a_scraper_asks_while_its_clock_is_behind_counts_as_failed_and_says_why() -> None:
    def of(last_scrape: str) -> Active:
        (one,) = decoded(told(last_scrape, NOON_S - HOUR_S, behind=True), "x")
        return one

    for last_scrape in (NOON, "2026-01-01T10:59:58Z"):  # the second came to it after the step: what it had before is newer
        assert (of(last_scrape).up, of(last_scrape).error, of(last_scrape).never_asked) == (False, CLOCK_BACK, "")
        assert of(last_scrape).age_s is not None
    assert of("0001-01-01T00:00:00Z").age_s is None


def test_of_a_scraper_that_is_gone_nothing_is_remembered(said: io.StringIO) -> None:
    clocks = Clocks()
    for at in (0.0, 100.0):
        clocks.stands("s", ahead(NOON, NOON_S - HOUR_S), at)
    assert clocks.is_behind("s", NOON_S - HOUR_S)
    clocks.keep(frozenset({"t"}))
    assert "scraper_clock_is_right" not in said.getvalue()
    assert not clocks.is_behind("s", NOON_S - HOUR_S)
