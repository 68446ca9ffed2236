"""What a person changes: the configuration of a fleet, with a reload of all controllers, and the weights of its scrapers."""

from __future__ import annotations

import asyncio

from tests.sim.drawing import FULL
from tests.sim.fleet import Fleet
from tests.sim.jobs import Job
from tests.sim.wanted import FEW_NODES, MORE_NODES

RELOADED_S = 25.0
"""After which a controller that runs works by what it read."""
REPLICAS = (1, 2, 3)
LOAD_FACTORS = (1.10, 1.25, 1.5)


async def job_is_added(fleet: Fleet) -> Job | None:
    """The one that was added; None: there is no other, or no room."""
    wanted, rng = fleet.wanted, fleet.rng
    away = [job for name, job in wanted.jobs.items() if name not in wanted.active]
    if not wanted.whole or not away:
        return None
    job = rng.choice(away)
    if wanted.load + len(job.targets) * job.replicas > FULL * fleet.room:
        return None
    fleet.world.say(f"{job.name} is added, {len(job.targets)} targets, {job.replicas} times")
    wanted.active.add(job.name)
    await fleet.reload()
    return job


async def job_is_removed(fleet: Fleet) -> Job | None:
    """From the configuration, then from the scrapers. The one that was removed; None: there is just one."""
    wanted = fleet.wanted
    if len(wanted.active) == 1:
        return None
    job = fleet.a_job()
    fleet.world.say(f"{job.name} is removed")
    wanted.active.discard(job.name)
    await fleet.reload()
    await asyncio.sleep(RELOADED_S)
    if job.name not in wanted.active:
        for scraper in fleet.world.scrapers.values():
            scraper.remove(job.name)
    return job


async def replicas_change(fleet: Fleet) -> None:
    """Of one job."""
    job, wanted = fleet.a_job(), fleet.wanted
    others = [r for r in REPLICAS if r != job.replicas]
    fits = [r for r in others if wanted.load + len(job.targets) * (r - job.replicas) <= FULL * fleet.room]
    if fits:
        before, job.replicas = job.replicas, fleet.rng.choice(fits)
        fleet.world.say(f"{job.name}: {before} replicas, now {job.replicas}")
        await fleet.reload()


async def policy_changes(fleet: Fleet) -> None:
    wanted, rng = fleet.wanted, fleet.rng
    if rng.random() < 0.5:
        wanted.load_factor = rng.choice([f for f in LOAD_FACTORS if f != wanted.load_factor])
    else:
        wanted.virtual_nodes = FEW_NODES + MORE_NODES - wanted.virtual_nodes
    fleet.world.say(f"load_factor {wanted.load_factor}, {wanted.virtual_nodes} virtual nodes")
    await fleet.reload()


async def services_move(fleet: Fleet) -> None:
    """To another fleet, of the same scrapers: one of its own for a single job, or one with another name."""
    wanted, before = fleet.wanted, fleet.wanted.fleet
    if len(wanted.active) == 1 and fleet.rng.random() < 0.5:
        wanted.whole = not wanted.whole
    else:
        wanted.name, wanted.whole = ("other" if wanted.name == "main" else "main"), True
    fleet.world.say(f"all services move from fleet {before} to {wanted.fleet}")
    await fleet.reload()


async def weights_change(fleet: Fleet) -> None:
    """Of two scrapers that change places, so that the room is the same."""
    if fleet.membership.names_only:
        return
    heavy, light = fleet.rng.sample(list(fleet.world.scrapers.values()), 2)
    if heavy.weight == light.weight:
        if fleet.wanted.capacity:
            return
        heavy.weight = 3.0 - heavy.weight if heavy.weight != 1.5 else 1.0
    else:
        heavy.weight, light.weight = light.weight, heavy.weight
    fleet.world.say(f"{heavy.id}: weight {heavy.weight:g}, {light.id}: {light.weight:g}")
    await fleet.membership.changed()
