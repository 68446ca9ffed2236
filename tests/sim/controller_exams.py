"""Examinations of controllers: the one that leads dies, freezes, is cut off; all of them restart."""

from __future__ import annotations

from tests.sim.fleet import Fleet
from tests.sim.scraper_exams import one_dies


async def leader_dies(fleet: Fleet) -> None:
    """Another one leads within 10 s, and moves nothing."""
    controller = fleet.a_controller()
    await controller.kill()
    if len(fleet.world.controllers) == 1:
        await fleet.no_write_in(20.0, "nobody is there")
        controller.start()
    await fleet.no_write_in(10.0, "another one comes to lead")
    if not any(c.leads for c in fleet.world.controllers.values()):
        fleet.broken("nobody leads 10 s after the leader died")
    await one_dies(fleet)


async def leader_freezes(fleet: Fleet) -> None:
    """The same; the one that comes back does not disturb."""
    controller = fleet.a_controller()
    controller.process.frozen = True
    await fleet.no_write_in(12.0, "another one comes to lead")
    fleet.a_scraper().up = False
    await fleet.let_pass(2.0)
    controller.process.thaw()
    await fleet.converged("after one died and the leader came back", 25.0)


async def leader_is_cut_off(fleet: Fleet) -> None:
    """From Consul only: it hears what changes, and writes nothing; another one does."""
    controller = fleet.a_controller()
    fleet.world.cut_off.add((controller.name, "consul"))
    await fleet.let_pass(7.0)
    fleet.grow(fleet.a_job())
    if fleet.size > 1:
        await fleet.converged("while the one who led is cut off", 25.0)
    await fleet.let_pass(5.0)


async def all_restart(fleet: Fleet) -> None:
    """From their states: nothing moves."""
    for controller in fleet.world.controllers.values():
        await controller.kill()
        controller.start()
    await fleet.no_write_in(30.0, "the controllers restart")


async def leader_dies_while_another_is_behind(fleet: Fleet) -> None:
    """I3: one that was away when a list grew, and cannot read it now, comes to lead: what was added stays."""
    if fleet.size == 1:
        return
    behind = [c for c in fleet.world.controllers.values() if not c.leads][:1]
    job = fleet.a_job()
    for controller in behind:
        await controller.kill()
    fleet.grow(job)
    await fleet.converged("while one is away", 60.0)
    for source in fleet.world.sources.values():
        source.mode = "status 500"
    for controller in fleet.world.controllers.values():
        if controller not in behind:
            await controller.kill()
    for controller in behind:
        controller.start()
    await fleet.no_write_in(40.0, "one leads that knows an older list, and its source fails")


async def all_restart_and_know_nothing_new(fleet: Fleet) -> None:
    """I3: from their states, with the lists that they had last, and no source answers."""
    fleet.grow(fleet.a_job())
    await fleet.converged("after a list grew", 60.0)
    for source in fleet.world.sources.values():
        source.mode = "status 500"
    for controller in fleet.world.controllers.values():
        await controller.kill()
        controller.start()
    await fleet.no_write_in(30.0, "the controllers restart, and no source answers")


CONTROLLER_EXAMS = (
    leader_dies,
    leader_freezes,
    leader_is_cut_off,
    all_restart,
    leader_dies_while_another_is_behind,
    all_restart_and_know_nothing_new,
)
