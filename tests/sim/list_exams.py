"""Examinations of the list of scrapers, where that is not Consul's catalogue: who is taken out of it, and what is known
without it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from tests.sim.fleet import Fleet
from tests.sim.job_exams import nothing_missed
from tests.sim.lockstores import CONSUL, KUBERNETES
from tests.sim.membership import DNS, InKubernetes
from tests.sim.scraper import Scraper
from tests.sim.scraper_exams import one_dies
from tests.sim.wanted import OVERLAP_S

LEAVES_S, JOINS_S = 60.0, 60.0
A_RUN = 2


def _some(fleet: Fleet, number: int) -> list[Scraper]:
    """None: what they have had no room elsewhere."""
    scrapers = list(fleet.world.scrapers.values())
    if fleet.wanted.capacity or len(scrapers) < number + 2:
        return []
    return fleet.rng.sample(scrapers, number)


async def _take_out(fleet: Fleet, *scrapers: Scraper) -> None:
    fleet.world.say(f"{', '.join(s.id for s in scrapers)}: taken out of the list, and they live")
    fleet.membership.out |= {s.id for s in scrapers}
    await fleet.membership.changed()


async def _put_in(fleet: Fleet) -> None:
    fleet.world.say(f"{', '.join(sorted(fleet.membership.out))}: put into the list")
    fleet.membership.put_in()
    await fleet.membership.changed()


def _let_go_s(fleet: Fleet) -> float:
    """Until whoever is not listed any more has left by a plan."""
    return fleet.membership.keep_s + LEAVES_S + OVERLAP_S + 3 * fleet.world.traits.stage_s


async def _hand_overs_end(fleet: Fleet) -> None:
    """At each controller for itself; a scraper may ask another one next."""
    if fleet.fetched:
        await fleet.let_pass(30.0)


async def one_is_taken_out(fleet: Fleet) -> None:
    """It leaves by a plan, and comes back, without a missed scrape."""
    began = fleet.world.now
    if not (some := _some(fleet, 1)):
        return
    await _take_out(fleet, *some)
    await fleet.converged(f"after {some[0].id} was taken out of the list", _let_go_s(fleet))
    nothing_missed(fleet, began)
    await _put_in(fleet)
    await fleet.converged(f"after {some[0].id} was put into the list", JOINS_S + 3 * fleet.world.traits.stage_s)
    nothing_missed(fleet, began)


async def one_is_replaced(fleet: Fleet) -> None:
    """In the moment in which one is put in another one is taken out: what that has goes to the new one."""
    if not (some := _some(fleet, 2)):
        return
    await _take_out(fleet, some[0])
    await fleet.converged(f"after {some[0].id} was taken out of the list", _let_go_s(fleet))
    began = fleet.world.now
    fleet.membership.put_in()
    await _take_out(fleet, some[1])
    await fleet.converged(f"after {some[0].id} took the place of {some[1].id}", _let_go_s(fleet))
    nothing_missed(fleet, began)
    await _put_in(fleet)


async def one_is_taken_out_and_dies(fleet: Fleet) -> None:
    """Nobody waits for it."""
    if not (some := _some(fleet, 1)):
        return
    await _take_out(fleet, *some)
    waits_s = fleet.rng.choice((1.0, 5.0, 60.0))
    await fleet.let_pass(waits_s)
    some[0].up = False
    if waits_s < fleet.membership.keep_s:
        fleet.membership.died_out.add(some[0].id)
    await fleet.converged(f"after {some[0].id} was taken out of the list and died", 25.0)
    await _put_in(fleet)


async def one_is_taken_out_while_nobody_looks(fleet: Fleet) -> None:
    """All controllers are down meanwhile: it leaves by a plan."""
    began = fleet.world.now
    if not (some := _some(fleet, 1)):
        return
    for controller in fleet.world.controllers.values():
        await controller.kill()
    await _take_out(fleet, *some)
    await fleet.let_pass(fleet.rng.choice((0.5, 10.0)))
    for controller in fleet.world.controllers.values():
        controller.start()
    await fleet.converged(f"after {some[0].id} was taken out of the list", _let_go_s(fleet))
    nothing_missed(fleet, began)
    await _put_in(fleet)


async def two_pods_are_rolled(fleet: Fleet) -> None:
    """One after the other: it is told to end, and has until all that it had is elsewhere; then it is gone, and another one
    of its name comes. No scrape is missed.
    """
    membership, began = fleet.membership, fleet.world.now
    if not isinstance(membership, InKubernetes) or not (some := _some(fleet, 2)):
        return
    for scraper in some:
        fleet.world.say(f"{scraper.id}: its pod is deleted")
        membership.leaving.add(scraper.id)
        await fleet.converged(f"after the pod of {scraper.id} was told to end", _let_go_s(fleet))
        nothing_missed(fleet, began)
        membership.leaving.clear()
        scraper.up = False
        membership.out.add(scraper.id)
        await fleet.let_pass(fleet.rng.choice((1.0, 5.0)))
        membership.put_in()
        scraper.restart(fleet.world.now)
        await fleet.converged(f"after {scraper.id} came again", JOINS_S + 3 * fleet.world.traits.stage_s)
        nothing_missed(fleet, began)


async def all_restart_without_a_list(fleet: Fleet) -> None:
    """I3: those that lived before are asked, and who dies meanwhile is noticed."""
    await _hand_overs_end(fleet)
    fleet.world.say(fleet.membership.fail(fleet.rng))
    for controller in fleet.world.controllers.values():
        await controller.kill()
        controller.start()
    await fleet.no_write_in(30.0, "the controllers restart without a list of scrapers")
    if fleet.membership.probes_alone:
        await one_dies(fleet)


async def all_restart_with_the_list_that_they_know(fleet: Fleet) -> None:
    """And one dies then."""
    await _hand_overs_end(fleet)
    for controller in fleet.world.controllers.values():
        await controller.kill()
        controller.start()
    await fleet.no_write_in(10.0, "the controllers restart")
    await one_dies(fleet)


async def list_is_short(fleet: Fleet) -> None:
    """By accident: a name server that answers with half of the records, each time others, for less than ``keep``."""
    if fleet.membership.kind != DNS:
        return
    fleet.membership.set_fault("short")
    await fleet.no_write_in(0.7 * fleet.membership.keep_s, "names are missing from the answers")
    fleet.membership.set_fault("")
    await fleet.no_write_in(20.0, "names were missing from the answers")


LIST_EXAMS: tuple[Callable[[Fleet], Coroutine[Any, Any, None]], ...] = (
    one_is_taken_out,
    one_is_replaced,
    one_is_taken_out_and_dies,
    one_is_taken_out_while_nobody_looks,
    all_restart_without_a_list,
    all_restart_with_the_list_that_they_know,
    list_is_short,
)
OF_PODS = (two_pods_are_rolled,)


def drawn_list_exams(fleet: Fleet) -> tuple[Callable[[Fleet], Coroutine[Any, Any, None]], ...]:
    if fleet.membership.kind == CONSUL:
        return ()
    drawn, more = Random(f"list exams {fleet.seed}").sample(LIST_EXAMS, A_RUN), OF_PODS
    return (*drawn, *(more if fleet.membership.kind == KUBERNETES else ()))
