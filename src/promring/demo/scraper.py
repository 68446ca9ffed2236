"""One scraper on loopback: a real Prometheus (server or agent mode) or vmagent, or the stand-in where none can be had."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from promring.demo.process import Process
from promring.runtime.http_client import HttpError, request

NOBODY = "http://127.0.0.1:1/write"
"""A store that is not there: what vmagent scraped is thrown away."""


@dataclass(frozen=True, slots=True)
class SdConfig:
    """Where a scraper finds its slice: a file, or promring's http_sd."""

    file: Path | None = None
    url: str | None = None
    refresh: str = "1s"

    def part(self) -> dict[str, Any]:
        if self.file is not None:
            return {"file_sd_configs": [{"files": [str(self.file)]}]}
        return {"http_sd_configs": [{"url": self.url, "refresh_interval": self.refresh}]}


class ScraperProcess(Process):
    """A scraper at ``host:port``. ``program`` None: the stand-in; one named vmagent is run as such, and looks at its lists
    every ``vmagent_check`` (None: its own default, a minute). ``remote_write``: URL of a store that gets what it
    scrapes. ``configure`` gives it other jobs than the one for ``sd``.
    """

    def __init__(
        self,
        program: Path | None,
        folder: Path,
        sd: SdConfig,
        *,
        port: int,
        host: str = "127.0.0.1",
        interval_s: float = 5.0,
        agent: bool = False,
        job: str = "demo",
        vmagent_check: str | None = "1s",
        remote_write: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.config_file, self.storage = folder / "prometheus.yml", folder / "storage"
        self.id = f"{host}:{port}"
        self.url = f"http://{host}:{port}"
        self.is_vmagent = program is not None and program.name == "vmagent"
        if program is None:
            source = ["--file", str(sd.file)] if sd.file else ["--url", str(sd.url)]
            listen = ["--listen", self.id, "--interval", str(interval_s), "--job", job]
            arguments: list[str | Path] = [sys.executable, "-m", "promring.demo.stand_in", *listen, *source]
        elif self.is_vmagent:
            self.config_file.write_text(_config(sd, self.id, interval_s, job))
            arguments = [
                program,
                f"-promscrape.config={self.config_file}",
                f"-httpListenAddr={self.id}",
                *(f"-promscrape.{kind}SDCheckInterval={vmagent_check}" for kind in ("file", "http") if vmagent_check),
                f"-remoteWrite.url={remote_write or NOBODY}",
                "-remoteWrite.forcePromProto",
                f"-remoteWrite.tmpDataPath={self.storage}",
                "-remoteWrite.maxDiskUsagePerURL=10MB",
                "-loggerLevel=ERROR",
            ]
        else:
            self.config_file.write_text(_config(sd, self.id, interval_s, job, remote_write))
            storage = "--storage.agent.path" if agent else "--storage.tsdb.path"
            arguments = [
                program,
                f"--config.file={self.config_file}",
                f"{storage}={self.storage}",
                f"--web.listen-address={self.id}",
                "--log.level=warn",
                *([_agent_flag(program)] if agent else []),
            ]
        super().__init__(arguments, folder / "log", {"GOMAXPROCS": "2"})

    def configure(self, jobs: Sequence[dict[str, Any]]) -> None:
        """Its scrape jobs, from its next start or SIGHUP on; not for the stand-in."""
        self.config_file.write_text(
            yaml.safe_dump({"global": {"external_labels": {"shard": self.id}}, "scrape_configs": list(jobs)})
        )

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            return (await request(session, "GET", f"{self.url}/-/ready", timeout_s=2)).status == 200
        except HttpError:
            return False


@functools.cache
def _agent_flag(program: Path) -> str:
    """How agent mode is asked for: a flag since 3.0."""
    shown = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    return "--agent" if "-]agent" in shown.stdout + shown.stderr else "--enable-feature=agent"


def _config(sd: SdConfig, name: str, interval_s: float, job: str, remote_write: str | None = None) -> str:
    settings: dict[str, Any] = {
        "global": {
            "scrape_interval": f"{round(interval_s * 1000)}ms",
            "scrape_timeout": f"{round(min(interval_s, 2.0) * 1000)}ms",
            "external_labels": {"shard": name},
        },
        "scrape_configs": [{"job_name": job, **sd.part()}],
    }
    if remote_write is not None:
        settings["remote_write"] = [{"url": remote_write, "queue_config": {"batch_send_deadline": "500ms"}}]
    return yaml.safe_dump(settings)
