"""``promring scrape-config [SERVICE…]``: the part of ``prometheus.yml``, or of vmagent's ``-promscrape.config``, that every
scraper of a fleet shares.

Promises: each job has the name that the audit asks for and reads what the service really delivers: a path where slices are
files on the scraper's machine (``file``, ``ssh``, ``ansible``, an agent), a URL where the scraper asks (``http_sd``). What
would not work, such as a loopback URL for a scraper on another machine, is said on standard error.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

import click

from promring.cli import options
from promring.cli.output import say
from promring.model import Scraper
from promring.runtime.address import parse_host_port
from promring.runtime.near import meant, meant_host
from promring.runtime.redact import scrub
from promring.runtime.text import few

if TYPE_CHECKING:
    from promring.config.settings import Settings, ShardService

MEANS = ("http_sd", "file", "ssh", "ansible", "command")
"""The kinds of delivery."""
REFRESH = "1s"  # a 5 s refresh falls into step with Prometheus' own 5 s throttle and doubles the delay
NAMED_MOST = 10
PLACE_HOLDER = Scraper("SCRAPER", "HOST", 9090)
VMAGENT_FLAGS = {"http_sd": "-promscrape.httpSDCheckInterval", "file": "-promscrape.fileSDCheckInterval"}


class Part(NamedTuple):
    """One job. ``means``: the kind of its delivery; ``scraper``: whom it is for; ``file``: where its slice is on the
    scraper's machine, "" where the scraper asks promring by a URL.
    """

    service: ShardService
    means: str
    scraper: Scraper
    file: str


@click.command("scrape-config")
@options.config_file
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--fleet", metavar="NAME", help="A job for each service of this fleet.")
@click.option(
    "--scraper",
    type=options.Identity(),
    help="Identity of the scraper it is for; without it a place-holder is printed.",
)
@click.option("--url", default="http://127.0.0.1:9600", show_default=True, help="Where scrapers reach promring (http_sd).")
@options.reader("What the scraper is.")
@click.option("--means", type=click.Choice(MEANS), help="Which delivery, where there are several; default: the first.")
@click.option("--agent-dir", metavar="DIR", help="The scraper reads what `promring agent --dir DIR` beside it writes.")
def scrape_config(
    config_file: Path,
    services: tuple[str, ...],
    fleet: str | None,
    scraper: str | None,
    url: str,
    reader: str,
    means: str | None,
    agent_dir: str | None,
) -> None:
    """Print the scrapers' part of prometheus.yml: a job for each SERVICE, for all services of a fleet, or for every one. It
    is the same for every scraper of a fleet but for its identity.
    """
    settings = options.load_or_exit(config_file)
    means = "http_sd" if agent_dir else means  # agents get their slices from there
    chosen = _chosen(settings, services, fleet, scraper)
    if not services and any(s.scrapers != chosen[0].scrapers for s in chosen):
        fleets = few(list(dict.fromkeys(s.fleet for s in chosen)), NAMED_MOST)
        say(f"# these are the jobs of the fleets {fleets}; a scraper needs those of its own: --fleet NAME", err=True)
    parts = [_part(service, scraper, means, agent_dir) for service in chosen]
    base = _base(url)
    _warn(parts, base)
    for line in _text(parts, base, reader).splitlines():
        say(line)


def _chosen(settings: Settings, names: Sequence[str], fleet: str | None, scraper: str | None) -> list[ShardService]:
    """The services named; else all of the fleet; else those that list ``scraper``; else all of those that may have it."""
    fleets = {one.name: one.services for one in settings.every_fleet}
    if fleet is not None and fleet not in fleets:
        raise click.ClickException(f"no fleet {fleet!r}; there is {', '.join(fleets)}{meant(fleet, fleets)}")
    found = {s.name: s for s in (settings.shard_services if fleet is None else fleets[fleet])}
    if unknown := [name for name in names if name not in found]:
        where = "" if fleet is None else f" in fleet {fleet}"
        there = f"there is {', '.join(found)}{meant(unknown[0], found)}"
        raise click.ClickException(f"no shard service {unknown[0]!r}{where}; {there}")
    if names:
        return [found[name] for name in dict.fromkeys(names)]
    if scraper is None or fleet is not None:
        return list(found.values())
    lists_it = [s for s in settings.shard_services if scraper in _ids(s)]
    may_have_it = [s for s in settings.shard_services if not s.listed]
    if lists_it and may_have_it:
        others = few(list(dict.fromkeys(s.fleet for s in may_have_it)), NAMED_MOST)
        say(f"# without the jobs of the fleets {others}, which may have {scraper}, too: --fleet NAME prints them", err=True)
    chosen = lists_it or may_have_it
    if not chosen:
        listed = list(dict.fromkeys(name for s in settings.shard_services for name in sorted(_ids(s))))
        near = f"{few(listed, NAMED_MOST)}{meant_host(scraper, listed)}"
        raise click.ClickException(f"no shard service has the scraper {scraper!r}; there is {near}")
    return chosen


def _part(service: ShardService, scraper: str | None, means: str | None, agent_dir: str | None) -> Part:
    kinds = list(dict.fromkeys(delivery.kind for delivery in service.delivery))
    if means is not None and means not in kinds:
        raise click.ClickException(f"{service.name} has no delivery {means!r}; it has {', '.join(kinds)}")
    known = _ids(service)
    if scraper is not None and known and scraper not in known:
        say(f"# {scraper} is not a scraper of {service.name}: {', '.join(known)}", err=True)
    if means is None and len(kinds) > 1:
        say(f"# {service.name} is delivered by {' and '.join(kinds)}; this is for {kinds[0]}, or say --means", err=True)
    for_whom, means = _scraper(service, scraper), means or kinds[0]
    return Part(service, means, for_whom, _file(service, means, for_whom, agent_dir))


def _ids(service: ShardService) -> dict[str, Scraper]:
    """The scrapers that the configuration lists; none where Consul knows them."""
    return {scraper.id: scraper for scraper in map(service.scraper, service.listed)}


def _scraper(service: ShardService, text: str | None) -> Scraper:
    if text is None:
        return PLACE_HOLDER
    try:
        return _ids(service).get(text) or Scraper(text, *parse_host_port(text))
    except ValueError:
        return Scraper(text, text, PLACE_HOLDER.port)


def _text(parts: Sequence[Part], url: str, reader: str) -> str:
    jobs: dict[str, dict[str, object]] = {}
    for part in parts:
        name = part.service.job  # what the audit asks the scrapers for
        if name in jobs:
            hint = "" if len({one.service.fleet for one in parts}) == 1 else " (--fleet prints those of one fleet)"
            raise click.ClickException(f"{part.service.name}: another service's job is called {name!r}, too{hint}")
        jobs[name] = {"job_name": name} | _discovery(part, url, reader)
    identity = parts[0].scraper.id
    lines = ["# SCRAPER (and HOST in a path) stands for the identity of the scraper: each has its own."]
    lines = lines if identity == PLACE_HOLDER.id else []
    if reader == "vmagent":
        flags = dict.fromkeys(VMAGENT_FLAGS["file" if part.file else "http_sd"] for part in parts)
        lines += [f"# vmagent looks once a minute, unless it is started with {flag}={REFRESH}" for flag in flags]
    lines.append(f"# global: {{external_labels: {{shard: '{identity}'}}}}   # keeps the series of two scrapers apart")
    import yaml

    dumped = yaml.safe_dump({"scrape_configs": list(jobs.values())}, sort_keys=False, width=10**6)
    return "\n".join(lines) + "\n" + dumped


def _discovery(part: Part, url: str, reader: str) -> dict[str, object]:
    if part.file:
        return {"file_sd_configs": [{"files": [part.file]}]}
    one = {"url": f"{url}/sd/{part.service.name}/{quote(part.scraper.id, safe=':[]')}"}
    return {"http_sd_configs": [one if reader == "vmagent" else one | {"refresh_interval": REFRESH}]}


def _file(service: ShardService, means: str, scraper: Scraper, agent_dir: str | None) -> str:
    """Where the slice is on the scraper's machine; "" where the scraper asks promring for it."""
    if means == "http_sd":
        return f"{agent_dir.rstrip('/')}/{service.name}.json" if agent_dir else ""
    return next(d for d in service.delivery if d.kind == means).file(service.names, scraper)


