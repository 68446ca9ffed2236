"""The simulation earns trust: each bug, planted by itself, is found within ``SEEDS`` seeds.

``FIRST`` only says where to begin, so that it takes seconds: when a change of the simulation makes another seed find the
bug, the test goes on from there and finds it.
"""

from __future__ import annotations

import pytest

from tests.sim import exams
from tests.sim.faketime import replaced
from tests.sim.planted import BUGS
from tests.sim.run import BrokenError, Life, examined, simulate
from tests.sim.test_seeds import ALWAYS

SEEDS = 200
EXAMS = 3
FIRST = {
    "no_check_at_the_receiver": 2,
    "no_answer_confirms": 5,
    "empty_on_an_error": 5,
    "members_forgotten": 2,
    "lower_index_ignored": 3,
    "lease_never_ends": 5,
    "never_looked_at_again": 1,
    "short_of_room_drops": 3,
    "never_sick": 2,
    "one_doubt_holds_all": 4,
    "a_broken_service_holds_all": 4,
    "replicas_in_one_zone": 2,
    "one_replica_for_all": 2,
    "placed_over_the_living": 2,
}
"""The first seed that finds it; 0 for the others."""

EXAMINED = {
    "put_is_taken": (3, exams.one_comes_back_and_gets_nothing),
    "not_taken_is_taken": (3, exams.one_comes_back_and_gets_nothing),
}
"""Which seed's fleet finds it first, by which examination; without the bug that passes."""

SLOW = {
    "a_failed_scrape_confirms",
    "limited_is_covered",
    "no_fence",
    "old_proof_confirms",
    "silence_is_consent",
    "everybody_is_sick",
    "drained_by_the_first_service",
    "claims_end_with_a_reload",
    "lists_of_the_note_ignored",
}
"""Those that no early seed finds: looked for with ``--long``."""


def broken(seed: int, life: Life | None = None) -> BrokenError | None:
    """What is found in this seed. Raises what the simulation itself fails with: that finds nothing."""
    try:
        simulate(seed, life=life)
    except BrokenError as error:
        if error.__cause__ is not None:
            raise
        return error
    return None


def marked(bug: str) -> object:
    return pytest.param(bug, marks=[pytest.mark.long] if bug in SLOW else [])


@pytest.mark.parametrize("bug", [marked(bug) for bug in BUGS if bug not in EXAMINED])
def test_a_planted_bug_is_found(bug: str) -> None:
    first = FIRST.get(bug, 0)
    for seed in range(first, first + SEEDS):
        with replaced(BUGS[bug]()):
            error = broken(seed)
        if error is not None and (seed < ALWAYS or broken(seed) is None):  # those are run by themselves, too
            print(f"{bug}: by seed {seed}: {error.what}")
            return
    pytest.fail(f"{bug} was not found by the seeds {first} to {first + SEEDS - 1}")


@pytest.mark.parametrize("bug", [marked(bug) for bug in EXAMINED])
def test_a_planted_bug_is_found_by_an_examination(bug: str) -> None:
    first, exam = EXAMINED[bug]
    life = examined(*[exam] * EXAMS)
    for seed in range(first, first + SEEDS):
        with replaced(BUGS[bug]()):
            error = broken(seed, life)
        if error is not None and broken(seed, life) is None:
            print(f"{bug}: by seed {seed}: {error.what}")
            return
    pytest.fail(f"{bug} was not found by the seeds {first} to {first + SEEDS - 1}")
