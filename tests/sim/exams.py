"""Examinations: one fault in a fleet that is well, and exactly what must, or must not, happen then."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tests.sim.controller_exams import CONTROLLER_EXAMS
from tests.sim.drain_exams import DRAIN_EXAMS
from tests.sim.fleet import Fleet
from tests.sim.job_exams import JOB_EXAMS, nothing_missed
from tests.sim.jobs import targets_of
from tests.sim.scraper_exams import SCRAPER_EXAMS

Exam = Callable[[Fleet], Coroutine[Any, Any, None]]


async def list_gives_no_answer(fleet: Fleet) -> None:
    """I3."""
    await fleet.no_write_in(30.0, fleet.membership.fail(fleet.rng))


async def list_is_lost(fleet: Fleet) -> None:
    """I3."""
    await fleet.membership.is_lost(1.0)
    await fleet.no_write_in(30.0, "the list of scrapers was lost")


async def list_is_behind(fleet: Fleet) -> None:
    """I3: a lower index is no news."""
    for _ in range(3):
        fleet.membership.is_behind()
        await fleet.no_write_in(7.0, "the list of scrapers is behind")


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
    """I11: a panic. Where only promring asks who lives, there is nobody else who could see less."""
    if fleet.membership.probes_alone:
        return
    scrapers = list(fleet.world.scrapers.values())
    for scraper in fleet.rng.sample(scrapers, len(scrapers) // 2 + 1):
        scraper.hidden = True
    fleet.world.consul.look_at_all()
    await fleet.no_write_in(25.0, "most scrapers live, hidden")


async def room_is_short(fleet: Fleet) -> None:
    """There is no room for what a live scraper has, and is drained of: it keeps it."""
    job, began = fleet.a_job(), fleet.world.now
    room = int(fleet.room * 0.95 - fleet.wanted.load) // job.replicas
    more = [f"n{n}.much{len(fleet.world.ever)}.{job.name}:9100" for n in range(room)]
    fleet.add(job, more)
    while more and _without_room(fleet):  # then which of them lacks an owner depends on who came first
        more.pop()
        job.sources["first"].targets = job.sources["first"].targets[:-1]
    await fleet.converged("nearly full", 60.0)
    fleet.drained.add(fleet.a_scraper().id)
    fleet.drain()
    await fleet.let_pass(40.0 + 2 * fleet.world.traits.stage_s)
    nothing_missed(fleet, began)
    fleet.drained.clear()
    await fleet.converged("undrained", 60.0)
    nothing_missed(fleet, began)


def _without_room(fleet: Fleet) -> int:
    """So many owners are wanted that no live scraper has room for."""
    return fleet.wanted.load - sum(len(targets_of(body)) for of in fleet.expected().values() for body in of.values())


EXAMS = (
    list_gives_no_answer,
    list_is_lost,
    list_is_behind,
    source_gives_no_answer,
    source_gives_nothing,
    source_says_less_and_fails,
    source_reorders,
    most_are_hidden,
    *CONTROLLER_EXAMS,
    *SCRAPER_EXAMS,
    *DRAIN_EXAMS,
    *JOB_EXAMS,
)
LAST_EXAMS = (room_is_short,)
"""After which the fleet is fuller than it was."""
