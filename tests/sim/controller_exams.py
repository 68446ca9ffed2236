"""Examinations of controllers: the one that leads dies, freezes, is cut off; all of them restart."""

from __future__ import annotations

from tests.sim.fleet import Fleet
from tests.sim.job_exams import PLANNED_S, somebody_leads
from tests.sim.lockstores import CONSUL, KUBERNETES
from tests.sim.scraper_exams import one_dies


async def leader_dies(fleet: Fleet) -> None:
    """Another one leads within 10 s, and moves nothing."""
    controller = fleet.a_controller()
    await controller.kill()
    if len(fleet.world.controllers) == 1:
        await fleet.no_write_in(20.0, "nobody is there")
        controller.start()
    await fleet.no_write_in(10.0, "another one comes to lead")
    await somebody_leads(fleet, "the leader died")
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
    """From the store of the lock only: it hears what changes, and writes nothing; another one does."""
    controller = fleet.a_controller()
    fleet.world.cut_off.add((controller.name, fleet.wanted.lock or CONSUL))
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
    had = {target for s in fleet.world.scrapers.values() for target in s.in_file}
    await fleet.let_pass(40.0)
    has = {target for s in fleet.world.scrapers.values() for target in s.in_file}
    if lost := sorted(t for t in (had - has) & fleet.world.truth() if not fleet.world.traits.drops(t)):
        fleet.broken(f"I3: nobody has {len(lost)} targets ({lost[0]}) after one led that knows an older list")


async def leader_dies_and_only_it_had_read_the_list(fleet: Fleet) -> None:
    """I3: the others cannot reach the source while a list grows. One of them leads then: what was added stays."""
    if fleet.size == 1:
        return
    fleet.world.cut_off |= {(c.name, "cmdb") for c in fleet.world.controllers.values() if not c.leads}
    fleet.grow(fleet.a_job())
    await fleet.let_pass(30.0)
    for controller in [c for c in fleet.world.controllers.values() if c.leads]:
        await controller.kill()
    had = {target for s in fleet.world.scrapers.values() for target in s.in_file}
    await fleet.let_pass(40.0)
    has = {target for s in fleet.world.scrapers.values() for target in s.in_file}
    if lost := sorted(t for t in (had - has) & fleet.world.truth() if not fleet.world.traits.drops(t)):
        fleet.broken(f"I3: nobody has {len(lost)} targets ({lost[0]}) after one led that had not read the last list")


async def all_restart_and_know_nothing_new(fleet: Fleet) -> None:
    """I3: from their states, with the lists that they had last, and no source answers."""
    fleet.grow(fleet.a_job())
    await fleet.converged("after a list grew", 60.0)
    if fleet.fetched:  # a hand-over ends at each controller for itself, and a scraper may ask another one next
        await fleet.let_pass(30.0)
    for source in fleet.world.sources.values():
        source.mode = "status 500"
    for controller in fleet.world.controllers.values():
        await controller.kill()
        controller.start()
    await fleet.no_write_in(30.0, "the controllers restart, and no source answers")


async def slices_come_late(fleet: Fleet) -> None:
    """I7: what a leader sent before it died arrives when the next one has written more: it is refused."""
    for scraper in fleet.world.scrapers.values():
        scraper.disk, scraper.stall_s = "stalls", 25.0
    fleet.grow(fleet.a_job())
    await fleet.let_pass(PLANNED_S)
    controller = fleet.a_controller()
    await controller.kill()
    controller.start()
    for scraper in fleet.world.scrapers.values():
        scraper.disk = ""
    fleet.grow(fleet.a_job())
    await fleet.let_pass(30.0)


async def leader_stays(fleet: Fleet) -> None:
    """While nothing happens, the lock is nobody else's for a moment. On busy machines a lease may end for that alone."""
    if fleet.world.pace.busy:
        return
    leaders = {c.name for c in fleet.world.controllers.values() if c.leads}
    for _ in range(40):
        await fleet.let_pass(0.5)
        now = {c.name for c in fleet.world.controllers.values() if c.leads}
        if now != leaders:
            fleet.broken(f"{', '.join(leaders)} led, and now {', '.join(now) or 'nobody'} does, and nothing happened")


async def lock_gives_no_answer(fleet: Fleet) -> None:
    """I3, I7: whatever the store of the lock says, or does without saying it, nobody writes for it."""
    store = fleet.lock_store
    if store is None:
        return
    store.fault = fleet.rng.choice(("down", "hang", "status 500", "lost"))
    await fleet.no_write_in(15.0, f"the lock is {store.fault}")
    store.fault = ""
    await fleet.no_write_in(10.0, "the lock answers again")
    await somebody_leads(fleet)


async def leader_loses_the_lock(fleet: Fleet) -> None:
    """Its lease is ended at the store: soon somebody leads, and nothing moves."""
    store = fleet.lock_store
    if store is None:
        return
    for _ in range(3):
        store.end_lease()
        await fleet.no_write_in(10.0, "the leader lost the lock")
        await somebody_leads(fleet)


async def lock_has_conflicts(fleet: Fleet) -> None:
    """Somebody else writes the Lease before each write of ours: while it does nobody is sure to lead, and nothing moves."""
    store = fleet.lock_store
    if store is None or fleet.wanted.lock != KUBERNETES:
        return
    before, store.fault = store.conflicts, "busy"
    await fleet.no_write_in(8.0, "the Lease has conflicts")
    if store.conflicts == before:
        fleet.broken("nobody was refused because the Lease was another one")
    store.fault = ""
    await fleet.no_write_in(10.0, "the Lease had conflicts")
    await somebody_leads(fleet)


CONTROLLER_EXAMS = (
    leader_dies,
    leader_freezes,
    leader_is_cut_off,
    all_restart,
    leader_dies_while_another_is_behind,
    leader_dies_and_only_it_had_read_the_list,
    all_restart_and_know_nothing_new,
    slices_come_late,
    leader_stays,
    lock_gives_no_answer,
    leader_loses_the_lock,
    lock_has_conflicts,
)
