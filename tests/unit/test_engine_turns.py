"""Which pools of an engine are read when: a change is known within the interval, and little is read more often."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from promring.discovery.engine_applied import Applied
from promring.discovery.engine_turns import SHARE, Turns, look_every_s

APPLIES_S = 5.0
"""A Prometheus in which something always changes applies all pools that often."""
RUN_S = 300.0


@dataclass
class Reader:
    """Looks at an engine of pools of a hundred targets each, and reads what is due; time is a number."""

    intervals: dict[str, float]
    read_s: float
    now: float = 0.0
    quiet_until: float = 0.0
    """From then on everything is applied every ``APPLIES_S``."""
    reads: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.turns = Turns("life")
        for name in self.intervals:
            self._read(name)

    def applied(self) -> Applied:
        times = max(0, int((self.now - self.quiet_until) // APPLIES_S))
        return Applied("life", dict.fromkeys(self.intervals, b"%d" % times), {})

    def _read(self, name: str) -> None:
        heard, at = self.applied(), self.now
        self.now += self.read_s
        self.turns.note(name, heard, at, self.read_s, 100)
        self.reads.setdefault(name, []).append(at)

    def look(self) -> None:
        while due := self.turns.open(self.intervals, self.applied(), self.now):
            for name in due.first(lambda names: 100 * len(names), 100 * len(self.intervals) / SHARE):
                self._read(name)
        self.now += look_every_s(min(self.intervals.values()))

    def run(self, until: float) -> None:
        while self.now < until:
            self.look()


@pytest.mark.parametrize(
    ("pools", "interval_s", "all_s"), [(50, 30.0, 6.0), (50, 30.0, 14.0), (2, 30.0, 6.0), (50, 10.0, 4.0), (200, 60.0, 20.0)]
)
def test_a_change_is_read_within_the_interval_where_something_is_always_applied(
    pools: int, interval_s: float, all_s: float
) -> None:
    reader = Reader({f"job{i}": interval_s for i in range(pools)}, all_s / pools)
    reader.run(RUN_S)
    for times in reader.reads.values():
        gaps = [b - a for a, b in pairwise(times)]
        assert max(gaps) + reader.read_s <= interval_s + 1.0
        assert min(gaps) >= interval_s / 2
    spent = sum(map(len, reader.reads.values())) * reader.read_s
    assert spent <= 2.2 * (RUN_S / interval_s + 1) * all_s


@pytest.mark.parametrize("all_s", [0.5, 6.0, 14.0])
def test_a_change_after_a_rest_is_read_well_before_the_interval_is_over(all_s: float) -> None:
    reader = Reader({f"job{i}": 30.0 for i in range(50)}, all_s / 50, quiet_until=100.0)
    reader.run(100.0 + APPLIES_S)
    assert all(len(times) == 1 for times in reader.reads.values()), "nothing was applied, nothing is read"
    reader.run(200.0)
    for times in reader.reads.values():
        assert times[1] - (100.0 + APPLIES_S) <= look_every_s(30.0) + all_s


def test_each_pool_has_the_interval_of_its_own_sources() -> None:
    reader = Reader({"quick": 5.0, "slow": 60.0}, 0.1)
    reader.run(RUN_S)
    assert 55 <= len(reader.reads["quick"]) <= 110
    assert 5 <= len(reader.reads["slow"]) <= 10


def test_a_pool_whose_numbers_changed_is_read_at_once_and_before_the_others() -> None:
    turns = Turns("life")
    names = {"a": 30.0, "b": 30.0, "c": 30.0}
    before = Applied("life", dict.fromkeys(names, b"1"), {name: [b"5", b"5"] for name in names})
    for at, name in enumerate(names):
        turns.note(name, before, float(at), 0.1, 5)
    after = Applied("life", dict.fromkeys(names, b"2"), {"a": [b"5", b"5"], "b": [b"5", b"5"], "c": [b"5", b"6"]})
    assert turns.open(names, after, 5.0) == (["c"], []), "the others were read just now"
    assert turns.open(names, after, 50.0) == (["c"], ["a", "b"])
    assert turns.open(names, before, 50.0) == ([], [])
    assert turns.open({"gone": 30.0}, after, 50.0) == ([], []), "the engine has no such pool"


def test_a_pool_that_listed_another_number_of_targets_than_was_applied_is_read_again_at_its_turn() -> None:
    turns, names = Turns("life"), {"a": 30.0, "b": 30.0}
    applied = Applied(
        "life", dict.fromkeys(names, b"1"), {name: [b"5", b"5"] for name in names}, listed=dict.fromkeys(names, 5.0)
    )
    turns.note("a", applied, 0.0, 0.1, 5)
    turns.note("b", applied, 0.0, 0.1, 0)  # a proxy that answers for the engine, say
    assert turns.open(names, applied, 3.0) == ([], [])
    assert turns.open(names, applied, 29.0) == ([], ["b"])


@pytest.mark.parametrize(("took_s", "every_s"), [(0.05, 3.0), (0.3, 6.0), (2.5, 10.0), (60.0, 10.0)])
def test_a_busy_machine_does_not_keep_an_engine_from_being_looked_at(took_s: float, every_s: float) -> None:
    assert look_every_s(30.0, took_s) == every_s
