"""Odd lists through promring and through Prometheus' own decoder: a sample of what ``make lists`` searches."""

from __future__ import annotations

import pytest
from testbed.sdoracle import ListOracle, Targets

from tests.differential.search import compared, differences
from tests.real.conftest import server
from tests.rows import Seen

SEEDS = range(3)


@pytest.mark.real
def test_odd_lists_mean_what_prometheus_own_decoder_says(seen: Seen) -> None:
    with ListOracle(server("sdoracle")) as oracle:
        assert compared(oracle, "yml", b"- targets: [a:1]\n") == (None, None), "the same"
        found = [one for seed in SEEDS for one in differences(oracle, seed)]
    assert not found
    seen(f"{1000 * len(SEEDS)} odd lists, each as Prometheus' decoder reads it")


class OfOneMind(ListOracle):
    """It says the same of every list."""

    def __init__(self, opinion: Targets | str) -> None:
        self.opinion = opinion

    def read(self, ending: str, text: bytes) -> Targets | str:
        return self.opinion


@pytest.mark.parametrize("opinion", ["no", frozenset({frozenset({("__address__", "nobody:1")})})])
def test_a_difference_is_found_and_made_short(opinion: Targets | str) -> None:
    found = list(differences(OfOneMind(opinion), 0, 40))
    assert len(found) > 10
    assert {one.theirs == "refused" for one in found} == {isinstance(opinion, str)}
    assert {one.ours == "refused" for one in found} <= {False, not isinstance(opinion, str)}
    assert sum(len(one.text) for one in found) < 40 * len(found), "what they are about is little"
