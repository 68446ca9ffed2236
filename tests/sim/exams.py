"""Examinations: one fault in a fleet that is well, and exactly what must, or must not, happen then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from promring.core.second_opinion import SUSPECT_LEAST
from tests.sim.fleet import Fleet
from tests.sim.job_exams import JOB_EXAMS, nothing_missed
from tests.sim.wanted import AUDIT_S, RECONCILE_S

Exam = Callable[[Fleet], Coroutine[Any, Any, None]]


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
    scrapers = list(fleet.world.scrapers.values())
    for scraper in fleet.rng.sample(scrapers, len(scrapers) // 2 + 1):
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


async def slice_is_deleted(fleet: Fleet) -> None:
    """It is put back within a reconcile interval."""
    fleet.a_scraper().file(fleet.a_job().name).unlink(missing_ok=True)
    await fleet.converged("after a slice was deleted", 2 * RECONCILE_S + 10.0)


async def lists_are_cut(fleet: Fleet) -> None:
    """I8: half of a list on the way is none."""
    for scraper in fleet.world.scrapers.values():
        scraper.disk = "cut"
    fleet.grow(fleet.a_job())
    await fleet.let_pass(12.0)


async def scraper_lies(fleet: Fleet) -> None:
    """I17: whatever one says, or does not say, of itself, nobody's slice is another one."""
    scraper = fleet.a_scraper()
    if fleet.rng.random() < 0.3:
        scraper.api = fleet.rng.choice(("hangs", "503"))
    else:
        scraper.lie = fleet.a_lie()
    fleet.world.say(f"{scraper.id}: {scraper.api or scraper.lie}")
    await fleet.no_write_in(35.0, f"{scraper.id} lies")


async def scraper_fails(fleet: Fleet) -> None:
    """It is called sick soon, others reach what it fails, and nobody but it loses a target until then."""
    scraper = fleet.a_scraper()
    mine = {t for t in scraper.in_file if not fleet.world.traits.drops(t)}
    scraper.fails = 1.0
    takes, sick_by = len(fleet.world.takes), fleet.world.now + 4 * AUDIT_S + 3 * fleet.world.traits.stage_s
    while not fleet.called_sick() and fleet.world.now < sick_by:
        await fleet.let_pass(1.0)
        if len(fleet.world.takes) > takes and not fleet.called_sick():
            fleet.broken(f"I17: {fleet.world.takes[-1][1]} loses targets because {scraper.id} reaches none")
    if len(mine) >= SUSPECT_LEAST and not fleet.called_sick():
        fleet.broken(f"{scraper.id} reaches none of {len(mine)} targets, and is not called sick")
    await fleet.let_pass(3 * fleet.world.traits.stage_s + AUDIT_S)
    missed = mine & set(fleet.world.moves.missed(sick_by - 300.0))
    if len(mine) >= SUSPECT_LEAST and missed:
        fleet.broken(f"{scraper.id} fails, and nobody else scrapes {len(missed)} targets")
    await _looked_again(fleet)


