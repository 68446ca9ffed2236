"""``promring status`` and ``promring events``: ask a running controller."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from promring.cli.client import Controller, controller_options
from promring.cli.fleets import is_own
from promring.cli.leaving import show_left_behind, show_retiring
from promring.cli.output import output_option, paint, say, say_json, say_table

FOLLOW_S = 1.0
FIRST = ("reason", "joined", "left", "scraper")
WHOLE_SETS = frozenset({"oldnodes", "newnodes", "detail"})
COLOURS = {"up": "green", "down": "red"}
LEVELS = {"good": "green", "warn": "yellow", "bad": "red"}


@click.command()
@controller_options
@output_option
def status(controller: Controller, as_json: bool) -> None:
    """Show scrapers, sources and what is held, fleet by fleet. Exit 1 when the controller is not ready."""
    data = controller.get("/api/v1/status")
    with controller.shown():
        if as_json:
            say_json(data)
        else:
            _show_status(data)
        ready = data["ready"]
    if not ready:
        sys.exit(1)


@click.command()
@controller_options
@output_option
@click.option("--fleet", metavar="NAME", help="Of this fleet and its services only.")
@click.option("--service", metavar="NAME", help="Of this shard service, and of its whole fleet, only.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The newest so many.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C. As JSON: one event a line.")
def events(
    controller: Controller, as_json: bool, fleet: str | None, service: str | None, limit: int, *, follow: bool
) -> None:
    """Show the newest events, oldest first: what the log says, one line a decision."""
    if fleet and service:
        raise click.UsageError("either --fleet or --service")
    chosen = {name: value for name, value in (("fleet", fleet), ("service", service)) if value}
    found = controller.get("/api/v1/events", limit=str(limit), **chosen)
    with controller.shown():
        if as_json and not follow:
            say_json(found)
            return
        _show_events(found, as_json)
        while follow:
            last = found[-1]["id"] if found else 0
            time.sleep(FOLLOW_S)
            new = controller.get("/api/v1/events", since=str(last), limit="1000", **chosen)
            found = new or found
            _show_events(new, as_json)


def _show_events(found: list[dict[str, Any]], as_json: bool) -> None:
    for event in found:
        if as_json:
            say_json(event, indent=None)
            continue
        fields = "".join(f" {name}={_quoted(event['fields'][name])}" for name in _shown(event["fields"]))
        level = paint(event["level"], {"warn": "yellow", "error": "red"}.get(event["level"], "reset"))
        about = "".join(f" {name}={event[name]}" for name in ("fleet", "service") if event.get(name))
        say(f"{event['ts']} ", level, f" {event['msg']}{about}{fields}")


def _shown(fields: dict[str, Any]) -> list[str]:
    """The names of the fields to show, why and what changed first; where that is told, the whole set is not repeated."""
    left_out = WHOLE_SETS if {"joined", "left"} <= fields.keys() else frozenset()
    names = [name for name in fields if name not in left_out and fields[name] not in ("", None)]
    return sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def _quoted(value: object) -> str:
    """As logfmt has it."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ' "=') else text


def _show_status(data: dict[str, Any]) -> None:
    ready, fleets, services = data["ready"], data["fleets"], {one["name"]: one for one in data["services"]}
    shown = [one for fleet in fleets for one in _all_of(fleet, services)]
    troubled = dict.fromkeys(one["name"] for one in shown if one["summary"]["level"] in ("warn", "bad"))
    more = f", but not all is well with {', '.join(troubled)}" if troubled else ""
    say(f"promring {data['version']}: " + ("ready" if ready else "not ready") + more)
    controllers = data["controllers"]
    if controllers["lock"]:
        who = "leads" if data["leader"] else f"follows {controllers['leader'] or 'nobody: no controller leads'}"
        say(f"  {who}, epoch {controllers['epoch'] or '-'}")
    if controllers.get("took_over_at"):
        say("  ", paint("took over from another controller without a lock: only one may run", "red"))
    for line in data["unready"]:
        say("  ", paint(line, "red"))
    if not data["config"]["last_reload_successful"]:
        say("  ", paint("the last reload was refused; the configuration before it is in force:", "red"))
        for problem in data["config"]["problems"]:
            say("    ", paint(problem, "red"))
    for fleet in fleets:
        say()
        first, *of_fleet = _all_of(fleet, services)
        if is_own(fleet):
            _show_service(first, fleet)
            show_retiring(first)
            continue
        _show_fleet(fleet)
        for service in of_fleet:
            _show_one_of(service, fleet)
            show_retiring(service, "    ")
    show_left_behind(data)


