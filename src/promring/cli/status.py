"""``promring status``: what a running controller says of its fleets and services."""

from __future__ import annotations

import sys
import time
from typing import NoReturn

import click

from promring.cli.client import Controller, controller_options
from promring.cli.durations import Seconds
from promring.cli.leaving import show_left_behind, show_retiring
from promring.cli.output import Output, clock, next_screen, output_option, paint, say, say_table, until, until_interrupted
from promring.cli.previews import room_line
from promring.runtime.text import counted
from promring.web.answers.fleets import Fleet, Loads, Service, Source
from promring.web.answers.parts import Held, Membership, Scraper, Summary
from promring.web.answers.status import Status

EVERY_LEAST_S = 0.2
SLEEPS_S = 0.5
COLOURS = {"up": "green", "down": "red"}
LEVELS = {"good": "green", "warn": "yellow", "bad": "red"}


@click.command()
@controller_options
@output_option
@click.option("--watch", is_flag=True, help="Again and again, until Ctrl-C (exit 0). As JSON: one status a line.")
@click.option("--every", "every_s", type=Seconds(), default="2s", show_default=True, help="How often, with --watch.")
def status(controller: Controller, output: Output, *, watch: bool, every_s: float) -> None:
    """Show scrapers, sources and what is held, fleet by fleet. Exit 1 when the controller is not ready."""
    if watch:
        with until_interrupted():
            _watch(controller, output, max(every_s, EVERY_LEAST_S))
    answer = controller.get("/api/v1/status", Status)
    if output.is_text:
        show_status(answer.data)
    else:
        output.say(answer.plain())
    if not answer.data.ready:
        sys.exit(1)


def _watch(controller: Controller, output: Output, every_s: float) -> NoReturn:
    """On a terminal in its place, else one after the other. A controller that does not answer is asked again."""
    while True:
        try:
            answer = controller.get("/api/v1/status", Status)
        except click.ClickException as error:
            say(f"no answer, asked again: {error.message}", err=True)
        else:
            if output.is_text:
                next_screen()
                show_status(answer.data)
            else:
                output.say_next(answer.plain())
        _pause(every_s)


def _pause(seconds: float) -> None:
    """In pieces: a Ctrl-C that comes in the moment before Python begins to sleep is seen only when the sleep is over."""
    ends_at = time.monotonic() + seconds
    while (left_s := ends_at - time.monotonic()) > 0:
        time.sleep(min(left_s, SLEEPS_S))


def show_status(data: Status) -> None:
    services = {one.name: one for one in data.services}
    shown = [one for fleet in data.fleets for one in _all_of(fleet, services)]
    troubled = dict.fromkeys(one.name for one in shown if one.summary.level in ("warn", "bad"))
    more = f", {'but' if data.ready else 'and'} not all is well with {', '.join(troubled)}" if troubled else ""
    say(f"promring {data.version}: " + ("ready" if data.ready else "not ready") + more)
    _show_controller(data)
    for fleet in data.fleets:
        say()
        of_fleet = [services[name] for name in fleet.services if name in services]
        if fleet.is_own and of_fleet:
            _show_service(of_fleet[0], fleet)
            show_retiring(of_fleet[0].retiring)
            continue
        _show_fleet(fleet)
        for service in of_fleet:
            _show_one_of(service, fleet)
            show_retiring(service.retiring, "    ")
    show_left_behind(data)


def _show_controller(data: Status) -> None:
    controllers = data.controllers
    if controllers.lock:
        who = "leads" if data.leader else f"follows {controllers.leader}" if controllers.leader else ""
        nobody = paint("follows nobody: no controller leads, and nothing is pushed", "red")
        say("  ", who or nobody, f", epoch {controllers.epoch or '-'}")
    if controllers.lacking:
        say("  ", paint(f"has lost a right that the lock will need: {controllers.lacking}", "red"))
    if controllers.took_over_at:
        say("  ", paint("took over from another controller without a lock: only one may run", "red"))
    for line in data.unready:
        say("  ", paint(line, "red"))
    if not data.config.last_reload_successful:
        say("  ", paint("the last reload was refused; the configuration before it is in force:", "red"))
        for problem in data.config.problems:
            say("    ", paint(problem, "red"))


def _all_of(fleet: Fleet, services: dict[str, Service]) -> list[Fleet | Service]:
    """What is shown of a fleet: its only service, when that has the fleet by itself; else the fleet, and its services."""
    found = [services[name] for name in fleet.services if name in services]
    return [*found] if fleet.is_own else [fleet, *found]


def _show_fleet(fleet: Fleet) -> None:
    """What is of all its services together."""
    load = "" if fleet.load is None else f", load {_of(fleet.load, fleet.limit)}"
    say(
        f"{fleet.name}: {counted(len(fleet.services), 'service')}, {_targets(fleet.targets)}{load}, generation "
        f"{fleet.generation}, membership {_membership(fleet.membership)}"
    )
    _show_summary(fleet.summary)
    _show_held(fleet)
    if fleet.handing_over:
        say(f"  handing over: {counted(fleet.handing_over, 'target', 'stay')} with the old owner, too")
    _show_losses(fleet)
    _show_scrapers(fleet.scrapers, loads=True)


