"""Examinations of drains: what a scraper is drained of goes elsewhere without a missed scrape, or stays with it."""

from __future__ import annotations

from tests.sim import changes
from tests.sim.controller_exams import all_restart
from tests.sim.fleet import Fleet
from tests.sim.job_exams import nothing_missed
from tests.sim.jobs import targets_of
from tests.sim.scraper import Scraper
from tests.sim.wanted import AUDIT_S

STAYS_S = 45.0
"""Longer than a hand-over waits for anything but a proof."""


async def one_is_drained(fleet: Fleet) -> None:
    """Its targets go elsewhere without a missed scrape, and come home so."""
    began, scraper = fleet.world.now, fleet.a_scraper()
    fleet.drained.add(scraper.id)
    if not _has_room(fleet):
        fleet.drained.clear()
        return
    await fleet.converged(f"after {scraper.id} was drained", 40.0)
    nothing_missed(fleet, began)
    fleet.drained.clear()
    await fleet.converged(f"after {scraper.id} was undrained", 60.0)
    nothing_missed(fleet, began)


async def all_restart_while_one_is_drained(fleet: Fleet) -> None:
    """It stays drained, although nobody asks for it again."""
    scraper = fleet.a_scraper()
    fleet.drained.add(scraper.id)
    if not _has_room(fleet):
        fleet.drained.clear()
        return
    await fleet.converged(f"after {scraper.id} was drained", 60.0)
    await all_restart(fleet)


def _has_room(fleet: Fleet) -> bool:
    """Whether each target has as many places as it shall have: a drained scraper keeps what has no place elsewhere."""
    placed = sum(len(targets_of(body)) for bodies in fleet.expected().values() for body in bodies.values())
    return placed == fleet.wanted.load


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


async def one_is_drained_and_heirs_fail(fleet: Fleet) -> None:
    """Nobody else reaches what it has of one job: it keeps that, whatever time passes, and a reload does not end it."""
    began, scraper = fleet.world.now, fleet.a_scraper()
    await _drained_of_what_others_fail(fleet, scraper)
    await fleet.reload()
    await _stays(fleet, began)


async def one_is_drained_and_heirs_fail_in_another_fleet(fleet: Fleet) -> None:
    """Nor does it end when all services move to another fleet: what is held, and who is drained, goes with them."""
    began, scraper = fleet.world.now, fleet.a_scraper()
    await _drained_of_what_others_fail(fleet, scraper)
    await changes.services_move(fleet)
    await _stays(fleet, began)


async def one_is_drained_and_heirs_are_silent(fleet: Fleet) -> None:
    """Nobody else reaches what it has of one job, and nobody can see that: it keeps it."""
    began, scraper = fleet.world.now, fleet.a_scraper()
    for other in fleet.world.scrapers.values():
        other.api = "" if other is scraper else "hangs"
    await _drained_of_what_others_fail(fleet, scraper)
    await _stays(fleet, began)


async def one_is_drained_and_heirs_get_nothing(fleet: Fleet) -> None:
    """No list reaches anybody else, and nobody sees what they scrape: it keeps what it has."""
    began, scraper = fleet.world.now, fleet.a_scraper()
    for other in fleet.world.scrapers.values():
        if other is not scraper:
            other.lie, other.disk = "pool", "full"
            names = (other.host, f"agent of {other.host}")
            fleet.world.cut_off |= {(name, controller) for name in names for controller in fleet.world.controllers}
    fleet.drained.add(scraper.id)
    fleet.drain()
    await _stays(fleet, began)


async def one_is_drained_and_heirs_do_not_fetch(fleet: Fleet) -> None:
    """Files are written for all scrapers, but some fetch their lists instead, cannot, and nobody sees what they scrape. The
    drained scraper keeps what is to go to these: a written file does not prove that they have it.
    """
    if not fleet.mixed:
        return
    began, scraper = fleet.world.now, fleet.a_scraper()
    for other in fleet.world.scrapers.values():
        if other is not scraper and other.traits.poll_s:
            other.lie = "pool"
            fleet.world.cut_off |= {(other.host, controller) for controller in fleet.world.controllers}
    fleet.drained.add(scraper.id)
    fleet.drain()
    await _stays(fleet, began)


async def _drained_of_what_others_fail(fleet: Fleet, scraper: Scraper) -> None:
    """Of one job, the last one by name: what a scraper has of the others goes. Who has a target besides still reaches it:
    that nobody reaches it from the moment of the drain on is known only when they have asked once more.
    """
    last = max(fleet.world.jobs)
    mine = set(scraper.of(last))
    for other in fleet.world.scrapers.values():
        if other is not scraper:
            other.cut |= mine - set(other.of(last))
    fleet.drained.add(scraper.id)
    fleet.drain()
    await fleet.let_pass(STAYS_S)


async def _stays(fleet: Fleet, began: float) -> None:
    await fleet.let_pass(STAYS_S + 2 * fleet.world.traits.stage_s)
    nothing_missed(fleet, began)
    fleet.drained.clear()
    fleet.drain()
    fleet.heal()
    await fleet.let_pass(2 * AUDIT_S + 2 * fleet.world.traits.stage_s)


DRAIN_EXAMS = (
    one_is_drained,
    one_is_undrained_at_once,
    one_is_drained_and_heirs_fail,
    one_is_drained_and_heirs_fail_in_another_fleet,
    one_is_drained_and_heirs_are_silent,
    one_is_drained_and_heirs_get_nothing,
)
