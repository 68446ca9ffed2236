"""The simulation earns trust: each bug, planted by itself, is found within ``planting.SEEDS`` seeds.

``FIRST`` only says where to begin, so that it takes seconds: when a change of the simulation makes another seed find the
bug, the test goes on from there and finds it. A bug that is not in it is looked for with ``--long`` and by
``make planted``.
"""

from __future__ import annotations

import pytest

from tests.sim.faketime import replaced
from tests.sim.membership import FIRST_DRAWN
from tests.sim.planted import BUGS
from tests.sim.planting import SEEDS, find

FIRST = {
    "a_broken_service_holds_all": 2,
    "a_check_that_passes_is_life": 0,
    "a_drain_is_forgotten": 6,
    "a_failed_scrape_confirms": 6,
    "a_lease_never_expires": 1,
    "a_list_that_is_known_is_not_asked": FIRST_DRAWN,
    "a_list_that_was_overtaken_is_taken": 4,
    "a_record_is_lost": 6,
    "a_refusal_is_not_heard": 1,
    "a_release_is_not_heard": 6,
    "a_scraper_is_drained_for_ever": 6,
    "a_time_of_deletion_is_not_heard": FIRST_DRAWN + 1,
    "a_written_file_is_taken": 11,
    "amnesia": 6,
    "break_before_make": 6,
    "canaries_are_forgotten": 13,
    "capacity_by_service": 2,
    "capacity_is_forgotten": 6,
    "claims_end_with_a_reload": 6,
    "claims_keep_their_salt": 6,
    "drained_by_the_first_service": 2,
    "drained_until_a_restart": 6,
    "dropped_is_missing": 2,
    "edge_triggered": 1,
    "empty_on_an_error": 6,
    "epoch_stays": 4,
    "everybody_is_sick": 2,
    "followers_count_for_themselves": 1,
    "guard_always_acts": 6,
    "lease_never_ends": 4,
    "limited_is_covered": 9,
    "lists_of_the_note_ignored": 1,
    "lock_is_deleted": 8,
    "lost_wake": 6,
    "lower_index_ignored": 6,
    "members_forgotten": 6,
    "names_are_not_kept": FIRST_DRAWN,
    "never_looked_at_again": 1,
    "never_sick": 6,
    "a_moment_without_an_answer_ends_a_panic": 3,
    "nobody_is_held_back": 14,
    "nobody_is_idle": 13,
    "nobody_is_needed": 6,
    "no_answer_confirms": 6,
    "no_check_at_the_receiver": 2,
    "no_confirmations": 6,
    "no_fence": 4,
    "no_panic": 6,
    "no_sign_of_life": 0,
    "not_taken_is_taken": 6,
    "old_proof_confirms": 6,
    "one_doubt_holds_all": 1,
    "one_replica_for_all": 2,
    "placed_over_the_living": 2,
    "previous_plan_chooses": 6,
    "put_is_taken": 6,
    "replicas_in_one_zone": 1,
    "short_of_room_drops": 6,
    "short_write": 0,
    "silence_is_consent": 6,
    "the_first_policy_stays": 2,
    "the_old_way_ends_at_once": 0,
    "the_sick_get_targets": 1,
    "the_idle_get_targets": 13,
    "the_key_outlives_its_lease": 11,
    "twice_on_one_scraper": 2,
    "weights_are_forgotten": 1,
    "what_may_not_be_seen_is_gone": 6,
    "who_is_barred_keeps_the_lock": 8,
    "who_is_taken_out_is_gone_at_once": FIRST_DRAWN + 16,
}
"""A seed that finds each, soon: it costs less than others that do."""


def marked(bug: str) -> object:
    return pytest.param(bug, marks=[] if bug in FIRST else [pytest.mark.long])


@pytest.mark.parametrize("bug", [marked(bug) for bug in BUGS])
def test_a_planted_bug_is_found(bug: str) -> None:
    first = FIRST.get(bug, 0)
    found = find(bug, first)
    assert found.seed >= 0, f"{bug} was not found by the seeds {first} to {first + SEEDS - 1}"
    print(f"{bug}: by seed {found.seed}: {found.what}")


@pytest.mark.parametrize("bug", BUGS)
def test_what_a_planted_bug_replaces_is_there(bug: str) -> None:
    with replaced(BUGS[bug]()):
        pass