def _all_of(fleet: dict[str, Any], services: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What is shown of a fleet: its only service, when that has the fleet by itself; else the fleet, and its services."""
    found = [services[name] for name in fleet["services"]]
    return found if is_own(fleet) else [fleet, *found]


def _show_fleet(fleet: dict[str, Any]) -> None:
    """What is of all its services together."""
    count = len(fleet["services"])
    load = "" if fleet["load"] is None else f", load {_of(fleet['load'], fleet['limit'])}"
    say(
        f"{fleet['name']}: {count} service{'s' * (count != 1)}, {_or(fleet['targets'])} targets{load}, generation "
        f"{fleet['generation']}, membership {_membership(fleet['membership'])}"
    )
    _show_summary(fleet)
    _show_held(fleet)
    if fleet["handing_over"]:
        say(f"  handing over: {fleet['handing_over']} targets are with their old owners, too")
    _show_losses(fleet)
    _show_scrapers(fleet["scrapers"], loads=True)


def _show_losses(fleet: dict[str, Any]) -> None:
    """Whether the rest has room without one scraper, and without one zone, where there is a capacity."""
    for key, what in (("without_one", ""), ("without_zone", "zone ")):
        lost = fleet.get(key)
        if lost is None or lost["room"] is None:
            continue
        then = f"{lost['each']:g} each of the rest"
        room = paint(f"{lost['lacking']} have no room", "yellow") if lost["lacking"] else "room for all"
        say(f"  without {what}{lost['lost']}: {then}, ", room)


def _show_one_of(service: dict[str, Any], fleet: dict[str, Any]) -> None:
    """A service whose scrapers are shown with its fleet: one line, and what is wrong with it."""
    summary = paint(service["summary"]["text"], LEVELS.get(service["summary"]["level"], "reset"))
    sources = ", ".join(f"{one['name']} ({_or(one['targets'])}, {one['state']})" for one in service["sources"])
    say(f"  service {service['name']}: {_or(service['targets'])} targets; ", summary, f"; from {sources}")
    _show_held(service, besides=fleet, margin="    ")
    for source in service["sources"]:
        if source["reason"]:
            say(f"    source {source['name']}: {source['reason']}")
        _show_left_out(source)


def _show_service(service: dict[str, Any], fleet: dict[str, Any]) -> None:
    targets, generation = _or(service["targets"]), service["generation"]
    say(f"{service['name']}: {targets} targets, generation {generation}, membership {_membership(service['membership'])}")
    _show_summary(service)
    _show_held(service)
    if service["handing_over"]:
        say(f"  handing over: {service['handing_over']} targets are with their old owners, too")
    _show_losses(fleet)
    _show_scrapers(service["scrapers"])
    for source in service["sources"]:
        note = f" ({source['reason']})" if source["reason"] else ""
        say(f"  source {source['name']}: {_or(source['targets'])} targets, {source['state']}{note}")
        _show_left_out(source)


def _show_summary(one: dict[str, Any]) -> None:
    say("  ", paint(one["summary"]["text"], LEVELS.get(one["summary"]["level"], "reset")))


def _show_held(one: dict[str, Any], *, besides: dict[str, Any] | None = None, margin: str = "  ") -> None:
    """What is held of a service or a fleet. ``besides``: whose held things are shown already."""
    known = [held["detail"] for held in (besides["held"], *besides["withheld"]) if held] if besides else []
    if one["held"] and one["held"]["detail"] not in known:
        say(margin, paint(f"held{_until(one['held'])}: {one['held']['detail']}", "yellow"))
    for part in one["withheld"]:
        if part["detail"] not in known:
            say(margin, paint(f"withheld{_until(part)}: {part['detail']}", "yellow"))


def _show_left_out(source: dict[str, Any]) -> None:
    if source.get("refused"):
        say(f"    {source['refused']} entries left out: {'; '.join(source['remarks'])}")


def _show_scrapers(scrapers: list[dict[str, Any]], *, loads: bool = False) -> None:
    """``loads``: also the load, and the most that each may have."""
    rows = []
    for s in scrapers:
        notes = [s["standing"]] if s["standing"] in ("joining", "leaving") else []
        if s["left"] and s["drained"]:
            kept = f", {s['no_room']} of them for want of room elsewhere" if s["no_room"] else ""
            notes.insert(0, f"draining, {s['left']} left{kept}")
        elif s["drained"]:
            notes.insert(0, "drained")
        notes += [s["trouble"] or s["reason"]] if s["trouble"] or s["reason"] else []
        state = s["state"] + (f" (was {s['last_state']})" if s["last_state"] else "")
        rows.append(
            (
                f"  {s['id']}",
                paint(state, COLOURS.get(s["state"], "yellow")),
                s["targets"],
                *([_of(s["load"], s["limit"])] if loads else []),
                s["generation"] or "-",
                "; ".join(notes),
            )
        )
    headings = ("  scraper", "state", "targets", *(["load"] if loads else []), "generation", "note")
    say_table(headings, rows, right=("targets", "load"))


def _of(load: int, limit: int | None) -> str:
    return str(load) if limit is None else f"{load} of {limit}"


def _until(held: dict[str, Any]) -> str:
    return time.strftime(" until %H:%M:%S", time.localtime(held["until"])) if held.get("until") else ""


def _membership(fact: dict[str, Any]) -> str:
    if not fact["stale"]:
        return str(fact["state"])
    since = (
        time.strftime(", last known %H:%M:%S", time.localtime(fact["last_success_at"])) if fact["last_success_at"] else ""
    )
    return f"{fact['state']}{since}: {fact['reason']}; the last scrapers stay"


def _or(value: object) -> str:
    return "no" if value is None else str(value)
