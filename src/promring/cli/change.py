"""``promring drain``, ``undrain`` and ``release``: change what a running controller does. They need the token."""

from __future__ import annotations

import click

from promring.cli.client import Controller, controller_options, segment
from promring.cli.output import output_option, say, say_json

service_option = click.option("--service", help="Of this shard service only; else of every one that knows the scraper.")


@click.command()
@click.argument("scraper")
@controller_options
@output_option
@service_option
def drain(scraper: str, controller: Controller, as_json: bool, service: str | None) -> None:
    """Take every target from SCRAPER, make before break, until it is undrained. Needs --token-file, and a controller
    that was started with --web.token-file.
    """
    _drain(scraper, controller, as_json, service=service, what="drain")


@click.command()
@click.argument("scraper")
@controller_options
@output_option
@service_option
def undrain(scraper: str, controller: Controller, as_json: bool, service: str | None) -> None:
    """Let a drained SCRAPER have its share again. Needs --token-file."""
    _drain(scraper, controller, as_json, service=service, what="undrain")


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


def _drain(scraper: str, controller: Controller, as_json: bool, *, service: str | None, what: str) -> None:
    services = controller.get("/api/v1/services")
    with controller.shown():
        known = {s["name"]: {x["id"] for x in s["scrapers"]} for s in services}
    if service is not None and service not in known:
        raise click.ClickException(f"no service {service!r}; there is {', '.join(known)}")
    names = [service] if service else [name for name, scrapers in known.items() if scraper in scrapers]
    if not names:
        raise click.ClickException(f"no service has the scraper {scraper!r}")
    answers = []
    for name in names:
        answers.append(controller.post(f"/api/v1/services/{segment(name)}/scrapers/{segment(scraper)}/{what}"))
        if not as_json:
            say(f"{name}: {scraper} {what}ed")
    if as_json:
        say_json(answers)
