"""Which tests are there to notice a change of which module of ``promring.core``: those that are about it and take seconds.

A change that only a test of another module notices (of the loop, of a fleet, in the simulation) is listed as not noticed:
whoever changes the module shall hear of it from the tests of the module.
"""

from __future__ import annotations

LISTS = "laws/test_machines.py::test_a_guard_believes_a_doubtful_list_when_it_was_said_often_and_long_enough_and_not_before"
MOVES = "laws/test_machines.py::test_no_target_is_ever_with_nobody_who_scrapes_it_while_nobody_dies"
STEPS = "laws/test_fleet_pool.py::test_a_step_from_one_owner_each_is_the_step_that_any_claims_would_make"
RING = (
    "unit/test_ring_rules.py",
    "laws/test_placement.py::test_keys_are_counted_up_to_each_token_however_many_are_searched_at_once",
    "laws/test_placement.py::test_the_plain_owner_is_the_first_token_at_or_after_the_key",
    "laws/test_placement.py::test_preference_names_every_scraper_once_the_owner_first",
    "laws/test_placement.py::test_equal_tokens_go_to_the_smaller_id",
    "laws/test_placement.py::test_slices_have_the_bytes_that_they_always_had",
    "laws/test_bounds.py::test_without_zones_the_replicas_are_the_first_in_the_rings_order",
    "laws/test_bounds.py::test_zones_are_kept_as_far_as_there_are_scrapers",
    "laws/test_bounds.py::test_searching_for_a_free_group_finds_what_hopping_finds",
    "laws/test_bounds.py::test_a_weight_that_is_none_is_named",
    "unit/test_bounded_work.py::test_weights_from_outside_do_not_make_a_ring_of_any_size",
    "unit/test_bounded_work.py::test_the_tokens_of_a_scraper_are_made_once_and_cannot_be_changed",
    "unit/test_bounded_work.py::test_a_bounded_ring_keeps_the_shares_that_the_weights_say",
    "unit/test_bounded_work.py::test_what_is_kept_of_rings_is_bounded_by_tokens_not_by_scrapers",
    "unit/test_bounded_work.py::test_the_order_of_preference_is_that_of_the_whole_walk",
    "laws/test_fleet_pool.py::test_one_address_in_two_services_goes_to_one_scraper_where_nothing_is_bounded",
    "laws/test_fleet_pool.py::test_what_is_made_from_what_was_there_before_is_what_it_is_without",
)

TESTS: dict[str, tuple[str, ...]] = {
    "guard": ("unit/test_guard.py", LISTS),
    "admission": ("unit/test_admission.py", "unit/test_guard.py"),
    "missing": ("unit/test_admission.py", "unit/test_guard.py"),
    "shown": ("unit/test_shown.py",),
    "standing": ("unit/test_admission.py", "unit/test_kubernetes_pods.py"),
    "evidence": ("unit/test_handover_rules.py", "laws/test_handover.py"),
    "handover": ("unit/test_handover_rules.py", "laws/test_handover.py", STEPS, MOVES),
    "placement": ("unit/test_placement_rules.py", "unit/test_placement_zones.py", "laws/test_listed.py"),
    "aliases": ("unit/test_aliases.py",),
    "aside": ("laws/test_aside.py",),
    "claims": ("unit/test_claims.py", "unit/test_handover_rules.py", "laws/test_handover.py", "laws/test_aside.py", MOVES),
    "columns": ("unit/test_groups.py", "laws/test_patch.py"),
    "coverage": ("unit/test_seen.py", "laws/test_coverage.py", "unit/test_coverage.py"),
    "unlabelled": ("unit/test_coverage.py",),
    "difference": ("unit/test_moves_and_slices.py",),
    "eligible": ("unit/test_entitled.py",),
    "unresponsive": ("unit/test_unresponsive.py",),
    "idle": ("unit/test_idle.py",),
    "fragment": ("unit/test_moves_and_slices.py", "unit/test_groups.py"),
    "gain": ("unit/test_preview_rules.py",),
    "joined": ("laws/test_joined.py",),
    "learning": ("laws/test_learning.py", "laws/test_loads.py"),
    "loads": ("unit/test_load_books.py", "laws/test_loads.py"),
    "loss": ("unit/test_loss.py",),
    "marks": ("unit/test_coverage.py",),
    "needed": ("unit/test_needed.py",),
    "packing": ("laws/test_packing.py", "unit/test_placement_rules.py", "unit/test_placement_zones.py"),
    "patch": ("laws/test_patch.py",),
    "plan": ("unit/test_moves_and_slices.py", "unit/test_idle.py", "unit/test_second_opinion.py"),
    "pool": ("unit/test_pool.py", "unit/test_groups.py"),
    "preview": ("unit/test_preview_rules.py", "unit/test_preview.py::test_what_cannot_be_is_said"),
    "recall": ("unit/test_entitled.py",),
    "refusals": ("unit/test_entitled.py", "unit/test_idle.py"),
    "ring": RING,
    "room": ("unit/test_room.py", "unit/test_handover_rules.py"),
    "trials": ("unit/test_second_opinion.py", "unit/test_second_opinion_rules.py", "unit/test_idle.py"),
    "second_opinion": ("unit/test_second_opinion.py", "unit/test_second_opinion_rules.py", "unit/test_idle.py"),
    "sight": ("unit/test_watch.py", "laws/test_fleet_pool.py", "laws/test_coverage.py"),
    "takers": ("laws/test_takers.py", "unit/test_coverage.py"),
    "twins": ("unit/test_entitled.py",),
    "verdicts": ("unit/test_guard.py", "unit/test_entitled.py"),
}
