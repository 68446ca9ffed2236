"""What befalls a fleet: faults that begin, last for a while and end, several at a time. All is drawn from the run's seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tests.sim import changes
from tests.sim.fleet import Fleet
from tests.sim.lockstores import CONSUL


async def list_fails(fleet: Fleet) -> None:
    fault, lasts_s = fleet.membership.fail(fleet.rng), fleet.for_s(1, 5, 30)
    fleet.say_fault(f"{fault} for {lasts_s:.1f} s")
    await asyncio.sleep(lasts_s)
    fleet.membership.set_fault("")


async def list_is_lost(fleet: Fleet) -> None:
    fleet.say_fault("the list of scrapers is lost for a moment")
    await fleet.membership.is_lost(0.0 if fleet.registers else fleet.for_s(0.1, 3))


async def list_is_behind(fleet: Fleet) -> None:
    fleet.say_fault("the list of scrapers is behind")
    fleet.membership.is_behind(fleet.rng.randint(1, 5))


async def lock_fails(fleet: Fleet) -> None:
    """The store of the lock, where it is not Consul; or whoever has the lock loses it there."""
    store, fault = fleet.lock_store, fleet.rng.choice(("down", "hang", "status 500", "lost", "busy", "", ""))
    if store is None:
        return
    if not fault:
        fleet.say_fault("the lock is lost")
        store.end_lease()
        return
    lasts_s = fleet.for_s(1, 5, 20)
    fleet.say_fault(f"the lock is {fault} for {lasts_s:.1f} s")
    store.fault = fault
    await asyncio.sleep(lasts_s)
    store.fault = ""


async def scraper_dies(fleet: Fleet) -> None:
    scraper, lasts_s = fleet.a_scraper(), fleet.for_s(2, 10, 40)
    fleet.say_fault(f"{scraper.id} dies for {lasts_s:.1f} s")
    scraper.up = False
    await asyncio.sleep(lasts_s)
    fleet.restart(scraper)


async def scraper_freezes(fleet: Fleet) -> None:
    scraper, lasts_s = fleet.a_scraper(), fleet.for_s(1, 6, 30)
    fleet.say_fault(f"{scraper.id} freezes for {lasts_s:.1f} s")
    scraper.frozen = True
    await asyncio.sleep(lasts_s)
    scraper.frozen = False


async def scraper_flaps(fleet: Fleet) -> None:
    scraper, times, pause = fleet.a_scraper(), fleet.rng.randint(2, 4), fleet.for_s(1.5, 3)
    fleet.say_fault(f"{scraper.id} flaps {times} times, every {pause:.1f} s")
    for _ in range(times):
        scraper.hidden = True
        await asyncio.sleep(pause)
        scraper.hidden = False
        await asyncio.sleep(pause)


async def scrapers_die(fleet: Fleet) -> None:
    some, lasts_s = fleet.some_scrapers(), fleet.for_s(3, 20)
    fleet.say_fault(f"{len(some)} scrapers die for {lasts_s:.1f} s")
    for scraper in some:
        scraper.up = False
    await asyncio.sleep(lasts_s)
    for scraper in some:
        fleet.restart(scraper)


async def scrapers_hidden(fleet: Fleet) -> None:
    some, lasts_s = fleet.some_scrapers(), fleet.for_s(3, 20)
    fleet.say_fault(f"{len(some)} scrapers are hidden for {lasts_s:.1f} s")
    for scraper in some:
        scraper.hidden = True
    await asyncio.sleep(lasts_s)
    for scraper in some:
        scraper.hidden = False


async def scraper_fails(fleet: Fleet) -> None:
    """It reaches none, or some, of its targets."""
    scraper, lasts_s = fleet.a_scraper(), fleet.for_s(10, 40, 120)
    share = fleet.rng.choice((0.3, 0.8, 1.0))
    fleet.say_fault(f"{scraper.id} does not reach {share:.0%} of its targets for {lasts_s:.1f} s")
    scraper.fails = share
    await asyncio.sleep(lasts_s)
    scraper.fails = 0.0


async def pair_is_cut(fleet: Fleet) -> None:
    scraper, lasts_s = fleet.a_scraper(), fleet.for_s(20, 60, 120)
    targets = sorted(scraper.in_file)
    if targets:
        target = fleet.rng.choice(targets)
        fleet.say_fault(f"{scraper.id} does not reach {target} for {lasts_s:.1f} s")
        scraper.cut.add(target)
        await asyncio.sleep(lasts_s)
        scraper.cut.discard(target)


async def scraper_hangs(fleet: Fleet) -> None:
    """Its API only."""
    scraper, api, lasts_s = fleet.a_scraper(), fleet.rng.choice(("hangs", "503")), fleet.for_s(3, 20, 60)
    fleet.say_fault(f"{scraper.id}: API {api} for {lasts_s:.1f} s")
    scraper.api = api
    await asyncio.sleep(lasts_s)
    scraper.api = ""


async def scraper_lies(fleet: Fleet) -> None:
    scraper, lie, lasts_s = fleet.a_scraper(), fleet.a_lie(), fleet.for_s(10, 40, 90)
    fleet.say_fault(f"{scraper.id} lies: {lie} for {lasts_s:.1f} s")
    scraper.lie = lie
    await asyncio.sleep(lasts_s)
    scraper.lie = ""


async def scraper_is_drained(fleet: Fleet) -> None:
    """By a person, who asks the leader again until there is one."""
    scraper, lasts_s = fleet.a_scraper(), fleet.for_s(10, 60, 120)
    fleet.say_fault(f"{scraper.id} is drained for {lasts_s:.1f} s")
    fleet.drained.add(scraper.id)
    fleet.drain()
    await asyncio.sleep(lasts_s)
    fleet.drained.discard(scraper.id)
    fleet.drain()


async def source_fails(fleet: Fleet) -> None:
    source, mode, lasts_s = fleet.a_source(), fleet.rng.choice(("status 500", "hang", "cut")), fleet.for_s(3, 12, 40)
    fleet.say_fault(f"source {mode} for {lasts_s:.1f} s")
    source.mode = mode
    await asyncio.sleep(lasts_s)
    source.mode = ""


async def source_lies(fleet: Fleet) -> None:
    """Too short for so many equal answers that it is believed."""
    source, mode = fleet.a_source(), fleet.rng.choice(("empty", "half"))
    fleet.say_fault(f"source {mode} for 6 s")
    if source.mode:
        return
    source.mode = mode
    await asyncio.sleep(6.0)
    source.mode = ""


async def source_changes(fleet: Fleet) -> None:
    job = fleet.a_job()
    name, source = fleet.rng.choice(list(job.sources.items()))
    before = len(source.targets)
    match fleet.rng.choice(("grows", "shrinks", "reorders", "loses most")):
        case "grows":
            fleet.grow(job)
        case "shrinks":
            source.targets = source.targets[fleet.rng.randint(1, 5) :]
        case "reorders":
            source.targets = fleet.rng.sample(source.targets, len(source.targets))
        case "loses most":
            source.targets = source.targets[-max(3, before // 3) :]
    fleet.say_fault(f"source {name} of {job.name}: {before} targets, now {len(source.targets)}")


async def delivery_fails(fleet: Fleet) -> None:
    scraper, trouble, lasts_s = fleet.a_scraper(), fleet.rng.choice(("full", "cut", "stalls")), fleet.for_s(2, 10, 30)
    scraper.stall_s = fleet.rng.uniform(1.0, 15.0)
    fleet.say_fault(f"{scraper.id}: disk {trouble} ({scraper.stall_s:.1f} s) for {lasts_s:.1f} s")
    scraper.disk = trouble
    await asyncio.sleep(lasts_s)
    scraper.disk = ""


async def controller_dies(fleet: Fleet) -> None:
    """Known to be weak: one controller with agents, which loses its state and whose clock went back, begins with an epoch
    that the agents refuse.
    """
    controller, state, lasts_s = fleet.a_controller(), fleet.rng.random() < 0.8, fleet.for_s(0.5, 5, 20)
    state |= fleet.size == 1 and fleet.means == "agent" and fleet.world.clock.wall_off_s < 0 and not fleet.world.strict
    fleet.say_fault(f"{controller.name} dies for {lasts_s:.1f} s{'' if state else ', loses its state'}")
    await controller.kill(state=state)
    await asyncio.sleep(lasts_s)
    if not controller.runs:
        controller.start()


async def controller_stops(fleet: Fleet) -> None:
    controller, lasts_s = fleet.a_controller(), fleet.for_s(0.5, 5)
    if controller.process.frozen:
        return
    fleet.say_fault(f"{controller.name} stops for {lasts_s:.1f} s")
    await controller.stop()
    await asyncio.sleep(lasts_s)
    if not controller.runs:
        controller.start()


async def controller_freezes(fleet: Fleet) -> None:
    controller, lasts_s = fleet.a_controller(), fleet.for_s(1, 6, 20)
    process = controller.process
    if not controller.runs:
        return
    fleet.say_fault(f"{controller.name} freezes for {lasts_s:.1f} s")
    process.frozen = True
    await asyncio.sleep(lasts_s)
    if process.frozen and not process.dead:
        process.thaw()


async def controller_is_cut_off(fleet: Fleet) -> None:
    controller, lasts_s = fleet.a_controller(), fleet.for_s(2, 10, 30)
    host = fleet.rng.choice((fleet.membership.host or CONSUL, fleet.wanted.lock or CONSUL))
    fleet.say_fault(f"{controller.name} does not reach {host} for {lasts_s:.1f} s")
    pair = controller.name, host
    fleet.world.cut_off.add(pair)
    await asyncio.sleep(lasts_s / 2)
    fleet.grow(fleet.a_job())
    await asyncio.sleep(lasts_s / 2)
    fleet.world.cut_off.discard(pair)


async def controller_reloads(fleet: Fleet) -> None:
    controller = fleet.a_controller()
    fleet.say_fault(f"{controller.name} reloads")
    if not controller.process.frozen:
        await controller.reload()


async def clock_jumps(fleet: Fleet) -> None:
    fleet.say_fault("the wall clock jumps")
    fleet.world.clock.wall_off_s += fleet.rng.choice((-86400.0, 86400.0))


async def somebody_meddles(fleet: Fleet) -> None:
    """A slice is edited, or deleted, by hand."""
    scraper = fleet.a_scraper()
    job = fleet.a_job()
    fleet.say_fault(f"{scraper.id}: its slice of {job.name} is deleted")
    scraper.file(job.name).unlink(missing_ok=True)


async def somebody_changes_the_configuration(fleet: Fleet) -> None:
    change = fleet.rng.choice(CHANGES)
    fleet.say_fault(change.__name__)
    await change(fleet)


CHANGES: tuple[Callable[[Fleet], Coroutine[Any, Any, object]], ...] = (
    changes.job_is_added,
    changes.job_is_removed,
    changes.replicas_change,
    changes.policy_changes,
    changes.weights_change,
    changes.services_move,
)
FAULT_KINDS = (
    list_fails,
    list_is_lost,
    list_is_behind,
    lock_fails,
    scraper_dies,
    scraper_freezes,
    scraper_flaps,
    scrapers_die,
    scrapers_hidden,
    scraper_fails,
    pair_is_cut,
    scraper_hangs,
    scraper_lies,
    scraper_is_drained,
    source_fails,
    source_lies,
    source_changes,
    delivery_fails,
    controller_dies,
    controller_stops,
    controller_freezes,
    controller_is_cut_off,
    controller_reloads,
    clock_jumps,
    somebody_meddles,
    somebody_changes_the_configuration,
    somebody_changes_the_configuration,
)
