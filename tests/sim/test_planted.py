"""The simulation earns trust: each bug, planted by itself, is found within a few seeds."""

from __future__ import annotations

import pytest

from tests.sim.faketime import replaced
from tests.sim.planted import BUGS
from tests.sim.run import BrokenError, simulate

SEEDS = 10
FIRST = {
    "no_fence": 5,
    "no_check_at_the_receiver": 6,
    "no_panic": 3,
    "empty_on_an_error": 2,
    "lower_index_ignored": 6,
    "never_looked_at_again": 7,
}
"""Where to begin, 0 for the others, so that it takes a second, not ten."""


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    first = FIRST.get(bug, 0)
    with replaced(BUGS[bug]()):
        for seed in range(first, first + SEEDS):
            try:
                simulate(seed)
            except BrokenError as error:
                print(f"{bug}: by seed {seed}: {error.what}")
                return
    pytest.fail(f"{bug} was not found by the seeds {first} to {first + SEEDS - 1}")
