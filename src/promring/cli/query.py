"""``promring status`` and ``promring events``: ask a running controller."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from promring.cli.client import Controller, controller_options
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
    """Show scrapers, sources and what is held. Exit 1 when the controller is not ready."""
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
@click.option("--service", help="Of this shard service only.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The newest so many.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C. As JSON: one event a line.")
def events(controller: Controller, as_json: bool, service: str | None, limit: int, follow: bool) -> None:
    """Show the newest events, oldest first: what the log says, one line a decision."""
    chosen = {"service": service} if service else {}
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
        service = f" service={event['service']}" if event["service"] else ""
        say(f"{event['ts']} ", level, f" {event['msg']}{service}{fields}")


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
    ready, services = data["ready"], data["services"]
    troubled = [s["name"] for s in services if s["summary"]["level"] in ("warn", "bad")]
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
    for service in data["services"]:
        _show_service(service)
        show_retiring(service)
    show_left_behind(data)


def _show_service(service: dict[str, Any]) -> None:
    say()
    targets, generation = _or(service["targets"]), service["generation"]
    say(f"{service['name']}: {targets} targets, generation {generation}, membership {_membership(service['membership'])}")
    say("  ", paint(service["summary"]["text"], LEVELS.get(service["summary"]["level"], "reset")))
    if service["held"]:
        say("  ", paint(f"held{_until(service['held'])}: {service['held']['detail']}", "yellow"))
    for one in service["withheld"]:
        say("  ", paint(f"withheld{_until(one)}: {one['detail']}", "yellow"))
    if service["handing_over"]:
        say(f"  handing over: {service['handing_over']} targets are with their old owners, too")
    _show_scrapers(service["scrapers"])
    for source in service["sources"]:
        note = f" ({source['reason']})" if source["reason"] else ""
        say(f"  source {source['name']}: {_or(source['targets'])} targets, {source['state']}{note}")
        if source.get("refused"):
            say(f"    {source['refused']} entries left out: {'; '.join(source['remarks'])}")


def _show_scrapers(scrapers: list[dict[str, Any]]) -> None:
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
                s["generation"] or "-",
                "; ".join(notes),
            )
        )
    say_table(("  scraper", "state", "targets", "generation", "note"), rows, right=("targets",))


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