def _warn(parts: Sequence[Part], url: str) -> None:
    host = urlsplit(url).hostname or ""
    asking = [part for part in parts if not part.file]
    if asking and _here_only(host):
        elsewhere = sorted({s.host for part in asking for s in _for_whom(part) if not _here_only(s.host)})
        unknown = any(not _for_whom(part) for part in asking)
        if elsewhere or unknown:
            who = f"scrapers such as {elsewhere[0]}" if elsewhere else "scrapers on other machines"
            say(f"# {url} is this machine only: {who} do not reach it; --url says where they reach promring,", err=True)
            say("# and promring run listens there with --web.listen-address", err=True)
    for part in parts:
        delivery = next(d for d in part.service.delivery if d.kind == part.means)
        if delivery.overridden_by:
            say(f"# {delivery.overridden_by} may say another folder for {part.service.name}", err=True)


def _for_whom(part: Part) -> list[Scraper]:
    """The scrapers that will read this part, as far as they are known."""
    return list(_ids(part.service).values()) if part.scraper is PLACE_HOLDER else [part.scraper]


def _here_only(host: str) -> bool:
    """Whether other machines cannot mean this one by ``host``."""
    if host.rstrip(".").lower() in ("localhost", "localhost.localdomain"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _base(url: str) -> str:
    """``url`` without the slash at its end."""
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = None
    if not good or parts.query or parts.fragment or any(c.isspace() for c in full):
        raise click.BadParameter(f"{scrub(url)!r} is not http(s)://host:port", param_hint="--url")
    if parts.username is not None:
        raise click.BadParameter("credentials do not belong in the URL; give the job basic_auth", param_hint="--url")
    return full.rstrip("/")
