"""Plants each bug by itself and looks for the first seed that finds it: ``make planted``.

    python -m tests.sim.planting [--bugs no_fence,short_write] [--workers 2] [--seeds 200] [--first 0]

Prints for each bug the seed and what the run found. Exit 0 when every bug was found, 1 when one was not. ``test_planted``
has the seeds of a few, so that ``make test`` looks at them in seconds.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from tests.sim import controller_exams, drain_exams, exams, job_exams, list_exams, rare, scraper_exams
from tests.sim.exams import Exam
from tests.sim.faketime import replaced
from tests.sim.planted import BUGS
from tests.sim.run import ALWAYS, BrokenError, Life, examined, simulate

SEEDS = 200
"""Within so many seeds each is found."""
EXAMINED: dict[str, Exam] = {
    "a_broken_service_holds_all": job_exams.a_broken_job_is_added,
    "a_check_that_passes_is_life": rare.one_dies_and_counts_as_alive,
    "a_drain_is_forgotten": drain_exams.one_is_drained,
    "a_failed_scrape_confirms": drain_exams.one_is_drained_and_heirs_fail,
    "a_list_that_is_known_is_not_asked": list_exams.all_restart_with_the_list_that_they_know,
    "a_list_that_was_overtaken_is_taken": controller_exams.leader_dies_and_only_it_had_read_the_list,
    "a_lease_never_expires": controller_exams.leader_dies,
    "a_moment_without_an_answer_ends_a_panic": rare.most_are_hidden_for_long,
    "a_refusal_is_not_heard": rare.one_refuses_a_job,
    "a_record_is_lost": drain_exams.all_restart_while_one_is_drained,
    "a_release_is_not_heard": job_exams.what_is_held_is_released,
    "a_scraper_is_drained_for_ever": drain_exams.one_is_drained,
    "a_written_file_is_taken": drain_exams.one_is_drained_and_heirs_do_not_fetch,
    "amnesia": drain_exams.all_restart_while_one_is_drained,
    "break_before_make": drain_exams.one_is_drained,
    "capacity_by_service": controller_exams.leader_stays,
    "capacity_is_forgotten": exams.room_is_short,
    "claims_end_with_a_reload": drain_exams.one_is_drained_and_heirs_fail,
    "claims_keep_their_salt": drain_exams.one_is_drained_and_heirs_fail_in_another_fleet,
    "drained_by_the_first_service": drain_exams.one_is_drained_and_heirs_fail,
    "drained_until_a_restart": drain_exams.all_restart_while_one_is_drained,
    "dropped_is_missing": drain_exams.one_is_drained,
    "edge_triggered": scraper_exams.slice_is_deleted,
    "empty_on_an_error": exams.source_gives_no_answer,
    "epoch_stays": controller_exams.slices_come_late,
    "everybody_is_sick": scraper_exams.most_fail,
    "followers_count_for_themselves": scraper_exams.some_leave_too_often_while_one_is_away,
    "guard_always_acts": exams.most_are_hidden,
    "lease_never_ends": controller_exams.leader_is_cut_off,
    "limited_is_covered": scraper_exams.scraper_lies,
    "lists_of_the_note_ignored": controller_exams.leader_dies_while_another_is_behind,
    "lock_is_deleted": controller_exams.leader_dies,
    "lost_wake": scraper_exams.one_dies,
    "lower_index_ignored": exams.list_is_behind,
    "members_forgotten": exams.list_gives_no_answer,
    "names_are_not_kept": list_exams.list_is_short,
    "nobody_is_held_back": rare.state_is_lost_while_some_show_nothing,
    "nobody_is_needed": scraper_exams.most_left_too_often,
    "never_looked_at_again": scraper_exams.slice_is_deleted,
    "never_sick": scraper_exams.scraper_fails,
    "no_answer_confirms": exams.source_says_less_and_fails,
    "no_check_at_the_receiver": scraper_exams.lists_are_cut,
    "no_confirmations": exams.source_gives_nothing,
    "no_fence": controller_exams.slices_come_late,
    "no_panic": exams.most_are_hidden,
    "no_sign_of_life": controller_exams.leader_stays,
    "not_taken_is_taken": drain_exams.one_is_drained_and_heirs_get_nothing,
    "old_proof_confirms": drain_exams.one_is_undrained_at_once,
    "one_doubt_holds_all": job_exams.one_job_is_doubted,
    "one_replica_for_all": controller_exams.leader_stays,
    "placed_over_the_living": scraper_exams.one_dies,
    "previous_plan_chooses": scraper_exams.one_dies,
    "put_is_taken": drain_exams.one_is_drained_and_heirs_get_nothing,
    "replicas_in_one_zone": controller_exams.leader_stays,
    "short_of_room_drops": exams.room_is_short,
    "short_write": controller_exams.leader_stays,
    "silence_is_consent": drain_exams.one_is_drained_and_heirs_are_silent,
    "the_first_policy_stays": job_exams.policy_changes,
    "the_old_way_ends_at_once": rare.delivery_changes,
    "the_sick_get_targets": scraper_exams.scraper_fails,
    "the_key_outlives_its_lease": controller_exams.leader_dies,
    "twice_on_one_scraper": controller_exams.leader_stays,
    "who_is_barred_keeps_the_lock": rare.leader_loses_a_right,
    "what_may_not_be_seen_is_gone": rare.rights_are_lost,
    "a_time_of_deletion_is_not_heard": list_exams.two_pods_are_rolled,
    "who_is_taken_out_is_gone_at_once": list_exams.one_is_taken_out,
    "weights_are_forgotten": controller_exams.leader_stays,
}
"""Bugs that are looked for by one examination, in fleets without other faults: that takes a second a seed."""


@dataclass(frozen=True)
class Found:
    """``seed`` -1: no seed found it."""

    bug: str
    seed: int
    what: str
    cpu_s: float


def broken(seed: int, life: Life | None = None) -> BrokenError | None:
    """What is found in this seed. Raises what the simulation itself, or the planted code, fails with: that finds nothing."""
    try:
        simulate(seed, life=life)
    except BrokenError as error:
        if error.__cause__ is not None or "ended by itself" in error.what:
            raise
        return error
    return None


def find(bug: str, first: int = 0, seeds: int = SEEDS) -> Found:
    """The first seed from ``first`` on that breaks with the bug, and does not without it."""
    began = time.process_time()
    life = examined(EXAMINED[bug]) if bug in EXAMINED else None
    for seed in range(first, first + seeds):
        with replaced(BUGS[bug]()):
            error = broken(seed, life)
        passes = life is None and seed < ALWAYS  # run by themselves
        if error is not None and (passes or broken(seed, life) is None):
            return Found(bug, seed, error.what, time.process_time() - began)
    return Found(bug, -1, "", time.process_time() - began)


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bugs", default=",".join(BUGS), help="which ones, by name")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    wanted = parser.parse_args(None if arguments is None else list(arguments))
    bugs = wanted.bugs.split(",")
    lost: list[str] = []
    with ProcessPoolExecutor(wanted.workers) as pool:
        for future in as_completed([pool.submit(find, bug, wanted.first, wanted.seeds) for bug in bugs]):
            one = future.result()
            said = f"seed {one.seed}: {one.what}" if one.seed >= 0 else "NOT FOUND"
            print(f"{one.bug}: {said} ({one.cpu_s:.0f} s)", flush=True)
            lost += [one.bug] if one.seed < 0 else []
    print(f"{len(bugs) - len(lost)} of {len(bugs)} planted bugs were found{''.join(f'; not {bug}' for bug in lost)}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
