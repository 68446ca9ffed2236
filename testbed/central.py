"""A real Prometheus 3 on loopback as a central store: it scrapes nothing, and others write into it (remote write)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from promring.demo.process import Process, free_port
from promring.runtime.http_client import HttpError, request


class CentralStore(Process):
    """Keeps what it has over ``kill`` and ``start``."""

    def __init__(self, program: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = folder / "prometheus.yml"
        config.write_text("{}\n")
        arguments: list[str | Path] = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'storage'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-remote-write-receiver",
            "--log.level=warn",
        ]
        super().__init__(arguments, folder / "log", {"GOMAXPROCS": "2"})

    @property
    def write_url(self) -> str:
        return f"{self.url}/api/v1/write"

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            return (await request(session, "GET", f"{self.url}/-/ready", timeout_s=2)).status == 200
        except HttpError:
            return False

    async def vector(self, session: aiohttp.ClientSession, query: str) -> list[dict[str, Any]]:
        """The series of an instant query, each with ``metric`` and ``value``. Raises ``HttpError``."""
        answer = await request(session, "GET", f"{self.url}/api/v1/query", timeout_s=5, params={"query": query})
        assert answer.status == 200, answer.text()
        found: list[dict[str, Any]] = msgspec.json.decode(answer.body)["data"]["result"]
        return found
