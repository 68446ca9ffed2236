"""Examinations: one fault in a fleet that is well, and exactly what must, or must not, happen then."""

from __future__ import annotations

import asyncio

from tests.sim.fleet import RECONCILE_S, Fleet
from tests.sim.world import SCRAPERS


async def consul_gives_no_answer(fleet: Fleet) -> None:
    """I3."""
    fleet.world.consul.set_fault(fleet.rng.choice(("down", "hang", "status 500", "hidden", "empty")))
    await fleet.no_write_in(30.0, f"consul is {fleet.world.consul.fault}")


async def consul_lost_all(fleet: Fleet) -> None:
    """I3."""
    fleet.lost_epochs = True
    fleet.world.consul.forget()
    if not fleet.registers:
        await asyncio.sleep(1.0)
        fleet.register()
    await fleet.no_write_in(30.0, "consul forgets")


async def consul_is_behind(fleet: Fleet) -> None:
    """I3: a lower index is no news."""
    for _ in range(3):
        fleet.world.consul.lag(1)
        await fleet.no_write_in(7.0, "consul is behind")


async def source_gives_no_answer(fleet: Fleet) -> None:
    """I3."""
    for source in fleet.world.sources.values():
        source.mode = fleet.rng.choice(("status 500", "hang", "cut"))
    await fleet.no_write_in(40.0, "the sources fail")


async def source_gives_nothing(fleet: Fleet) -> None:
    """I11."""
    for source in fleet.world.sources.values():
        source.mode = fleet.rng.choice(("empty", "half"))
    await fleet.no_write_in(6.0, "the sources say less, for a moment")
    fleet.heal()
    await fleet.no_write_in(10.0, "the sources said less, for a moment")


async def source_says_less_and_fails(fleet: Fleet) -> None:
    """I3, I11: what it said once is not confirmed by its failures."""
    for source in fleet.world.sources.values():
        source.mode = fleet.rng.choice(("empty", "half"))
    await fleet.no_write_in(6.0, "the sources say less, once")
    for source in fleet.world.sources.values():
        source.mode = fleet.rng.choice(("status 500", "cut"))
    await fleet.no_write_in(30.0, "the sources fail after they said less")
    fleet.heal()
    await fleet.no_write_in(10.0, "the sources said less, then failed")


async def source_reorders(fleet: Fleet) -> None:
    """I6."""
    for source in fleet.world.sources.values():
        source.targets = fleet.rng.sample(source.targets, len(source.targets))
    await fleet.no_write_in(12.0, "the sources list in another order")


async def most_are_hidden(fleet: Fleet) -> None:
    """I11: a panic."""
    for scraper in fleet.rng.sample(list(fleet.world.scrapers.values()), SCRAPERS // 2 + 1):
        scraper.hidden = True
    fleet.world.consul.look_at_all()
    await fleet.no_write_in(25.0, "most scrapers live, hidden from consul")


async def one_dies(fleet: Fleet) -> None:
    """Its targets are elsewhere soon, whatever was before; and come home without a gap when it is back."""
    scraper = fleet.a_scraper()
    scraper.up = False
    await fleet.converged(f"after {scraper.id} died", 20.0)


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
    fleet.grow(fleet.world.sources["first"])
    if fleet.size > 1:
        await fleet.converged("while the one who led is cut off", 25.0)
    await fleet.let_pass(5.0)


async def all_restart(fleet: Fleet) -> None:
    """From their states: nothing moves."""
    for controller in fleet.world.controllers.values():
        await controller.kill()
        controller.start()
    await fleet.no_write_in(30.0, "the controllers restart")


async def slice_is_deleted(fleet: Fleet) -> None:
    """It is put back within a reconcile interval."""
    fleet.a_scraper().file.unlink(missing_ok=True)
    await fleet.converged("after a slice was deleted", 2 * RECONCILE_S + 10.0)


EXAMS = (
    consul_gives_no_answer,
    consul_lost_all,
    consul_is_behind,
    source_gives_no_answer,
    source_gives_nothing,
    source_says_less_and_fails,
    source_reorders,
    most_are_hidden,
    one_dies,
    leader_dies,
    leader_freezes,
    leader_is_cut_off,
    all_restart,
    slice_is_deleted,
)
