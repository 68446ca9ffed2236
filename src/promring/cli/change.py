"""``promring drain``, ``undrain`` and ``release``: change what a running controller does. They need the token."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from promring.cli.client import Controller, controller_options, segment
from promring.cli.draining import Drain, wait
from promring.cli.output import output_option, say, say_json
from promring.duration import parse_duration

NO_ROOM = 3
"""The exit code of a drain that cannot end: nobody else has room."""

service_option = click.option("--service", help="Of this shard service only; else of every one that knows the scraper.")


class Seconds(click.ParamType[float]):
    """``10m``, ``30s``: a span of time."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("scraper")
@controller_options
@output_option
@service_option
@click.option("--timeout", "timeout_s", type=Seconds(), default="10m", show_default=True, help="Wait at most so long.")
@click.option("--no-wait", is_flag=True, help="Do not wait until nothing is left.")
@click.option("--force", is_flag=True, help="Also when it is the last scraper that lives: it keeps what nobody can take.")
def drain(
    scraper: str,
    controller: Controller,
    as_json: bool,
    service: str | None,
    *,
    timeout_s: float,
    no_wait: bool,
    force: bool,
) -> None:
    """Take every target from SCRAPER, make before break, until it is undrained; wait until it holds none. Needs
    --token-file, and a controller that was started with --web.token-file.

    Exit 0 when it is drained (with --no-wait: when the drain began); 1 when it was refused, or is not drained within the
    time; 3 when nobody else has room for what is left: that stays with it while it lives.
    """
    tell = _mute if as_json else say
    drains = [_begun(controller, name, scraper, force=force, tell=tell) for name in _services(controller, scraper, service)]
    if no_wait:
        for one in drains:
            one.result = one.result or "begun"
    else:
        wait(controller, drains, timeout_s, tell)
    for one in drains:
        tell(_outcome(one), err=one.result not in ("begun", "drained"))
    if as_json:
        say_json([_plain(one) for one in drains])
    sys.exit(_exit_code([one.result for one in drains]))


@click.command()
@click.argument("scraper")
@controller_options
@output_option
@service_option
def undrain(scraper: str, controller: Controller, as_json: bool, service: str | None) -> None:
    """Let a drained SCRAPER have its share again. Waits for nothing, and says what comes back. Needs --token-file."""
    answers = []
    for name in _services(controller, scraper, service):
        answer = controller.post(f"/api/v1/services/{segment(name)}/scrapers/{segment(scraper)}/undrain")
        answers.append(answer)
        with controller.shown():
            if not as_json:
                say(f"{name}: {scraper} undrained: {_coming(answer)}")
    if as_json:
        say_json(answers)


@click.command()
@click.argument("service")
@controller_options
@output_option
def release(service: str, controller: Controller, as_json: bool) -> None:
    """End what the guard holds: take the newest facts of SERVICE for right, once. Needs --token-file."""
    answer = controller.post(f"/api/v1/services/{segment(service)}/release")
    with controller.shown():
        if as_json:
            say_json(answer)
            return
        for one in answer["released"]:
            say(f"{service}: released {one['reason']}: {one['detail']}")


def _services(controller: Controller, scraper: str, service: str | None) -> list[str]:
    """The services that know the scraper; or the one that is named."""
    services = controller.get("/api/v1/services")
    with controller.shown():
        known = {s["name"]: {x["id"] for x in s["scrapers"]} for s in services}
    if service is not None and service not in known:
        raise click.ClickException(f"no service {service!r}; there is {', '.join(known)}")
    names = [service] if service else [name for name, scrapers in known.items() if scraper in scrapers]
    if not names:
        raise click.ClickException(f"no service has the scraper {scraper!r}")
    return names


def _begun(controller: Controller, service: str, scraper: str, *, force: bool, tell: Callable[[str], None]) -> Drain:
    """Ask for one drain, and say what it means."""
    path = f"/api/v1/services/{segment(service)}/scrapers/{segment(scraper)}/drain{'?force=true' if force else ''}"
    try:
        answer = controller.post(path)
    except click.ClickException as error:
        return Drain(service, scraper, {}, "refused", why=error.message)
    with controller.shown():
        drain = Drain(service, scraper, answer, had=answer["had"], left=answer["left"])
        if not answer["kept"]:
            tell(f"{service}: the controller cannot save that: its restart would forget the drain")
        if answer["keeps_all"]:
            drain.result, drain.why = "keeps_all", "no other scraper could take anything: it keeps everything until one can"
        elif not answer["alive"]:
            tell(f"{service}: {scraper} does not count as alive: it gets nothing when it comes back")
        else:
            for line in _forecast(drain):
                tell(line)
    return drain


def _forecast(drain: Drain) -> list[str]:
    """What the others will carry, and what has no room there."""
    told, had = drain.answer["forecast"], drain.had
    if told is None:
        return []
    lines = []
    if (fullest := told["fullest"]) is not None:
        bound = "" if fullest["limit"] is None else f" of {fullest['limit']}"
        most = f"at most {fullest['load']}{bound} ({fullest['id']})"
        lines = [f"{drain.service}: {told['leave']} of {had} go to {told['others']} others, which then carry {most}"]
    if told["no_room"]:
        lines.append(f"{drain.service}: {told['no_room']} of {had} cannot move: no room within capacity")
    return lines


def _coming(answer: dict[str, Any]) -> str:
    if not answer["alive"]:
        return "it does not count as alive; it gets its share when it comes back"
    told = answer["forecast"]
    return "its share comes back" if told is None else f"{told['come']} targets come back, make before break"


def _outcome(drain: Drain) -> str:
    name, why = f"{drain.service}: {drain.scraper}", f"; {drain.why}" if drain.why else ""
    match drain.result:
        case "drained":
            return f"{name} drained: it holds nothing{why}"
        case "begun":
            return f"{name}: the drain has begun, {drain.left} targets left"
        case "no_room":
            return f"{name} not drained: {drain.left} of {drain.had} cannot move: {drain.why}"
        case "refused":
            return f"Error: {drain.why}"
        case _:
            return f"{name} not drained: {drain.left} of {drain.had} targets left{why}"


def _plain(drain: Drain) -> dict[str, Any]:
    """For programs: what the controller answered, and what became of it."""
    end = {"result": drain.result, "left": drain.left, "no_room": drain.no_room, "why": drain.why}
    return {"service": drain.service, "scraper": drain.scraper, **drain.answer, **end}


def _exit_code(results: Sequence[str]) -> int:
    if all(result in ("drained", "begun") for result in results):
        return 0
    return NO_ROOM if all(result in ("drained", "begun", "no_room", "keeps_all") for result in results) else 1


def _mute(*_: object, err: bool = False) -> None:
    """Where one document is printed at the end."""
