"""What runs have found, each told by itself."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from random import Random

import pytest

from tests.sim.controller_exams import leader_dies_while_another_is_behind
from tests.sim.faketime import FakeLoop
from tests.sim.fleet import Fleet
from tests.sim.pace import Pace
from tests.sim.run import examined, simulate
from tests.sim.world import World

LAGGING = 1, 4, 5, 7
"""Seeds of each means but agents, with the lock in Kubernetes, Consul and etcd."""


def pushed_by(controllers: int) -> int:
    """The first seed of a fleet with so many controllers that push."""
    for seed in count():
        world = World(FakeLoop(), Random(seed), Path(), pace=Pace(seed), strict=False)
        world.loop.close()
        fleet = Fleet(seed, world)
        if fleet.size == controllers and fleet.means in ("far", "file"):
            return seed
    raise AssertionError


@pytest.mark.parametrize("seed", LAGGING)
def test_who_comes_to_lead_and_knows_an_older_list_takes_no_target_from_anybody(seed: int) -> None:
    simulate(seed, strict=True, life=examined(leader_dies_while_another_is_behind))


def test_who_leads_again_has_forgotten_whom_it_could_not_reach_when_it_led_before() -> None:
    simulate(pushed_by(2), life=_leads_again)


async def _leads_again(fleet: Fleet) -> None:
    fleet.start()
    await fleet.converged("at the start")
    first = fleet.a_controller()
    (second,) = [c for c in fleet.world.controllers.values() if c is not first]
    fleet.a_scraper().disk = "full"
    fleet.grow(fleet.a_job())
    await fleet.let_pass(20.0)
    fleet.world.cut_off.add((first.name, fleet.wanted.lock))
    await fleet.let_pass(12.0)
    assert second.leads
    fleet.heal()
    await fleet.converged("with another leader")
    await fleet.let_pass(120.0)
    await second.kill()
    await fleet.no_write_in(15.0, "the first one comes to lead again")


def test_a_single_controller_without_its_state_delivers_when_the_wall_clock_went_back() -> None:
    simulate(pushed_by(1), life=_clock_went_back)


async def _clock_went_back(fleet: Fleet) -> None:
    fleet.start()
    await fleet.converged("at the start")
    (controller,) = fleet.world.controllers.values()
    fleet.world.clock.wall_off_s -= 86400.0
    await controller.kill(state=False)
    controller.start()
    await fleet.let_pass(20.0)
    fleet.grow(fleet.a_job())
    await fleet.converged("after the state was lost and the clock went back")
