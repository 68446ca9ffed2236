"""Several controllers come to give the same slices: each works them out for itself, and a scraper may ask any of them."""

from __future__ import annotations

from tests.sim.controller import Controller
from tests.sim.fleet import Fleet

AGREES_S = 60.0


async def agreed(fleet: Fleet, when: str, within_s: float = AGREES_S) -> None:
    """I6: in a fleet that is well each controller gives each live scraper what is expected. Where lists are written only the
    leader's count; a follower may try a target that is dropped for longer.
    """
    if not fleet.fetched:
        return
    began = fleet.world.now
    within_s += 8 * (fleet.world.traits.stage_s - 1.0)
    while apart := [text for one in fleet.world.controllers.values() for text in _apart(fleet, one)]:
        if fleet.world.now - began > within_s:
            fleet.broken(f"I6: not agreed {within_s:g} s {when}: {'; '.join(apart[:3])}")
        await fleet.let_pass(1.0)
    if fleet.world.now > began:
        fleet.world.say(f"agreed {when}, after {fleet.world.now - began:.1f} s")


def _apart(fleet: Fleet, controller: Controller) -> list[str]:
    """The scrapers to which it gives something else than is expected."""
    running = controller.fleet()
    if running is None:
        return [f"{controller.name} does not run the fleet"]
    memory, apart = running.reconciler.memory, []
    for scraper, bodies in fleet.expected().items():
        for job, body in bodies.items():
            one = memory.of(job).slices.get(scraper)
            if one is None or bytes(one.body) != body:
                apart.append(f"{controller.name} has another slice of {job} for {scraper}")
    return apart