def _show_losses(fleet: Fleet) -> None:
    """Whether the rest has room without one scraper, and without one zone, where there is a capacity."""
    for lost, what in ((fleet.without_one, ""), (fleet.without_zone, "zone ")):
        if lost is None or lost.room is None:
            continue
        room = paint(f"{lost.lacking} have no room", "yellow") if lost.lacking else "room for all"
        say(f"  without {what}{lost.lost}: {lost.each:g} each of the rest, ", room)
    if fleet.room is not None:
        short = fleet.room.scrapers < fleet.room.needed
        say("  ", paint(room_line(fleet.room), "red" if short else "reset"))
    if fleet.loads is not None:
        _show_loads(fleet.loads)


def _show_loads(loads: Loads) -> None:
    learnt = "" if loads.learnt is None else f", {counted(loads.learnt, 'target')} learnt"
    spread = "" if loads.spread is None else f", the fullest scraper has {loads.spread:g} times its share"
    moved = f", last moved targets {text}" if (text := clock(loads.moved_at)) else ""
    say(f"  loads: {loads.kind}{learnt}{spread}{moved}")
    for trouble in loads.troubles:
        say("    ", paint(trouble, "yellow"))


def _show_one_of(service: Service, fleet: Fleet) -> None:
    """A service whose scrapers are shown with its fleet: one line, and what is wrong with it."""
    summary = paint(service.summary.text, LEVELS.get(service.summary.level, "reset"))
    sources = ", ".join(
        f"{one.name} ({'no list' if one.targets is None else one.targets}, {one.state})" for one in service.sources
    )
    say(f"  service {service.name}: {_targets(service.targets)}; ", summary, f"; from {sources}")
    _show_held(service, besides=fleet, margin="    ")
    for source in service.sources:
        if source.reason:
            say(f"    source {source.name}: {source.reason}")
        _show_amiss(source)


def _show_service(service: Service, fleet: Fleet) -> None:
    known, generation = _membership(service.membership), service.generation or "-"
    say(f"{service.name}: {_targets(service.targets)}, generation {generation}, membership {known}")
    _show_summary(service.summary)
    _show_held(service)
    if service.handing_over:
        say(f"  handing over: {counted(service.handing_over, 'target', 'stay')} with the old owner, too")
    _show_losses(fleet)
    _show_scrapers(service.scrapers, loads=any(s.load != s.targets or s.capacity is not None for s in service.scrapers))
    for source in service.sources:
        note = f" ({source.reason})" if source.reason else ""
        say(f"  source {source.name}: {_targets(source.targets, 'list')}, {source.state}{note}")
        _show_amiss(source)


def _show_summary(summary: Summary) -> None:
    say("  ", paint(summary.text, LEVELS.get(summary.level, "reset")))


def _show_held(of: Fleet | Service, *, besides: Fleet | None = None, margin: str = "  ") -> None:
    """What is held of a service or a fleet. ``besides``: whose held things are shown already."""
    known = {held.detail for held in _every_held(besides)} if besides else set()
    for held in _every_held(of):
        if held.detail not in known:
            word = "plan held" if held is of.held else "held"
            say(margin, paint(f"{word}{until(held.until)}: {held.detail}", "yellow"))


def _every_held(of: Fleet | Service) -> list[Held]:
    return [*([of.held] if of.held else []), *of.withheld]


def _show_amiss(source: Source) -> None:
    """What its list lacks though it is taken, and what fails behind it."""
    if source.refused:
        say(f"    {source.refused} entries left out: {'; '.join(source.remarks)}")
    if source.dropped:
        count, among = source.dropped.count, source.dropped.among
        more = ", …" if count > len(among) else ""
        say(f"    {count} dropped there by relabelling{': ' if among else ''}{', '.join(among)}{more if among else ''}")
    for trouble in source.troubles:
        say("    ", paint(trouble, "yellow"))


def _show_scrapers(scrapers: list[Scraper], *, loads: bool = False) -> None:
    """``loads``: also the load, and the most that each may have."""
    rows = []
    for s in scrapers:
        state = s.state + (f" (was {s.last_state})" if s.last_state else "")
        rows.append(
            (
                f"  {s.id}",
                paint(state, COLOURS.get(s.state, "yellow")),
                s.targets,
                *([_of(s.load, s.limit)] if loads else []),
                s.generation or "-",
                "; ".join(_notes(s)),
            )
        )
    headings = ("  scraper", "state", "targets", *(["load"] if loads else []), "generation", "note")
    say_table(headings, rows, right=("targets", "load"))


def _notes(scraper: Scraper) -> list[str]:
    notes = [scraper.standing] if scraper.standing in ("joining", "leaving") else []
    if scraper.left and scraper.drained:
        kept = f", {scraper.no_room} of them for want of room elsewhere" if scraper.no_room else ""
        notes.insert(0, f"draining, {scraper.left} left{kept}")
    elif scraper.drained:
        notes.insert(0, "drained")
    if scraper.state == "down" and scraper.standing not in ("in", "leaving") and (since := clock(scraper.since)):
        notes.append(f"out since {since}")
    return [*notes, *([said] if (said := scraper.trouble or scraper.reason) else [])]


def _of(load: int, limit: int | None) -> str:
    return str(load) if limit is None else f"{load} of {limit}"


def _membership(membership: Membership) -> str:
    if not membership.stale:
        return membership.state
    since = f", last known {text}" if (text := clock(membership.last_success_at)) else ""
    return f"{membership.state}{since}: {membership.reason}; the last scrapers stay"


def _targets(count: int | None, lacking: str = "plan") -> str:
    """None is not the same as nothing: there is no plan, or no list, in which they could be counted."""
    return f"no {lacking}" if count is None else counted(count, "target")
