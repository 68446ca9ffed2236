"""What a soak calls growth, and the plot of it. The soak itself is ``make soak``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from soak.faults import TRIALS
from soak.gauges import Sample, growth, sample
from soak.plot import Band, drawn


def life(gauge: Callable[[float], float], seconds: int = 900) -> list[Sample]:
    """A process whose memory is as this function of its age says."""
    return [Sample(float(at), gauge(at), 20, 8, 1, 30) for at in range(0, seconds, 5)]


@pytest.mark.parametrize(
    ("gauge", "grows"),
    [
        (lambda age: 90.0, False),
        (lambda age: 90.0 + min(age, 50.0), False),  # it fills its caches in the first minute
        (lambda age: 90.0 + (age % 100), False),  # up and down
        (lambda age: 90.0 + age / 10, True),
        (lambda age: 90.0 + 0.001 * age, False),
    ],
    ids=["flat", "warms up", "swings", "climbs", "within slack"],
)
def test_what_is_higher_at_the_end_of_a_life_than_at_its_beginning_grew(
    gauge: Callable[[float], float], grows: bool
) -> None:
    assert bool(growth(life(gauge))) is grows


def test_a_short_life_says_nothing() -> None:
    assert growth(life(lambda age: 90.0 + age, seconds=200)) == growth([]) == []


def test_one_descriptor_a_minute_is_seen_within_a_quarter_of_an_hour() -> None:
    leaking = [one._replace(descriptors=20 + int(one.at // 60)) for one in life(lambda _: 90.0)]
    assert growth(leaking) == ["descriptors grew from 23 to 32"]


def test_a_sample_of_this_process_counts_what_it_has() -> None:
    found = sample(os.getpid(), time.monotonic(), None)
    assert found is not None
    assert found.memory_mb > 10
    assert found.threads >= 1
    assert found.descriptors >= 3
    assert sample(2**22 + 1, 0.0, None) is None, "there is no such process"


def test_the_plot_has_every_fault_with_its_gap_and_a_curve_for_each_gauge() -> None:
    bands = [Band("scraper <killed>", 1.0, 9.0, 4.2, False), Band("source", 12.0, 15.0, 31.0, True)]
    text = drawn(0.0, [(0.0, 1.0), (10.0, 0.9), (20.0, 1.0)], bands, {"witness": life(lambda age: 90.0)})
    root = ElementTree.fromstring(text)
    titles = [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["scraper <killed>: longest gap 4.2 s", "source: longest gap 31.0 s"]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 1 + 5


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({one.name for one in TRIALS}) == len(TRIALS)
