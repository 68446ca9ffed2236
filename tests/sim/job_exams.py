"""Examinations of jobs on one fleet: trouble of one is no other's, and what a person changes misses no scrape."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tests.sim import changes
from tests.sim.fleet import Fleet
from tests.sim.jobs import Job

PLANNED_S = 11.0
"""A new target is in a plan so long after its source lists it: it is asked every 5 s."""
BELIEVED_S = 3.0
"""What a person says is believed is in the plan so long after."""


async def one_job_gives_no_answer(fleet: Fleet) -> None:
    """I3, I17: nothing is written, and the others go on."""
    job = fleet.a_job()
    for source in job.sources.values():
        source.mode = fleet.rng.choice(("status 500", "hang", "cut"))
    fleet.world.say(f"{job.name} gives no answer")
    await fleet.no_write_in(30.0, f"the sources of {job.name} fail")
    await _others_go_on(fleet, job)


async def one_job_is_doubted(fleet: Fleet) -> None:
    """I11, I17: what it says is not believed yet, and the others go on."""
    job = fleet.a_job()
    for source in job.sources.values():
        source.mode = fleet.rng.choice(("empty", "half"))
    fleet.world.say(f"{job.name} says less")
    await fleet.no_write_in(5.5, f"the sources of {job.name} say less")
    for source in job.sources.values():
        source.mode = fleet.rng.choice(("status 500", "cut"))  # and there is no second word: it stays doubted
    await _others_go_on(fleet, job)
    fleet.heal()
    await fleet.let_pass(10.0)


async def _others_go_on(fleet: Fleet, job: Job) -> None:
    """A new target of another job is placed soon; of this one nothing is changed but by the common bound."""
    others = [one for one in fleet.world.jobs.values() if one is not job]
    if not others or fleet.wanted.capacity:
        return
    other, had = fleet.rng.choice(others), job.targets & _listed(fleet)
    fleet.grow(other)
    await planned(fleet, other)
    if lost := had - _listed(fleet):
        fleet.broken(f"I17: {len(lost)} targets of {job.name} are in no slice since its sources are in trouble")


def _listed(fleet: Fleet) -> set[str]:
    """What is in anybody's slices."""
    return {t for s in fleet.world.scrapers.values() for t in s.in_file}


async def planned(fleet: Fleet, job: Job) -> None:
    """Whoever leads gives each target of the job to somebody, soon."""
    planned_s = PLANNED_S + 2 * fleet.world.pace.late_s
    ends_at = fleet.world.now + planned_s
    while missing := job.targets - fleet.world.given(job.name):
        if fleet.world.now > ends_at:
            fleet.broken(f"I17: {len(missing)} targets of {job.name} are in no plan {planned_s:g} s after they were listed")
        await fleet.let_pass(0.5)


async def somebody_leads(fleet: Fleet, why: str = "the lock was free") -> None:
    """On busy machines a lease may end for a moment: then soon."""
    ends_at = fleet.world.now + fleet.world.pace.late_s
    while not any(c.leads for c in fleet.world.controllers.values()):
        if fleet.world.now >= ends_at:
            fleet.broken(f"nobody leads although {why}")
        await fleet.let_pass(0.5)


async def a_job_is_added(fleet: Fleet) -> None:
    """Everybody gets it, and no target of the others misses a scrape."""
    began = fleet.world.now
    if await changes.job_is_added(fleet) is not None:
        await fleet.converged("after a job was added", 60.0)
        nothing_missed(fleet, began)


async def a_broken_job_is_added(fleet: Fleet) -> None:
    """It has no list and waits, alone: the others go on, and so does it when it has one."""
    for away in fleet.wanted.jobs.values():
        if away.name not in fleet.wanted.active:
            fleet.world.forget(away.name)
            for source in away.sources.values():
                source.mode = "status 500"
    job = await changes.job_is_added(fleet)
    if job is None:
        return
    await fleet.let_pass(changes.RELOADED_S)
    if there := job.targets & fleet.world.given(job.name):
        fleet.broken(f"I3: {len(there)} targets of {job.name} are planned, and it never gave an answer")
    await _others_go_on(fleet, job)
    fleet.heal()
    await fleet.converged("after a broken job was mended", 60.0)


async def a_job_is_removed(fleet: Fleet) -> None:
    """No target of the others misses a scrape; and it comes back as a new one."""
    began = fleet.world.now
    if await changes.job_is_removed(fleet) is None:
        return
    await fleet.converged("after a job was removed", 60.0)
    nothing_missed(fleet, began)
    began = fleet.world.now
    await changes.job_is_added(fleet)
    await fleet.converged("after a job was added again", 60.0)
    nothing_missed(fleet, began)


async def replicas_change(fleet: Fleet) -> None:
    await _changed(fleet, changes.replicas_change)


async def policy_changes(fleet: Fleet) -> None:
    await _changed(fleet, changes.policy_changes)


async def services_move(fleet: Fleet) -> None:
    await _changed(fleet, changes.services_move)


async def weights_change(fleet: Fleet) -> None:
    await _changed(fleet, changes.weights_change)


async def _changed(fleet: Fleet, change: Callable[[Fleet], Coroutine[Any, Any, None]]) -> None:
    began = fleet.world.now
    await change(fleet)
    await fleet.converged(f"after {change.__name__}", 60.0)
    nothing_missed(fleet, began)


async def all_restart_while_one_job_is_broken(fleet: Fleet) -> None:
    """From their states: nothing moves, and the others go on."""
    job = fleet.a_job()
    for source in job.sources.values():
        source.mode = "status 500"
    for controller in fleet.world.controllers.values():
        await controller.kill()
        controller.start()
    await fleet.no_write_in(25.0, f"the controllers restart and {job.name} gives no answer")
    await _others_go_on(fleet, job)


async def what_is_held_is_released(fleet: Fleet) -> None:
    """I11: a person says that a source that lists half is right: believed at once, and no other job is touched by it."""
    job = fleet.a_job()
    source = job.sources["first"]
    source.targets = source.targets[: max(1, len(source.targets) // 2)]
    fleet.world.say(f"{job.name} lists half, and that is right")
    ends = fleet.world.now + 7.5 + fleet.world.pace.late_s
    while not (released := fleet.release(job)) and fleet.world.now < ends:
        await fleet.let_pass(0.25)
    if not released and fleet.world.pace.busy:
        return  # no leader has asked the source yet
    await fleet.let_pass(BELIEVED_S + fleet.world.pace.late_s)
    if left := fleet.world.given(job.name) - job.targets:
        fleet.broken(f"I11: {len(left)} targets of {job.name} are still in the plan after a person said that they are gone")


def nothing_missed(fleet: Fleet, began: float) -> None:
    if missed := fleet.world.moves.missed(began):
        fleet.broken(f"I16: {len(missed)} targets ({missed[0]}) have no scrape for {fleet.world.traits.missed_s:.0f} s")


JOB_EXAMS = (
    one_job_gives_no_answer,
    one_job_is_doubted,
    a_job_is_added,
    a_broken_job_is_added,
    a_job_is_removed,
    replicas_change,
    policy_changes,
    weights_change,
    services_move,
    all_restart_while_one_job_is_broken,
    what_is_held_is_released,
)
