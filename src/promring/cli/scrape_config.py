"""``promring scrape-config SERVICE``: the part of ``prometheus.yml`` that connects a scraper."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from promring.cli import options
from promring.model import Scraper
from promring.settings import ShardService, parse_host_port
from promring.template import render

REFRESH = "1s"  # a 5 s refresh falls into step with Prometheus' own 5 s throttle and doubles the delay


@click.command("scrape-config")
@options.config_file
@click.argument("service")
@click.option("--scraper", help="Identity of the scraper the part is for; without it a place-holder is printed.")
@click.option("--url", default="http://127.0.0.1:9600", show_default=True, help="Where scrapers reach promring (http_sd).")
def scrape_config(config_file: Path, service: str, scraper: str | None, url: str) -> None:
    """Print the prometheus.yml part of a shard service. It is the same for every scraper but for its identity."""
    settings = options.load_or_exit(config_file)
    found = {s.name: s for s in settings.shard_services}
    if service not in found:
        raise click.ClickException(f"no shard service {service!r}; there is {', '.join(found)}")
    click.echo(_part(found[service], _scraper(scraper), url.rstrip("/")), nl=False)


def _scraper(text: str | None) -> Scraper:
    if text is None:
        return Scraper("SCRAPER", "HOST", 9090)
    try:
        host, port = parse_host_port(text)
    except ValueError:
        host, port = text, 9090
    return Scraper(text, host, port)


def _part(service: ShardService, scraper: Scraper, url: str) -> str:
    job: dict[str, object] = {"job_name": service.name}
    for delivery in service.delivery:
        if delivery.file is not None:
            job["file_sd_configs"] = [{"files": [str(render(delivery.file.path, service.name, scraper))]}]
            break
    else:
        job["http_sd_configs"] = [{"url": f"{url}/sd/{service.name}/{scraper.id}", "refresh_interval": REFRESH}]
    text = yaml.safe_dump({"scrape_configs": [job]}, sort_keys=False)
    note = "# SCRAPER is the identity of the scraper: each has its own.\n" if scraper.id == "SCRAPER" else ""
    return note + text
