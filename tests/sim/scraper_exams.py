"""Examinations of scrapers: one that dies, comes back, fails, lies, or whose lists are damaged."""

from __future__ import annotations

from promring.core.second_opinion import SUSPECT_LEAST
from tests.sim.fleet import Fleet
from tests.sim.job_exams import nothing_missed
from tests.sim.scraper import Scraper
from tests.sim.wanted import AUDIT_S, RECONCILE_S

NEEDED_S = 25.0
"""A scraper that is needed has its targets: healthy as long as one that left twice, the check, the delivery."""

AGREES_S = 20.0
"""A controller that follows knows what the leader has told, and goes by it."""


def called_sick(fleet: Fleet) -> set[str]:
    """Whom some controller takes for sick now."""
    found: set[str] = set()
    for controller in fleet.world.controllers.values():
        if one := controller.fleet():
            found |= controller.process.run(lambda f=one: set(f.reconciler.health._used.scrapers))  # type: ignore[misc]
    return found


async def one_dies(fleet: Fleet) -> None:
    """Its targets are elsewhere soon, whatever was before; and come home without a gap when it is back."""
    scraper = fleet.a_scraper()
    scraper.up = False
    await fleet.converged(f"after {scraper.id} died", 20.0)


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
    while not called_sick(fleet) and fleet.world.now < sick_by:
        await fleet.let_pass(1.0)
        if len(fleet.world.takes) > takes and not called_sick(fleet):
            fleet.broken(f"I17: {fleet.world.takes[-1][1]} loses targets because {scraper.id} reaches none")
    if len(mine) >= SUSPECT_LEAST and not called_sick(fleet):
        fleet.broken(f"{scraper.id} reaches none of {len(mine)} targets, and is not called sick")
    short, ends_at = False, fleet.world.now + 3 * fleet.world.traits.stage_s + AUDIT_S
    while fleet.world.now < ends_at:
        await fleet.let_pass(1.0)
        short = short or _lacks_room(fleet)  # while it is sick; it may be over by the end
    missed = mine & set(fleet.world.moves.missed(sick_by - 300.0))
    if len(mine) >= SUSPECT_LEAST and missed and not short:
        fleet.broken(f"{scraper.id} fails, and nobody else scrapes {len(missed)} targets")
    await _sick_loses(fleet, scraper, mine)
    await _looked_again(fleet)


def _lacks_room(fleet: Fleet) -> bool:
    """Whether somebody keeps what it shall not have, since nobody else may have more."""
    found = (c.fleet() for c in fleet.world.controllers.values())
    return any(one.reconciler.moves.no_room for one in found if one)


async def _sick_loses(fleet: Fleet, scraper: Scraper, mine: set[str]) -> None:
    """Where there is room: what it fails is not left in its list. It may come and go: it is tried again."""
    looks = 8
    while called_sick(fleet) and mine <= set(scraper.in_file) and fleet.wanted.capacity is None:
        if not (looks := looks - 1):
            fleet.broken(f"{scraper.id} is called sick, and keeps all of its {len(mine)} targets")
        await fleet.let_pass(AUDIT_S)


async def most_fail(fleet: Fleet) -> None:
    """I17: then it is not them. Nobody is called sick, nobody loses a target. Known to be weak: on busy machines a look
    takes seconds, and one of them is called sick if the others were asked before.
    """
    if fleet.world.pace.busy and not fleet.world.strict:
        return
    takes, scrapers = len(fleet.world.takes), list(fleet.world.scrapers.values())
    some = fleet.rng.sample(scrapers, len(scrapers) // 2 + 2)
    for scraper in some:
        scraper.fails = 1.0
        scraper.fail_now(fleet.world.now)
    began = fleet.world.now
    while fleet.world.now - began < 2.5 * AUDIT_S:  # before second opinions that failed, too, end
        await fleet.let_pass(1.0)
        if sick := called_sick(fleet):
            fleet.broken(f"I17: {len(some)} scrapers reach nothing, and {', '.join(sorted(sick))} is called sick")
    if len(fleet.world.takes) > takes:
        fleet.broken(f"I17: {fleet.world.takes[-1][1]} loses targets although most scrapers reach nothing")
    await _looked_again(fleet)


async def _looked_again(fleet: Fleet) -> None:
    """Nobody fails any more, and all controllers have seen it."""
    fleet.heal()
    await fleet.let_pass(2 * AUDIT_S + fleet.world.traits.stage_s)


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


async def most_left_too_often(fleet: Fleet) -> None:
    """All but one die again and again. When all live, at least half of them have targets soon."""
    _, *others = fleet.rng.sample(list(fleet.world.scrapers.values()), len(fleet.world.scrapers))
    for _ in range(5):
        for scraper in others:
            scraper.up = False
            await fleet.let_pass(3.0)
            scraper.restart(fleet.world.now)
        await fleet.let_pass(NEEDED_S)
    able = {s.id for s in fleet.world.scrapers.values() if s.weight}
    for controller in fleet.world.controllers.values():
        members = {s.id for s in found.reconciler.memory.members} if (found := controller.fleet()) else able
        if 2 * len(members & able) < len(able):
            fleet.broken(f"{controller.name} keeps more than half of the live scrapers waiting: {sorted(able - members)}")


async def some_leave_too_often_while_one_is_away(fleet: Fleet) -> None:
    """Of several controllers one has not seen all the leaves. All give targets to the same scrapers."""
    away = [c for c in fleet.world.controllers.values() if not c.leads][:1]
    if not away:
        return
    scrapers = list(fleet.world.scrapers.values())
    flapping = fleet.rng.sample(scrapers, fleet.rng.randrange(1, len(scrapers)))
    await away[0].kill()
    for pause_s in (NEEDED_S, NEEDED_S, 2 * NEEDED_S, 2 * NEEDED_S, 2 * NEEDED_S, NEEDED_S):
        for scraper in flapping:
            scraper.up = False
            await fleet.let_pass(3.0)
            scraper.restart(fleet.world.now)
        await fleet.let_pass(pause_s)
        if not away[0].runs and pause_s > NEEDED_S:
            away[0].start()
    before = members(fleet)
    await fleet.let_pass(AGREES_S)
    if len(set(before.values())) > 1 and members(fleet) == before:
        fleet.broken(f"controllers give targets to different scrapers for {AGREES_S:g} s: {before}")


def members(fleet: Fleet) -> dict[str, tuple[str, ...]]:
    """By controller, whom its plan gives targets."""
    fleets = {c.name: found for c in fleet.world.controllers.values() if (found := c.fleet())}
    return {name: tuple(s.id for s in found.reconciler.memory.members) for name, found in fleets.items()}


SCRAPER_EXAMS = (
    one_dies,
    slice_is_deleted,
    lists_are_cut,
    scraper_lies,
    scraper_fails,
    most_fail,
    one_replays,
    one_comes_back_failing,
    one_comes_back_reaching_less,
    one_comes_back_misnamed,
    one_comes_back_and_gets_nothing,
)
