"""What befalls few fleets: a seed may have one of these faults beside the others, and one of these examinations.

They are drawn from a source of their own, so a seed that has none of them is the run that it was before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from promring.core.idle import GIVEN_S, LASTS_S, LEAST
from promring.core.unresponsive import HANGS_S
from promring.fleet.visitors import PATIENCE_S
from promring.model import LONG_AGO
from tests.sim.fleet import Fleet
from tests.sim.job_exams import nothing_missed, somebody_leads
from tests.sim.lockstores import CONSUL
from tests.sim.proof import TIMEOUT_S
from tests.sim.rights import ANYBODY, OF_THE_CATALOGUE, OF_THE_LOCK, SESSION, TOKEN, lost
from tests.sim.scraper_exams import AGREES_S, members, some_leave_too_often_while_one_is_away
from tests.sim.wanted import AUDIT_S, OVERLAP_S

FAULT_SHARE, EXAM_SHARE = 0.15, 0.1
"""Of the seeds."""
DIES_S = 90.0
"""Until nothing moves any more because somebody died."""
PANIC_S = 30.0
"""Longer than a panic holds the plan."""
REFUSES_S = 45.0
"""Three deliveries fail before what is new goes elsewhere; then it is decided and delivered."""
FOLLOWS_S = 60.0
MAY_WAIT_S = 330.0
"""Who left too often waits up to five minutes."""


# --- faults ----------------------------------------------------------------------------------------------------------


async def right_is_lost(fleet: Fleet) -> None:
    """By one controller or by all, and given back."""
    who = fleet.rng.choice((ANYBODY, fleet.a_controller().name))
    pair, lasts_s = (who, lost(fleet.rng, fleet.wanted.lock)), fleet.for_s(2, 10, 30)
    fleet.say_fault(f"{who or 'everybody'} lacks the right {pair[1]} for {lasts_s:.1f} s")
    fleet.world.denied.add(pair)
    await asyncio.sleep(lasts_s)
    fleet.world.denied.discard(pair)


async def scraper_refuses_a_job(fleet: Fleet) -> None:
    """Its slices of that job only, as one whose configuration of it is wrong, or whose folder for it cannot be written."""
    scraper, job, lasts_s = fleet.a_scraper(), fleet.a_job(), fleet.for_s(5, 20, 60)
    fleet.say_fault(f"{scraper.id} refuses {job.name} for {lasts_s:.1f} s")
    scraper.refuses.add(job.name)
    await asyncio.sleep(lasts_s)
    scraper.refuses.discard(job.name)


# --- examinations ----------------------------------------------------------------------------------------------------


async def rights_are_lost(fleet: Fleet) -> None:
    """I3: what may not be seen is not gone. Nobody writes for it, and when the right is back somebody leads."""
    right = lost(fleet.rng, fleet.wanted.lock)
    fleet.world.say(f"everybody lacks the right {right}")
    fleet.world.denied.add((ANYBODY, right))
    await fleet.no_write_in(20.0, f"everybody lacks the right {right}")
    fleet.world.denied.clear()
    await fleet.no_write_in(15.0, f"everybody has the right {right} again")
    await somebody_leads(fleet, "the right is back")


async def leader_loses_a_right(fleet: Fleet) -> None:
    """Of the lock, which it then cannot renew: it does not keep it from the others. A session of Consul ends up to twice its
    TTL after it was renewed last.
    """
    if fleet.size == 1:
        return
    leader = fleet.a_controller()
    right = fleet.rng.choice(OF_THE_LOCK[fleet.wanted.lock or CONSUL])
    fleet.world.say(f"{leader.name}, which leads, lacks the right {right}")
    fleet.world.denied.add((leader.name, right))
    await fleet.let_pass(25.0 if right in (TOKEN, SESSION) else 20.0)
    await somebody_leads(fleet, f"{leader.name} lost the right {right}")
    if right not in OF_THE_CATALOGUE:
        fleet.grow(fleet.a_job())
        await fleet.converged(f"while {leader.name} lacks the right {right}", 40.0)


async def one_refuses_a_job(fleet: Fleet) -> None:
    """What is new of that job goes to others; of the other jobs it has what it shall have."""
    if fleet.means in ("agent", "http_sd") or fleet.wanted.capacity:  # no controller is told, or the others may be full
        return
    scraper, job, began = fleet.a_scraper(), fleet.a_job(), fleet.world.now
    fleet.world.say(f"{scraper.id} refuses {job.name}")
    scraper.refuses.add(job.name)
    fleet.grow(job)
    await fleet.let_pass(REFUSES_S + 2 * fleet.world.traits.stage_s)
    has = {target for one in fleet.world.scrapers.values() for target in one.of(job.name)}
    if lost := sorted(job.targets - has):
        fleet.broken(f"{scraper.id} refuses {job.name}, and nobody has {len(lost)} new targets ({lost[0]})")
    nothing_missed(fleet, began)


async def one_lacks_a_job(fleet: Fleet) -> None:
    """What it had of that job is scraped by others, until it has the job again; then nobody misses a scrape."""
    if fleet.wanted.capacity or len(fleet.world.scrapers) < 3:
        return
    scraper, job, stage_s = fleet.a_scraper(), fleet.a_job(), fleet.world.traits.stage_s
    several = len(fleet.world.scrapers) > 4 and fleet.rng.random() < 0.5
    more = {one.id: one for one in [fleet.a_scraper()] if several}
    mine = {target for target in scraper.of(job.name) if not fleet.world.traits.drops(target)}
    for one in {scraper.id: scraper, **more}.values():
        fleet.world.say(f"{one.id} has no job {job.name}")
        one.lose(job.name)
    forgotten = Random(f"forgotten {fleet.seed}").random() < 0.4
    for controller in fleet.world.controllers.values() if forgotten else ():  # nobody knows any more who had come for it
        await controller.kill()
        controller.start()
    await fleet.let_pass(forgotten * PATIENCE_S + GIVEN_S + LASTS_S + 5 * AUDIT_S + 3 * stage_s)
    asked = {
        t for one in fleet.world.scrapers.values() if one.answers for t, x in one.loaded.items() if x.asked_at > LONG_AGO
    }
    if lost := sorted(t for t in job.targets - asked if not fleet.world.traits.drops(t)):
        fleet.broken(f"{scraper.id} has no job {job.name}, and nobody scrapes {len(lost)} targets ({lost[0]})")
    others = [one for one in fleet.world.scrapers.values() if one is not scraper and one.of(job.name)]
    if len(mine) >= LEAST and len(others) > 1 and not _gets_no_more(fleet, scraper.id, job.name):
        fleet.broken(f"{scraper.id} has no job {job.name}, and nobody calls it idle")
    began = fleet.world.now
    for one in {scraper.id: scraper, **more}.values():
        one.without.clear()
    await fleet.let_pass(3 * AUDIT_S + 2 * stage_s)
    nothing_missed(fleet, began)


async def one_dies_and_counts_as_alive(fleet: Fleet) -> None:
    """Or it hangs, and its check looks at something else: others have its targets some minutes later, a reload or not, and
    get what is new.
    """
    if fleet.wanted.capacity or len(fleet.world.scrapers) < 3 or fleet.membership.kind != CONSUL:
        return
    scraper, traits = fleet.a_scraper(), fleet.world.traits
    hangs, scraper.vouched = fleet.rng.random() < 0.5, True
    fleet.world.say(f"{scraper.id} {'hangs' if hangs else 'dies'}, and its check passes")
    await fleet.let_pass(AUDIT_S + TIMEOUT_S)
    scraper.frozen, scraper.up = hangs, hangs
    if fleet.rng.random() < 0.5:
        await fleet.let_pass(20.0)
        await fleet.reload()
    settles_s = 2 * AUDIT_S + 2 * OVERLAP_S + 3 * traits.stage_s + traits.poll_s
    await fleet.let_pass(HANGS_S + settles_s)
    _others_scrape_all(fleet, scraper.id)
    scraper.up, scraper.frozen = True, True  # another program, that hangs, has its port now
    await fleet.let_pass(AUDIT_S)
    fleet.grow(fleet.a_job())
    await fleet.let_pass(settles_s)
    _others_scrape_all(fleet, scraper.id)
    scraper.vouched = scraper.frozen = False
    if not hangs:
        fleet.restart(scraper)


def _others_scrape_all(fleet: Fleet, without: str) -> None:
    traits, others = fleet.world.traits, [one for one in fleet.world.scrapers.values() if one.answers]
    asked = {t for one in others for t, x in one.loaded.items() if x.asked_at > fleet.world.now - 3 * traits.interval_s}
    for job in fleet.world.jobs.values():
        if lost := sorted(t for t in job.targets - asked if not traits.drops(t)):
            fleet.broken(f"{without} does not answer, its check passes, and nobody scrapes {len(lost)} ({lost[0]})")


def _gets_no_more(fleet: Fleet, scraper: str, job: str) -> bool:
    """Whether some controller's plan gives it no more of the job."""
    loops = [found.reconciler for c in fleet.world.controllers.values() if (found := c.fleet())]
    told = [one.moves.failing for one in loops]
    return any((job, scraper) in (*one.refusing, *one.idle) or scraper in one.scrapers for one in told)


