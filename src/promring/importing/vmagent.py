"""What vmagent discovers for the jobs that the Prometheus here cannot discover: Debian's is built without Consul.

vmagent only finds the targets. Relabelling stays with Prometheus: the targets stand in its configuration in place of the
discovery, with the labels that vmagent found. So the judge of a discovery is never promring itself.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from promring.demo.process import StartError, find
from promring.importing.configuration import Job
from promring.importing.discovering import NEVER
from promring.importing.inside import absolute_edits
from promring.importing.piece import piece_of_pair
from promring.importing.quiet import Listed
from promring.importing.running import Seen, settled_targets, vmagent
from promring.importing.source import flat
from promring.runtime.disk import make_folders

NAME = "vmagent"
KINDS = frozenset(("consul_sd_configs",))
"""Which both have, and whose labels are compared with Prometheus' in ``tests/real/test_import_consul.py``."""
_OWN = ("__meta_consul_tag_", "__meta_consul_tagpresent_")
"""What vmagent tells besides."""
_OF_THE_JOB = ("job", "__scheme__", "__metrics_path__", "__scrape_interval__", "__scrape_timeout__")
"""Labels that every target has from its job, which no discovery of ``KINDS`` sets."""
_ALL_DIFFERENT = """\
    relabel_configs:
      - {action: labelmap, regex: "__meta_(.+)", replacement: "found_$1"}
"""
"""So that vmagent lists targets that differ only in these."""
_TIMEOUT_S = 60.0
SETTLED_S = 3.0
"""vmagent lists a job when it has read all of it."""


async def discovered(
    jobs: Mapping[str, tuple[Job, Collection[str]]], folder: Path
) -> tuple[dict[str, Listed], dict[str, str]]:
    """``jobs``: with the kinds to discover, by name. Also why there is no answer for a job. Blocks while vmagent reads."""
    program = find(NAME)
    if program is None:
        return {}, dict.fromkeys(jobs, f"no {NAME} on PATH, which could")
    make_folders(folder)
    texts, refused = {}, {}
    for number, (name, (job, kinds)) in enumerate(jobs.items()):
        text = _job_text(str(number), job, kinds)
        if said := _refusal(program, folder, text):
            refused[name] = said
        else:
            texts[name] = text
    if not texts:
        return {}, refused
    try:
        async with vmagent(program, folder, "scrape_configs:\n" + "".join(texts.values())) as url:
            targets = (await settled_targets([url], settled_s=SETTLED_S, discovered=True))[0]
    except StartError as error:
        return {}, refused | dict.fromkeys(texts, f"{NAME}: {error}")
    numbers = {name: str(number) for number, name in enumerate(jobs)}
    found = {name: [_labels(seen) for seen in targets.get(numbers[name], {})] for name in texts}
    return {name: Listed(jobs[name][1], labels) for name, labels in found.items()}, refused


def _job_text(name: str, job: Job, kinds: Collection[str]) -> str:
    """A job that only discovers."""
    pairs = flat(job.node)
    text = f'  - job_name: "{name}"\n    scrape_interval: {NEVER}\n{_ALL_DIFFERENT}'
    for kind in sorted(kinds):
        piece = piece_of_pair(job.source, *pairs[kind], kind)
        piece = piece.changed(absolute_edits(piece.root, job.source.path.absolute().parent))
        text += f"    {piece.at(4)}\n"
    return text


def taking(config: Path) -> tuple[Path | None, bool]:
    """The user's own vmagent, which is on PATH, and whether it takes a configuration."""
    program = shutil.which(NAME)
    return (Path(program), not _said_of(Path(program), config)) if program else (None, False)


def _refusal(program: Path, folder: Path, text: str) -> str:
    """Why vmagent does not take a job; empty where it does."""
    path = folder / "tried.yml"
    path.touch(mode=0o600)
    path.write_text("scrape_configs:\n" + text)
    return _said_of(program, path)


def _said_of(program: Path, path: Path) -> str:
    """Why vmagent does not take a file; empty where it does."""
    arguments: list[str | Path] = [program, "-dryRun", f"-promscrape.config={path}", "-remoteWrite.url=http://127.0.0.1:1/"]
    try:
        done = subprocess.run(  # noqa: S603  a program that was found on this machine
            arguments, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{NAME}: {error}"
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    return f"{NAME} refuses it: {(lines or ['?'])[-1].rpartition(': ')[2]:.200}"


def _labels(seen: Seen) -> dict[str, str]:
    return {name: value for name, value in seen.labels if value and name not in _OF_THE_JOB and not name.startswith(_OWN)}
