"""``promring.yml``: one fleet, and one shard service for each job that is shared."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from promring.importing.edits import quoted
from promring.importing.findings import Finding
from promring.importing.native import INDENT
from promring.importing.verdicts import Judged

PLACE_HOLDERS = ("scraper-1.example:9090", "scraper-2.example:9090", "scraper-3.example:9090")
NAME_MOST = 100
_HEADER = """\
# Written by promring import. All keys: docs/configuration.md
fleets:
  - name: main
    scrapers:
      probe:
        nodes:{hint}
{nodes}
    delivery:
      - http_sd: {{}}{agents}
shard_services:
"""


@dataclass(frozen=True)
class Layout:
    """How the new files refer to each other. ``slices``: the folder of slices on a scraper, relative to its prometheus.yml,
    where an agent writes them; ``http_sd``: promring's URL, where the scrapers ask instead; ``discovery_url``: where the
    Prometheus that discovers is; ``for_vmagent``: the scrapers are vmagents, which refuse keys that they do not have.
    """

    scrapers: tuple[str, ...] = ()
    slices: str = "promring"
    http_sd: str = ""
    discovery_url: str = "http://127.0.0.1:9090"
    for_vmagent: bool = False

    @property
    def discoverer(self) -> str:
        """``host:port`` of the Prometheus that discovers."""
        parts = urlsplit(self.discovery_url)
        return parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"

    def discovery_of(self, service: str, *, folder: str = "", vmagent: bool = False) -> str:
        """What finds the targets of a service on a scraper: a key and its value. ``folder``: of the file that says it,
        relative to prometheus.yml. Prometheus looks from there, vmagent from its main file.
        """
        vmagent = vmagent or self.for_vmagent
        if not self.http_sd:
            there = vmagent or Path(self.slices).is_absolute()
            slices = self.slices if there else os.path.relpath(self.slices, folder or ".")
            return f"file_sd_configs: [{{files: [{quoted(f'{slices}/{service}.json')}]}}]"
        url = quoted(f"{self.http_sd}/sd/{quote(service)}/SCRAPER")
        more = "" if vmagent else ", refresh_interval: 1s"
        return f"http_sd_configs: [{{url: {url}{more}}}]"


def service_names(jobs: Sequence[Judged]) -> tuple[dict[str, str], list[Finding]]:
    """The service of each job that is shared, by the job's name, and which of them have another name."""
    names: dict[str, str] = {}
    findings: list[Finding] = []
    shared = [judged.job for judged in jobs if judged.verdict.sharded]
    taken = {job.name for job in shared if _safe(job.name) == job.name}
    for job in shared:
        name = _safe(job.name)
        if name != job.name:
            name = _free(name, taken)
            taken.add(name)
            findings.append(job.finding("PI008", f"the service is called {name}", "job: keeps the name of the job"))
        names[job.name] = name
    return names, findings


def _safe(name: str) -> str:
    """With the characters that a service and a file name may have."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:NAME_MOST]
    return name if safe == name else safe or "job"


def _free(name: str, taken: set[str]) -> str:
    number = 1
    while (free := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return free


def promring_text(jobs: Sequence[Judged], names: Mapping[str, str], layout: Layout) -> str:
    nodes = layout.scrapers or PLACE_HOLDERS
    text = _HEADER.format(
        hint="" if layout.scrapers else "   # your servers, host:port",
        nodes="\n".join(f"          - {quoted(node)}" for node in nodes),
        agents="" if layout.http_sd else "   # promring agent, beside each scraper, writes the files from it",
    )
    return text + "".join(_service(judged, names[judged.job.name], layout) for judged in jobs if judged.verdict.sharded)


def _service(judged: Judged, name: str, layout: Layout) -> str:
    lines = [f"  - name: {quoted(name)}", "    fleet: main"]
    if name != judged.job.name:
        lines.append(f"    job: {quoted(judged.job.name)}")
    if judged.hash_labels:
        lines.append(f"    placement: {{hash_labels: [{', '.join(judged.hash_labels)}]}}")
    lines.append("    targets:")
    lines += [f"{' ' * (INDENT - 2)}- {block.at(INDENT)}" for block in judged.blocks]
    if not judged.blocks:
        pool = f"url: {quoted(layout.discovery_url)}, scrape_pool: {quoted(judged.job.name)}, interval: 30s"
        lines.append(f"{' ' * (INDENT - 2)}- prometheus: {{{pool}}}")
    return "\n".join(lines) + "\n"