async def most_fail(fleet: Fleet) -> None:
    """I17: then it is not them. Nobody is called sick, nobody loses a target."""
    takes, scrapers = len(fleet.world.takes), list(fleet.world.scrapers.values())
    some = fleet.rng.sample(scrapers, len(scrapers) // 2 + 2)
    for scraper in some:
        scraper.fails = 1.0
        scraper.fail_now(fleet.world.now)
    began = fleet.world.now
    while fleet.world.now - began < 2.5 * AUDIT_S:  # before second opinions that failed, too, end
        await fleet.let_pass(1.0)
        if sick := fleet.called_sick():
            fleet.broken(f"I17: {len(some)} scrapers reach nothing, and {', '.join(sorted(sick))} is called sick")
    if len(fleet.world.takes) > takes:
        fleet.broken(f"I17: {fleet.world.takes[-1][1]} loses targets although most scrapers reach nothing")
    await _looked_again(fleet)


async def _looked_again(fleet: Fleet) -> None:
    """Nobody fails any more, and all controllers have seen it."""
    fleet.heal()
    await fleet.let_pass(2 * AUDIT_S + fleet.world.traits.stage_s)


async def one_is_drained(fleet: Fleet) -> None:
    """Its targets go elsewhere without a missed scrape, and come home so."""
    began, scraper = fleet.world.now, fleet.a_scraper()
    fleet.drained.add(scraper.id)
    await fleet.converged(f"after {scraper.id} was drained", 40.0)
    nothing_missed(fleet, began)
    fleet.drained.clear()
    await fleet.converged(f"after {scraper.id} was undrained", 60.0)
    nothing_missed(fleet, began)


async def all_restart_while_one_is_drained(fleet: Fleet) -> None:
    """It stays drained, although nobody asks for it again."""
    scraper = fleet.a_scraper()
    fleet.drained.add(scraper.id)
    await fleet.converged(f"after {scraper.id} was drained", 60.0)
    await all_restart(fleet)


async def one_replays(fleet: Fleet) -> None:
    """It died, and comes back with a log to replay: what the others took over stays with them meanwhile."""
    scraper = fleet.a_scraper()
    scraper.up = False
    await fleet.converged(f"after {scraper.id} died", 20.0)
    await fleet.let_pass(fleet.world.traits.missed_s)
    began = fleet.world.now
    scraper.restart(began, 60.0)
    await fleet.let_pass(60.0 + fleet.world.traits.stage_s)
    nothing_missed(fleet, began)


async def one_comes_back_failing(fleet: Fleet) -> None:
    """It reaches nothing: the others keep what they took over."""
    await _comes_back(fleet, fails=1.0)


async def one_comes_back_reaching_less(fleet: Fleet) -> None:
    """It is not sick, but what it fails stays with the others."""
    await _comes_back(fleet, fails=0.35)


async def one_comes_back_misnamed(fleet: Fleet) -> None:
    """Its job has another name, so that nobody sees what it scrapes: the others keep it until it has its list."""
    await _comes_back(fleet, lie="pool")


async def one_comes_back_and_gets_nothing(fleet: Fleet) -> None:
    """It lives, nobody sees what it scrapes, and its new lists do not reach it: the others keep what they took over."""
    await _comes_back(fleet, lie="pool", reached=False)


async def _comes_back(fleet: Fleet, *, fails: float = 0.0, lie: str = "", reached: bool = True) -> None:
    scraper = fleet.a_scraper()
    scraper.up = False
    await fleet.converged(f"after {scraper.id} died", 20.0)
    await fleet.let_pass(fleet.world.traits.missed_s)
    began = fleet.world.now
    scraper.fails, scraper.lie = fails, lie
    if not reached:
        scraper.disk = "full"
        names = (scraper.host, f"agent of {scraper.host}")
        fleet.world.cut_off |= {(name, controller) for name in names for controller in fleet.world.controllers}
    scraper.restart(began)
    await fleet.let_pass(40.0 + fleet.world.traits.stage_s)
    nothing_missed(fleet, began)
    await _looked_again(fleet)


async def one_is_undrained_at_once(fleet: Fleet) -> None:
    """It has just been given the list without its targets, and still asks them."""
    began, scraper = fleet.world.now, fleet.a_scraper()
    fleet.drained.add(scraper.id)
    fleet.drain()
    while any(not fleet.world.traits.drops(t) for t in scraper.in_file) and fleet.world.now < began + 200.0:
        await fleet.let_pass(0.5)
    fleet.drained.clear()
    fleet.drain()
    await fleet.let_pass(10.0 + 2 * fleet.world.traits.stage_s)
    nothing_missed(fleet, began)


async def room_is_short(fleet: Fleet) -> None:
    """There is no room for what a live scraper has, and is drained of: it keeps it."""
    job, began = fleet.a_job(), fleet.world.now
    room = int(fleet.room * 0.95 - fleet.wanted.load) // job.replicas
    fleet.add(job, [f"n{n}.much{len(fleet.world.ever)}.{job.name}:9100" for n in range(room)])
    await fleet.converged("nearly full", 60.0)
    fleet.drained.add(fleet.a_scraper().id)
    fleet.drain()
    await fleet.let_pass(40.0 + 2 * fleet.world.traits.stage_s)
    nothing_missed(fleet, began)
    fleet.drained.clear()
    await fleet.converged("undrained", 60.0)
    nothing_missed(fleet, began)


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
    lists_are_cut,
    scraper_lies,
    scraper_fails,
    most_fail,
    one_is_drained,
    one_replays,
    one_comes_back_failing,
    one_comes_back_reaching_less,
    one_comes_back_misnamed,
    one_comes_back_and_gets_nothing,
    one_is_undrained_at_once,
    *JOB_EXAMS,
)
LAST_EXAMS = (room_is_short,)
"""After which the fleet is fuller than it was."""
