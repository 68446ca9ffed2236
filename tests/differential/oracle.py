"""Real Prometheus servers and vmagent, asked what they make of target lists.

All lists are files of one job whose relabelling drops every target: the scraper then names each with its labels as they
were discovered, whatever a scrape would need. ``__meta_filepath`` tells which list a target came from. A list that a server
refuses is named in its log.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
from testbed.sdoracle import Targets

from promring.core.fragment import ID_LABEL
from promring.demo.process import Process, find, free_port
from promring.runtime.http_client import HttpError, request

PATIENCE_S = 120.0
READ_AT_S = 1.0
SETTLED_S = 6.0
"""A scraper applies what it discovered every 5 s."""
PROGRAMS = {"prometheus": "Prometheus 2.42", "prometheus3": "Prometheus 3.5", "vmagent": "vmagent"}
OF_THE_READER = ("__meta_filepath", "__meta_url", ID_LABEL)
HISTOGRAMS = ("scrape_native_histograms", "always_scrape_classic_histograms", "convert_classic_histograms_to_nhcb")
"""Since Prometheus 3.13."""
ADDED = {
    ("__scheme__", "http"),
    ("__metrics_path__", "/metrics"),
    ("__scrape_interval__", "1h"),
    ("__scrape_interval__", "1h0m0s"),
    ("__scrape_timeout__", "10s"),
    ("job", "lists"),
    *((f"__{name}__", "false") for name in HISTOGRAMS),
}
"""What the job itself adds to each target."""


class _Dropped(msgspec.Struct, rename="camel"):
    discovered_labels: dict[str, str]


class _Data(msgspec.Struct, rename="camel"):
    dropped_targets: list[_Dropped] = []
    active_targets: list[_Dropped] = []


class _Answer(msgspec.Struct):
    data: _Data


@dataclass(frozen=True)
class Verdicts:
    """What one scraper made of each file: its targets, or the reason why it refuses the file."""

    targets: Mapping[str, Targets]
    refused: Mapping[str, str]

    def of(self, path: Path) -> Targets | None:
        """None: refused."""
        return None if str(path) in self.refused else self.targets.get(str(path), frozenset())


class Oracle:
    """One scraper that reads lists as ``config`` says."""

    def __init__(self, program: Path, folder: Path, config_text: str) -> None:
        folder.mkdir(parents=True)
        self.name = PROGRAMS[program.name]
        self._log = folder / "log"
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        config = folder / "prometheus.yml"
        config.write_text(config_text)
        if program.name == "vmagent":
            arguments: list[str | Path] = [
                program,
                f"-promscrape.config={config}",
                f"-httpListenAddr=127.0.0.1:{port}",
                "-promscrape.fileSDCheckInterval=1s",
                "-promscrape.maxDroppedTargets=1000000",
                "-remoteWrite.url=http://127.0.0.1:1/write",
                f"-remoteWrite.tmpDataPath={folder / 'storage'}",
                "-remoteWrite.maxDiskUsagePerURL=10MB",
            ]
        else:
            arguments = [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'storage'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ]
        self.process = Process(arguments, self._log, {"GOMAXPROCS": "2"})

    async def verdicts(self, session: aiohttp.ClientSession, marker: str) -> Verdicts:
        """Once it has read the file that lists ``marker``, which must be the last one that was written."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = await self._targets(session)
            if any(("__address__", marker) in target for targets in found.values() for target in targets):
                return Verdicts(found, self._refused())
            assert time.monotonic() < deadline, f"{self.name} did not read {marker} within {PATIENCE_S:g} s"
            await asyncio.sleep(READ_AT_S)

    async def _targets(self, session: aiohttp.ClientSession) -> dict[str, Targets]:
        try:
            answer = await request(
                session, "GET", f"{self.url}/api/v1/targets", timeout_s=30, params={"state": "dropped"}, body_bytes_max=2**28
            )
        except HttpError:
            return {}
        if answer.status != 200:
            return {}
        found: dict[str, set[frozenset[tuple[str, str]]]] = {}
        for one in msgspec.json.decode(answer.body.decode(errors="replace"), type=_Answer).data.dropped_targets:
            labels = one.discovered_labels
            kept = frozenset((n, v) for n, v in labels.items() if n not in OF_THE_READER and v and (n, v) not in ADDED)
            found.setdefault(labels.get("__meta_filepath") or labels.get("__meta_url", ""), set()).add(kept)
        return {path: frozenset(targets) for path, targets in found.items()}

    def _refused(self) -> dict[str, str]:
        """The last word about each file that the log complains of."""
        refused = {}
        for line in self._log.read_text(errors="replace").splitlines():
            if (match := re.search(r'msg="Error reading file".* path=(\S+) err="?(.*?)"?$', line)) is not None:
                refused[match[1].strip('"')] = match[2]
            elif (match := re.search(r'(?:cannot|skipping).*?"([^"]+\.(?:json|ya?ml))"[^:]*: (.*)$', line)) is not None:
                refused[match[1]] = match[2]
        return refused


def config_of(lists: Path) -> str:
    """One job that reads every list in the folder."""
    return f"""
global: {{scrape_interval: 1h}}
scrape_configs:
  - job_name: lists
    file_sd_configs:
      - files: ["{lists}/*.json", "{lists}/*.yml"]
    relabel_configs:
      - action: drop
        regex: ""
        source_labels: [__no_list_has_this__]
"""


@asynccontextmanager
async def oracles(folder: Path, config: str, but: Collection[str] = ()) -> AsyncIterator[list[Oracle]]:
    """Every scraper that can be had, but those, started with ``config``."""
    async with AsyncExitStack() as stack:
        made = []
        for name in PROGRAMS:
            program = find(name)
            if program is not None and name not in but:
                made.append(Oracle(program, folder / name, config))
                await made[-1].process.start()
                stack.push_async_callback(made[-1].process.stop)
        yield made
