"""``promring drain``, ``undrain`` and ``release``: change what a running controller does. They need the token."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click

from promring.cli.client import Controller, UnansweredError, controller_options, segment
from promring.cli.completion import fleet_names, releasable_names, scraper_ids
from promring.cli.draining import Drain, wait
from promring.cli.durations import Seconds
from promring.cli.fleets import fleets_of, known_fleet, one_fleet
from promring.cli.options import Identity
from promring.cli.output import Output, output_option, say
from promring.runtime.near import meant
from promring.runtime.text import counted
from promring.web.answers.fleets import Fleet
from promring.web.answers.plans import Drained, Forecast, Released, Undrained

NO_ROOM = 3
"""The exit code of a drain that cannot end: nobody else has room."""

fleet_option = click.option(
    "--fleet",
    "fleets",
    multiple=True,
    metavar="NAME",
    shell_complete=fleet_names,
    help="In this fleet. Repeatable; needed when several fleets have the scraper.",
)


@click.command()
@click.argument("scraper", type=Identity(), shell_complete=scraper_ids)
@controller_options
@output_option
@fleet_option
@click.option("--timeout", "timeout_s", type=Seconds(), default="10m", show_default=True, help="Wait at most so long.")
@click.option("--no-wait", is_flag=True, help="Do not wait until nothing is left.")
@click.option("--force", is_flag=True, help="Also when it is the last scraper that lives: it keeps what nobody can take.")
def drain(
    scraper: str,
    controller: Controller,
    output: Output,
    fleets: tuple[str, ...],
    *,
    timeout_s: float,
    no_wait: bool,
    force: bool,
) -> None:
    """Take every target from SCRAPER, of every service, make before break, until it is undrained; wait until it holds none.
    Needs --token-file, and a controller that was started with --web.token-file.

    Exit 0 when it is drained (with --no-wait: when the drain began); 1 when it was refused, is not drained within the time,
    or no answer came; 3 when nobody else has room for what is left: that stays with it while it lives.
    """
    tell = say if output.is_text else _mute
    known = fleets_of(controller)
    names = _fleets(known, scraper, fleets)
    drains = [_begun(controller, name, scraper, force=force, tell=tell) for name in names]
    if no_wait:
        for one in drains:
            one.result = one.result or "begun"
    else:
        try:
            wait(controller, drains, timeout_s, tell)
        except KeyboardInterrupt:
            say("not waited for any longer; a drain that has begun goes on (promring undrain ends it)", err=True)
            raise
    for one in drains:
        tell(_outcome(one), err=one.result not in ("begun", "drained"))
    for line in _elsewhere(known, names, scraper) if any(one.result in ("begun", "drained") for one in drains) else ():
        tell(line)
    if not output.is_text:
        output.say([_plain(one) for one in drains])
    sys.exit(_exit_code([one.result for one in drains]))


@click.command()
@click.argument("scraper", type=Identity(), shell_complete=scraper_ids)
@controller_options
@output_option
@fleet_option
def undrain(scraper: str, controller: Controller, output: Output, fleets: tuple[str, ...]) -> None:
    """Let a drained SCRAPER have its share again. Waits for nothing, and says what comes back. Needs --token-file."""
    answers = []
    for name in _fleets(fleets_of(controller), scraper, fleets):
        answer = controller.post(f"/api/v1/fleets/{segment(name)}/scrapers/{segment(scraper)}/undrain", Undrained)
        answers.append(answer.plain())
        if output.is_text:
            say(f"{name}: {scraper} {_undone(answer.data)}")
            if not answer.data.kept:
                where = "not saved, or not in the lock's note"
                say(f"{name}: that is {where}: after a restart, or with another leader, it is drained")
    if not output.is_text:
        output.say(answers)


@click.command()
@click.argument("name", shell_complete=releasable_names)
@controller_options
@output_option
def release(name: str, controller: Controller, output: Output) -> None:
    """End what the guard holds: take the newest facts of NAME for right, once. NAME is a fleet, for what is held of its
    scrapers, or a shard service, for what is held of its lists; a service with a fleet of its own is both. Needs
    --token-file. Exit 1 also when the controller only follows: then the leader goes on holding it.
    """
    answer = controller.post(f"/api/v1/{_releasable(controller, name)}/{segment(name)}/release", Released)
    if output.is_text:
        for one in answer.data.released:
            say(f"{name}: released {one.reason}: {one.detail}")
        if answer.data.waits_for:
            say(f"{name}: it is done when the plan of the fleet is not held any more: {answer.data.waits_for}")
    else:
        output.say(answer.plain())
    if not answer.data.leads:
        leader = f"{answer.data.leader} leads" if answer.data.leader else "nobody leads"
        say(f"{name}: released here only, which moves nothing: {controller.url} follows, and {leader}", err=True)
        sys.exit(1)


def _elsewhere(fleets: Sequence[Fleet], named: Sequence[str], scraper: str) -> list[str]:
    """Who reads that it holds nothing stops it: what other ``fleets`` give to the same scraper."""
    rows = ((fleet.name, one.targets) for fleet in fleets for one in fleet.scrapers if one.id == scraper)
    return [
        f"{name}: {scraper} has {counted(targets, 'target')} of this fleet, too: it is not drained there (--fleet {name})"
        for name, targets in rows
        if targets and name not in named
    ]


def _fleets(fleets: Sequence[Fleet], scraper: str, named: Sequence[str]) -> list[str]:
    """Those that are named; else the one that has the scraper."""
    if not named:
        return [one_fleet(fleets, None, [scraper])]
    names = [fleet.name for fleet in fleets]
    return [known_fleet(names, name) for name in dict.fromkeys(named)]


def _releasable(controller: Controller, name: str) -> str:
    """The kind of what has this name, as the paths have it: ``fleets`` or ``services``."""
    fleets = fleets_of(controller)
    names = [fleet.name for fleet in fleets]
    services = [service for fleet in fleets for service in fleet.services]
    if name in names:
        return "fleets"
    if name not in services:
        there = f"fleets {', '.join(names)}; services {', '.join(services)}"
        raise click.ClickException(f"no fleet or service {name!r}; there is: {there}{meant(name, [*names, *services])}")
    return "services"


def _begun(controller: Controller, fleet: str, scraper: str, *, force: bool, tell: Callable[[str], None]) -> Drain:
    """Ask for one drain, and say what it means."""
    path = f"/api/v1/fleets/{segment(fleet)}/scrapers/{segment(scraper)}/drain{'?force=true' if force else ''}"
    try:
        answered = controller.post(path, Drained)
    except click.ClickException as error:
        unknown = isinstance(error, UnansweredError) and error.maybe_done
        return Drain(fleet, scraper, result="unanswered" if unknown else "refused", why=error.message)
    answer = answered.data
    drain = Drain(fleet, answer.scraper, answered, had=answer.had, left=answer.left)  # by the name that the controller has
    if not answer.kept:
        tell(f"{fleet}: that is not saved, or not in the lock's note: a restart, or another leader, would forget the drain")
    if answer.keeps_all:
        drain.result, drain.why = "keeps_all", "no other scraper could take anything: it keeps everything until one can"
    elif not answer.alive:
        tell(f"{fleet}: {scraper} does not count as alive: it gets nothing when it comes back")
    elif answer.forecast is not None:
        for line in _forecast(drain, answer.forecast):
            tell(line)
    return drain


def _forecast(drain: Drain, told: Forecast) -> list[str]:
    """What the others will carry, and what has no room there."""
    lines, had = [], drain.had
    if (fullest := told.fullest) is not None:
        bound = "" if fullest.limit is None else f" of {fullest.limit}"
        most = f"at most {fullest.load}{bound} ({fullest.id})"
        carry = "carries" if told.others == 1 else "carry"
        lines = [f"{drain.fleet}: {told.leave} of {had} go to {counted(told.others, 'other')}, which then {carry} {most}"]
    if told.no_room:
        lines.append(f"{drain.fleet}: {told.no_room} of {had} cannot move: no room within capacity")
    return lines


def _undone(answer: Undrained) -> str:
    if answer.drained:
        by = "it goes on to be drained: it is in maintenance in Consul, or its pod is being deleted"
        return f"undrained: {by}" if answer.was_drained else f"was not drained by promring: nothing changes; {by}"
    return f"undrained: {_coming(answer)}" if answer.was_drained else "was not drained: nothing changes"


def _coming(answer: Undrained) -> str:
    if not answer.alive:
        return "it does not count as alive; it gets its share when it comes back"
    told = answer.forecast
    return "its share comes back" if told is None else f"{counted(told.come, 'target', 'come')} back, make before break"


def _outcome(drain: Drain) -> str:
    name, why = f"{drain.fleet}: {drain.scraper}", f"; {drain.why}" if drain.why else ""
    match drain.result:
        case "drained":
            return f"{name} drained: it holds nothing{why}"
        case "begun":
            return f"{name}: the drain has begun, {counted(drain.left, 'target')} left"
        case "no_room":
            return f"{name} not drained: {drain.left} of {drain.had} cannot move: {drain.why}"
        case "refused" | "unanswered":
            return f"Error: {drain.why}"
        case _:
            return f"{name} not drained: {drain.left} of {drain.had} targets left{why}"


def _plain(drain: Drain) -> dict[str, object]:
    """For programs: what the controller answered, and what became of it. The answer's ``drained`` is said at the beginning
    of a drain: here it is said of its end.
    """
    answer = drain.answer.plain() if drain.answer else {}
    end = {"result": drain.result, "left": drain.left, "no_room": drain.no_room, "why": drain.why}
    end |= {"drained": drain.result == "drained"}
    return {"fleet": drain.fleet, "scraper": drain.scraper, **(answer if isinstance(answer, dict) else {}), **end}


def _exit_code(results: Sequence[str]) -> int:
    if all(result in ("drained", "begun") for result in results):
        return 0
    return NO_ROOM if all(result in ("drained", "begun", "no_room", "keeps_all") for result in results) else 1


def _mute(*_: object, err: bool = False) -> None:
    """Where one document is printed at the end."""
