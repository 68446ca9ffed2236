"""The name of a scraper that nobody knows, and what it may have been meant to be."""

from __future__ import annotations

import pytest

from promring.runtime.near import HOSTS_MOST, meant_host

FLEET = ["prom-1.example.org:9090", "prom-2.example.org:9090", "10.0.0.1:9090", "[fd00::1]:9090"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("prom-1", "prom-1.example.org:9090"),
        ("PROM-1:9090", "prom-1.example.org:9090"),
        ("prom-2.example.com:9091", "prom-2.example.org:9090"),
        ("10.0.0.1", "10.0.0.1:9090"),
        ("[fd00::1]:9091", "[fd00::1]:9090"),
        ("pron-2.example.org:9090", "prom-2.example.org:9090"),
    ],
)
def test_a_scraper_that_looks_like_the_one_asked_for_is_named(name: str, nearest: str) -> None:
    assert meant_host(name, FLEET).startswith(f"; did you mean '{nearest}'")


def test_nothing_is_guessed_of_one_that_is_known_nor_in_a_large_fleet_that_anybody_may_ask() -> None:
    assert meant_host(FLEET[0], FLEET) == meant_host("db:80", FLEET) == ""
    large = [f"prom-{n}:9090" for n in range(HOSTS_MOST + 1)]
    assert meant_host("pron-7:9090", large) == ""
    assert meant_host("prom-7", large) == "; did you mean 'prom-7:9090'?"
