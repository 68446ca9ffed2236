"""What the room of a fleet is counted from, and when."""

from __future__ import annotations

import asyncio

from promring.core.placement import Policy, place
from promring.core.pool import build_pool
from promring.core.ring import Ring
from promring.election.leadership import Leadership
from promring.fleet.weighing import Weighing
from promring.model import Placement, Scraper, TargetGroup
from promring.runtime.threads import in_thread
from promring.telemetry import log
from tests.waiting import until

POLICY = Policy(8, capacity=10)


def placed(targets: int) -> Placement:
    members = tuple(Scraper(f"{name}:1", name, 1) for name in "ab")
    return place(build_pool([(TargetGroup.of([f"t{n}:1" for n in range(targets)]),)]), Ring(members, 8), POLICY)


def idle() -> Weighing:
    return Weighing(leadership=Leadership(), wake=lambda: None, log=log.get())


def needed(weighing: Weighing, placement: Placement) -> int:
    found = weighing.measured(placement, POLICY).needed
    assert found is not None
    return found.needed


async def test_what_is_placed_is_measured_beside_the_loop_and_asked_for_meanwhile_it_is_what_was_before() -> None:
    weighing, first, second = idle(), placed(15), placed(35)
    newest = [first]
    task = asyncio.create_task(weighing.keep_measuring(lambda: newest[0], POLICY))
    try:
        weighing.placement_is_new()
        await until(lambda: needed(weighing, first) == 2, "measured")
        newest[0] = second
        weighing.placement_is_new()
        await asyncio.sleep(0)
        assert needed(weighing, second) == 2, "it is being measured"
        await in_thread(lambda: None)
        await until(lambda: needed(weighing, second) == 4, "measured")
    finally:
        task.cancel()


async def test_where_nobody_measures_it_is_measured_when_it_is_asked_for() -> None:
    weighing = idle()
    assert [needed(weighing, placed(n)) for n in (15, 35)] == [2, 4]
