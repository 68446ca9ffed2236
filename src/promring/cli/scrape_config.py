"""``promring scrape-config SERVICE``: the part of ``prometheus.yml`` that connects a scraper."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from promring.address import parse_host_port
from promring.cli import options
from promring.cli.output import say
from promring.model import Scraper
from promring.settings import ShardService
from promring.template import render

REFRESH = "1s"  # a 5 s refresh falls into step with Prometheus' own 5 s throttle and doubles the delay


@click.command("scrape-config")
@options.config_file
@click.argument("service")
@click.option("--scraper", help="Identity of the scraper the part is for; without it a place-holder is printed.")
@click.option("--url", default="http://127.0.0.1:9600", show_default=True, help="Where scrapers reach promring (http_sd).")
@click.option("--means", type=click.Choice(["http_sd", "file"]), help="Which delivery, where the service has both.")
def scrape_config(config_file: Path, service: str, scraper: str | None, url: str, means: str | None) -> None:
    """Print the prometheus.yml part of a shard service. It is the same for every scraper but for its identity."""
    settings = options.load_or_exit(config_file)
    found = {s.name: s for s in settings.shard_services}
    if service not in found:
        raise click.ClickException(f"no shard service {service!r}; there is {', '.join(found)}")
    chosen = found[service]
    kinds = [delivery.kind for delivery in chosen.delivery]
    if means is not None and means not in kinds:
        raise click.ClickException(f"{service} has no delivery {means!r}; it has {', '.join(kinds)}")
    known = _listed(chosen)
    if scraper is not None and known and scraper not in known:
        say(f"# {scraper} is not a scraper of {service}: {', '.join(known)}", err=True)
    if means is None and len(set(kinds)) > 1:
        say(f"# {service} is delivered by {' and '.join(kinds)}; the other one: --means", err=True)
    say(_part(chosen, _scraper(scraper), url.rstrip("/"), means or kinds[0]), nl=False, lines=True)


def _listed(service: ShardService) -> list[str]:
    """The identities that the configuration lists; none where Consul knows them."""
    probe = service.scrapers.probe
    return [service.scraper(node).id for node in probe.nodes] if probe else []


def _scraper(text: str | None) -> Scraper:
    if text is None:
        return Scraper("SCRAPER", "HOST", 9090)
    try:
        host, port = parse_host_port(text)
    except ValueError:
        host, port = text, 9090
    return Scraper(text, host, port)


def _part(service: ShardService, scraper: Scraper, url: str, means: str) -> str:
    job: dict[str, object] = {"job_name": service.name}
    if means == "file":
        path = next(d.file.path for d in service.delivery if d.file is not None)
        job["file_sd_configs"] = [{"files": [str(render(path, service.name, scraper))]}]
    else:
        job["http_sd_configs"] = [{"url": f"{url}/sd/{service.name}/{scraper.id}", "refresh_interval": REFRESH}]
    text = yaml.safe_dump({"scrape_configs": [job]}, sort_keys=False)
    note = "# SCRAPER is the identity of the scraper: each has its own.\n" if scraper.id == "SCRAPER" else ""
    label = f"# global: {{external_labels: {{shard: '{scraper.id}'}}}}   # keeps the series of two scrapers apart\n"
    return note + label + text
