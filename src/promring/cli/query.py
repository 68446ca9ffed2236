"""``promring status``, ``where``, ``drain``, ``undrain`` and ``release``: talk to a running controller."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.markup import escape
from rich.table import Table

from promring.cli import output
from promring.cli.output import plain, say
from promring.httpclient import HttpError, Response, new_session, request
from promring.redact import shown

TIMEOUT_S = 10.0

url_option = click.option("--url", default="http://127.0.0.1:9600", show_default=True, help="The controller.")
token_path = click.Path(path_type=Path, exists=True, dir_okay=False)
token_option = click.option("--token-file", type=token_path, help="Bearer token.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's data.")


@click.command()
@url_option
@token_option
@json_option
def status(url: str, token_file: Path | None, as_json: bool) -> None:
    """Show shard services, scrapers, sources and what is held. Exit 1 when the controller is not ready."""
    data = ask(url, "/api/v1/status", token_file=token_file)
    if as_json:
        say(json.dumps(data, indent=2), lines=True)
    else:
        _show_status(plain(data))
    if not data["ready"]:
        sys.exit(1)


@click.command()
@click.argument("target")
@url_option
@token_option
@json_option
@click.option("--service", help="Look in this shard service only.")
def where(target: str, url: str, token_file: Path | None, as_json: bool, service: str | None) -> None:
    """Show which scraper has TARGET, and who would have it next. Exit 1 when nobody has."""
    names = [s["name"] for s in ask(url, "/api/v1/services", token_file=token_file)]
    if service is not None and service not in names:
        raise click.ClickException(f"no service {service!r}; there is {', '.join(names)}")
    names = [service] if service else names
    found = {}
    for name in names:
        path = f"/api/v1/services/{quote(name, safe='')}/where?target={quote(target, safe='')}"
        answer = ask(url, path, token_file=token_file, missing_ok=True)
        if answer is not None:
            found[name] = answer
    if as_json:
        say(json.dumps(found, indent=2), lines=True)
    for name, places in ({} if as_json else plain(found)).items():
        for place in places:
            labels = " ".join(f"{k}={v}" for k, v in place["labels"].items())
            say(f"{name}: {place['target']} {labels}".rstrip())
            say(f"  scraper     {place['scraper']} ({place['reason']})")
            say(f"  preference  {' '.join(place['preference'])}")
    if not found:
        say(f"no service has the target {target}", err=True)
        sys.exit(1)


@click.command()
@click.argument("scraper")
@url_option
@token_option
@click.option("--service", help="Of this shard service only; else of every one that knows the scraper.")
def drain(scraper: str, url: str, token_file: Path | None, service: str | None) -> None:
    """Take every target from SCRAPER, make before break, until it is undrained. Needs the token."""
    _drain(scraper, url, token_file, service, "drain")


@click.command()
@click.argument("scraper")
@url_option
@token_option
@click.option("--service", help="Of this shard service only; else of every one that knows the scraper.")
def undrain(scraper: str, url: str, token_file: Path | None, service: str | None) -> None:
    """Let SCRAPER have its share again. Needs the token."""
    _drain(scraper, url, token_file, service, "undrain")


@click.command()
@click.argument("service")
@url_option
@token_option
def release(service: str, url: str, token_file: Path | None) -> None:
    """Take the newest facts of SERVICE for right, once: end what the guard holds. Needs the token."""
    answer = ask(url, f"/api/v1/services/{quote(service, safe='')}/release", token_file=token_file, method="POST")
    for one in answer["released"]:
        say(f"{service}: released {one['reason']}: {one['detail']}")


def _drain(scraper: str, url: str, token_file: Path | None, service: str | None, what: str) -> None:
    known = {s["name"]: {x["id"] for x in s["scrapers"]} for s in ask(url, "/api/v1/services", token_file=token_file)}
    if service is not None and service not in known:
        raise click.ClickException(f"no service {service!r}; there is {', '.join(known)}")
    names = [service] if service else [name for name, scrapers in known.items() if scraper in scrapers]
    if not names:
        raise click.ClickException(f"no service has the scraper {scraper!r}")
    for name in names:
        path = f"/api/v1/services/{quote(name, safe='')}/scrapers/{quote(scraper, safe='')}/{what}"
        ask(url, path, token_file=token_file, method="POST")
        say(f"{name}: {scraper} {what}ed")


def ask(url: str, path: str, *, token_file: Path | None = None, missing_ok: bool = False, method: str = "GET") -> Any:
    """The ``data`` of an API answer; None for 404 with ``missing_ok``. Anything else ends the command with a message."""
    url = url if "://" in url else f"http://{url}"
    headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"} if token_file else {}

    async def get() -> Response:
        async with new_session() as session:
            return await request(session, method, url.rstrip("/") + path, timeout_s=TIMEOUT_S, headers=headers)

    try:
        response = asyncio.run(get())
    except HttpError as error:
        raise click.ClickException(f"no promring answers at {shown(url)}: {error} (--url says where it is)") from error
    try:
        answer = json.loads(response.body)
    except (ValueError, RecursionError):
        raise click.ClickException(f"{shown(url)}: not a promring controller: {response.text(80)!r}") from None
    if not isinstance(answer, dict):
        raise click.ClickException(f"{shown(url)}: not a promring controller: {response.text(80)!r}")
    if response.status == 404 and missing_ok:
        return None
    if answer.get("status") != "success":
        said = plain(response.clean(str(answer.get("error", f"status {response.status}"))))
        raise click.ClickException(f"{shown(url)}: {said}")
    return answer["data"]


def _show_status(data: dict[str, Any]) -> None:
    console = output.console(highlight=False, emoji=False)
    console.print(f"promring {data['version']}: " + ("ready" if data["ready"] else "not ready"))
    controllers = data["controllers"]
    if controllers["lock"]:
        who = "leads" if data["leader"] else f"follows {controllers['leader'] or 'nobody: no controller leads'}"
        console.print(f"  {escape(who)}, epoch {controllers['epoch'] or '-'}")
    for line in data["unready"]:
        console.print(f"  {escape(line)}", style="red")
    if not data["config"]["last_reload_successful"]:
        console.print("  the last reload was refused; the configuration before it is in force:", style="red")
        for problem in data["config"]["problems"]:
            console.print(f"    {escape(problem)}", style="red")
    for service in data["services"]:
        console.print(
            f"\n{service['name']}: {_or(service['targets'])} targets, generation {service['generation']}, "
            f"membership {_membership(service['membership'])}",
            markup=False,
        )
        if service["held"]:
            console.print(f"  held: {escape(service['held']['detail'])}", style="yellow")
        for one in service["withheld"]:
            console.print(f"  withheld: {escape(one['detail'])}", style="yellow")
        console.print(_scrapers(service["scrapers"], service["membership"]["reason"]))
        for source in service["sources"]:
            note = f" ({source['reason']})" if source["reason"] else ""
            console.print(escape(f"  source {source['name']}: {_or(source['targets'])} targets, {source['state']}{note}"))
            if source["refused"]:
                console.print(escape(f"    {source['refused']} entries left out: {'; '.join(source['remarks'])}"))


def _scrapers(scrapers: list[dict[str, Any]], said: str) -> Table:
    """``said`` stands above already and is not repeated for each scraper."""
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("  scraper", "state", "targets", "generation", "note"):
        table.add_column(name, justify="right" if name == "targets" else "left", overflow="fold")
    for s in scrapers:
        style = {"up": "green", "down": "red"}.get(s["state"], "yellow")
        note = f"not delivered: {s['delivery_error']}" if s["delivery_error"] else s["reason"]
        note = "" if note == said else note
        note = f"{s['standing']}{'; ' if note else ''}{note}" if s["standing"] in ("joining", "leaving") else note
        note = "drained" + (f"; {note}" if note else "") if s["drained"] else note
        state = f"[{style}]{s['state']}[/]"
        table.add_row(escape(f"  {s['id']}"), state, str(s["targets"]), s["generation"] or "-", escape(note))
    return table


def _membership(fact: dict[str, Any]) -> str:
    if not fact["stale"]:
        return str(fact["state"])
    since = (
        time.strftime(", last known %H:%M:%S", time.localtime(fact["last_success_at"])) if fact["last_success_at"] else ""
    )
    return f"{fact['state']}{since}: {fact['reason']}; the last scrapers stay"


def _or(value: object) -> str:
    return "no" if value is None else str(value)
