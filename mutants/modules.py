"""Which tests are there to notice a change of which module of ``promring.core``: those that are about it and take seconds.

A change that only a test of another module notices (of the loop, of a fleet, in the simulation) is listed as not noticed:
whoever changes the module shall hear of it from the tests of the module.
"""

from __future__ import annotations

LISTS = "laws/test_machines.py::test_a_guard_believes_a_doubtful_list_when_it_was_said_often_and_long_enough_and_not_before"
MOVES = "laws/test_machines.py::test_no_target_is_ever_with_nobody_who_scrapes_it_while_nobody_dies"
STEPS = "laws/test_fleet_pool.py::test_a_step_from_one_owner_each_is_the_step_that_any_claims_would_make"

TESTS: dict[str, tuple[str, ...]] = {
    "guard": ("unit/test_guard.py", LISTS),
    "admission": ("unit/test_admission.py", "unit/test_guard.py"),
    "standing": ("unit/test_admission.py", "unit/test_kubernetes_pods.py"),
    "handover": ("unit/test_handover_rules.py", "laws/test_handover.py", STEPS, MOVES),
    "placement": ("unit/test_placement_rules.py", "unit/test_placement_zones.py", "laws/test_listed.py"),
    "aliases": ("unit/test_aliases.py",),
    "aside": ("laws/test_aside.py",),
    "claims": ("unit/test_claims.py", "unit/test_handover_rules.py", "laws/test_handover.py", "laws/test_aside.py", MOVES),
    "columns": ("unit/test_groups.py", "laws/test_patch.py"),
    "coverage": ("unit/test_coverage.py", "unit/test_second_opinion.py"),
    "difference": ("unit/test_moves_and_slices.py",),
    "eligible": ("unit/test_entitled.py",),
    "fragment": ("unit/test_moves_and_slices.py", "unit/test_groups.py"),
    "gain": ("unit/test_preview_rules.py",),
    "joined": ("laws/test_fleet_pool.py", "laws/test_listed.py"),
    "learning": ("laws/test_loads.py", "unit/test_load_figures.py"),
    "loads": ("laws/test_loads.py", "unit/test_load_figures.py"),
    "loss": ("unit/test_loss.py",),
    "marks": ("unit/test_coverage.py",),
    "needed": ("unit/test_needed.py",),
    "packing": ("unit/test_placement_rules.py", "unit/test_placement_zones.py"),
    "patch": ("laws/test_patch.py",),
    "plan": ("unit/test_moves_and_slices.py",),
    "pool": ("laws/test_placement.py", "laws/test_patch.py", "unit/test_groups.py"),
    "preview": ("unit/test_preview_rules.py", "unit/test_preview.py::test_what_cannot_be_is_said"),
    "recall": ("unit/test_entitled.py",),
    "refusals": ("unit/test_entitled.py",),
    "ring": ("laws/test_placement.py", "unit/test_weighing.py"),
    "room": ("unit/test_room.py",),
    "second_opinion": ("unit/test_second_opinion.py", "unit/test_second_opinion_rules.py"),
    "sight": ("unit/test_watch.py",),
    "takers": ("laws/test_takers.py", "unit/test_coverage.py"),
    "twins": ("unit/test_entitled.py",),
    "verdicts": ("unit/test_guard.py", "unit/test_entitled.py"),
}