async def leader_sees_some_come_and_go(fleet: Fleet) -> None:
    """Now and then Consul tells the leader, and nobody else, that the checks of some scrapers fail. No target misses a
    scrape, and when all controllers are told the same again they give targets to the same scrapers.
    """
    if fleet.membership.kind != CONSUL:
        return
    consul, scrapers = fleet.world.consul, list(fleet.world.scrapers.values())
    leader, rng = fleet.a_controller(), Random(f"come and go {fleet.seed}")
    some = rng.sample(scrapers, rng.randint(1, max(1, len(scrapers) // 2 - 1)))
    entries = [i for i, one in consul.entries.items() if any(one.definition.get("Address") == s.host for s in some)]
    fleet.world.say(f"{leader.name} sees {', '.join(s.id for s in some)} come and go")
    began = fleet.world.now
    for _ in range(rng.randint(2, 6)):
        consul.differs_for(leader.name, entries)
        await fleet.let_pass(rng.choice((1.5, 4.0, 12.0)))
        consul.differs_for(leader.name, ())
        await fleet.let_pass(rng.choice((2.0, 8.0, 25.0)))
        nothing_missed(fleet, began)
    await fleet.let_pass(AGREES_S)
    differ = members(fleet)
    await fleet.let_pass(AGREES_S)
    if len(set(differ.values())) > 1 and members(fleet) == differ:
        fleet.broken(f"controllers give targets to different scrapers for {AGREES_S:g} s: {differ}")
    nothing_missed(fleet, began)
    await fleet.converged("after some came and went", MAY_WAIT_S)


async def delivery_changes(fleet: Fleet) -> None:
    """From files to http_sd and back, while every scraper goes on reading its file: it gets what is new."""
    if fleet.fetched:
        return
    for fetched in (True, False):
        began, fleet.fetched = fleet.world.now, fetched
        fleet.world.say(f"slices are {'served' if fetched else 'written'}")
        await fleet.reload()
        fleet.grow(fleet.a_job())
        await fleet.converged("after another delivery was configured", FOLLOWS_S)
        nothing_missed(fleet, began)


async def state_is_lost_while_some_show_nothing(fleet: Fleet) -> None:
    """All controllers lose their state, and who was drained. What others had got meanwhile goes back, and no target misses
    a scrape, although nobody sees what some of those others have.
    """
    rng, world = Random(f"lost state {fleet.seed}"), fleet.world
    if fleet.wanted.capacity or len(world.scrapers) < 3:
        return
    if fleet.size == 1 and fleet.means == "agent" and world.clock.wall_off_s < 0:  # known to be weak: agents refuse it
        return
    drained, began = fleet.a_scraper(), world.now
    fleet.drained.add(drained.id)
    await fleet.converged(f"after {drained.id} was drained", 60.0)
    others = [one for one in world.scrapers.values() if one is not drained]
    some = rng.sample(others, rng.randint(1, max(1, len(others) // 2)))
    for one in some:
        one.lie, one.api = rng.choice((("pool", ""), ("", "hangs"), ("", "503")))
    world.say(f"all controllers lose their state; of {', '.join(one.id for one in some)} nothing is seen")
    for controller in world.controllers.values():
        await controller.kill(state=False)
    fleet.drained.clear()
    for controller in world.controllers.values():
        controller.start()
    await fleet.let_pass(rng.choice((2.0, 8.0, 20.0, 120.0)))
    nothing_missed(fleet, began)
    for one in some:
        one.lie = one.api = ""
    await fleet.converged("after all controllers lost their state", 60.0)
    nothing_missed(fleet, began)


async def most_are_hidden_for_long(fleet: Fleet) -> None:
    """I11: who answers direct probes stays, whoever calls it dead: also over a moment without an answer, a reload or a
    restart, when so many others have died that no more than half are missing.
    """
    membership, rng = fleet.membership, Random(f"hidden for long {fleet.seed}")
    if membership.probes_alone:
        return
    scrapers = list(fleet.world.scrapers.values())
    hidden = rng.sample(scrapers, len(scrapers) // 2 + 1)
    for scraper in hidden:
        scraper.hidden = True
    fleet.world.consul.look_at_all()
    await fleet.no_write_in(PANIC_S, "most scrapers live, hidden")
    for scraper in hidden[: 2 * len(hidden) - len(scrapers)]:
        scraper.up = False
    await fleet.let_pass(DIES_S)
    match rng.choice(("no answer", "reload", "restart")):
        case "no answer":
            membership.set_fault("status 500")
            await fleet.no_write_in(4.0, "nothing is heard of the scrapers")
            membership.set_fault("")
        case "reload":
            await fleet.reload()
        case _:
            for controller in fleet.world.controllers.values():
                await controller.kill()
                controller.start()
    await fleet.no_write_in(PANIC_S, "most scrapers still live, hidden")


Rare = Callable[[Fleet], Coroutine[Any, Any, None]]
FAULTS: tuple[Rare, ...] = (right_is_lost, scraper_refuses_a_job)
EXAMS: tuple[Rare, ...] = (rights_are_lost, leader_loses_a_right, one_refuses_a_job, delivery_changes)


def drawn_fault(seed: int, faults: int) -> tuple[int, Rare] | None:
    """Before which of so many faults, and what; None: this seed has none."""
    rng = Random(f"rare fault {seed}")
    return (rng.randrange(faults), rng.choice(FAULTS)) if rng.random() < FAULT_SHARE else None


def drawn_exams(seed: int) -> tuple[Rare, ...]:
    rng, other = Random(f"rare exam {seed}"), Random(f"jobless exam {seed}")
    drawn: tuple[Rare, ...] = (rng.choice(EXAMS),) if rng.random() < EXAM_SHARE else ()
    drawn = (*drawn, one_lacks_a_job) if other.random() < EXAM_SHARE else drawn
    drawn = (*drawn, one_dies_and_counts_as_alive) if Random(f"dead {seed}").random() < EXAM_SHARE else drawn
    drawn = (*drawn, some_leave_too_often_while_one_is_away) if Random(f"away {seed}").random() < EXAM_SHARE else drawn
    drawn = (*drawn, leader_sees_some_come_and_go) if Random(f"come and go {seed}").random() < EXAM_SHARE else drawn
    drawn = (*drawn, state_is_lost_while_some_show_nothing) if Random(f"lost state {seed}").random() < EXAM_SHARE else drawn
    return (*drawn, most_are_hidden_for_long) if Random(f"hidden {seed}").random() < EXAM_SHARE else drawn
